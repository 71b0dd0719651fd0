"""LLaDA's low-confidence decoding: predict everything, keep what the model is surest of."""

from __future__ import annotations

from tta_bench.sampling.cache import cached
from tta_bench.sampling.commit import MostConfident, Scheduled
from tta_bench.sampling.sampler import Sampler
from tta_bench.sampling.views import SingleView


def low_confidence(*, temperature: float = 0.0, cache: str = "none") -> Sampler:
    """Commit the scheduled number of masked positions, the most probable candidates first.

    Every block gets the same number of steps, and m masks over s steps are m // s each, one more in the first m % s.

    Cost: one forward pass a step.

    Args:
        temperature: of the draw of candidates; 0 takes the most probable token. Confidence is untempered.
        cache: none, prefix or dual, see ``tta_bench.sampling.cache``.

    Reference:
        Nie et al., "Large Language Diffusion Models", arXiv:2502.09992, algorithm 5.
    """
    return Sampler(views=cached(SingleView(temperature=temperature), cache), commit=Scheduled(MostConfident()))
