"""Which masked positions are committed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

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


@dataclass(frozen=True)
class Heeding:
    """What another rule commits, but for tokens in violation of the constraint once all it chose stand on the canvas.

    Of the tokens in violation, chosen now or before in the block, those that are least confident are held or taken back. It
    serves as commit rule and as remask rule of a sampler at once. A step that would change nothing commits the most confident
    choice all the same, and the last step everything.

    Attributes:
        rule: that chooses.
        share: of the tokens in violation that is held or taken back, rounded up.
        times: how often a position is taken back at most, so that a block comes to its end.
    """

    rule: Commit
    share: float = 1.0
    times: int = 5
    uses_constraint: ClassVar[bool] = True
    looks_back: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"heed_share={self.share}: must be a share, above 0 and at most 1")

    def commits(self, turn: Turn, noise: Noise) -> Tensor:
        """(B, L) bool."""
        chosen = self.rule.commits(turn, noise)
        back = self._back(turn, chosen)
        best = take_highest(turn.prediction.confidence, chosen, torch.ones_like(turn.due))
        idle = ~((chosen & ~back) | (back & ~chosen)).any(dim=1, keepdim=True)
        return torch.where(turn.canvas.place.last[:, None], chosen, (chosen & ~back) | (best & idle))

    def remasks(self, turn: Turn, commits: Tensor, noise: Noise) -> Tensor:
        """(B, L) bool."""
        chosen = self.rule.commits(turn, noise)
        return self._back(turn, chosen) & ~chosen

    def _back(self, turn: Turn, chosen: Tensor) -> Tensor:
        """(B, L) bool, what is held back of the chosen, and taken back of what stands."""
        tokens = torch.where(chosen, turn.prediction.tokens, turn.canvas.tokens)
        standing = turn.remaskable & turn.canvas.block & (turn.times_remasked < self.times)
        wrong = (chosen | standing) & (turn.violations(tokens) > 0)
        confidence = torch.where(chosen, turn.prediction.confidence, turn.stored)
        return take_highest(-confidence, wrong, shares(self.share, wrong.sum(dim=1)))


def shares(share: float, counts: Tensor) -> Tensor:
    """A share of each of some counts (B,), rounded up; binary rounding apart."""
    return torch.ceil(share * counts.double() - 1e-9).long()
