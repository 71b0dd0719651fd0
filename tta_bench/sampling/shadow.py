"""Views that judge committed tokens by a prediction that could not see them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from tta_bench.rng import Noise
from tta_bench.sampling.denoiser import Denoiser
from tta_bench.sampling.views import Draws, TTAViews, check_temperature, prediction, single, spread
from tta_bench.types import Canvas, Prediction

JUDGED = ("support", "entropy", "disagreement", "mutual_information")
"""Fields that are a shadow's within the block."""


def shadow_probability(denoiser: Denoiser, canvas: Canvas) -> Tensor:
    """Judge every committed token by its shadow, all in one longer evaluation; see ``ShadowView``.

    Args:
        denoiser: the model.
        canvas: whose committed tokens are judged, whatever their block; rows without editable positions are not evaluated.

    Returns:
        (B, L) probabilities, 0 where no token is committed.
    """
    refuse_shifted(denoiser)
    place = replace(canvas.place, start=torch.zeros_like(canvas.place.start), end=canvas.editable.sum(dim=1))
    whole = replace(canvas, place=place, focus=None)
    wide, logits = denoiser.with_shadow(whole)
    probability = spread(wide, logits.probability(wide.tokens[wide.looked]).float())
    length = canvas.tokens.shape[1]
    of_shadows = probability[:, length:][wide.looked[:, length:]]
    return torch.zeros_like(probability[:, :length]).masked_scatter(whole.block, of_shadows).masked_fill(~canvas.committed, 0)


def refuse_shifted(denoiser: Denoiser) -> None:
    """Refuse a model whose logits are shifted."""
    if denoiser.shift_logits:
        raise ValueError(
            "shift_logits=True: a shadow stands at the position it mirrors, and a model whose logits are shifted predicts "
            "the token after it; use a sampler without a shadow block"
        )


@dataclass(frozen=True)
class ShadowView:
    """One look with a shadow of the current block: masks that mirror it, each blind to the position it mirrors.

    A committed token of the block is thereby judged by a prediction that could not see it: ``support`` is the shadow's
    probability of it, and with ``draws`` entropy and disagreement are the shadow's too. Reference: Hong et al., "Wide-In,
    Narrow-Out", arXiv:2507.18578, section 3.

    Attributes:
        temperature: of the draw of candidates.
        draws: how a shadow's prediction is drawn from; None draws nothing, and tells of a shadow its support only.
    """

    temperature: float = 0.0
    draws: TTAViews | None = None

    def __post_init__(self) -> None:
        check_temperature("temperature", self.temperature)
        if self.draws is not None and not self.draws.shared:
            raise ValueError("tta_views=shadow: one look serves all its views; dropout and context cannot be combined with it")

    @property
    def k(self) -> int:
        """Draws from the one look."""
        return 1 if self.draws is None else self.draws.k

    def predict(self, denoiser: Denoiser, canvas: Canvas, noise: Noise, memory: None) -> tuple[Prediction, None]:
        """As ``SingleView``, with the shadow's opinion within the block."""
        refuse_shifted(denoiser)
        wide, logits = denoiser.with_shadow(canvas)
        candidates = Draws.at(wide, noise, self.temperature, wide.masked)
        if self.draws is None:
            both = single(logits, wide, candidates, denoiser.passes)
        else:
            standing = wide.tokens[wide.looked]
            uniform = self.draws.uniform(wide, noise, "shadow")
            found = self.draws.merged(logits, standing, uniform, draws=candidates)
            both = prediction(wide, denoiser.passes, found)
        length = canvas.tokens.shape[1]
        of_real: dict[str, Any] = {
            f.name: value[:, :length] for f in fields(both) if isinstance(value := getattr(both, f.name), Tensor)
        }
        for name in JUDGED[: None if self.draws else 1]:
            of_shadow = getattr(both, name)[:, length:][wide.looked[:, length:]]
            told = of_real[name].masked_scatter(canvas.block, of_shadow)
            of_real[name] = told.where(canvas.committed, of_real[name])
        evaluated = denoiser.passes * (canvas.lengths + canvas.block.sum(dim=1))
        return replace(both, **of_real, evaluated=evaluated), None
