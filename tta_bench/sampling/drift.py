"""Views that tell how far their distributions move from step to step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, cast

import torch
from torch import Tensor

from tta_bench.rng import Noise
from tta_bench.sampling.denoiser import Denoiser
from tta_bench.sampling.distributions import Softmax
from tta_bench.sampling.views import Draws, check_temperature, single
from tta_bench.types import Canvas, Prediction


@dataclass(frozen=True)
class DriftMemory:
    """What ``DriftView`` remembers.

    Attributes:
        looked: (B, L) bool, the M positions that ``log_p`` tells of.
        log_p: their log distributions in the step before (M, n, BLOCK), as ``Softmax`` cuts them into blocks; the next step
            overwrites them.
        where: (B, L) bool, of which of these a divergence was asked for.
        divergences: (n, B, L) of the last steps, newest last, infinite where there was nothing to compare with.
    """

    looked: Tensor
    log_p: Tensor
    where: Tensor
    divergences: Tensor

    def now(self, looked: Tensor) -> Tensor:
        """``log_p`` at the positions ``looked`` (B, L) at now; anything where it is not known."""
        common = looked & self.looked
        n, known = int(looked.sum()), int(common.sum())
        if n == len(self.log_p) and known in (0, n):  # the same positions, or as many others: no new memory
            return self.log_p
        log_p = self.log_p.new_empty(n, *self.log_p.shape[1:])
        log_p[common[looked]] = self.log_p[common[self.looked]]
        return log_p


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
        logits = denoiser.look(canvas)
        log_p = memory.now(canvas.looked) if memory else logits.room(int(canvas.looked.sum()))

        def moved(view: Softmax, part: slice) -> Tensor:
            divergence = view.divergence(log_p[part])
            view.log_probabilities(out=log_p[part])
            return divergence

        draws = Draws.at(canvas, noise, self.temperature, canvas.masked)
        found = single(logits, canvas, draws, denoiser.passes, more={"drift": moved})
        where = canvas.masked & (canvas.looked if self.across_blocks else canvas.block)
        known = where & memory.where if memory else torch.zeros_like(where)
        last = torch.where(known, cast(Tensor, found.drift), torch.inf)[None]
        earlier = memory.divergences[1:] if memory else torch.full_like(last, torch.inf).expand(self.n - 1, -1, -1)
        divergences = torch.cat((earlier, last))
        too_early = (canvas.place.step < self.n - 1)[:, None]
        drift = divergences.amax(dim=0).masked_fill(too_early, torch.inf)
        return replace(found, drift=drift), DriftMemory(canvas.looked, log_p, where, divergences)
