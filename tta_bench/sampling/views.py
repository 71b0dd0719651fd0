"""Views: the looks at a canvas whose answers are merged into one prediction."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from tta_bench.rng import Noise
from tta_bench.sampling.denoiser import Denoiser
from tta_bench.sampling.dropout import injected_dropout
from tta_bench.sampling.uncertainty import (
    disagreement,
    draw,
    entropy,
    margin,
    mutual_information,
    probabilities,
    truncated,
)
from tta_bench.types import Canvas, Prediction


@dataclass(frozen=True)
class SingleView:
    """One look; the candidate is drawn at ``temperature`` (the most probable token at 0), as LLaDA draws it.

    Attributes:
        temperature: of the draw. Confidence and the other measures are untempered.
        redraw: draw at the committed positions of the current block too, not only where a token can be committed now.
        margin: tell the margin as well.
    """

    temperature: float = 0.0
    redraw: bool = False
    margin: bool = False
    k: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_temperature("temperature", self.temperature)

    def predict(self, denoiser: Denoiser, canvas: Canvas, noise: Noise, memory: None) -> tuple[Prediction, None]:
        """Candidates with their untempered probability as confidence."""
        logits = denoiser.logits(canvas)[0]
        p = probabilities(logits)
        tokens = drawn(canvas, logits, self.temperature, noise, canvas.block if self.redraw else canvas.masked)
        return single(canvas, tokens, p, denoiser.passes, self.margin), None


@dataclass(frozen=True)
class TruncatedView:
    """One look at softmax(logits / temperature) cut to the nucleus and the top k; confidence is of *that* distribution.

    Attributes:
        temperature: of the distribution; at 0 it is untempered and the candidate its mode.
        top_p: size of the nucleus; None leaves it whole.
        top_k: tokens that stay; None leaves all.
        margin: tell the margin as well.
        inclusive: whether the token that crosses ``top_p`` belongs to the nucleus.
    """

    temperature: float = 0.0
    top_p: float | None = None
    top_k: int | None = None
    margin: bool = False
    inclusive: bool = True
    k: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_temperature("temperature", self.temperature)
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p={self.top_p}: must be a probability, above 0 and at most 1; null leaves it out")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k={self.top_k}: must be at least 1; null leaves it out")

    def predict(self, denoiser: Denoiser, canvas: Canvas, noise: Noise, memory: None) -> tuple[Prediction, None]:
        """Candidates with their probability in the tempered, truncated distribution as confidence."""
        logits = truncated(denoiser.logits(canvas)[0], self.temperature, self.top_p, self.top_k, self.inclusive)
        tokens = drawn(canvas, logits, 1.0 if self.temperature > 0 else 0.0, noise, canvas.masked)
        return single(canvas, tokens, probabilities(logits), denoiser.passes, self.margin), None


@dataclass(frozen=True)
class TTAViews:
    """K looks: view k draws at temperature linspace(range, K)[k] and, with ``dropout``, from a perturbed network.

    The candidate is the argmax of the views' mean *untempered* distribution; the draws only tell how far the views
    disagree. Without dropout the network's answer is the same for all K views, so one evaluation serves them, exactly.
    """

    k: int = 5
    temperature_range: tuple[float, float] = (0.0, 0.3)
    temperature: float = 0.0
    dropout: float | None = None

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"tta_k={self.k}: must be at least 1 view")
        check_temperature("temperature", self.temperature)
        low, high = self.temperature_range
        check_temperature("tta_temperature_range", low)
        check_temperature("tta_temperature_range", high)
        if low > high:
            raise ValueError(f"tta_temperature_range=[{low}, {high}]: the first must not exceed the second; swap them")
        if self.dropout is not None and not 0 < self.dropout < 1:
            raise ValueError(f"tta_dropout_p={self.dropout}: must lie strictly between 0 and 1 to perturb the model")

    @property
    def temperatures(self) -> list[float]:
        """The temperature of each view; with a single view, ``temperature``."""
        if self.k == 1:
            return [self.temperature]
        low, high = self.temperature_range
        return [low + (high - low) * i / (self.k - 1) for i in range(self.k)]

    def predict(self, denoiser: Denoiser, canvas: Canvas, noise: Noise, memory: None) -> tuple[Prediction, None]:
        """Merge the K views of one canvas."""
        views = self._logits(denoiser, canvas, noise)
        p = probabilities(views)
        mean = p.mean(dim=0)
        judged = canvas.reachable[canvas.looked]
        uniform = uniform_at(canvas, noise, self.k)[:, judged]
        draws = [draw(views[i % len(views)][judged], t, uniform[i]) for i, t in enumerate(self.temperatures)]
        spread_of_draws = torch.zeros_like(mean[:, 0]).masked_scatter(judged, disagreement(torch.stack(draws)).to(mean.dtype))
        passes = denoiser.passes * len(views)
        return merged(canvas, mean.argmax(dim=-1), mean, spread_of_draws, mutual_information(p), passes), None

    def _logits(self, denoiser: Denoiser, canvas: Canvas, noise: Noise) -> Tensor:
        """(1, M, V) where one evaluation serves all views, (K, M, V) with dropout."""
        if self.dropout is None:
            return denoiser.logits(canvas)
        rows = canvas.editable.any(dim=1).nonzero()[:, 0].tolist()
        views = [[seeds[row] for row in rows] * denoiser.passes for seeds in noise.seeds(canvas.step, "dropout", self.k)]
        pads = [0] * len(canvas.tokens) if canvas.padding is None else canvas.padding.sum(dim=1).tolist()
        seeds = [seed for view in views for seed in view]
        plain = replace(denoiser, model=getattr(denoiser.model, "uncompiled", denoiser.model))
        with injected_dropout(plain.model, self.dropout, seeds, [pads[row] for row in rows] * plain.passes * self.k):
            return plain.logits(canvas, repeats=self.k)


def check_temperature(name: str, value: float) -> None:
    """Refuse a temperature that is negative or not finite."""
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name}={value}: a temperature must be a number >= 0")


def uniform_at(canvas: Canvas, noise: Noise, k: int) -> Tensor:
    """(K, M) uniform numbers for the positions looked at.

    They depend on row key, step, view and rank among the row's editable positions only.
    """
    rank = canvas.editable.cumsum(dim=1)[canvas.looked] - 1
    row = canvas.looked.nonzero()[:, 0]
    numbers = torch.from_numpy(noise.uniform(canvas.step, "draw", int(rank.max()) + 1, k))
    return numbers.to(rank.device)[row, rank].T.contiguous()


def drawn(canvas: Canvas, logits: Tensor, temperature: float, noise: Noise, where: Tensor) -> Tensor:
    """(M,) candidates at the positions looked at: draws at ``where`` (B, L) as far as it is reachable, else the argmax.

    Args:
        canvas: of which M positions are looked at.
        logits: (M, V) at them.
        temperature: of the draws; at 0 all are the argmax.
        noise: random numbers by row.
        where: positions whose candidate may be used now. Nothing else is drawn, or held in float64.
    """
    tokens = logits.argmax(dim=-1)
    if temperature == 0:
        return tokens
    wanted = (where & canvas.reachable)[canvas.looked]
    uniform = uniform_at(canvas, noise, 1)[0]
    return tokens.masked_scatter(wanted, draw(logits[wanted], temperature, uniform[wanted]))


def single(canvas: Canvas, tokens: Tensor, p: Tensor, forward_passes: int, with_margin: bool = False) -> Prediction:
    """The prediction of one view: candidates (M,) and distributions ``p`` (M, V) at the positions looked at."""
    zeros = torch.zeros_like(p[:, 0])
    prediction = merged(canvas, tokens, p, zeros, zeros, forward_passes)
    return replace(prediction, margin=spread(canvas, margin(p))) if with_margin else prediction


def merged(
    canvas: Canvas, tokens: Tensor, p: Tensor, disagreement: Tensor, information: Tensor, forward_passes: int
) -> Prediction:
    """A prediction on (B, L) from values at the M positions looked at; ``p`` (M, V) is the mean distribution there."""
    return Prediction(
        tokens=canvas.tokens.masked_scatter(canvas.looked, tokens),
        confidence=spread(canvas, p.gather(1, tokens[:, None])[:, 0]),
        entropy=spread(canvas, entropy(p)),
        disagreement=spread(canvas, disagreement),
        mutual_information=spread(canvas, information),
        support=spread(canvas, probability_of(canvas.tokens[canvas.looked], p, canvas.mask_id)),
        forward_passes=forward_passes,
    )


def probability_of(tokens: Tensor, p: Tensor, mask_id: int) -> Tensor:
    """(M,) probability in ``p`` (M, V) of ``tokens`` (M,); 0 for the mask, whose id need not lie within the vocabulary."""
    masked = tokens == mask_id
    return p.gather(1, tokens.masked_fill(masked, 0)[:, None])[:, 0].masked_fill(masked, 0)


def spread(canvas: Canvas, values: Tensor) -> Tensor:
    """(M,) values at the positions looked at as (B, L), zero elsewhere."""
    return torch.zeros(canvas.looked.shape, dtype=values.dtype, device=values.device).masked_scatter(canvas.looked, values)
