"""Runs of tokens that must not occur twice."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

import torch
from torch import Tensor

from tta_bench.sampling.constraints import checks
from tta_bench.sampling.constraints.place import in_text
from tta_bench.types import ConstraintFn


def no_repeat_ngrams(
    n: int = 3,
    *,
    ignore: Sequence[int] | Set[int] = (),
    start: int | Sequence[int] = 0,
    end_ids: Sequence[int] | Set[int] = (),
    mask_ids: Sequence[int] | Set[int] = (),
) -> ConstraintFn:
    """1 at the last token of every n-gram that occurred before in its text, which is the whole row unless told otherwise.

    ``lambda tokens: no_repeat_ngrams(tokens, n=3)`` of the usage guide is ``no_repeat_ngrams(n=3)`` here.

    Args:
        n: tokens of an n-gram.
        ignore: ids that no n-gram may hold to count: masks, padding, ends of sequence.
        start: where the text begins: the width of the prompts, padding included, or a place for each row of the batch.
        end_ids: tokens that end the text.
        mask_ids: tokens that are still to be filled; ignored, as ends are.

    Raises:
        ValueError: ``n`` is no whole number above 0, or the others hold no token ids or places; when asked, also a start that
            does not fit the rows.
    """
    size, begins = _length(n), checks.places(start)
    told = {"ignore": ignore, "end_ids": end_ids, "mask_ids": mask_ids}
    ids = {name: checks.token_ids(name, given) for name, given in told.items()}
    ends, ignored = (torch.tensor(found, dtype=torch.int64) for found in (ids["end_ids"], sum(ids.values(), ())))

    def violations(tokens: Tensor) -> Tensor:
        scores = torch.zeros(tokens.shape, device=tokens.device)
        if tokens.shape[1] < size or not len(tokens):
            return scores
        counts = in_text(tokens, begins, ends) & ~torch.isin(tokens, ignored.to(tokens.device))
        kept = counts.unfold(1, size, 1).all(dim=2)
        # What does not count has a name that nothing else has.
        names = torch.where(kept, _named(tokens, size), -1 - torch.arange(kept.shape[1], device=tokens.device))
        ordered, order = names.sort(dim=1, stable=True)
        repeated = torch.zeros_like(kept)
        repeated.scatter_(1, order[:, 1:], ordered[:, 1:] == ordered[:, :-1])
        scores[:, size - 1 :] = repeated.float()
        return scores

    return violations


def _length(n: Any) -> int:
    if isinstance(n, Tensor):
        raise ValueError("n=Tensor: must be a whole number; no_repeat_ngrams(n=3) is the constraint, so pass that")
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"n={n!r}: must be a whole number of tokens, at least 1")
    return n


def _named(tokens: Tensor, n: int) -> Tensor:
    """A number for each n-gram (B, L - n + 1), the same for equal ones only."""
    length = tokens.shape[1] - n + 1
    names = tokens[:, :length]
    for i in range(1, n):
        # Small names first, so that no product leaves the range of 64 bits.
        first, second = (torch.unique(x, return_inverse=True)[1] for x in (names, tokens[:, i : i + length]))
        names = first * (second.max() + 1) + second
    return names
