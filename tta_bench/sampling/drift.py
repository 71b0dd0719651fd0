"""Views that tell how far their distributions move from step to step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from tta_bench.rng import Noise
from tta_bench.sampling.denoiser import Denoiser
from tta_bench.sampling.uncertainty import kullback_leibler, probabilities
from tta_bench.sampling.views import check_temperature, drawn, single
from tta_bench.types import Canvas, Prediction


@dataclass(frozen=True)
class DriftMemory:
    """What ``DriftView`` remembers.

    Attributes:
        where: (B, L) bool, the N positions that ``log_p`` tells of.
        log_p: their log distributions in the step before (N, V).
        divergences: (n, B, L) of the last steps, newest last, infinite where there was nothing to compare with.
    """

    where: Tensor
    log_p: Tensor
    divergences: Tensor


@dataclass(frozen=True)
class DriftView:
    """One look that also tells how far the distribution moved in each of the last ``n`` steps.

    Attributes:
        temperature: of the draw.
        n: divergences that must be known, KL(p_t || p_t-1) to KL(p_t-n+1 || p_t-n).
        across_blocks: compare with steps of the block before as well, from step n - 1 of a block on.
    """

    temperature: float = 0.0
    n: int = 2
    across_blocks: bool = False
    k: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_temperature("temperature", self.temperature)
        if self.n < 1:
            raise ValueError(f"history_length={self.n}: must be at least 1")

    def predict(
        self, denoiser: Denoiser, canvas: Canvas, noise: Noise, memory: DriftMemory | None
    ) -> tuple[Prediction, DriftMemory]:
        """As ``SingleView``, with ``drift``."""
        logits = denoiser.logits(canvas)[0]
        p = probabilities(logits)
        where = canvas.masked & canvas.looked if self.across_blocks else canvas.masked & canvas.block
        log_p = torch.log_softmax(logits[where[canvas.looked]], dim=-1)
        divergences = torch.full((self.n, *canvas.tokens.shape), torch.inf, dtype=p.dtype, device=p.device)
        if memory is not None:
            known = where & memory.where
            moved = kullback_leibler(log_p[known[where]], memory.log_p[known[memory.where]])
            divergences = torch.cat((memory.divergences[1:], divergences[:1].masked_scatter(known[None], moved)))
        too_early = (canvas.place.step < self.n - 1)[:, None]
        drift = divergences.amax(dim=0).masked_fill(too_early, torch.inf)
        tokens = drawn(canvas, logits, self.temperature, noise, canvas.masked)
        prediction = replace(single(canvas, tokens, p, denoiser.passes), drift=drift)
        return prediction, DriftMemory(where, log_p, divergences)
