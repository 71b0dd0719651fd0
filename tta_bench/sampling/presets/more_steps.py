"""The control of equal cost: low-confidence decoding that spends a rival's forward passes on more steps."""

from __future__ import annotations

from tta_bench.sampling.cache import cached
from tta_bench.sampling.commit import MostConfident, Scheduled
from tta_bench.sampling.sampler import Sampler
from tta_bench.sampling.schedule import Uniform
from tta_bench.sampling.views import SingleView


def more_steps(*, times: int = 2, temperature: float = 0.0, cache: str = "none") -> Sampler:
    """Low-confidence decoding with ``times`` as many steps.

    The answer to "would more steps have done as well?" for a rival that costs ``times`` passes a step: K for dropout views or
    self-consistency with K samples.

    Cost: one forward pass a step, ``times`` x ``steps`` in all.

    Args:
        times: factor on the steps, a whole number.
        temperature: of the draw of candidates; 0 takes the most probable token.
        cache: none, prefix or dual, see ``tta_bench.sampling.cache``.
    """
    if times < 1:
        raise ValueError(f"times={times}: must be at least 1")
    return Sampler(
        views=cached(SingleView(temperature), cache), commit=Scheduled(MostConfident()), schedule=Uniform(times=times)
    )
