"""The control: the budget of TTA uncertainty sampling, spent blindly."""

from __future__ import annotations

from tta_bench.sampling.cache import cached
from tta_bench.sampling.commit import MostConfident, Scheduled
from tta_bench.sampling.freeze import FreezeWindow
from tta_bench.sampling.remask import Budget, RandomScore, TakeBack
from tta_bench.sampling.sampler import Sampler
from tta_bench.sampling.views import SingleView


def random_remask(
    *,
    remask_top_k: int | None = None,
    remask_top_pct: float = 0.1,
    freeze_window: int = 5,
    freeze_threshold: int = 3,
    freeze_duration: int = 3,
    temperature: float = 0.0,
    cache: str = "none",
) -> Sampler:
    """Commit and remask as ``tta`` does, as many tokens in every step, but choose those to remask at random.

    They can lie in earlier blocks too. What ``tta`` gains over this is what its uncertainty is worth.

    Cost: one forward pass a step.

    Args:
        remask_top_k: tokens remasked a step; overrides ``remask_top_pct``.
        remask_top_pct: share of the committed tokens remasked a step (at least one; 0 remasks none).
        freeze_window: steps over which changes are counted.
        freeze_threshold: changes within the window that freeze a position.
        freeze_duration: steps a frozen position cannot be remasked.
        temperature: of the draw of candidates; 0 takes the most probable token.
        cache: none, prefix or dual, see ``tta_bench.sampling.cache``.
    """
    return Sampler(
        views=cached(SingleView(temperature=temperature), cache),
        commit=Scheduled(MostConfident()),
        remask=TakeBack(RandomScore(), Budget(remask_top_k, remask_top_pct)),
        freeze=FreezeWindow(freeze_window, freeze_threshold, freeze_duration),
    )
