"""The finding of a study in sentences."""

from __future__ import annotations

import pandas as pd

from tta_bench.analysis.tables import comparisons, listed

MANY = 4
"""Samplers of a task of which each gets a sentence; more are told by verdict."""


def sentences(summary: pd.DataFrame) -> list[str]:
    """The finding per task: for each sampler, or for each verdict where there are many samplers."""
    compared = comparisons(summary)
    found = []
    for task, rows in compared.groupby("task", sort=False):
        if rows["sampler"].nunique() <= MANY:
            found += [of_sampler(str(task), str(name), part) for name, part in rows.groupby("sampler", sort=False)]
        else:
            found += [of_verdict(str(task), str(verdict), part) for verdict, part in rows.groupby("verdict")]
    return found


def of_sampler(task: str, sampler: str, rows: pd.DataFrame) -> str:
    """How many settings of a sampler are better, worse, equivalent or undecided, and the range."""
    counts = ", ".join(f"{n} {verdict}" for verdict, n in rows["verdict"].value_counts(sort=False).sort_index().items())
    low, high = 100 * rows["delta"].min(), 100 * rows["delta"].max()
    spread = f"{low:+.1f}" if len(rows) == 1 else f"{low:+.1f} to {high:+.1f}"
    times = (rows["forward_passes"] / rows["baseline_passes"]).round(2)
    cost = "" if (times == 1).all() else f" at {listed(times)} times the passes"
    return f"{task}: {sampler} against its baseline{cost}, {spread} points in {len(rows)} comparison(s): {counts}."


def of_verdict(task: str, verdict: str, rows: pd.DataFrame) -> str:
    """Which samplers got a verdict, largest difference first."""
    ordered = rows.sort_values("delta", ascending=False)
    named = [f"{name} ({100 * delta:+.1f})" for name, delta in zip(ordered["sampler"], ordered["delta"], strict=True)]
    heading = f"{verdict} than the baseline" if verdict in ("better", "worse") else verdict
    return f"{task}: {heading}: {', '.join(named)}."
