"""Which committed tokens are taken back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tta_bench.rng import Noise
from tta_bench.sampling.commit import editable_uniform
from tta_bench.types import Canvas, Prediction


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

    def score(self, canvas: Canvas, prediction: Prediction, violation: Tensor, times: Tensor, noise: Noise) -> Tensor:
        """(B, L), higher is taken back earlier. ``times`` (B, L) counts earlier remasks of the position."""
        return (
            self.alpha_entropy * prediction.entropy
            + self.beta_disagreement * prediction.disagreement
            + self.gamma_violation * violation
            - self.lambda_change * times
        )


@dataclass(frozen=True)
class RandomScore:
    """Random numbers: the control that tells what remasking is worth when the choice is blind."""

    uses_constraint: ClassVar[bool] = False

    def score(self, canvas: Canvas, prediction: Prediction, violation: Tensor, times: Tensor, noise: Noise) -> Tensor:
        """(B, L), higher is taken back earlier."""
        return editable_uniform(canvas, noise, "remask")


@dataclass(frozen=True)
class Remask:
    """Take back the committed tokens with the highest score, within the budget."""

    score: UncertaintyScore | RandomScore
    budget: Budget
