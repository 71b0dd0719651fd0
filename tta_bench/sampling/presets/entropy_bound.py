"""EB-Sampler: commit as many positions as a bound on their joint entropy allows."""

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
class EntropyBound:
    """Positions by rising entropy H_1 <= H_2 <= ..., the largest prefix with sum H - max H <= gamma (nats); at least one."""

    gamma: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.gamma) and self.gamma >= 0):
            raise ValueError(f"gamma={self.gamma}: must be a number >= 0 (nats)")

    def commits(self, turn: Turn, noise: Noise) -> Tensor:
        """(B, L) bool."""
        entropy = turn.prediction.entropy
        ordered = entropy.masked_fill(~turn.eligible, torch.inf).sort(dim=1).values
        within = ordered.cumsum(dim=1) - ordered.cummax(dim=1).values <= self.gamma
        count = torch.maximum((within & ordered.isfinite()).sum(dim=1), turn.due)
        return take_highest(-entropy, turn.eligible, count)


def entropy_bound(*, gamma: float = 0.1, temperature: float = 0.0, cache: str = "none") -> Sampler:
    """Commit the largest set of masked positions, by rising entropy, with (sum of entropies) - (largest) <= gamma.

    Entropies are untempered, and the block's. That difference bounds the mutual information of the positions, which
    committing them together ignores.

    Cost: one forward pass a step, and as many steps as that takes; ``steps`` is not used.

    Args:
        gamma: the bound, nats. 0 commits one position at a time (or several that are certain).
        temperature: of the draw of candidates; 0 takes the most probable token.
        cache: none, prefix or dual, see ``tta_bench.sampling.cache``.

    Reference:
        Ben-Hamu et al., "Accelerated Sampling from Masked Diffusion Models via Entropy Bounded Unmasking",
        arXiv:2505.24857, section 3.
    """
    return Sampler(views=cached(SingleView(temperature), cache), commit=EntropyBound(gamma), schedule=Open())
