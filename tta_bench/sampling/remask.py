"""Which committed tokens are taken back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from tta_bench.rng import Noise
from tta_bench.sampling.commit import editable_uniform
from tta_bench.sampling.selection import take_highest
from tta_bench.types import Turn


class Remask(Protocol):
    """A rule that takes back.

    Attributes:
        uses_constraint: whether violations can change what it takes back.

    A rule that does not go by what the step predicts of tokens before the current block may say ``looks_back = False``: then
    these are not looked at again.
    """

    @property
    def uses_constraint(self) -> bool: ...

    def remasks(self, turn: Turn, commits: Tensor, noise: Noise) -> Tensor:
        """(B, L) bool, among ``turn.remaskable``; ``commits`` (B, L) is what the step commits."""
        ...


@runtime_checkable
class Doubts(Protocol):
    """What a remask rule may have besides: the score by which it takes back, for traces."""

    def doubt(self, turn: Turn, noise: Noise) -> Tensor:
        """(B, L), higher is taken back earlier."""
        ...


class Score(Protocol):
    """How doubtful committed tokens are.

    Attributes:
        uses_constraint: whether violations enter the score.
    """

    @property
    def uses_constraint(self) -> bool: ...

    def score(self, turn: Turn, noise: Noise) -> Tensor:
        """(B, L), higher is taken back earlier."""
        ...


@dataclass(frozen=True)
class Budget:
    """How many committed tokens a step takes back: ``top_k``, else max(1, floor(top_pct x committed)); 0 takes none."""

    top_k: int | None = None
    top_pct: float = 0.1

    def __post_init__(self) -> None:
        if self.top_k is not None and self.top_k < 0:
            raise ValueError(f"remask_top_k={self.top_k}: must not be negative; 0 remasks nothing, null uses remask_top_pct")
        if not 0 <= self.top_pct <= 1:
            raise ValueError(f"remask_top_pct={self.top_pct}: must be a share, 0 to 1 (10 % is 0.1)")

    def count(self, committed: Tensor) -> Tensor:
        """(B,) tokens to take back where ``committed`` (B,) are on the canvas."""
        if self.top_k is not None:
            return torch.full_like(committed, self.top_k)
        if self.top_pct == 0:
            return torch.zeros_like(committed)
        # The small term undoes binary rounding: 0.29 x 100 is 28.999999999999996 and means 29.
        share = [max(1, math.floor(self.top_pct * n + 1e-9)) for n in committed.tolist()]
        return torch.tensor(share, device=committed.device)


@dataclass(frozen=True)
class UncertaintyScore:
    """R = alpha H + beta D + gamma V - lambda C: entropy, disagreement, violation, and how often remasked so far."""

    alpha_entropy: float = 1.0
    beta_disagreement: float = 0.5
    gamma_violation: float = 0.3
    lambda_change: float = 0.2

    def __post_init__(self) -> None:
        for name in ("alpha_entropy", "beta_disagreement", "gamma_violation", "lambda_change"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name}={value}: must be a number >= 0; 0 leaves the term out")

    @property
    def uses_constraint(self) -> bool:
        """Whether violations enter the score."""
        return self.gamma_violation > 0

    def score(self, turn: Turn, noise: Noise) -> Tensor:
        """(B, L), higher is taken back earlier."""
        return (
            self.alpha_entropy * turn.prediction.entropy
            + self.beta_disagreement * turn.prediction.disagreement
            + self.gamma_violation * turn.violation
            - self.lambda_change * turn.times_remasked
        )


@dataclass(frozen=True)
class RandomScore:
    """Random numbers: the control that tells what remasking is worth when the choice is blind."""

    uses_constraint: ClassVar[bool] = False

    def score(self, turn: Turn, noise: Noise) -> Tensor:
        """(B, L), higher is taken back earlier."""
        return editable_uniform(turn.canvas, noise, "remask")


@dataclass(frozen=True)
class TakeBack:
    """Take back the committed tokens with the highest score, within the budget."""

    score: Score
    budget: Budget

    @property
    def uses_constraint(self) -> bool:
        """Whether violations can change what is taken back."""
        return self.score.uses_constraint

    def doubt(self, turn: Turn, noise: Noise) -> Tensor:
        """(B, L), higher is taken back earlier."""
        return self.score.score(turn, noise)

    def remasks(self, turn: Turn, commits: Tensor, noise: Noise) -> Tensor:
        """(B, L) bool."""
        count = self.budget.count(((turn.canvas.committed | commits) & turn.revisable).sum(dim=1))
        return take_highest(self.doubt(turn, noise), turn.remaskable, count)
