"""TTA uncertainty sampling: K views of the canvas decide what is taken back."""

from __future__ import annotations

from tta_bench.sampling.cache import cached
from tta_bench.sampling.commit import Commit, EntropyBound, Heeding, MostConfident, Scheduled
from tta_bench.sampling.freeze import FreezeWindow
from tta_bench.sampling.holdout import HoldoutViews
from tta_bench.sampling.remask import Budget, Either, Repair, Score, Shuffled, TakeBack, UncertaintyScore
from tta_bench.sampling.sampler import Sampler, Views
from tta_bench.sampling.schedule import Draft, Open, Schedule, Uniform
from tta_bench.sampling.shadow import ShadowView
from tta_bench.sampling.views import TTAViews

VIEWS = ("temperature", "context", "holdout", "shadow")
SCHEDULES = ("in_loop", "adaptive", "check_and_repair")


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
    tta_views: str = "temperature",
    tta_context_p: float = 0.1,
    tta_disagreement: str = "draws",
    delta_improbability: float = 0.0,
    candidate_temperature: float = 0.0,
    schedule: str = "in_loop",
    entropy_bound: float = 0.1,
    draft_steps: int | None = None,
    repair_threshold: float = 0.5,
    repair_share: float = 0.3,
    repair_rounds: int = 1,
    heed_constraint: bool = False,
    heed_share: float = 1.0,
    shuffle_scores: bool = False,
    cache: str = "none",
) -> Sampler:
    """Commit as LLaDA does, then remask the committed tokens with the highest uncertainty.

    A step scores every committed position by R = alpha H + beta D + gamma V + delta (1 - p) - lambda C, with H the entropy
    (nats) of the views' mean distribution, D the disagreement of their draws (0..1), V the constraint violation, p the
    probability that the views give the token that stands there, and C how often the position was remasked. The worst are masked
    again, in earlier blocks too; the cumulative schedule commits them anew. The last step remasks nothing.

    That, with delta = 0 and views that differ in temperature or dropout, is the method; from ``tta_views`` on the parameters
    are extensions. *Views* can hide what they judge, since a committed token that is seen mostly predicts itself:
    ``holdout`` takes a plain look for candidates and K looks, each without one of K folds of the committed tokens, ``shadow``
    judges the block by mirrored masks in the same pass, ``context`` hides prompt and committed tokens at random. *Schedules*:
    ``adaptive`` commits as ``entropy_bound`` does, passes are spent where doubt is; ``check_and_repair`` first fills the block
    (by the entropy bound, or in ``draft_steps``), then judges it as a whole, takes the doubtful tokens back, and fills it
    again. *Constraint*: ``heed_constraint`` keeps no commit that violates the constraint, whatever the score says.

    Cost: one forward pass a step with temperature and shadow views (with shadows, of a sequence longer by the block), whatever
    ``tta_k``; ``tta_k`` passes with dropout or context views; up to ``tta_k`` + 1 with holdout views, and in a check and a
    repair ``tta_k`` for the check and 1 for any other step. ``steps`` is used by the schedule ``in_loop`` only.

    Args:
        tta_k: views a step; with holdout views, folds.
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
        tta_views: temperature, context, holdout or shadow; the first three also with ``tta_use_dropout``.
        tta_context_p: chance with which a context view hides a token.
        tta_disagreement: draws; expected, the mean of that over all draws in closed form; or tempered_entropy, the views' mean
            entropy at their temperatures (0..1), in closed form too.
        delta_improbability: weight of 1 - p.
        candidate_temperature: of the draw of candidates; 0 takes the most probable token.
        schedule: in_loop, adaptive or check_and_repair.
        entropy_bound: of the schedules other than in_loop, nats.
        draft_steps: steps of a draft, with check_and_repair; null commits by the entropy bound.
        repair_threshold: score that a token must exceed to be taken back in a check.
        repair_share: of the block that a check takes back at most.
        repair_rounds: how often a position is taken back at most, with the schedules other than in_loop. A block of which one
            was, is not checked again.
        heed_constraint: hold back what would violate the constraint, and take back tokens of the block that stand against it,
            each at most 5 times.
        heed_share: of the tokens in violation that are held or taken back.
        shuffle_scores: a control: take back as many tokens, but blindly; their scores change places at random.
        cache: none, prefix or dual, see ``tta_bench.sampling.cache``.
    """
    dropout = tta_dropout_p if tta_use_dropout else None
    if dropout is not None and cache != "none":
        raise ValueError(
            f"cache={cache}: keeps keys and values of one network, and tta_use_dropout=True perturbs it anew in every view; "
            "use cache=none, or temperature views"
        )
    for name, value, known in (("tta_views", tta_views, VIEWS), ("schedule", schedule, SCHEDULES)):
        if value not in known:
            raise ValueError(f"{name}={value}: must be one of {', '.join(known)}")
    if cache != "none" and tta_views != "temperature":
        raise ValueError(f"cache={cache}: tta_views={tta_views} changes the input of every look; use cache=none")
    if draft_steps is not None and schedule != "check_and_repair":
        raise ValueError(f"draft_steps={draft_steps}: is of schedule=check_and_repair; with {schedule} set it to null")
    low, high = tta_temperature_range
    looks = TTAViews(
        k=tta_k,
        temperature_range=(low, high),
        temperature=temperature,
        dropout=dropout,
        context=tta_context_p if tta_views == "context" else None,
        disagreement=tta_disagreement,
        candidate_temperature=candidate_temperature,
    )
    checks = schedule == "check_and_repair"
    views: Views = cached(looks, cache)
    if tta_views == "holdout":
        views = HoldoutViews(looks, when_filled=checks)
    elif tta_views == "shadow":
        views = ShadowView(candidate_temperature, looks)
    score: Score = UncertaintyScore(alpha_entropy, beta_disagreement, gamma_violation, lambda_change, delta_improbability)
    score = Shuffled(score) if shuffle_scores else score
    commit: Commit = EntropyBound(entropy_bound)
    paced: Schedule = Open()
    remask: TakeBack | Repair = TakeBack(score, Budget(remask_top_k, remask_top_pct), repair_rounds)
    if schedule == "in_loop":
        commit, paced = Scheduled(MostConfident()), Uniform()
        remask = TakeBack(score, Budget(remask_top_k, remask_top_pct))
    elif checks:
        commit = commit if draft_steps is None else Scheduled(MostConfident())
        paced = Open(verifies=True, rounds=repair_rounds) if draft_steps is None else Draft(draft_steps, repair_rounds)
        remask = Repair(score, repair_threshold, repair_share, repair_rounds)
    heeding = Heeding(commit, heed_share)
    return Sampler(
        views=views,
        commit=heeding if heed_constraint else commit,
        schedule=paced,
        remask=Either(remask, heeding) if heed_constraint else remask,
        freeze=FreezeWindow(freeze_window, freeze_threshold, freeze_duration),
    )
