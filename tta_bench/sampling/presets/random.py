"""LLaDA's random decoding: predict everything, keep positions chosen at random."""

from __future__ import annotations

from tta_bench.sampling.cache import cached
from tta_bench.sampling.commit import RandomOrder, Scheduled
from tta_bench.sampling.sampler import Sampler
from tta_bench.sampling.views import SingleView


def random(*, temperature: float = 0.0, cache: str = "none") -> Sampler:
    """Commit the scheduled number of masked positions in an order drawn anew in every step.

    This is the ``random`` order of LLaDA's published code. In the paper's algorithm 4 every position decides for itself
    instead; that is ``dream_origin``.

    Cost: one forward pass a step.

    Args:
        temperature: of the draw of candidates; 0 takes the most probable token.
        cache: none, prefix or dual, see ``tta_bench.sampling.cache``.

    Reference:
        Nie et al., "Large Language Diffusion Models", arXiv:2502.09992, and its published ``generate``.
    """
    return Sampler(views=cached(SingleView(temperature=temperature), cache), commit=Scheduled(RandomOrder()))
