"""Choosing on dev, confirming on test: how much of what the choice promised is left."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from tta_bench.analysis import stats
from tta_bench.analysis.compare import Compared
from tta_bench.analysis.describe import Describer, named
from tta_bench.analysis.load import Run
from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.section import Section, difference_columns, run_ids
from tta_bench.runner.difference import flat


def selection(found: Sequence[Compared], describe: Describer, plan: TestPlan) -> Section | None:
    """For each baseline with candidates on dev, the best of them, and how it does on test; None where dev or test is missing.

    Of equally good candidates the one with fewer forward passes is chosen, then the first.
    """
    groups: dict[str, list[Compared]] = {}
    for one in found:
        if one.pair.baseline.config.get("split") == "dev":
            groups.setdefault(split_free(one.pair.baseline), []).append(one)
    tests = {
        (split_free(one.pair.baseline), split_free(one.pair.candidate)): one
        for one in found
        if one.pair.baseline.config.get("split") == "test"
    }
    rows = []
    for key, group in groups.items():
        chosen = min(
            group, key=lambda one: (-one.differences.d.mean(), one.pair.candidate.values("forward_passes", one.problems).mean())
        )
        test = tests.get((key, split_free(chosen.pair.candidate)))
        if test is None:
            continue
        d = test.differences.d
        p_value = stats.sign_flip_p(d, clusters=test.clusters, n_resamples=plan.n_resamples, rng=plan.seed)
        promised = stats.mean_interval(chosen.differences.d, 1 - plan.alpha, chosen.clusters)
        run = test.pair.candidate
        rows.append(
            {
                **named(run, describe),
                "n_candidates": len(group),
                "n_tested": sum((key, split_free(one.pair.candidate)) in tests for one in group),
                "n_problems_dev": len(chosen.problems),
                "n_problems": len(d),
                "delta_dev": promised.value,
                "delta_dev_low": promised.ci_low,
                "delta_dev_high": promised.ci_high,
                **difference_columns(test.differences, p_value, p_value, plan),
                "shrinkage": promised.value - d.mean(),
                "run_id": run.run_id,
                "baseline_runs": test.pair.baseline.run_id,
                "dev_runs": run_ids([one.pair.candidate.run_id for one in group]),
            }
        )
    if not rows:
        return None
    level = f"{100 * (1 - plan.alpha):g} % t interval"
    return Section(
        "selection",
        "Chosen on dev, confirmed on test",
        pd.DataFrame(rows).drop(columns="p_adjusted"),
        {
            "delta_dev": f"mean paired difference on dev, of the best of n_candidates (optimistic), {level}",
            "delta": f"mean paired difference on test, of that one candidate, {level}",
            "p_value": "two-sided sign-flip permutation test on test; one candidate, so nothing to adjust for",
            "shrinkage": "difference on dev minus difference on test",
        },
        "The test counts once: n_tested above 1 means that others were looked at on test as well.",
    )


def split_free(run: Run) -> str:
    """A run's configuration but for the split."""
    config = {key: value for key, value in run.config.items() if key not in ("schema", "split")}
    return repr(sorted(flat(config).items(), key=lambda item: item[0]))
