"""Ranking all tokens of the canvas, old and new, and keeping the best of them: the core of P2 and of running remasking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tta_bench.rng import Noise
from tta_bench.sampling.selection import take_highest
from tta_bench.types import Turn


@dataclass(frozen=True)
class KeepBest:
    """Keep as many tokens as the schedule wants committed, the best of committed ones and candidates; mask the rest.

    A candidate ranks by its confidence. It serves as commit rule and as remask rule of a sampler at once.

    Attributes:
        stored: a committed token ranks by its confidence when it was committed, over all that was decoded so far; otherwise by
            the confidence of what is drawn at its position now, within the current block.
    """

    stored: bool
    uses_constraint: ClassVar[bool] = False
    looks_back: ClassVar[bool] = False

    def commits(self, turn: Turn, noise: Noise) -> Tensor:
        """(B, L) bool: candidates that are kept."""
        return turn.eligible & self._kept(turn)

    def remasks(self, turn: Turn, commits: Tensor, noise: Noise) -> Tensor:
        """(B, L) bool: committed tokens that are not."""
        return turn.remaskable & self._ranked(turn) & ~self._kept(turn)

    def _ranked(self, turn: Turn) -> Tensor:
        committed = turn.canvas.committed
        return (committed if self.stored else committed & turn.canvas.block) | turn.eligible

    def _kept(self, turn: Turn) -> Tensor:
        ranked = self._ranked(turn)
        confidence = turn.prediction.confidence
        score = torch.where(turn.canvas.committed, turn.stored, confidence) if self.stored else confidence
        return take_highest(score, ranked, (ranked & ~turn.eligible).sum(dim=1) + turn.due)
