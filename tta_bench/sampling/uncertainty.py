"""Measures of uncertainty, as pure functions. M positions, K views; those of one distribution are in ``distributions``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def disagreement(draws: Tensor) -> Tensor:
    """(distinct tokens - 1) / (K - 1) over the first axis of draws (K, M), in 0..1; 0 where K = 1."""
    if draws.shape[0] == 1:
        return torch.zeros(draws.shape[1:], device=draws.device)
    ordered = draws.sort(dim=0).values
    return (ordered[1:] != ordered[:-1]).float().mean(dim=0)


def expected_disagreement(views: Sequence[Tensor]) -> Tensor:
    """The mean of ``disagreement`` over one draw from each of K distributions (M, ...), in closed form; 0 where K = 1.

    A token is among the draws with probability 1 - prod over k of (1 - p_k), and these add up to the expected number of
    distinct tokens.
    """
    if len(views) == 1:
        return torch.zeros(views[0].shape[:1], device=views[0].device)
    missing = torch.ones_like(views[0])
    for probabilities in views:
        missing *= 1 - probabilities
    distinct = (1 - missing).flatten(1).sum(dim=1)
    return ((distinct - 1) / (len(views) - 1)).clamp(0, 1)


def mutual_information(of_mean: Tensor, of_views: Tensor) -> Tensor:
    """What K views disagree about (BALD), nats: the entropy ``of_mean`` (M,) minus the mean of those ``of_views`` (K, M).

    Reference: Houlsby et al., arXiv:1112.5745, eq. 2.
    """
    return (of_mean - of_views.mean(dim=0)).clamp(min=0)


def gumbel(uniform: Tensor) -> Tensor:
    """Standard Gumbel numbers from uniform ones in [0, 1). The n largest of score + Gumbel are a draw of n without
    replacement from softmax(score). Reference: Kool et al., arXiv:1903.06059, section 2.3."""
    tiny = torch.finfo(uniform.dtype).tiny
    return -torch.log(-torch.log(uniform.clamp(min=tiny)))
