"""Choosing on dev, confirming on test: how much of what the choice promised is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from tta_bench.analysis import stats
from tta_bench.analysis.budgets import judged_columns
from tta_bench.analysis.compare import Compared
from tta_bench.analysis.describe import Describer, all_but, named
from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.section import Section, difference_methods, run_ids


@dataclass(frozen=True)
class Choice:
    """What was chosen among candidates on dev.

    Attributes:
        group: all candidates of one baseline on dev.
        chosen: the best of them.
        test: the chosen one on test; None where it was not run there.
        n_tested: how many of the group were.
    """

    group: Sequence[Compared]
    chosen: Compared
    test: Compared | None
    n_tested: int


def choices(found: Sequence[Compared]) -> list[Choice]:
    """The best candidate of every baseline on dev of which any candidate was run on test."""
    groups: dict[str, list[Compared]] = {}
    tests: dict[tuple[str, str], Compared] = {}
    for one in found:
        base, split = all_but(one.pair.baseline.config, "split"), one.pair.baseline.config.get("split")
        if split == "dev":
            groups.setdefault(base, []).append(one)
        elif split == "test":
            tests[base, all_but(one.pair.candidate.config, "split")] = one
    made = []
    for base, group in groups.items():
        on_test = [tests.get((base, all_but(one.pair.candidate.config, "split"))) for one in group]
        best = min(range(len(group)), key=lambda i: preference(group[i]))
        if any(on_test):
            made.append(Choice(group, group[best], on_test[best], sum(one is not None for one in on_test)))
    return made


def preference(one: Compared) -> tuple[float, float]:
    """Smaller is chosen first: the largest difference, then the fewest forward passes."""
    return -one.differences.d.mean(), one.pair.candidate.values("forward_passes", one.problems, one.replicates).mean()


def selection(found: Sequence[Compared], describe: Describer, plan: TestPlan) -> Section | None:
    """For each baseline with candidates on dev, the best of them, and how it does on test; None where either is missing."""
    made = choices(found)
    if not made:
        return None
    confirmed = [choice.test for choice in made if choice.test]
    told = iter(judged_columns([test.differences for test in confirmed], plan) if confirmed else [])
    level = f"{100 * (1 - plan.alpha):g} % t interval"
    return Section(
        "selection",
        "Chosen on dev, confirmed on test",
        pd.DataFrame([row(choice, next(told) if choice.test else {}, describe, plan) for choice in made]),
        {
            "delta_dev": f"mean paired difference on dev, of the best of n_candidates (optimistic), {level}",
            **difference_methods(plan, adjusted="max-T over the choices that were confirmed"),
            "delta": f"mean paired difference on test, of the chosen candidate, {level}",
            "shrinkage": "difference on dev minus difference on test",
        },
        "The test counts once: n_tested above 1 means that others were looked at on test as well.",
    )


def row(choice: Choice, told: dict[str, Any], describe: Describer, plan: TestPlan) -> dict[str, Any]:
    """A choice with what became of it."""
    chosen, test = choice.chosen, choice.test
    promised = stats.mean_interval(chosen.differences.d, 1 - plan.alpha, chosen.clusters)
    columns = {
        **named(chosen.pair.candidate, describe),
        "n_candidates": len(choice.group),
        "n_tested": choice.n_tested,
        "n_problems_dev": len(chosen.problems),
        "delta_dev": promised.value,
        "delta_dev_low": promised.ci_low,
        "delta_dev_high": promised.ci_high,
        "dev_runs": run_ids([one.pair.candidate.run_id for one in choice.group]),
    }
    if test is None:
        return columns | {"note": "the chosen candidate was not run on test, others were"}
    return columns | {
        "n_problems": len(test.problems),
        **told,
        "shrinkage": promised.value - float(test.differences.d.mean()),
        "run_id": test.pair.candidate.run_id,
        "baseline_runs": test.pair.baseline.run_id,
    }
