"""The finding of a study in sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from tta_bench.analysis.compare import Compared
from tta_bench.analysis.describe import Describer
from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.representative import representative
from tta_bench.analysis.section import Section
from tta_bench.analysis.tables import comparisons, interval, listed, p_text

MANY = 4
"""Samplers of a task of which each gets a sentence; more are told by verdict."""


@dataclass(frozen=True)
class Answer:
    """The finding, short and long.

    Attributes:
        headline: in one sentence.
        tasks: of the same candidate, a sentence for each task.
        all: of every sampler.
        note: how the candidate was chosen that the headline tells of; empty where there was no choice.
    """

    headline: str
    tasks: tuple[str, ...]
    all: tuple[str, ...]
    note: str = ""


def answer(
    summary: pd.DataFrame, compared: Sequence[Compared], sections: Sequence[Section], describe: Describer, plan: TestPlan
) -> Answer:
    """The finding on the comparison that is looked at closely, over all tasks and for each, and on all of them."""
    chosen = representative(compared, plan.focus)
    rows = [row_of(summary, one) for one in chosen]
    names = [name_of(one, describe) for one in chosen]
    if len(rows) == 1:
        headline = told(names[0], rows[0], plan)
    else:
        mean = mean_of(sections, chosen)
        headline = over_tasks(names[0], mean, rows, plan) if mean else by_count(chosen, rows)
    in_focus = any(one.pair.candidate.sampler == plan.focus for one in chosen)
    note = CHOICE[in_focus] if len(compared) > len(chosen) else ""
    tasks = [f"{one.pair.candidate.task}: {told(name, row, plan)}" for one, name, row in zip(chosen, names, rows, strict=True)]
    return Answer(headline, tuple(tasks) if len(rows) > 1 else (), tuple(sentences(summary)), note)


CHOICE = {
    True: "This tells of the sampler in focus; of several settings of the middle one with the most steps, whatever it scores.",
    False: "Of several candidates this tells of tta if it is among them; of several settings of the middle one with the most "
    "steps, whatever it scores.",
}
"""How the candidate of the headline was chosen: whether it is the sampler in focus."""


def name_of(one: Compared, describe: Describer) -> str:
    """Sampler and settings of a candidate."""
    settings = describe(one.pair.candidate)
    return one.pair.candidate.sampler + (f" ({settings})" if settings else "")


def row_of(summary: pd.DataFrame, one: Compared) -> dict[str, Any]:
    """The summary's row of a comparison."""
    there = (summary["run_id"] == one.pair.candidate.run_id) & (summary["baseline_run_id"] == one.pair.baseline.run_id)
    row = {str(key): value for key, value in summary[there].iloc[0].items()}
    return row | {"baseline": one.pair.baseline.sampler, "baseline_score": float(one.baseline.mean())}


def mean_of(sections: Sequence[Section], chosen: Sequence[Compared]) -> dict[str, Any] | None:
    """What the table of means over tasks says of these comparisons; None where it has none of all of them."""
    wanted = {one.pair.candidate.run_id for one in chosen}
    for section in sections:
        if section.name == "tasks":
            for row in section.frame.to_dict("records"):
                if set(str(row["run_id"]).split()) == wanted:
                    return {str(key): value for key, value in row.items()}
    return None


def told(name: str, row: Mapping[str, Any], plan: TestPlan) -> str:
    """One comparison in a sentence."""
    ratio = row["forward_passes"] / row["baseline_passes"]
    cost = "" if math.isclose(ratio, 1) else f" at {ratio:.2g} times the forward passes"
    return (
        f"{name} scores {100 * row['score']:.1f} %{cost}, {row['baseline']} {100 * row['baseline_score']:.1f} %: "
        f"{100 * row['delta']:+.1f} points {interval(row['delta_ci_low'], row['delta_ci_high'])}, "
        f"{verdict(row, plan)}."
    )


def over_tasks(name: str, mean: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], plan: TestPlan) -> str:
    """The mean over tasks in a sentence."""
    return (
        f"Over {len(rows)} tasks, {name} scores {100 * mean['score']:.1f} %, {rows[0]['baseline']} "
        f"{100 * mean['baseline_score']:.1f} %: {100 * mean['delta']:+.1f} points "
        f"{interval(mean['delta_low'], mean['delta_high'])}, {verdict(mean, plan)}."
    )


def by_count(chosen: Sequence[Compared], rows: Sequence[Mapping[str, Any]]) -> str:
    """How often a candidate came out how, where its settings differ between tasks, so that there is no mean."""
    counts = pd.Series([str(row["verdict"]) for row in rows]).value_counts(sort=False).sort_index()
    names = " or ".join(dict.fromkeys(one.pair.candidate.sampler for one in chosen))
    low, high = 100 * min(row["delta"] for row in rows), 100 * max(row["delta"] for row in rows)
    listed_counts = ", ".join(f"{verdict} on {n}" for verdict, n in counts.items())
    return f"{names}, on {len(rows)} tasks: {listed_counts}; {low:+.1f} to {high:+.1f} points."


def verdict(row: Mapping[str, Any], plan: TestPlan) -> str:
    """What a difference amounts to, in words."""
    p = "" if math.isnan(row["p_adjusted"]) else f" (adjusted p: {p_text(row['p_adjusted'])})"
    within = f" to within {100 * plan.margin:g} points" if row["verdict"] == "equivalent" else ""
    return f"{row['verdict']}{within}{p}"


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
