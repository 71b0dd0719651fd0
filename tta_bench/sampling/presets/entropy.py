"""Entropy decoding: keep what the model wavers about least."""

from __future__ import annotations

from tta_bench.sampling.cache import cached
from tta_bench.sampling.commit import LowestEntropy, Scheduled
from tta_bench.sampling.sampler import Sampler
from tta_bench.sampling.views import SingleView


def entropy(*, temperature: float = 0.0, cache: str = "none") -> Sampler:
    """Commit the scheduled number of masked positions, the lowest entropy of the untempered distribution first.

    Cost: one forward pass a step.

    Args:
        temperature: of the draw of candidates; 0 takes the most probable token.
        cache: none, prefix or dual, see ``tta_bench.sampling.cache``.

    Reference:
        Ye et al., "Dream 7B", arXiv:2508.15487 (its ``entropy`` order, here on LLaDA's schedule).
    """
    return Sampler(views=cached(SingleView(temperature), cache), commit=Scheduled(LowestEntropy()))
