"""Margin decoding: keep what is furthest from its runner-up."""

from __future__ import annotations

from tta_bench.sampling.cache import cached
from tta_bench.sampling.commit import LargestMargin, Scheduled
from tta_bench.sampling.sampler import Sampler
from tta_bench.sampling.views import SingleView


def margin(*, temperature: float = 0.0, cache: str = "none") -> Sampler:
    """Commit the scheduled number of masked positions, the largest p1 - p2 first.

    p1 and p2 are the probabilities of a position's two most probable tokens, untempered.

    Cost: one forward pass a step.

    Args:
        temperature: of the draw of candidates; 0 takes the most probable token.
        cache: none, prefix or dual, see ``tta_bench.sampling.cache``.

    Reference:
        Kim et al., "Train for the Worst, Plan for the Best", arXiv:2502.06768, section 4 (top-K probability margin).
    """
    return Sampler(views=cached(SingleView(temperature, margin=True), cache), commit=Scheduled(LargestMargin()))
