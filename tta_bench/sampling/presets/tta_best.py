"""TTA uncertainty sampling as it did best on dev: a fast draft, a judge that cannot see what it judges, a repair."""

from __future__ import annotations

from tta_bench.sampling.commit import EntropyBound
from tta_bench.sampling.holdout import HoldoutViews
from tta_bench.sampling.remask import Repair, Score, Shuffled, UncertaintyScore
from tta_bench.sampling.sampler import Sampler
from tta_bench.sampling.schedule import Open
from tta_bench.sampling.views import TTAViews


def tta_best(
    *,
    entropy_bound: float = 1.0,
    tta_k: int = 2,
    repair_threshold: float = 0.5,
    repair_share: float = 0.3,
    repair_rounds: int = 1,
    shuffle_scores: bool = False,
    temperature: float = 0.0,
) -> Sampler:
    """Fill the block by the entropy bound, hide every token once, take back the improbable ones, and fill the block again.

    ``tta`` with ``schedule=check_and_repair``, ``tta_views=holdout`` and 1 - p as the only term of its score; the views'
    disagreement is told in closed form, so that nothing is drawn. Its defaults were
    chosen on the dev splits of the embedded tasks, for the embedded model (experiments/check_and_repair).

    Cost: one forward pass a step of draft and repair, ``tta_k`` a check, and as many steps as that takes; ``steps`` is not
    used. ``entropy_bound`` sets the pace.

    Args:
        entropy_bound: of draft and repair, nats: the larger, the more is committed at once, see the sampler of that name.
        tta_k: folds of the committed tokens; each is hidden from one of so many looks.
        repair_threshold: tokens are taken back whose probability, hidden, is below 1 minus this.
        repair_share: of the block that a check takes back at most.
        repair_rounds: how often a position is taken back at most; a block of which one was, is not checked again.
        shuffle_scores: a control: take back as many tokens, but blindly.
        temperature: of the draw of candidates; 0 takes the most probable token.
    """
    score: Score = UncertaintyScore(0.0, 0.0, 0.0, 0.0, delta_improbability=1.0)
    looks = TTAViews(k=tta_k, disagreement="expected", candidate_temperature=temperature)
    return Sampler(
        views=HoldoutViews(looks, when_filled=True),
        commit=EntropyBound(entropy_bound),
        schedule=Open(verifies=True, rounds=repair_rounds),
        remask=Repair(Shuffled(score) if shuffle_scores else score, repair_threshold, repair_share, repair_rounds),
    )
