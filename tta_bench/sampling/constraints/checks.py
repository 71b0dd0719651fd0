"""Arguments that several constraints have."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from operator import index
from typing import Any

from torch import Tensor


def token_ids(name: str, ids: Iterable[int]) -> tuple[int, ...]:
    """The ids as whole numbers, or a ValueError that says what they must be."""
    try:
        found = tuple(index(i) for i in ids)
    except TypeError:
        raise ValueError(f"{name}={ids!r}: must be a sequence of token ids; write a single one as (3,)") from None
    if any(i < 0 for i in found):
        raise ValueError(f"{name}={list(found)}: token ids are >= 0; take them from the tokenizer")
    return found


def places(start: int | Sequence[int]) -> int | list[int]:
    """Where texts begin, one place for all rows or one for each, or a ValueError that says what it must be."""
    try:
        found = index(start) if not isinstance(start, Sequence | Tensor) else [index(place) for place in start]
    except TypeError:
        raise ValueError(f"start={start!r}: must be a position, or one for each row") from None
    if min([found] if isinstance(found, int) else found, default=0) < 0:
        raise ValueError(f"start={start}: positions are counted from 0; give the width of the prompts")
    return found


def one_for_each(begins: int | list[int], tokens: Tensor) -> list[int]:
    """A place for each row of ``tokens`` (B, L), or a ValueError where there are too many or too few, or one lies behind L."""
    if not isinstance(begins, int) and len(begins) != len(tokens):
        raise ValueError(f"start: has {len(begins)} places for {len(tokens)} rows; give one for each")
    found = [begins] * len(tokens) if isinstance(begins, int) else begins
    if max(found, default=0) > tokens.shape[1]:
        raise ValueError(
            f"start={max(found)}: lies behind the {tokens.shape[1]} tokens of a row; give the width of the prompts"
        )
    return found


def weight(name: str, value: Any) -> float:
    """A weight as a number, or a ValueError that says what it must be."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{name}={value!r}: must be a finite number >= 0 (0 leaves the constraint out)")
    return float(value)
