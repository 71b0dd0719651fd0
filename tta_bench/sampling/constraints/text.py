"""Judging texts: what is wrong with characters as violations of tokens, remembered row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any, TypeAlias, TypedDict

import torch
from torch import Tensor

from tta_bench.sampling.constraints import checks
from tta_bench.types import ConstraintFn

UNREADABLE = "\N{REPLACEMENT CHARACTER}"
"""Stands in a text for a special token that cannot be read as text."""

UNKNOWN = "\uffff"
"""Stands in a text for a mask, which may become any text. No text has this character: Unicode assigns it to none."""

REMEMBERED = 1024
"""Rows that a judge of texts remembers."""

Judge: TypeAlias = Callable[[str], Sequence[float]]
"""A text -> the violation of each of its characters, >= 0, and after these, if it likes, one of the text's end."""


class Reading(TypedDict, total=False):
    """How a row is read as text, for every constraint on texts; ``of_text`` says what the keys mean."""

    start: int | Sequence[int]
    end_ids: Iterable[int] | None
    mask_ids: Iterable[int] | None
    remembered: int


def of_text(
    judge: Judge,
    tokenizer: Any,
    *,
    start: int | Sequence[int] = 0,
    end_ids: Iterable[int] | None = None,
    mask_ids: Iterable[int] | None = None,
    remembered: int = REMEMBERED,
) -> ConstraintFn:
    """A judge of texts as a constraint: a token gets the worst violation among its characters.

    A violation of the text's end goes to the token that ends it, or else to the last. What lies before the text and behind its
    end gets none. Rows are remembered by their content, so asking again about one that did not change costs next to nothing.

    Args:
        judge: of a text, in which a mask is ``UNKNOWN`` and any other special token ``UNREADABLE``. It must not depend on
            anything but the text.
        tokenizer: of the model; tokens are read one by one.
        start: where the text begins: the width of the prompts, padding included, or a place for each row of the batch. From 0
            on, padding in front is skipped.
        end_ids: tokens that end the text; None takes the tokenizer's, () none.
        mask_ids: tokens that are still to be filled; None takes the tokenizer's.
        remembered: rows kept, those asked for last.

    Raises:
        ValueError: an argument is out of range, the tokenizer has no mask token and none is given; when asked, also a start
            that does not fit the rows and a judge that returns too many or too few numbers.
    """
    begins = checks.places(start)
    ends = _ids("end_ids", end_ids, tokenizer.eos_token_id)
    masks = _ids("mask_ids", mask_ids, tokenizer.mask_token_id)
    if mask_ids is None and not masks:
        raise ValueError("mask_ids=None: the tokenizer has no mask token; give the model's, as (model.config.mask_token_id,)")
    if isinstance(remembered, bool) or not isinstance(remembered, int) or remembered < 1:
        raise ValueError(f"remembered={remembered!r}: must be a number of rows, at least 1")
    piece = readable_pieces(tokenizer, masks)

    @lru_cache(maxsize=remembered)
    def judged(ids: tuple[int, ...]) -> list[float]:
        end = next((place for place, token in enumerate(ids) if token in ends), len(ids))
        pieces = [piece(token) for token in ids[:end]]
        text = "".join(pieces)
        found = judge(text)
        if not 0 <= len(found) - len(text) <= 1:
            raise ValueError(f"a judge returned {len(found)} violations of {len(text)} characters: it must give one for each")
        scores = worst_of_tokens(pieces, found) + [0.0] * (len(ids) - end)
        if len(found) > len(text) and ids:
            last = min(end, len(ids) - 1)
            scores[last] = max(scores[last], found[-1])
        return scores

    def violations(ids: tuple[int, ...], begin: int) -> list[float]:
        if not begin:
            begin = next((place for place, token in enumerate(ids) if token != tokenizer.pad_token_id), len(ids))
        return [0.0] * begin + judged(ids[begin:])

    def checked(tokens: Tensor) -> Tensor:
        begin = checks.one_for_each(begins, tokens)
        return by_row(lambda row, ids: violations(ids, begin[row]))(tokens)

    return checked


def by_row(judge: Callable[[int, tuple[int, ...]], Sequence[float]]) -> ConstraintFn:
    """A judge of (row number, ids of the row) -> violations of its tokens, as a constraint."""

    def violations(tokens: Tensor) -> Tensor:
        rows = [judge(row, tuple(ids)) for row, ids in enumerate(tokens.tolist())]
        return torch.tensor(rows, dtype=torch.float32, device=tokens.device).reshape(tokens.shape)

    return violations


def worst_of_tokens(pieces: Sequence[str], by_character: Sequence[float]) -> list[float]:
    """The worst violation among the characters of each token, 0 where it has none.

    Args:
        pieces: the tokens' texts.
        by_character: violations of the characters of all of them, one after the other.
    """
    places = accumulate(map(len, pieces), initial=0)
    return [max(by_character[place : place + len(text)], default=0.0) for text, place in zip(pieces, places, strict=False)]


def readable_pieces(tokenizer: Any, masks: Iterable[int] = ()) -> Callable[[int], str]:
    """A function from token id to its text, remembered; ``masks`` read as ``UNKNOWN``, special tokens as ``UNREADABLE``."""
    known = dict.fromkeys(tokenizer.all_special_ids, UNREADABLE) | dict.fromkeys(masks, UNKNOWN)

    def piece(token: int) -> str:
        if token not in known:
            known[token] = tokenizer.decode([token])
        return known[token]

    return piece


def _ids(name: str, ids: Iterable[int] | None, own: int | None) -> frozenset[int]:
    return frozenset(checks.token_ids(name, (() if own is None else (own,)) if ids is None else ids))
