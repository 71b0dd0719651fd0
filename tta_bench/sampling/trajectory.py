"""How a decoding went, in a few numbers for each row: how steady its predictions were, and what became of what it committed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tta_bench.sampling.trace import told
from tta_bench.types import StepInfo

TRAJECTORY = ("stability", "survival", "efficacy", "flips", "order")
"""Names of the numbers, in the order of ``trajectories``."""


def trajectories(steps: Sequence[StepInfo]) -> list[dict[str, float | None]]:
    """For each row of a decoding the numbers of ``TRAJECTORY``; None where there is nothing to count.

    - stability: share of predictions (candidate, or most probable token where one stands) that are those of the step before,
      over all positions that were looked at in both steps.
    - survival: share of positions that end with the token that was committed there first.
    - efficacy: of the tokens that were taken back, the share whose position ends with another.
    - flips: how often a position was committed with another token than it had before, a mean over positions.
    - order: Goodman and Kruskal's gamma of a position's place and the step of its last commit, pairs that share a step left
      out; 1 from left to right, -1 from right to left.

    Positions that were never committed, as behind an end that stops an answer early, count in none of the last four.
    """
    if not steps:
        return []
    start, end = steps[0].canvas, steps[-1].tokens
    editable = start.editable
    nothing = torch.zeros_like(editable, dtype=torch.float32)
    first, held = (torch.full_like(start.tokens, start.mask_id) for _ in range(2))
    flips, taken, corrected = nothing, nothing, nothing
    when = torch.full_like(start.tokens, -1)
    same, compared = (torch.zeros(len(editable), device=editable.device) for _ in range(2))
    for i, info in enumerate(steps):
        new = info.committed
        if i:
            both = told(info) & told(steps[i - 1])
            unchanged = (info.prediction.tokens == steps[i - 1].prediction.tokens) & both
            same, compared = same + unchanged.sum(dim=1), compared + both.sum(dim=1)
        first = torch.where(new & (first == start.mask_id), info.tokens, first)
        flips = flips + (new & (held != start.mask_id) & (info.tokens != held))
        held = torch.where(new, info.tokens, held)
        when = torch.where(new, i, when)
        taken = taken + info.remasked
        corrected = corrected + (info.remasked & (info.canvas.tokens != end))
    written = when >= 0
    n = written.sum(dim=1)
    found = {
        "stability": quotient(same, compared),
        "survival": quotient(((first == end) & written).sum(dim=1), n),
        "efficacy": quotient(corrected.sum(dim=1), taken.sum(dim=1)),
        "flips": quotient(flips.sum(dim=1), n),
        "order": [order(steps_of[places].tolist()) for steps_of, places in zip(when, written, strict=True)],
    }
    return [dict(zip(TRAJECTORY, row, strict=True)) for row in zip(*(found[name] for name in TRAJECTORY), strict=True)]


def quotient(some: Tensor, of: Tensor) -> list[float | None]:
    """(B,) shares; None of nothing."""
    return [float(a) / float(b) if b else None for a, b in zip(some.tolist(), of.tolist(), strict=True)]


def order(steps: Sequence[int]) -> float | None:
    """Goodman and Kruskal's gamma of steps with their places; None where all are the same, or there are fewer than two."""
    when = np.asarray(steps)
    later = np.sign(when[None, :] - when[:, None])[np.triu_indices(len(when), 1)]
    apart = np.abs(later).sum()
    return float(later.sum() / apart) if apart else None
