"""From runs to the summary: one row per sampler and task, every number with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from tta_bench.analysis import stats
from tta_bench.analysis.load import Pair, Run, Study, common_problems
from tta_bench.analysis.plan import TestPlan

COLUMNS = (
    "task", "model", "sampler", "settings", "n_problems", "replicates", "score", "score_ci_low", "score_ci_high",
    "delta", "delta_ci_low", "delta_ci_high", "p_value", "p_adjusted", "verdict", "mde", "forward_passes",
    "seconds_per_problem", "run_id",
)  # fmt: skip
TIMING_COLUMNS = ("seconds_per_problem",)
"""Columns that differ from one execution to the next; all others are reproduced byte for byte."""


def summarize(study: Study, plan: TestPlan) -> pd.DataFrame:
    """The summary of a study, with p-values adjusted by max-T over all its comparisons and verdicts at the adjusted level.

    Rows are grouped by task; a baseline directly precedes the candidates that are compared with it. ``delta`` and what
    follows from it are NaN (verdict: empty) in a baseline's row.
    """
    problems = [common_problems(pair, study) for pair in study.pairs]
    differences = [_differences(pair, names, study) for pair, names in zip(study.pairs, problems, strict=True)]
    adjusted = stats.max_t_of_differences(
        _side_by_side(study, problems, differences), n_resamples=plan.n_resamples, rng=plan.seed
    )
    describe = Describer([run for pair in study.pairs for run in (pair.baseline, pair.candidate)])
    rows: list[dict[str, Any]] = []
    shown = ""
    for pair, names, d, p in zip(study.pairs, problems, differences, adjusted, strict=True):
        if pair.baseline.run_id != shown:
            rows.append(_row(pair.baseline, names, study, describe, plan.alpha))
            shown = pair.baseline.run_id
        p_value = stats.sign_flip_p(d, n_resamples=plan.n_resamples, rng=plan.seed)
        # Both are drawn, the single one often exactly; an adjusted p-value must not fall below it by chance.
        p_adjusted = max(float(p), p_value)
        comparison = {
            **dict(zip(("delta", "delta_ci_low", "delta_ci_high"), _interval(d, plan.alpha), strict=True)),
            "p_value": p_value,
            "p_adjusted": p_adjusted,
            "verdict": stats.verdict(d, p_adjusted, margin=plan.margin, alpha=plan.alpha),
            "mde": stats.minimum_detectable_effect(d, alpha=plan.alpha) if d.any() else np.nan,
        }
        rows.append(_row(pair.candidate, names, study, describe, plan.alpha) | comparison)
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    ordered = [row for task in tasks for row in rows if row["task"] == task]
    return pd.DataFrame(ordered, columns=list(COLUMNS))


def _differences(pair: Pair, problems: Sequence[str], study: Study) -> np.ndarray:
    base, candidate = (run.values("score", problems, study.replicates) for run in (pair.baseline, pair.candidate))
    return stats.paired_differences(base, candidate)


def _side_by_side(study: Study, problems: Sequence[Sequence[str]], differences: Sequence[np.ndarray]) -> np.ndarray:
    """Differences as one matrix (all problems of all tasks, comparisons), 0 where a comparison lacks the problem."""
    columns = [
        pd.Series(d, index=[f"{pair.candidate.task}/{name}" for name in names])
        for pair, names, d in zip(study.pairs, problems, differences, strict=True)
    ]
    return pd.concat(columns, axis=1).fillna(0.0).sort_index().to_numpy()


def _interval(values: np.ndarray, alpha: float) -> tuple[float, float, float]:
    estimate = stats.mean_interval(values, 1 - alpha)
    return estimate.value, estimate.ci_low, estimate.ci_high


def _row(run: Run, problems: Sequence[str], study: Study, describe: Describer, alpha: float) -> dict[str, Any]:
    scores = run.values("score", problems, study.replicates)
    score, low, high = _interval(scores.mean(axis=1), alpha)
    return {
        "task": run.task,
        "model": run.config["model"]["name"],
        "sampler": run.sampler,
        "settings": describe(run),
        "n_problems": scores.shape[0],
        "replicates": scores.shape[1],
        "score": score,
        "score_ci_low": low,
        "score_ci_high": high,
        "verdict": "",
        "forward_passes": float(run.values("forward_passes", problems, study.replicates).mean()),
        "seconds_per_problem": float(run.values("seconds", problems, study.replicates).mean()),
        "run_id": run.run_id,
    }


class Describer:
    """Says, of a run, its steps and whatever else differs among the runs of its sampler."""

    def __init__(self, runs: Sequence[Run]) -> None:
        seen: dict[tuple[str, str], set[str]] = {}
        for run in runs:
            for key, value in settings_of(run).items():
                seen.setdefault((run.sampler, key), set()).add(repr(value))
        self.varying = {name for name, values in seen.items() if len(values) > 1}

    def __call__(self, run: Run) -> str:
        found = {key: value for key, value in settings_of(run).items() if (run.sampler, key) in self.varying}
        shown = {"steps": run.config["steps"], **found}
        return " ".join(f"{key}={value}".replace(", ", ",") for key, value in shown.items() if (key, value) != ("steps", None))


def settings_of(run: Run) -> dict[str, Any]:
    """The settings of a run that may tell it from another of the same task, flat."""
    general = (
        "steps", "gen_length", "block_length", "cfg_scale", "eos_policy", "constraint", "split", "seed", "device", "dtype",
    )  # fmt: skip
    sampler = {k: v for k, v in run.config["sampler"].items() if k not in ("name", "target")}
    task = {f"{run.task}.{k}": v for k, v in run.config["task"].items() if k not in ("name", "target", "version")}
    return {"model": run.config["model"]["name"]} | {k: run.config[k] for k in general if k in run.config} | task | sampler
