"""``claims.json``: every number of a report, with the runs, problems, method and code that it rests on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

import tta_bench
from tta_bench.analysis.load import Run, Study
from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.section import Section
from tta_bench.runner.environment import environments, git_state

CLAIMS_VERSION = 1
"""Of the form of claims.json."""

RUN_COLUMNS = ("run_id", "baseline_run_id", "baseline_runs", "control", "dev_runs")
"""Columns of a section that name runs."""

TOLD = ("n_problems", "replicates", "n_items", "n_resamples")
"""Columns that say how much a row rests on: no claims of their own. Every claim of the row repeats the first two."""

COUNTS = (
    "n_problems_dev", "n_cut", "n_short", "n_matched", "n_candidates", "n_tested", "n_clusters", "on_front",
    "n_remasked", "wins", "losses", "both_right", "only_baseline", "only_candidate", "neither",
)  # fmt: skip
"""Columns that count, or tell yes from no, and need no method to be named."""


def claims(sections: Sequence[Section], study: Study, plan: TestPlan) -> dict[str, Any]:
    """All numbers of the sections.

    Returns:
        ``claims``, a list with an entry for each number: table, row (from 0) and column where it stands, value, ci (None where
        there is none), n (problems), replicates, test (a name in ``tests``, which tells it in words), run_ids and
        code_version, of the analysis. Also the plan of the tests, and for each run the code and the place it was made with.

    Raises:
        KeyError: a column of numbers has no method.
    """
    runs = {run.run_id: run for pair in study.pairs for run in (pair.baseline, pair.candidate)}
    version = code_version()
    return {
        "version": CLAIMS_VERSION,
        "study": study.name,
        "code_version": version,
        "plan": asdict(plan),
        "runs": {run_id: made_with(run) for run_id, run in runs.items()},
        "tests": {
            f"{section.name}.{column}": "count" if column in COUNTS else section.methods[column]
            for section in sections
            for column in measured_columns(section.frame)
        },
        "claims": [
            claim | {"code_version": version} for section in sections for claim in of_section(section, study.replicates)
        ],
    }


def code_version() -> str:
    """Version of the package, with the commit where it lies in a repository, ``dirty`` if that was changed since."""
    git = git_state()
    commit = f"+{git['commit'][:12]}{'.dirty' if git['dirty'] else ''}" if git else ""
    return f"{tta_bench.__version__}{commit}"


def made_with(run: Run) -> list[dict[str, Any]]:
    """The code, in the places, that a run was made with; empty where nothing was recorded."""
    if not run.manifest:
        return []
    keys = ("tta_bench", "code", "git", "device", "dtype")
    return [{key: place.get(key) for key in keys} for place in environments(run.manifest)]


def of_section(section: Section, replicates: int | None) -> Iterator[dict[str, Any]]:
    """A claim for each number of a section that is defined."""
    frame = section.frame
    for column in measured_columns(frame):
        for place, row in enumerate(frame.to_dict("records")):
            value = row[column]
            if value is None or math.isnan(value):
                continue
            low, high = (row.get(f"{column}_{end}", row.get(f"{column}_ci_{end}", math.nan)) for end in ("low", "high"))
            yield {
                "table": section.name,
                "row": place,
                "column": column,
                "value": plain(value),
                "ci": None if math.isnan(low) else [float(low), float(high)],
                "n": plain(row.get("n_problems")),
                "replicates": plain(row.get("replicates", replicates)),
                "test": f"{section.name}.{column}",
                **({"note": row["note"]} if isinstance(row.get("note"), str) and row["note"] else {}),
                "run_ids": [run_id for name in RUN_COLUMNS for run_id in str(row.get(name) or "").split() if run_id != "nan"],
            }


def measured_columns(frame: pd.DataFrame) -> list[str]:
    """The columns of numbers, but for the ends of intervals and what every claim tells."""
    names = [str(name) for name in frame if pd.api.types.is_numeric_dtype(frame[name]) and frame[name].notna().any()]
    ends = {f"{name}{kind}_{end}" for name in names for kind in ("", "_ci") for end in ("low", "high")}
    return [name for name in names if name not in ends and name not in TOLD]


def plain(value: Any) -> Any:
    """A number as JSON knows it; whole numbers as such, None for none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return value
    return int(value) if float(value).is_integer() else float(value)
