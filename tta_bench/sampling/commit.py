"""In which order masked positions are committed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tta_bench.rng import Noise
from tta_bench.types import Canvas, Prediction


@dataclass(frozen=True)
class MostConfident:
    """The highest probability of the candidate first (LLaDA's "low-confidence remasking", seen from the other side)."""

    def priority(self, canvas: Canvas, prediction: Prediction, noise: Noise) -> Tensor:
        """(B, L), higher is committed earlier."""
        return prediction.confidence


@dataclass(frozen=True)
class RandomOrder:
    """A new random order in every step (LLaDA's "random remasking")."""

    def priority(self, canvas: Canvas, prediction: Prediction, noise: Noise) -> Tensor:
        """(B, L), higher is committed earlier."""
        return editable_uniform(canvas, noise, "commit order")


def editable_uniform(canvas: Canvas, noise: Noise, purpose: str) -> Tensor:
    """(B, L) uniform numbers; a position's number depends on its rank among the row's editable positions."""
    rank = (canvas.editable.cumsum(dim=1) - 1).clamp(min=0)
    numbers = noise.uniform(canvas.step, purpose, int(rank.max()) + 1)[..., 0]
    return torch.from_numpy(numbers).to(rank.device).gather(1, rank)
