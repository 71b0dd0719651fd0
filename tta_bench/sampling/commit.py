"""Which masked positions are committed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tta_bench.rng import Noise
from tta_bench.sampling.selection import take_highest
from tta_bench.types import Canvas, Turn


class Commit(Protocol):
    """A rule that commits. In a turn where nothing is eligible it commits nothing."""

    def commits(self, turn: Turn, noise: Noise) -> Tensor:
        """(B, L) bool, among ``turn.eligible``."""
        ...


class Order(Protocol):
    """In which order positions are committed: higher priority (B, L) first, ties by lowest position."""

    def priority(self, turn: Turn, noise: Noise) -> Tensor: ...


@dataclass(frozen=True)
class Scheduled:
    """As many as are due, in the given order."""

    order: Order

    def commits(self, turn: Turn, noise: Noise) -> Tensor:
        """(B, L) bool."""
        return take_highest(self.order.priority(turn, noise), turn.eligible, turn.due)


@dataclass(frozen=True)
class MostConfident:
    """The highest probability of the candidate first (LLaDA's "low-confidence remasking", seen from the other side)."""

    def priority(self, turn: Turn, noise: Noise) -> Tensor:
        """(B, L), higher is committed earlier."""
        return turn.prediction.confidence


@dataclass(frozen=True)
class LargestMargin:
    """The largest distance between the two most probable tokens first."""

    def priority(self, turn: Turn, noise: Noise) -> Tensor:
        """(B, L), higher is committed earlier."""
        if turn.prediction.margin is None:
            raise ValueError("commit by margin: the sampler's views tell no margin; build them with margin=True")
        return turn.prediction.margin


@dataclass(frozen=True)
class LowestEntropy:
    """The lowest entropy of the distribution first."""

    def priority(self, turn: Turn, noise: Noise) -> Tensor:
        """(B, L), higher is committed earlier."""
        return -turn.prediction.entropy


@dataclass(frozen=True)
class RandomOrder:
    """A new random order in every step (LLaDA's "random remasking")."""

    def priority(self, turn: Turn, noise: Noise) -> Tensor:
        """(B, L), higher is committed earlier."""
        return editable_uniform(turn.canvas, noise, "commit order")


def editable_uniform(canvas: Canvas, noise: Noise, purpose: str) -> Tensor:
    """(B, L) uniform numbers; a position's number depends on its rank among the row's editable positions."""
    rank = (canvas.editable.cumsum(dim=1) - 1).clamp(min=0)
    numbers = noise.uniform(canvas.step, purpose, int(rank.max()) + 1)[..., 0]
    return torch.from_numpy(numbers).to(rank.device).gather(1, rank)


@dataclass(frozen=True)
class AboveThreshold:
    """Every candidate with confidence >= ``threshold``, and the best one in any case."""

    threshold: float

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold={self.threshold}: must be a probability, 0 to 1; 0 commits the whole block at once")

    def commits(self, turn: Turn, noise: Noise) -> Tensor:
        """(B, L) bool."""
        confidence = turn.prediction.confidence
        return (turn.eligible & (confidence >= self.threshold)) | take_highest(confidence, turn.eligible, turn.due)
