"""Choosing positions by score, row by row, with ties broken by the lowest position."""

from __future__ import annotations

import torch
from torch import Tensor


def take_highest(score: Tensor, eligible: Tensor, count: Tensor) -> Tensor:
    """The ``count`` highest-scored eligible positions of each row (all of them where fewer are eligible).

    Args:
        score: (B, L), finite where eligible.
        eligible: (B, L) bool.
        count: (B,) integers.

    Returns:
        (B, L) bool.
    """
    order = score.masked_fill(~eligible, -torch.inf).sort(dim=1, descending=True, stable=True).indices
    chosen = torch.arange(score.shape[1], device=score.device) < count[:, None]
    return torch.zeros_like(eligible).scatter(1, order, chosen) & eligible
