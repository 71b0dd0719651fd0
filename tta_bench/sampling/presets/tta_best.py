"""TTA uncertainty sampling as it did best on dev: a fast draft, a judge that cannot see what it judges, a repair."""

from __future__ import annotations

from tta_bench.sampling.presets.tta import tta
from tta_bench.sampling.sampler import Sampler


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

    ``tta`` with ``schedule=check_and_repair``, ``tta_views=holdout`` and 1 - p as the only term of its score. Its defaults were
    chosen on the dev splits of the embedded tasks, for the embedded model (experiments/tta_views).

    Cost: one forward pass a step of draft and repair, ``tta_k`` a check, and as many steps as that takes; ``steps`` is not
    used. ``entropy_bound`` sets the pace.

    Args:
        entropy_bound: of draft and repair, nats: the larger, the more is committed at once, see the sampler of that name.
        tta_k: folds of the committed tokens; each is hidden from one of so many looks.
        repair_threshold: tokens are taken back whose probability, hidden, is below 1 minus this.
        repair_share: of the block that a check takes back at most.
        repair_rounds: checks of a block at most.
        shuffle_scores: a control: take back as many tokens, but blindly.
        temperature: of the draw of candidates; 0 takes the most probable token.
    """
    return tta(
        tta_k=tta_k,
        tta_views="holdout",
        alpha_entropy=0.0,
        beta_disagreement=0.0,
        gamma_violation=0.0,
        lambda_change=0.0,
        delta_improbability=1.0,
        candidate_temperature=temperature,
        schedule="check_and_repair",
        entropy_bound=entropy_bound,
        repair_threshold=repair_threshold,
        repair_share=repair_share,
        repair_rounds=repair_rounds,
        shuffle_scores=shuffle_scores,
    )
