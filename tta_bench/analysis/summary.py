"""From runs to the summary: one row per sampler and task, every number with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from tta_bench.analysis import stats
from tta_bench.analysis.gate import complete, rule
from tta_bench.analysis.load import AnalysisError, Pair, Run, Study
from tta_bench.analysis.plan import TestPlan

COLUMNS = (
    "task", "model", "sampler", "settings", "n_problems", "replicates", "score", "score_ci_low", "score_ci_high",
    "delta", "delta_ci_low", "delta_ci_high", "p_value", "p_adjusted", "verdict", "mde", "forward_passes",
    "seconds_per_problem", "run_id", "caveat",
)  # fmt: skip
TIMING_COLUMNS = ("seconds_per_problem",)
"""Columns that differ from one execution to the next; all others are reproduced byte for byte."""


def summarize(study: Study, plan: TestPlan) -> pd.DataFrame:
    """The summary of a study, with p-values adjusted by max-T over all its comparisons and verdicts at the adjusted level.

    Rows are grouped by task; a baseline directly precedes the candidates that are compared with it. ``delta`` and what
    follows from it are NaN (verdict: empty) in a baseline's row. A pair that may not be compared (see ``gate``) has a row
    without numbers, with the reason as its verdict; ``caveat`` tells what was allowed by way of exception.

    Raises:
        AnalysisError: no pair may be compared.
    """
    rulings = [rule(pair, study) for pair in study.pairs]
    compared = [(pair, ruling.problems) for pair, ruling in zip(study.pairs, rulings, strict=True) if not ruling.refused]
    if not compared:
        reasons = "".join(f"\n  {reason}" for reason in dict.fromkeys(r for ruling in rulings for r in ruling.reasons))
        raise AnalysisError(f"{study.name}: no comparison is possible{reasons}\n{remedy({r.refused for r in rulings})}")
    differences = [_differences(pair, names, study) for pair, names in compared]
    adjusted = iter(
        stats.max_t_of_differences(_side_by_side(compared, differences), n_resamples=plan.n_resamples, rng=plan.seed)
    )
    found = iter(differences)
    describe = Describer([run for pair in study.pairs for run in (pair.baseline, pair.candidate)])
    rows: list[dict[str, Any]] = []
    shown: tuple[str, tuple[str, ...]] | None = None
    for pair, ruling in zip(study.pairs, rulings, strict=True):
        problems = ruling.problems or _of_baseline(pair.baseline, study)
        if (pair.baseline.run_id, problems) != shown:
            rows.append(
                _row(pair.baseline, problems, study, describe, plan.alpha) | {"verdict": "" if problems else "incomplete"}
            )
            shown = pair.baseline.run_id, problems
        row = _row(pair.candidate, ruling.problems, study, describe, plan.alpha)
        judged = {"verdict": ruling.refused} if ruling.refused else _compare(next(found), float(next(adjusted)), plan)
        rows.append(row | judged | {"caveat": "; ".join(ruling.reasons)})
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    ordered = [row for task in tasks for row in rows if row["task"] == task]
    return pd.DataFrame(ordered, columns=list(COLUMNS))


def _of_baseline(run: Run, study: Study) -> tuple[str, ...]:
    """The problems of a baseline whose comparison is refused: all that are asked for, or none if any is missing."""
    done = complete(run, study.replicates)
    asked = study.problems.get(run.run_id) or tuple(sorted(done)[: study.n_problems])
    whole = done.issuperset(asked) and len(asked) == (study.n_problems or len(asked))
    return asked if whole else ()


def _compare(d: np.ndarray, adjusted: float, plan: TestPlan) -> dict[str, Any]:
    """The columns that tell of differences per problem ``d``, with the p-value that max-T gives them."""
    p_value = stats.sign_flip_p(d, n_resamples=plan.n_resamples, rng=plan.seed)
    # Both are drawn, the single one often exactly; an adjusted p-value must not fall below it by chance.
    p_adjusted = max(adjusted, p_value)
    return {
        **dict(zip(("delta", "delta_ci_low", "delta_ci_high"), _interval(d, plan.alpha), strict=True)),
        "p_value": p_value,
        "p_adjusted": p_adjusted,
        "verdict": stats.verdict(d, p_adjusted, margin=plan.margin, alpha=plan.alpha),
        "mde": stats.minimum_detectable_effect(d, alpha=plan.alpha) if d.any() else np.nan,
    }


def _differences(pair: Pair, problems: Sequence[str], study: Study) -> np.ndarray:
    base, candidate = (run.values("score", problems, study.replicates) for run in (pair.baseline, pair.candidate))
    return stats.paired_differences(base, candidate)


def _side_by_side(compared: Sequence[tuple[Pair, Sequence[str]]], differences: Sequence[np.ndarray]) -> np.ndarray:
    """Differences as one matrix (all problems of all tasks, comparisons), 0 where a comparison lacks the problem."""
    columns = [
        pd.Series(d, index=[f"{pair.candidate.task}/{name}" for name in names])
        for (pair, names), d in zip(compared, differences, strict=True)
    ]
    return pd.concat(columns, axis=1).fillna(0.0).sort_index().to_numpy()


def _interval(values: np.ndarray, alpha: float) -> tuple[float, float, float]:
    estimate = stats.mean_interval(values, 1 - alpha)
    return estimate.value, estimate.ci_low, estimate.ci_high


def _row(run: Run, problems: Sequence[str], study: Study, describe: Describer, alpha: float) -> dict[str, Any]:
    """A run's own columns, averaged over ``problems``; without any, only what it is and how much of it is done."""
    row = {
        "task": run.task,
        "model": run.config["model"]["name"],
        "sampler": run.sampler,
        "settings": describe(run),
        "n_problems": len(problems) or len(complete(run, study.replicates)),
        "run_id": run.run_id,
        "caveat": "",
    }
    if not problems:
        return row
    scores = run.values("score", problems, study.replicates)
    score, low, high = _interval(scores.mean(axis=1), alpha)
    return row | {
        "replicates": scores.shape[1],
        "score": score,
        "score_ci_low": low,
        "score_ci_high": high,
        "forward_passes": float(run.values("forward_passes", problems, study.replicates).mean()),
        "seconds_per_problem": float(run.values("seconds", problems, study.replicates).mean()),
    }


REMEDIES = {
    "incomplete": "Run the same command again to do what is missing (errors are tried again; tta-bench show RUN has their "
    "tracebacks), or compare on the problems that both runs have: analysis.allow_missing=true",
    "incomparable": "Do them again under the same conditions (--fresh), or compare them all the same: "
    "analysis.allow_differences=true",
}


def remedy(refusals: set[str]) -> str:
    """What can be done about refused comparisons."""
    return " ".join(text for kind, text in REMEDIES.items() if kind in refusals)


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
