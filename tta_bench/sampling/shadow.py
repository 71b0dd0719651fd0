"""Views that judge committed tokens by a prediction that could not see them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

from torch import Tensor

from tta_bench.rng import Noise
from tta_bench.sampling.denoiser import Denoiser
from tta_bench.sampling.views import Draws, check_temperature, single
from tta_bench.types import Canvas, Prediction


@dataclass(frozen=True)
class ShadowView:
    """One look with a shadow of the current block: masks that mirror it, each blind to the position it mirrors.

    A committed token of the block is thereby judged by a prediction that could not see it: ``support`` is the shadow's
    probability of it. Reference: Hong et al., "Wide-In, Narrow-Out", arXiv:2507.18578, section 3.
    """

    temperature: float = 0.0
    k: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_temperature("temperature", self.temperature)

    def predict(self, denoiser: Denoiser, canvas: Canvas, noise: Noise, memory: None) -> tuple[Prediction, None]:
        """As ``SingleView``, with the shadow's opinion as support within the block."""
        if denoiser.shift_logits:
            raise ValueError(
                "shift_logits=True: a shadow stands at the position it mirrors, and a model whose logits are shifted predicts "
                "the token after it; use a sampler without a shadow block"
            )
        wide, logits = denoiser.with_shadow(canvas)
        both = single(logits, wide, Draws.at(wide, noise, self.temperature, wide.masked), denoiser.passes)
        length = canvas.tokens.shape[1]
        judged = both.support[:, length:][wide.looked[:, length:]]
        of_real: dict[str, Any] = {
            f.name: value[:, :length] for f in fields(both) if isinstance(value := getattr(both, f.name), Tensor)
        }
        of_real["support"] = of_real["support"].masked_scatter(canvas.block, judged)
        evaluated = denoiser.passes * (canvas.lengths + canvas.block.sum(dim=1))
        return replace(both, **of_real, evaluated=evaluated), None
