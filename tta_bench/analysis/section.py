"""One table of a report: a frame, and how each of its numbers was found."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from tta_bench.analysis import stats
from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.simultaneous import simultaneous_intervals
from tta_bench.analysis.stats import Floats, SignFlips
from tta_bench.analysis.tables import p_text


@dataclass(frozen=True)
class Section:
    """A table of a report.

    Attributes:
        name: of its file.
        title: for people.
        frame: a row for each thing that is measured.
        methods: how the numbers of a column were found, by column; ``x_low`` and ``x_high`` are the interval of ``x``.
        note: what a reader must know.
        brief: which rows are for reading, as a query on the frame; empty shows all.
    """

    name: str
    title: str
    frame: pd.DataFrame
    methods: Mapping[str, str]
    note: str = ""
    brief: str = ""


@dataclass(frozen=True)
class Differences:
    """Of one comparison, per problem.

    Attributes:
        task: of the problems.
        problems: their ids.
        d: (n,) candidate - baseline.
        clusters: (n,) labels of problems that are not independent; None where all are.
    """

    task: str
    problems: Sequence[str]
    d: Floats
    clusters: np.ndarray | None


def tested(columns: Sequence[Differences], plan: TestPlan) -> SignFlips:
    """Sign-flip tests of m comparisons, adjusted by max-T for their number."""
    matrix, clusters = side_by_side(columns)
    return stats.sign_flips(matrix, clusters=clusters, n_resamples=plan.n_resamples, rng=plan.seed)


def together(columns: Sequence[Differences], plan: TestPlan) -> tuple[Floats, Floats]:
    """Limits (m,) each of m comparisons that hold together, see ``simultaneous_intervals``."""
    matrix, clusters = side_by_side(columns)
    ones = [Differences(one.task, one.problems, np.ones(len(one.problems)), one.clusters) for one in columns]
    counts, _ = side_by_side(ones)
    if clusters is not None:
        matrix, counts = (stats.cluster_sums(values, clusters) for values in (matrix, counts))
    return simultaneous_intervals(matrix, counts, 1 - plan.alpha, n_resamples=plan.n_resamples, rng=plan.seed)


def side_by_side(columns: Sequence[Differences]) -> tuple[Floats, np.ndarray | None]:
    """Differences as one matrix (all problems of all tasks, comparisons), 0 where a comparison lacks the problem.

    The second value labels the rows by cluster; None where no problem belongs to one.
    """
    names = [pd.MultiIndex.from_product([[one.task], one.problems]) for one in columns]
    rows = names[0]
    for index in names[1:]:
        rows = rows if rows.equals(index) else rows.union(index, sort=True)
    rows = rows.sort_values()
    matrix = np.zeros((len(rows), len(columns)))
    labels = np.array([f"{task}\0{problem}" for task, problem in rows], dtype=object)
    for column, (one, index) in enumerate(zip(columns, names, strict=True)):
        places = rows.get_indexer(index)
        matrix[places, column] = one.d
        if one.clusters is not None:
            labels[places] = [f"{one.task}\0{label}" for label in one.clusters]
    return matrix, None if all(one.clusters is None for one in columns) else labels


def difference_columns(
    one: Differences, p_value: float, p_adjusted: float, plan: TestPlan, prefix: str = "delta"
) -> dict[str, object]:
    """The columns that tell of a comparison."""
    found = stats.compared(one.d, p_adjusted, margin=plan.margin, alpha=plan.alpha, clusters=one.clusters)
    return {
        prefix: found.delta,
        f"{prefix}_low": found.ci_low,
        f"{prefix}_high": found.ci_high,
        "p_value": p_value,
        "p_adjusted": p_adjusted,
        "verdict": found.verdict,
        "note": found.note,
    }


def difference_methods(
    plan: TestPlan, prefix: str = "delta", adjusted: str = "max-T over the rows of this table"
) -> dict[str, str]:
    """What ``difference_columns`` are."""
    return {
        prefix: f"mean paired difference over problems, {100 * (1 - plan.alpha):g} % t interval",
        "p_value": "two-sided sign-flip permutation test",
        "p_adjusted": f"sign-flip permutation test adjusted by {adjusted}",
    }


HIDDEN = ("run_id", "baseline_run_id", "baseline_runs", "control", "dev_runs", "replicates")
"""Columns that are in files only."""


def readable(section: Section) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of texts of what is for reading, intervals behind their value, columns that say nothing left out."""
    frame = section.frame.query(section.brief) if section.brief else section.frame
    names = [str(name) for name in frame if name not in HIDDEN]
    ends = {f"{name}_{end}" for name in names for end in ("low", "high")}
    shown = [name for name in names if name not in ends and frame[name].replace("", np.nan).notna().any()]
    rows = [[cell(row, name) for name in shown] for row in frame.to_dict("records")]
    return [name.replace("_", " ") for name in shown], rows


def cell(row: Mapping[Hashable, object], name: str) -> str:
    """A value with its interval."""
    value, low, high = (row.get(key) for key in (name, f"{name}_low", f"{name}_high"))
    if value is None or value != value:
        return ""
    if name.startswith("p_"):
        return p_text(float(str(value)))
    interval = f" [{number(low)}, {number(high)}]" if isinstance(low, float) and low == low else ""
    return number(value) + interval


def number(value: object) -> str:
    """Three digits after the point where there are any."""
    if not isinstance(value, float):
        return str(value)
    text = f"{value:.3f}"
    return text.removeprefix("-") if float(text) == 0 else text


def run_ids(ids: Sequence[str]) -> str:
    """Several run ids in one cell."""
    return " ".join(dict.fromkeys(ids))
