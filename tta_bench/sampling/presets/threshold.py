"""Fast-dLLM's threshold decoding: commit everything the model is sure enough of."""

from __future__ import annotations

from tta_bench.sampling.cache import cached
from tta_bench.sampling.commit import AboveThreshold
from tta_bench.sampling.sampler import Sampler
from tta_bench.sampling.schedule import Open
from tta_bench.sampling.views import SingleView


def threshold(*, threshold: float = 0.9, temperature: float = 0.0, cache: str = "none") -> Sampler:
    """Commit the most confident masked position of the block, and every other whose confidence reaches a threshold.

    Cost: one forward pass a step, and as many steps as that takes; ``steps`` is not used.

    Args:
        threshold: confidence (untempered probability of the candidate) from which a candidate is committed.
        temperature: of the draw of candidates; 0 takes the most probable token.
        cache: none, prefix or dual, see ``tta_bench.sampling.cache``.

    Reference:
        Wu et al., "Fast-dLLM", arXiv:2505.22618, algorithm 1 (confidence-aware parallel decoding).
    """
    return Sampler(views=cached(SingleView(temperature), cache), commit=AboveThreshold(threshold), schedule=Open())
