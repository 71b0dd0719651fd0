"""Uncertainty over the steps of a decoding, of right and of wrong answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from tta_bench.analysis.figures.evolution import LABELS
from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.representative import CloseUp
from tta_bench.analysis.stats import mean_interval

LEAST_SHARE = 0.1
"""Of the problems; what fewer of them got to is not the course of a decoding, but of a few long ones."""


def evolution(shown: Sequence[CloseUp], replicates: int | None, plan: TestPlan) -> pd.DataFrame:
    """Mean of each quantity at each step with its t interval over problems; empty where no trace was kept.

    Records of one problem, or of problems that are not independent, are averaged first. Answers with score 1 count as right.

    Returns:
        columns task, sampler, outcome, n (problems), quantity, step (from 1), value, low, high. Quantities that are 0
        throughout are left out, and steps that less than ``LEAST_SHARE`` of the problems got to.
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
            least = LEAST_SHARE * part["unit"].nunique()
            for step, values in means.groupby(level="step"):
                if len(values) < least:
                    continue
                found = mean_interval(values.to_numpy(), 1 - plan.alpha)
                yield {
                    "task": one.task, "sampler": one.sampler, "outcome": outcome, "n": part["problem"].nunique(),
                    "quantity": quantity, "step": int(str(step)) + 1, "value": found.value, "low": max(found.ci_low, 0.0),
                    "high": found.ci_high if quantity == "entropy" else min(found.ci_high, 1.0),
                }  # fmt: skip
