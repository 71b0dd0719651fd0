"""P2, path planning by the model itself: every step draws everywhere and keeps the best."""

from __future__ import annotations

from tta_bench.sampling.cache import cached
from tta_bench.sampling.keep_best import KeepBest
from tta_bench.sampling.sampler import Sampler
from tta_bench.sampling.schedule import Linear
from tta_bench.sampling.views import SingleView


def p2(*, temperature: float = 0.0, cache: str = "none") -> Sampler:
    """Draw at all positions of the block; the floor(N (1 - (i + 1) / S)) least confident draws become masks.

    N is the length of the block, i = 0 .. S - 1 the step in it.
    A masked position that is not among them takes its draw; a committed one keeps its token, whatever was drawn there. The
    confidence is that of the new draw.

    Cost: one forward pass a step.

    Args:
        temperature: of the draws; 0 takes the most probable token.
        cache: none, prefix or dual, see ``tta_bench.sampling.cache``.

    Reference:
        Peng et al., "Path Planning for Masked Diffusion Model Sampling", arXiv:2502.03540, algorithm 1 (self-planning).
    """
    rule = KeepBest(stored=False)
    return Sampler(views=cached(SingleView(temperature, redraw=True), cache), commit=rule, schedule=Linear(), remask=rule)
