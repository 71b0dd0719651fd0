"""Views that judge committed tokens by a prediction that could not see them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from tta_bench.rng import Noise
from tta_bench.sampling.denoiser import Denoiser
from tta_bench.sampling.uncertainty import probabilities
from tta_bench.sampling.views import check_temperature, drawn, probability_of, single
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
        logits, shadow = denoiser.with_shadow(canvas)
        tokens = drawn(canvas, logits, self.temperature, noise, canvas.masked)
        prediction = single(canvas, tokens, probabilities(logits), denoiser.passes)
        judged = probability_of(canvas.tokens[canvas.block], probabilities(shadow), canvas.mask_id)
        evaluated = denoiser.passes * (canvas.lengths + canvas.block.sum(dim=1))
        return replace(prediction, support=prediction.support.masked_scatter(canvas.block, judged), evaluated=evaluated), None
