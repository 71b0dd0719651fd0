"""KLASS: commit what is confident and has stopped moving."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tta_bench.rng import Noise
from tta_bench.sampling.cache import cached
from tta_bench.sampling.drift import DriftView
from tta_bench.sampling.sampler import Sampler
from tta_bench.sampling.selection import take_highest
from tta_bench.types import Canvas, Turn


@dataclass(frozen=True)
class Share:
    """LLaDA's share of the block in every step, whatever was committed before; in the block's last step what is left."""

    times: ClassVar[int] = 1
    uses_steps: ClassVar[bool] = True
    until_filled: ClassVar[bool] = True
    verifies: ClassVar[bool] = False
    rounds: ClassVar[int | None] = None

    def due(self, canvas: Canvas) -> Tensor:
        """(B,) integers."""
        place = canvas.place
        size = place.end - place.start
        share = size // place.n_steps + (place.step < size % place.n_steps)
        left = (canvas.masked & canvas.reachable).sum(dim=1)
        return torch.where(place.step + 1 == place.n_steps, left, share)


@dataclass(frozen=True)
class StableAndConfident:
    """Every candidate with confidence > ``confidence`` and drift < ``drift`` (nats).

    Where there is none, and in a block's last step, the most confident as scheduled.
    """

    confidence: float
    drift: float

    def __post_init__(self) -> None:
        if not 0 <= self.confidence <= 1:
            raise ValueError(f"conf_threshold={self.confidence}: must be a probability, 0 to 1")
        if not (math.isfinite(self.drift) and self.drift >= 0):
            raise ValueError(f"kl_threshold={self.drift}: must be a number >= 0 (nats)")

    def commits(self, turn: Turn, noise: Noise) -> Tensor:
        """(B, L) bool."""
        confidence, drift = turn.prediction.confidence, turn.prediction.drift
        if drift is None:
            raise ValueError("commit by drift: the sampler's views tell none; use DriftView")
        ready = turn.eligible & (confidence > self.confidence) & (drift < self.drift)
        scheduled = take_highest(confidence, turn.eligible, turn.due)
        place = turn.canvas.place
        last = place.step + 1 == place.n_steps
        return torch.where((ready.any(dim=1) & ~last)[:, None], ready, scheduled)


def klass(
    *,
    conf_threshold: float = 0.9,
    kl_threshold: float = 0.01,
    history_length: int = 2,
    temperature: float = 0.0,
    reference_quirks: bool = False,
    cache: str = "none",
) -> Sampler:
    """Commit every masked position of the block that is confident and stable; where there is none, the most confident.

    Stable: KL(p_t || p_t-1) stayed below a threshold in each of the last ``history_length`` steps. Where nothing is ready, m
    // s positions of a block of m with s steps are committed (one more in the first m % s steps); in its last step all that
    is left.

    Cost: one forward pass a step, at most ``steps``; a block that is filled early ends early.

    Args:
        conf_threshold: confidence must exceed it.
        kl_threshold: each divergence must be below it, nats.
        history_length: divergences that count. They must lie within the block.
        temperature: of the draw of candidates; 0 takes the most probable token.
        reference_quirks: divergences from the steps of the block before count as well, as in the reference code.
        cache: none, prefix or dual, see ``tta_bench.sampling.cache``.

    Reference:
        Kim et al., "KLASS: KL-Guided Fast Inference in Masked Diffusion Models", arXiv:2511.05664, algorithm 1.
    """
    return Sampler(
        views=cached(DriftView(temperature, n=history_length, across_blocks=reference_quirks), cache),
        commit=StableAndConfident(conf_threshold, kl_threshold),
        schedule=Share(),
        looks_ahead=reference_quirks,
    )
