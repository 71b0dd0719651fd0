"""What Dream's four orders have in common: a schedule in time, truncated distributions, and a softened choice of positions."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from tta_bench.rng import Noise
from tta_bench.sampling.cache import cached
from tta_bench.sampling.commit import Order, Scheduled, editable_uniform
from tta_bench.sampling.sampler import Sampler
from tta_bench.sampling.schedule import Timed
from tta_bench.sampling.uncertainty import gumbel
from tta_bench.sampling.views import TruncatedView
from tta_bench.types import Turn


@dataclass(frozen=True)
class Softened:
    """Positions drawn without replacement from softmax(priority / temperature), as the n largest of it plus Gumbel noise."""

    order: Order
    temperature: float

    def priority(self, turn: Turn, noise: Noise) -> Tensor:
        """(B, L), higher is committed earlier."""
        uniform = editable_uniform(turn.canvas, noise, "commit order")
        return self.order.priority(turn, noise).double() / self.temperature + gumbel(uniform)


def dream(
    order: Order,
    *,
    alg_temp: float,
    temperature: float,
    top_p: float | None,
    top_k: int | None,
    eps: float,
    margin: bool = False,
    cache: str = "none",
) -> Sampler:
    """The sampler with a given order. Arguments as in the presets that call it."""
    if not (math.isfinite(alg_temp) and alg_temp >= 0):
        raise ValueError(f"alg_temp={alg_temp}: a temperature must be a number >= 0; 0 takes the best positions")
    return Sampler(
        views=cached(TruncatedView(temperature, top_p, top_k, margin), cache),
        commit=Scheduled(Softened(order, alg_temp) if alg_temp > 0 else order),
        schedule=Timed(eps),
    )
