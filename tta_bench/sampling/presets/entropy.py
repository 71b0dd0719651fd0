"""Entropy decoding: keep what the model wavers about least."""

from __future__ import annotations

from tta_bench.sampling.commit import LowestEntropy, Scheduled
from tta_bench.sampling.sampler import Sampler
from tta_bench.sampling.views import SingleView


def entropy(*, temperature: float = 0.0) -> Sampler:
    """Commit the scheduled number of masked positions, the lowest entropy of the untempered distribution first.

    Cost: one forward pass a step.

    Args:
        temperature: of the draw of candidates; 0 takes the most probable token.

    Reference:
        Ye et al., "Dream 7B", arXiv:2508.15487 (its ``entropy`` order, here on LLaDA's schedule).
    """
    return Sampler(views=SingleView(temperature), commit=Scheduled(LowestEntropy()))
