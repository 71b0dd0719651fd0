"""Runs of tokens that must not occur twice."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from tta_bench.sampling.constraints import checks
from tta_bench.types import ConstraintFn


def no_repeat_ngrams(n: int = 3, *, ignore: Iterable[int] = ()) -> ConstraintFn:
    """1 at the last token of every n-gram that occurred before in its row.

    ``lambda tokens: no_repeat_ngrams(tokens, n=3)`` of the usage guide is ``no_repeat_ngrams(n=3)`` here.

    Args:
        n: tokens of an n-gram.
        ignore: ids that no n-gram may hold to count: masks, padding, ends of sequence.

    Raises:
        ValueError: ``n`` is no whole number above 0, or ``ignore`` holds no token ids.
    """
    size, ignored = _length(n), torch.tensor(checks.token_ids("ignore", ignore), dtype=torch.int64)

    def violations(tokens: Tensor) -> Tensor:
        scores = torch.zeros(tokens.shape, device=tokens.device)
        if tokens.shape[1] < size or not len(tokens):
            return scores
        names = _named(tokens, size)
        ordered, order = names.sort(dim=1, stable=True)
        repeated = torch.zeros_like(names, dtype=torch.bool)
        repeated.scatter_(1, order[:, 1:], ordered[:, 1:] == ordered[:, :-1])
        kept = ~torch.isin(tokens, ignored.to(tokens.device)).unfold(1, size, 1).any(dim=2)
        scores[:, size - 1 :] = (repeated & kept).float()
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
