"""Fast-dLLM's factor decoding: a threshold that falls with the number of tokens committed together."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tta_bench.rng import Noise
from tta_bench.sampling.cache import cached
from tta_bench.sampling.sampler import Sampler
from tta_bench.sampling.schedule import Open
from tta_bench.sampling.selection import take_highest
from tta_bench.sampling.views import SingleView
from tta_bench.types import Turn


@dataclass(frozen=True)
class FallingThreshold:
    """Candidates by falling confidence c_0 >= c_1 >= ..., up to the first with c_r < 1 - factor / (r + 2); c_0 in any case.

    Attributes:
        factor: how much uncertainty all that is committed together may add up to, roughly.
        takes_failing_last: commit the last rank although it fails, where all before it pass.
    """

    factor: float
    takes_failing_last: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.factor) and self.factor >= 0):
            raise ValueError(f"factor={self.factor}: must be a number >= 0; 0 commits only certain tokens together")

    def commits(self, turn: Turn, noise: Noise) -> Tensor:
        """(B, L) bool."""
        confidence, n = turn.prediction.confidence, turn.eligible.sum(dim=1)
        ranked = confidence.masked_fill(~turn.eligible, -torch.inf).sort(dim=1, descending=True).values
        rank = torch.arange(ranked.shape[1], device=ranked.device)
        passes = (ranked >= 1 - self.factor / (rank + 2).to(ranked.dtype)) | (rank == 0)
        count = torch.minimum(passes.long().cumprod(dim=1).sum(dim=1), n)
        if self.takes_failing_last:
            count = torch.where(count == n - 1, n, count)
        return take_highest(confidence, turn.eligible, count)


def factor(*, factor: float = 1.0, temperature: float = 0.0, reference_quirks: bool = False, cache: str = "none") -> Sampler:
    """Commit the masked positions of the block by falling confidence, as long as rank r = 0, 1, ... has c_r >= 1 - f / (r + 2).

    The first is committed in any case.

    Cost: one forward pass a step, and as many steps as that takes; ``steps`` is not used.

    Args:
        factor: f; larger commits more at a time.
        temperature: of the draw of candidates; 0 takes the most probable token.
        reference_quirks: commit the last rank even if it fails, where all before it pass, as the reference code does.
        cache: none, prefix or dual, see ``tta_bench.sampling.cache``.

    Reference:
        Wu et al., "Fast-dLLM", arXiv:2505.22618 (factor-based parallel decoding).
    """
    commit = FallingThreshold(factor, takes_failing_last=reference_quirks)
    return Sampler(views=cached(SingleView(temperature), cache), commit=commit, schedule=Open())
