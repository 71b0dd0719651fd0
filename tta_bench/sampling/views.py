"""Views: the looks at a canvas whose answers are merged into one prediction."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tta_bench.rng import Noise
from tta_bench.sampling.denoiser import Denoiser
from tta_bench.sampling.uncertainty import disagreement, draw, entropy, mutual_information, probabilities
from tta_bench.types import Canvas, Prediction


@dataclass(frozen=True)
class SingleView:
    """One look; the candidate is drawn at ``temperature`` (the most probable token at 0), as LLaDA draws it."""

    temperature: float = 0.0
    k: int = 1

    def __post_init__(self) -> None:
        check_temperature("temperature", self.temperature)

    def predict(self, denoiser: Denoiser, canvas: Canvas, noise: Noise) -> Prediction:
        """Candidates with their untempered probability as confidence."""
        logits = denoiser.logits(canvas)[0]
        p = probabilities(logits)
        tokens = draw(logits, self.temperature, uniform_at(canvas, noise, 1)[0] if self.temperature else None)
        zeros = torch.zeros_like(p[:, 0])
        return merged(canvas, tokens, p, entropy(p), zeros, zeros, denoiser.passes)


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

    def predict(self, denoiser: Denoiser, canvas: Canvas, noise: Noise) -> Prediction:
        """Merge the K views of one canvas."""
        views = self._logits(denoiser, canvas, noise)
        uniform = uniform_at(canvas, noise, self.k)
        draws = torch.stack([draw(views[i % len(views)], t, uniform[i]) for i, t in enumerate(self.temperatures)])
        p = probabilities(views)
        mean = p.mean(dim=0)
        passes = denoiser.passes * len(views)
        return merged(canvas, mean.argmax(dim=-1), mean, entropy(mean), disagreement(draws), mutual_information(p), passes)

    def _logits(self, denoiser: Denoiser, canvas: Canvas, noise: Noise) -> Tensor:
        """(1, M, V) where one evaluation serves all views, (K, M, V) with dropout."""
        if self.dropout is None:
            return denoiser.logits(canvas)
        rows_per_view = [seeds * denoiser.passes for seeds in noise.seeds(canvas.step, "dropout", self.k)]
        seeds = [seed for view in rows_per_view for seed in view]
        with injected_dropout(denoiser.model, self.dropout, seeds):
            return denoiser.logits(canvas, repeats=self.k)


def check_temperature(name: str, value: float) -> None:
    """Refuse a temperature that is negative or not finite."""
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name}={value}: a temperature must be a number >= 0")


def uniform_at(canvas: Canvas, noise: Noise, k: int) -> Tensor:
    """(K, M) uniform numbers for the editable positions; they depend on row key, step, view and rank in the row only."""
    rank = canvas.editable.cumsum(dim=1)[canvas.editable] - 1
    row = canvas.editable.nonzero()[:, 0]
    numbers = torch.from_numpy(noise.uniform(canvas.step, "draw", int(rank.max()) + 1, k))
    return numbers.to(rank.device)[row, rank].T.contiguous()


def merged(
    canvas: Canvas, tokens: Tensor, p: Tensor, h: Tensor, d: Tensor, information: Tensor, forward_passes: int
) -> Prediction:
    """A prediction on (B, L) from values at the M editable positions; ``p`` (M, V) gives the confidence of ``tokens``."""

    def spread(values: Tensor) -> Tensor:
        return torch.zeros(canvas.editable.shape, dtype=values.dtype, device=values.device).masked_scatter(
            canvas.editable, values
        )

    return Prediction(
        tokens=canvas.tokens.masked_scatter(canvas.editable, tokens),
        confidence=spread(p.gather(1, tokens[:, None])[:, 0]),
        entropy=spread(h),
        disagreement=spread(d),
        mutual_information=spread(information),
        forward_passes=forward_passes,
    )


@contextmanager
def injected_dropout(model: Any, p: float, seeds: list[int]) -> Iterator[None]:
    """Dropout on the output of every residual branch of ``model`` while the context lasts.

    Published LLaDA and Dream weights come with dropout 0, so putting the model into train mode changes nothing. Here each
    row of the batch draws its masks from its own generator; the model's parameters and train / eval state are not touched.

    Args:
        model: has ``residual_branches()``, the modules whose output is added to the residual stream.
        p: share of activations set to zero, 0 < p < 1; the others are scaled by 1 / (1 - p).
        seeds: one for each row of the batch that will be evaluated.

    Raises:
        TypeError: the model does not say where its residual branches are.
        RuntimeError: no branch was evaluated, so the views could not differ.
    """
    if not hasattr(model, "residual_branches"):
        raise TypeError(
            f"tta_use_dropout=True: {type(model).__name__} has no residual_branches() method, so dropout cannot act on it; "
            "add the method (a list of the modules whose output joins the residual stream) or use temperature views"
        )
    generators: list[torch.Generator] = []
    calls = 0

    def drop(_module: torch.nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if not generators:
            generators.extend(torch.Generator(device=output.device).manual_seed(seed) for seed in seeds)
        noise = torch.stack([torch.rand(output.shape[1:], device=output.device, generator=g) for g in generators])
        return output * (noise >= p).to(output.dtype) / (1 - p)

    handles = [branch.register_forward_hook(drop) for branch in model.residual_branches()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    if calls == 0:
        raise RuntimeError("tta_use_dropout=True: the model evaluated none of its residual_branches(); the views cannot differ")
