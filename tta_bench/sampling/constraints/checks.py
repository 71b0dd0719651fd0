"""Arguments that several constraints have."""

from __future__ import annotations

import math
from collections.abc import Iterable
from operator import index
from typing import Any


def token_ids(name: str, ids: Iterable[int]) -> tuple[int, ...]:
    """The ids as whole numbers, or a ValueError that says what they must be."""
    try:
        found = tuple(index(i) for i in ids)
    except TypeError:
        raise ValueError(f"{name}={ids!r}: must be a sequence of token ids; write a single one as (3,)") from None
    if any(i < 0 for i in found):
        raise ValueError(f"{name}={list(found)}: token ids are >= 0; take them from the tokenizer")
    return found


def weight(name: str, value: Any) -> float:
    """A weight as a number, or a ValueError that says what it must be."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{name}={value!r}: must be a finite number >= 0 (0 leaves the constraint out)")
    return float(value)
