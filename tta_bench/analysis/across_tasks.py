"""Each sampler's mean over tasks, every task weighing the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from tta_bench.analysis import stats
from tta_bench.analysis.compare import Compared
from tta_bench.analysis.describe import settings_of
from tta_bench.analysis.load import Run
from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.section import Differences, Section, difference_methods, run_ids, side_by_side
from tta_bench.analysis.stats import SignFlips


def across_tasks(found: Sequence[Compared], plan: TestPlan) -> Section | None:
    """Candidates that were compared on several tasks with the same settings; None where there are none."""
    groups: dict[str, list[Compared]] = {}
    for one in found:
        sides = [
            task_free(run.config["sampler"] | settings_of(run), run.task) for run in (one.pair.baseline, one.pair.candidate)
        ]
        groups.setdefault(repr(sides), []).append(one)
    several = [group for group in groups.values() if len({one.pair.candidate.task for one in group}) == len(group) > 1]
    if not several:
        return None
    varying = swept([one.pair.candidate for one in found])
    columns, rows = [], []
    for group in several:
        clusters = [one.clusters for one in group]
        parts = [one.differences for one in group]
        delta = stats.mean_over_tasks([part.d for part in parts], 1 - plan.alpha, clusters)
        near = stats.mean_over_tasks([part.d for part in parts], 1 - 2 * plan.alpha, clusters)
        # Each problem weighs what its task leaves it; signs then test the weighted sum.
        columns.append([replace(part, d=part.d / len(part.d)) for part in parts])
        run = group[0].pair.candidate
        settings = {"steps": run.config["steps"]} | {k: v for k, v in choices(run).items() if k in varying}
        rows.append(
            {
                "model": run.config["model"]["name"],
                "split": run.config.get("split"),
                "sampler": run.sampler,
                "settings": " ".join(f"{key}={value}" for key, value in settings.items() if value is not None),
                "tasks": " ".join(one.pair.candidate.task for one in group),
                "n_problems": sum(len(one.problems) for one in group),
                "score": float(np.mean([one.candidate.mean() for one in group])),
                "baseline_score": float(np.mean([one.baseline.mean() for one in group])),
                "delta": delta.value,
                "delta_low": delta.ci_low,
                "delta_high": delta.ci_high,
                "within_margin": -plan.margin < near.ci_low and near.ci_high < plan.margin,
                "note": delta.note,
                "run_id": run_ids([one.pair.candidate.run_id for one in group]),
                "baseline_runs": run_ids([one.pair.baseline.run_id for one in group]),
            }
        )
    p = tested_together(columns, plan)
    frame = pd.DataFrame(rows).assign(p_value=p.p_value, p_adjusted=p.p_adjusted)
    frame["verdict"] = [
        "equivalent" if near else "inconclusive" if adjusted >= plan.alpha else "better" if delta > 0 else "worse"
        for near, adjusted, delta in zip(frame.pop("within_margin"), frame["p_adjusted"], frame["delta"], strict=True)
    ]
    return Section(
        "tasks",
        "Mean over tasks",
        frame,
        {
            "score": "mean of the tasks' means",
            "baseline_score": "mean of the tasks' means",
            **difference_methods(plan),
            "delta": f"mean of the tasks' mean paired differences, {100 * (1 - plan.alpha):g} % t interval "
            "(Welch-Satterthwaite)",
        },
        "Every task weighs the same. The intervals tell of new problems of these tasks, not of new tasks.",
    )


def tested_together(columns: Sequence[Sequence[Differences]], plan: TestPlan) -> SignFlips:
    """Sign-flip tests of sums over several tasks, adjusted for their number."""
    matrix, clusters = side_by_side([part for parts in columns for part in parts])
    ends = np.cumsum([len(parts) for parts in columns])[:-1]
    sums = np.stack([part.sum(axis=1) for part in np.split(matrix, ends, axis=1)], axis=1)
    return stats.sign_flips(sums, clusters=clusters, n_resamples=plan.n_resamples, rng=plan.seed)


def task_free(settings: dict[str, object], task: str) -> dict[str, object]:
    """Settings that do not belong to the task."""
    own = ("gen_length", "block_length")
    return {key: value for key, value in settings.items() if not key.startswith(f"{task}.") and key not in own}


def choices(run: Run) -> dict[str, Any]:
    """The sampler's parameters, and the constraint that it saw."""
    return {"constraint": settings_of(run).get("constraint"), **run.config["sampler"]}


def swept(runs: Sequence[Run]) -> set[str]:
    """The parameters of samplers, and the constraint, that differ between runs of one sampler."""
    seen: dict[tuple[str, str], set[str]] = {}
    for run in runs:
        config = choices(run)
        for key, value in config.items():
            seen.setdefault((config["name"], key), set()).add(repr(value))
    return {key for (_, key), values in seen.items() if len(values) > 1 and key not in ("name", "target")}
