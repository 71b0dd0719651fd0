"""Uncertainty over the steps of a decoding, of right and of wrong answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from tta_bench.analysis.figures.evolution import LABELS
from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.representative import CloseUp
from tta_bench.analysis.stats import mean_interval


def evolution(shown: Sequence[CloseUp], replicates: int | None, plan: TestPlan) -> pd.DataFrame:
    """Mean of each quantity at each step with its t interval over problems; empty where no trace was kept.

    Records of one problem, or of problems that are not independent, are averaged first. Answers with score 1 count as right.

    Returns:
        columns task, sampler, outcome, n (problems), quantity, step (from 1), value, low, high. Quantities that are 0
        throughout the task are left out.
    """
    rows = [row for one in shown for row in of_run(one, replicates, plan)]
    if not rows:
        return pd.DataFrame()
    frame = pd.DataFrame(rows)
    moved = frame.groupby("quantity")["value"].transform(lambda values: values.abs().max() > 0)
    return frame[moved].reset_index(drop=True)


def of_run(one: CloseUp, replicates: int | None, plan: TestPlan) -> Iterator[dict[str, Any]]:
    """The rows of one run."""
    trace = one.run.trace(one.problems, replicates)
    if trace.empty:
        return
    trace = trace.assign(outcome=(trace["score"] == 1).map({True: "right", False: "wrong"}))
    for outcome in ("right", "wrong"):
        part = trace[trace["outcome"] == outcome]
        for quantity in (name for name in LABELS if name in part):
            known = part.dropna(subset=[quantity])
            means = known.groupby(["step", "unit"])[quantity].mean()
            for step, values in means.groupby(level="step"):
                found = mean_interval(values.to_numpy(), 1 - plan.alpha)
                yield {
                    "task": one.task, "sampler": one.sampler, "outcome": outcome, "n": part["problem"].nunique(),
                    "quantity": quantity, "step": int(str(step)) + 1, "value": found.value, "low": found.ci_low,
                    "high": found.ci_high,
                }  # fmt: skip
