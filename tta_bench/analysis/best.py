"""Which run of a block is significantly the best: the one that a table may print in bold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tta_bench.analysis import stats
from tta_bench.analysis.budgets import common
from tta_bench.analysis.compare import Compared
from tta_bench.analysis.load import Run
from tta_bench.analysis.plan import TestPlan


def best_of_blocks(found: Sequence[Compared], plan: TestPlan) -> dict[tuple[str, str], float]:
    """For each block (a baseline and what is compared with it), the run with the highest score and how sure that is.

    Returns:
        an adjusted p-value by (baseline's run id, best run's id). It is the largest of the k - 1 two-sided sign-flip tests of
        the best run against each other run of the block, times k - 1. Whatever run is truly the best, another one has p < alpha
        with probability alpha at most: it would have to win its test against the truly best one, and k - 1 runs could.
        1 where several runs share the highest score, or fewer than two problems are common to all.
    """
    blocks: dict[str, list[Compared]] = {}
    for one in found:
        blocks.setdefault(one.pair.baseline.run_id, []).append(one)
    return {(base, run.run_id): p for base, block in blocks.items() for run, p in [best_of(block, plan)]}


def best_of(block: Sequence[Compared], plan: TestPlan) -> tuple[Run, float]:
    """The best run of a block, and its adjusted p-value."""
    baseline = block[0].pair.baseline
    runs = {baseline.run_id: baseline} | {one.pair.candidate.run_id: one.pair.candidate for one in block}
    problems = block[0].problems
    for one in block:
        problems = common(problems, one.problems)
    members = list(runs.values())
    if len(problems) < 2:
        return members[0], 1.0
    scores = np.stack([run.values("score", problems, block[0].replicates).mean(axis=1) for run in members], axis=1)
    best = int(scores.mean(axis=0).argmax())
    d = scores[:, [best]] - np.delete(scores, best, axis=1)
    p = stats.sign_flips(d, clusters=members[0].clusters(problems), n_resamples=plan.n_resamples, rng=plan.seed).p_value
    return members[best], min(1.0, float(p.max()) * len(p))
