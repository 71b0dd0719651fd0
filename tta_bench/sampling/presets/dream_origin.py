"""Dream's original order: every masked position decides for itself."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from tta_bench.rng import Noise
from tta_bench.sampling.cache import cached
from tta_bench.sampling.commit import editable_uniform
from tta_bench.sampling.sampler import Sampler
from tta_bench.sampling.schedule import Timed
from tta_bench.sampling.views import TruncatedView
from tta_bench.types import Turn


@dataclass(frozen=True)
class Independently:
    """Each masked position with the probability that is the schedule's share, independently."""

    schedule: Timed

    def commits(self, turn: Turn, noise: Noise) -> Tensor:
        """(B, L) bool."""
        share = self.schedule.share(turn.canvas)[:, None]
        return turn.eligible & (editable_uniform(turn.canvas, noise, "commit") < share)


def dream_origin(
    *,
    temperature: float = 0.0,
    top_p: float | None = None,
    top_k: int | None = None,
    eps: float = 1e-3,
    cache: str = "none",
) -> Sampler:
    """Commit each masked position with probability 1 - s / t in a step from time t to s, independently; all in the last.

    Times fall from 1 to ``eps`` in equal steps over the block. Dream decodes in one
    block (``block_length=None``), and its model declares that its logits are shifted (``shift_logits``).

    Cost: one forward pass a step.

    Args:
        temperature: of the distribution that candidates are drawn from; 0 takes the most probable token.
        top_p: size of the nucleus; None leaves it whole.
        top_k: tokens that stay; None leaves all.
        eps: the last time of the schedule.
        cache: none, prefix or dual, see ``tta_bench.sampling.cache``.

    Reference:
        Ye et al., "Dream 7B: Diffusion Large Language Models", arXiv:2508.15487, and its published ``diffusion_generate``. The
        reverse process: Sahoo et al., "Simple and Effective Masked Diffusion Language Models", arXiv:2406.07524, eq. 7.
    """
    schedule = Timed(eps)
    return Sampler(
        views=cached(TruncatedView(temperature, top_p, top_k), cache), commit=Independently(schedule), schedule=schedule
    )
