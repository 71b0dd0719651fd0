"""Dream's entropy order: what the model wavers about least first."""

from __future__ import annotations

from tta_bench.sampling.commit import LowestEntropy
from tta_bench.sampling.dream import dream
from tta_bench.sampling.sampler import Sampler


def dream_entropy(
    *,
    alg_temp: float = 0.0,
    temperature: float = 0.0,
    top_p: float | None = None,
    top_k: int | None = None,
    eps: float = 1e-3,
    cache: str = "none",
) -> Sampler:
    """Commit int(m (1 - s / t)) of m masked positions in a step from time t to s, the lowest entropy first.

    The last step commits all. Times fall from 1 to ``eps`` in equal steps over the block. Dream decodes in one
    block (``block_length=None``), and its model declares that its logits are shifted (``shift_logits``).

    Cost: one forward pass a step.

    Args:
        alg_temp: temperature of the choice of positions; 0 takes the best, above it they are drawn without replacement from
            softmax(negative entropy / alg_temp).
        temperature: of the distribution that candidates are drawn from; 0 takes the most probable token. All
            measures are of the tempered, truncated distribution.
        top_p: size of the nucleus; None leaves it whole.
        top_k: tokens that stay; None leaves all.
        eps: the last time of the schedule.
        cache: none, prefix or dual, see ``tta_bench.sampling.cache``.

    Reference:
        Ye et al., "Dream 7B: Diffusion Large Language Models", arXiv:2508.15487, and its published ``diffusion_generate``.
    """
    return dream(LowestEntropy(), alg_temp=alg_temp, temperature=temperature, top_p=top_p, top_k=top_k, eps=eps, cache=cache)
