"""From runs to the summary: one row per sampler and task, every number with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tta_bench.analysis import stats
from tta_bench.analysis.load import Pair, Run, Study, common_problems


@dataclass(frozen=True)
class TestPlan:
    """What is fixed before the data are looked at.

    Attributes:
        margin: score differences below this do not matter.
        alpha: level of tests; intervals have coverage 1 - alpha.
        n_resamples: sign patterns of a permutation test.
        seed: of the patterns.
    """

    __test__ = False  # not a test class, whatever pytest makes of its name

    margin: float = 0.02
    alpha: float = 0.05
    n_resamples: int = 9999
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.margin < 1:
            raise ValueError(
                f"analysis.margin={self.margin}: must lie between 0 and 1, a difference of scores (2 points are 0.02)"
            )
        if not 0 < self.alpha < 0.5:
            raise ValueError(f"analysis.alpha={self.alpha}: must lie between 0 and 0.5")
        if self.n_resamples < 99:
            raise ValueError(f"analysis.n_resamples={self.n_resamples}: must be at least 99, or no p-value can be below 0.01")
        if self.seed < 0:
            raise ValueError(f"analysis.seed={self.seed}: must be >= 0")


COLUMNS = (
    "task", "model", "sampler", "settings", "n_problems", "replicates", "score", "score_ci_low", "score_ci_high",
    "delta", "delta_ci_low", "delta_ci_high", "p_value", "p_adjusted", "verdict", "mde", "forward_passes",
    "seconds_per_problem", "run_id",
)  # fmt: skip
TIMING_COLUMNS = ("seconds_per_problem",)
"""Columns that differ from one execution to the next; all others are reproduced byte for byte."""


def summarize(study: Study, plan: TestPlan) -> pd.DataFrame:
    """The summary of a study, with p-values adjusted by max-T over all its comparisons and verdicts at the adjusted level.

    Rows are grouped by task; a baseline precedes the candidates that are compared with it. ``delta`` and what follows from
    it are NaN (verdict: empty) in a baseline's row.
    """
    problems = [common_problems(pair, study) for pair in study.pairs]
    differences = [_differences(pair, names, study) for pair, names in zip(study.pairs, problems, strict=True)]
    adjusted = stats.max_t_of_differences(
        _side_by_side(study, problems, differences), n_resamples=plan.n_resamples, rng=plan.seed
    )
    describe = Describer([run for pair in study.pairs for run in (pair.baseline, pair.candidate)])
    rows: dict[str, dict[str, Any]] = {}
    for pair, names, d, p in zip(study.pairs, problems, differences, adjusted, strict=True):
        rows.setdefault(pair.baseline.run_id, _row(pair.baseline, names, study, describe, plan.alpha))
        p_value = stats.sign_flip_p(d, n_resamples=plan.n_resamples, rng=plan.seed)
        # Both are drawn, the single one often exactly; an adjusted p-value must not fall below it by chance.
        p_adjusted = max(float(p), p_value)
        comparison = {
            **dict(zip(("delta", "delta_ci_low", "delta_ci_high"), _interval(d, plan.alpha), strict=True)),
            "p_value": p_value,
            "p_adjusted": p_adjusted,
            "verdict": stats.verdict(d, p_adjusted, margin=plan.margin, alpha=plan.alpha) if d.any() else "equivalent",
            "mde": stats.minimum_detectable_effect(d, alpha=plan.alpha),
        }
        rows[pair.candidate.run_id] = _row(pair.candidate, names, study, describe, plan.alpha) | comparison
    tasks = list(dict.fromkeys(row["task"] for row in rows.values()))
    ordered = sorted(rows.values(), key=lambda row: tasks.index(row["task"]))
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
        return " ".join(f"{key}={value}" for key, value in {"steps": run.config["steps"], **found}.items())


def settings_of(run: Run) -> dict[str, Any]:
    """The settings of a run that may tell it from another of the same task, flat."""
    general = ("steps", "gen_length", "block_length", "cfg_scale", "constraint", "split", "seed", "device", "dtype")
    sampler = {k: v for k, v in run.config["sampler"].items() if k not in ("name", "target")}
    return {key: run.config[key] for key in general if key in run.config} | sampler
