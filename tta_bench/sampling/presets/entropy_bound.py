"""EB-Sampler: commit as many positions as a bound on their joint entropy allows."""

from __future__ import annotations

from tta_bench.sampling.cache import cached
from tta_bench.sampling.commit import EntropyBound
from tta_bench.sampling.sampler import Sampler
from tta_bench.sampling.schedule import Open
from tta_bench.sampling.views import SingleView


def entropy_bound(*, gamma: float = 0.1, temperature: float = 0.0, cache: str = "none") -> Sampler:
    """Commit the largest set of masked positions, by rising entropy, with (sum of entropies) - (largest) <= gamma.

    Entropies are untempered, and the block's. That difference bounds the mutual information of the positions, which
    committing them together ignores.

    Cost: one forward pass a step, and as many steps as that takes; ``steps`` is not used.

    Args:
        gamma: the bound, nats. 0 commits one position at a time (or several that are certain).
        temperature: of the draw of candidates; 0 takes the most probable token.
        cache: none, prefix or dual, see ``tta_bench.sampling.cache``.

    Reference:
        Ben-Hamu et al., "Accelerated Sampling from Masked Diffusion Models via Entropy Bounded Unmasking",
        arXiv:2505.24857, section 3.
    """
    return Sampler(views=cached(SingleView(temperature), cache), commit=EntropyBound(gamma), schedule=Open())
