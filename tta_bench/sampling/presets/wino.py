"""WINO: commit generously, and let a shadow block that cannot see the tokens take the doubtful ones back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tta_bench.rng import Noise
from tta_bench.sampling.sampler import Sampler
from tta_bench.sampling.schedule import Open
from tta_bench.sampling.selection import take_highest
from tta_bench.sampling.shadow import ShadowView
from tta_bench.types import Turn


@dataclass(frozen=True)
class WideIn:
    """Candidates with confidence > ``threshold``, the best first: at least one, at most int(0.7 m) of m masks, cut to 5..20."""

    threshold: float

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold={self.threshold}: must be a probability, 0 to 1")

    def commits(self, turn: Turn, noise: Noise) -> Tensor:
        """(B, L) bool."""
        confidence = turn.prediction.confidence
        most = (turn.eligible.sum(dim=1) * 0.7).long().clamp(5, 20)
        accepted = (turn.eligible & (confidence > self.threshold)).sum(dim=1)
        return take_highest(confidence, turn.eligible, torch.minimum(accepted.clamp(min=1), most))


@dataclass(frozen=True)
class NarrowOut:
    """Tokens of the block whose shadow probability is < ``threshold``, if more than one was accepted in this step.

    Fewer than were accepted in the step before, so that a block comes to its end.
    """

    threshold: float
    uses_constraint: ClassVar[bool] = False
    looks_back: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold_back={self.threshold}: must be a probability, 0 to 1; 0 takes nothing back")

    def remasks(self, turn: Turn, commits: Tensor, noise: Noise) -> Tensor:
        """(B, L) bool."""
        support = turn.prediction.support
        doubtful = turn.remaskable & turn.canvas.block & (support < self.threshold)
        return take_highest(-support, doubtful, torch.where(commits.sum(dim=1) > 1, turn.previous_commits - 1, 0))


def wino(*, threshold: float = 0.6, threshold_back: float = 0.9, temperature: float = 0.0) -> Sampler:
    """Commit the confident candidates of the block; take back the tokens that a prediction blind to them would not repeat.

    Of m masks at most int(0.7 m), cut to 5..20, are committed, at least one. Tokens are taken back only in a step that commits
    more than one, and fewer than the step before committed, so that a block comes to its end (both as in the published code).
    The blind prediction comes from a shadow of the block, masks that are evaluated in the same call: no real position sees
    them, and each sees everything but the position it mirrors. The model must take a 4-D boolean ``attention_mask`` and
    ``position_ids``. Models with shifted logits are refused: their shadow would predict the token after.

    Cost: one forward pass a step (of a sequence longer by the block), and as many steps as that takes; ``steps`` is not used.

    Args:
        threshold: confidence must exceed it; the best candidate is committed in any case.
        threshold_back: committed tokens with a lower shadow probability are taken back.
        temperature: of the draw of candidates; 0 takes the most probable token.

    Reference:
        Hong et al., "Wide-In, Narrow-Out: Revokable Decoding for Efficient and Effective DLLMs", arXiv:2507.18578, algorithm 1.
    """
    return Sampler(views=ShadowView(temperature), commit=WideIn(threshold), schedule=Open(), remask=NarrowOut(threshold_back))
