"""TTA uncertainty sampling: K views of the canvas decide what is taken back."""

from __future__ import annotations

from tta_bench.sampling.cache import cached
from tta_bench.sampling.commit import MostConfident, Scheduled
from tta_bench.sampling.freeze import FreezeWindow
from tta_bench.sampling.remask import Budget, TakeBack, UncertaintyScore
from tta_bench.sampling.sampler import Sampler
from tta_bench.sampling.views import TTAViews


def tta(
    *,
    tta_k: int = 5,
    tta_temperature_range: tuple[float, float] = (0.0, 0.3),
    tta_use_dropout: bool = False,
    tta_dropout_p: float = 0.1,
    alpha_entropy: float = 1.0,
    beta_disagreement: float = 0.5,
    gamma_violation: float = 0.3,
    lambda_change: float = 0.2,
    remask_top_k: int | None = None,
    remask_top_pct: float = 0.1,
    freeze_window: int = 5,
    freeze_threshold: int = 3,
    freeze_duration: int = 3,
    temperature: float = 0.0,
    cache: str = "none",
) -> Sampler:
    """Commit as LLaDA does, then remask the committed tokens with the highest uncertainty.

    A step scores every committed position by R = alpha H + beta D + gamma V - lambda C, with H the entropy (nats) of the
    views' mean distribution, D the disagreement of their draws (0..1), V the constraint violation and C how often the
    position was remasked. The worst are masked again, in earlier blocks too; the cumulative schedule commits them anew. The
    last step remasks nothing.

    Cost: one forward pass a step with temperature views, whatever ``tta_k``; ``tta_k`` passes with dropout views.

    Args:
        tta_k: views a step.
        tta_temperature_range: temperatures of the first and the last view, evenly spaced between.
        tta_use_dropout: evaluate each view with its own injected dropout.
        tta_dropout_p: dropout rate, used with ``tta_use_dropout``.
        alpha_entropy: weight of the entropy.
        beta_disagreement: weight of the disagreement.
        gamma_violation: weight of the constraint violation.
        lambda_change: penalty for each earlier remask of the position.
        remask_top_k: tokens remasked a step; overrides ``remask_top_pct``.
        remask_top_pct: share of the committed tokens remasked a step (at least one; 0 remasks none).
        freeze_window: steps over which changes are counted.
        freeze_threshold: changes within the window that freeze a position.
        freeze_duration: steps a frozen position cannot be remasked.
        temperature: of the draw of the only view when ``tta_k`` is 1. Draws tell how far views disagree; the candidate is the
            most probable token of the views' mean in any case, so this changes no token.
        cache: none, prefix or dual, see ``tta_bench.sampling.cache``.
    """
    dropout = tta_dropout_p if tta_use_dropout else None
    if dropout is not None and cache != "none":
        raise ValueError(
            f"cache={cache}: keeps keys and values of one network, and tta_use_dropout=True perturbs it anew in every view; "
            "use cache=none, or temperature views"
        )
    low, high = tta_temperature_range
    return Sampler(
        views=cached(TTAViews(k=tta_k, temperature_range=(low, high), temperature=temperature, dropout=dropout), cache),
        commit=Scheduled(MostConfident()),
        remask=TakeBack(
            UncertaintyScore(alpha_entropy, beta_disagreement, gamma_violation, lambda_change),
            Budget(remask_top_k, remask_top_pct),
        ),
        freeze=FreezeWindow(freeze_window, freeze_threshold, freeze_duration),
    )
