"""T2M: what the model no longer believes becomes a mask again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from tta_bench.rng import Noise
from tta_bench.sampling.cache import cached
from tta_bench.sampling.commit import AboveThreshold
from tta_bench.sampling.sampler import Sampler
from tta_bench.sampling.schedule import Open
from tta_bench.sampling.selection import take_highest
from tta_bench.sampling.views import SingleView
from tta_bench.types import Turn


@dataclass(frozen=True)
class Disbelieved:
    """Tokens of the block whose current probability is below ``low_prob``, the least probable first.

    Attributes:
        low_prob: probability below which a token is taken back.
        share: of the block that a step takes back at most (at least one token).
        times: how often a position is taken back at most.
    """

    low_prob: float
    share: float
    times: int
    uses_constraint: ClassVar[bool] = False
    looks_back: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 <= self.low_prob <= 1:
            raise ValueError(f"low_prob={self.low_prob}: must be a probability, 0 to 1; 0 takes nothing back")
        if not 0 < self.share <= 1:
            raise ValueError(f"max_share={self.share}: must be a share of the block, above 0 and at most 1")
        if self.times < 0:
            raise ValueError(f"max_times={self.times}: must not be negative; 0 takes nothing back")

    def remasks(self, turn: Turn, commits: Tensor, noise: Noise) -> Tensor:
        """(B, L) bool."""
        block, support = turn.canvas.block, turn.prediction.support
        doubtful = turn.remaskable & block & (support < self.low_prob) & (turn.times_remasked < self.times)
        most = (block.sum(dim=1) * self.share).long().clamp(min=1)
        return take_highest(-support, doubtful, most)


def t2m(
    *,
    threshold: float = 0.9,
    low_prob: float = 0.5,
    max_share: float = 0.25,
    max_times: int = 5,
    temperature: float = 0.0,
    cache: str = "none",
) -> Sampler:
    """Commit by threshold, and mask committed tokens of the block again whose probability has fallen below ``low_prob``.

    A block ends when a look at it, filled, takes nothing back. The probability is that of a *visible* token, which the
    model must have been trained to give (LLaDA 2.1 is; earlier models are not).

    Cost: one forward pass a step, and as many steps as that takes, at least two a block; ``steps`` is not used.

    Args:
        threshold: confidence from which a candidate is committed; the best one is in any case.
        low_prob: committed tokens with a lower probability are taken back.
        max_share: of the block that a step takes back at most (at least one token).
        max_times: how often a position is taken back at most.
        temperature: of the draw of candidates; 0 takes the most probable token.
        cache: none, prefix or dual, see ``tta_bench.sampling.cache``.

    Reference:
        Yao, "Remask, Don't Replace: Token-to-Mask Refinement in Masked Diffusion Language Models", arXiv:2604.18738,
        algorithm 1 with the strategy LowProb.
    """
    return Sampler(
        views=cached(SingleView(temperature), cache),
        commit=AboveThreshold(threshold),
        schedule=Open(verifies=True),
        remask=Disbelieved(low_prob, max_share, max_times),
    )
