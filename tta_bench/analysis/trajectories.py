"""The table of trajectories: how steady each run's predictions were, and what became of what it committed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from tta_bench.analysis.compare import Compared
from tta_bench.analysis.describe import Describer, named
from tta_bench.analysis.load import TRAJECTORY, Run, Study
from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.section import Section
from tta_bench.analysis.stats import Estimate, Floats, mean_interval

UNDEFINED = Estimate(np.nan, np.nan, np.nan)

METHODS = {
    "stability": "share of predictions unchanged from one step to the next, where both steps looked",
    "survival": "share of positions that end with the token first committed there",
    "efficacy": "share of the tokens taken back whose position ends with another",
    "flips": "changes of a position's committed token, mean over positions",
    "order": "Goodman and Kruskal's gamma of place and step of the last commit: 1 from left to right, -1 from right to left",
}


VIOLATING = {"violating": "share of answers that break the constraint which the sampler saw, in one token or more"}
"""Of runs with a constraint."""


def trajectory_table(found: Sequence[Compared], study: Study, describe: Describer, plan: TestPlan) -> Section | None:
    """A row for each run of which trajectories were recorded."""
    rows: dict[str, dict[str, Any]] = {}
    for one in found:
        for run in (one.pair.baseline, one.pair.candidate):
            if run.run_id in rows:
                continue
            row = named(run, describe) | {"n_problems": len(one.problems)}
            for name in (*TRAJECTORY, *VIOLATING):
                values = numbers(run, name, one.problems, study.replicates)
                known = ~np.isnan(values).all(axis=1)
                clusters = run.clusters(one.problems)
                estimate = UNDEFINED
                if known.any():
                    means = np.nanmean(values[known], axis=1)
                    estimate = mean_interval(means, 1 - plan.alpha, None if clusters is None else clusters[known])
                row |= {name: estimate.value, f"{name}_low": estimate.ci_low, f"{name}_high": estimate.ci_high}
            rows[run.run_id] = row | {"run_id": run.run_id}
    frame = pd.DataFrame(list(rows.values()))
    if frame.empty or frame[[*TRAJECTORY, *VIOLATING]].isna().all(axis=None):
        return None
    told = METHODS | VIOLATING
    if frame["violating"].isna().all():
        told = METHODS
        frame = frame.drop(columns=[f"violating{end}" for end in ("", "_low", "_high")])
    return Section(
        "trajectories",
        "Trajectories",
        frame,
        {name: f"{method}; mean over problems, t interval" for name, method in told.items()},
        "Problems for which a number is undefined do not count in it (nothing was taken back; all was committed at once).",
    )


def numbers(run: Run, name: str, problems: Sequence[str], replicates: int | None) -> Floats:
    """A column of the table by problem and replicate, (n, r); NaN where there is none."""
    if name in TRAJECTORY:
        return run.values(name, problems, replicates)
    broken = run.values("violations", problems, replicates)
    return np.where(np.isnan(broken), np.nan, broken > 0)
