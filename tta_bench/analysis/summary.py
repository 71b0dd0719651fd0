"""From runs to the summary: one row per sampler and task, every number with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from tta_bench.analysis import stats
from tta_bench.analysis.best import best_of_blocks
from tta_bench.analysis.budgets import at_equal_passes
from tta_bench.analysis.compare import Compared, Refused, compare, made
from tta_bench.analysis.describe import Describer, describer
from tta_bench.analysis.gate import complete
from tta_bench.analysis.load import Run, Study
from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.posterior import posterior_of_difference
from tta_bench.analysis.section import Differences, Section, tested, together

COLUMNS = (
    "task", "model", "sampler", "settings", "n_problems", "replicates", "score", "score_ci_low", "score_ci_high",
    "delta", "delta_ci_low", "delta_ci_high", "p_value", "p_adjusted", "verdict", "mde", "forward_passes",
    "seconds_per_problem", "run_id", "caveat", "note", "baseline_run_id", "baseline_passes", "n_clusters", "wins", "losses",
    "both_right", "only_baseline", "only_candidate", "neither", "p_mcnemar", "p_holm", "p_best", "p_equivalence",
    "score_wilson_low", "score_wilson_high", "delta_tango_low", "delta_tango_high", "delta_bca_low", "delta_bca_high",
    "delta_adjusted_low", "delta_adjusted_high",
    "posterior_better", "posterior_equivalent", "posterior_worse", "tokens_per_pass", "evaluated_positions", "n_cut", "n_short",
    "seconds_ratio", "seconds_ratio_low", "seconds_ratio_high",
    "equal_passes_delta", "equal_passes_delta_low", "equal_passes_delta_high", "equal_passes_p_adjusted",
    "equal_passes_verdict", "equal_passes_baseline",
)  # fmt: skip
EQUAL_PASSES = ("delta_low", "delta_high", "p_adjusted", "verdict", "baseline")
SUMMARY_METHODS = {
    "score": "mean over problems, t interval",
    "delta": "mean paired difference over problems, t interval",
    "p_value": "two-sided sign-flip permutation test",
    "p_adjusted": "sign-flip permutation test adjusted by max-T over all comparisons",
    "p_holm": "sign-flip permutation test adjusted by Holm over all comparisons",
    "p_best": "of the run with the highest score of a baseline and what is compared with it: the largest sign-flip p-value "
    "against each of the others, by Bonferroni for their number",
    "p_mcnemar": "exact McNemar test",
    "p_equivalence": "two one-sided t tests against the margin, not adjusted (verdicts on problems that are right or wrong "
    "rest on the score interval instead)",
    "mde": "minimum detectable effect at 80 % power (Miller 2024), not adjusted",
    "forward_passes": "model evaluations per answer, mean over problems",
    "baseline_passes": "of the baseline on the same problems, mean",
    "seconds_per_problem": "wall-clock time, mean over problems",
    "seconds_ratio": "geometric mean of candidate / baseline over problems, t interval of the log ratio over batches",
    "tokens_per_pass": "positions filled per forward pass",
    "evaluated_positions": "token positions that went through the network per answer, mean over problems: length x passes, "
    "fewer with a cache",
    "posterior_better": "posterior probability that the difference is above the margin (Dirichlet prior)",
    "posterior_equivalent": "posterior probability that the difference is within the margin (Dirichlet prior)",
    "posterior_worse": "posterior probability that the difference is below the margin (Dirichlet prior)",
    "score_wilson_low": "Wilson score interval, lower end",
    "score_wilson_high": "Wilson score interval, upper end",
    "delta_tango_low": "Tango score interval for paired proportions, lower end",
    "delta_tango_high": "Tango score interval for paired proportions, upper end",
    "delta_bca_low": "BCa bootstrap interval, lower end",
    "delta_bca_high": "BCa bootstrap interval, upper end",
    "delta_adjusted_low": "simultaneous interval by max-T over all comparisons, lower end",
    "delta_adjusted_high": "simultaneous interval by max-T over all comparisons, upper end",
}
"""How the numbers of the summary were found."""

TEXT_COLUMNS = (
    "task", "model", "sampler", "settings", "verdict", "run_id", "caveat", "note", "baseline_run_id", "equal_passes_verdict",
    "equal_passes_baseline",
)  # fmt: skip
"""Columns that hold texts, which may be empty."""

TIMING_COLUMNS = ("seconds_per_problem", "seconds_ratio", "seconds_ratio_low", "seconds_ratio_high")
"""Columns that differ from one execution to the next; all others are reproduced byte for byte."""


def summarize(study: Study, plan: TestPlan) -> pd.DataFrame:
    """The summary of a study, see ``summary_of``.

    Raises:
        AnalysisError: no pair may be compared.
    """
    found = compare(study)
    return summary_of(found, study, plan, at_equal_passes(made(found), study, describer(study), plan))


def summary_of(found: Sequence[Compared | Refused], study: Study, plan: TestPlan, equal_passes: Section | None) -> pd.DataFrame:
    """One row per run and comparison, p-values adjusted by max-T over all of them, verdicts at the adjusted level.

    Rows are grouped by task; a baseline directly precedes the candidates that are compared with it. ``delta`` and what
    follows from it are NaN (verdict: empty) in a baseline's row. A pair that may not be compared (see ``gate``) has a row
    without numbers, with the reason as its verdict; ``caveat`` tells what was allowed by way of exception.
    """
    judged = iter(judge(made(found), plan))
    best = best_of_blocks(made(found), plan)
    describe = describer(study)
    rows: list[dict[str, Any]] = []
    shown: tuple[str, tuple[str, ...]] | None = None
    for one in found:
        base, candidate = one.pair.baseline, one.pair.candidate
        problems = one.problems if isinstance(one, Compared) else _of_baseline(base, study)
        if (base.run_id, problems) != shown:
            told = {"verdict": "" if problems else "incomplete", "p_best": best.get((base.run_id, base.run_id))}
            rows.append(_row(base, problems, study, describe, plan) | told)
            shown = base.run_id, problems
        counted = one.problems if isinstance(one, Compared) else ()
        row = _row(candidate, counted, study, describe, plan) | {"baseline_run_id": base.run_id}
        row["p_best"] = best.get((base.run_id, candidate.run_id))
        told = next(judged) if isinstance(one, Compared) else {"verdict": one.ruling.refused}
        rows.append(row | told | {"caveat": "; ".join(one.ruling.reasons)})
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    ordered = [row for task in tasks for row in rows if row["task"] == task]
    frame = pd.DataFrame(ordered, columns=list(COLUMNS))
    frame = frame.assign(note=frame["note"].fillna(""), p_best=frame["p_best"].astype(float))
    return with_equal_passes(frame, equal_passes)


def with_equal_passes(summary: pd.DataFrame, section: Section | None) -> pd.DataFrame:
    """The summary with each candidate's difference from the baseline at the candidate's own forward passes."""
    if section is None:
        return summary
    told = section.frame.set_index(["baseline_run_id", "run_id"])
    keys = pd.MultiIndex.from_frame(summary[["baseline_run_id", "run_id"]])
    columns = {f"equal_passes_{name}": told[name].reindex(keys).to_numpy() for name in ("delta", *EQUAL_PASSES)}
    return summary.assign(**columns)


def _of_baseline(run: Run, study: Study) -> tuple[str, ...]:
    """The problems of a baseline whose comparison is refused: all that are asked for, or none if any is missing."""
    done = complete(run, study.replicates)
    asked = study.problems.get(run.run_id) or tuple(sorted(done)[: study.n_problems])
    whole = done.issuperset(asked) and len(asked) == (study.n_problems or len(asked))
    return asked if whole else ()


def judge(found: Sequence[Compared], plan: TestPlan) -> list[dict[str, Any]]:
    """The columns that tell of each comparison, tested as one family."""
    p = tested([one.differences for one in found], plan)
    by_holm = stats.holm(p.p_value)
    low, high = together([one.differences for one in found], plan)
    bootstrapped = bootstraps([one.differences for one in found], plan)
    return [
        {
            **_compared(one, float(p.p_value[i]), float(p.p_adjusted[i]), plan),
            **_checked(one, plan),
            **_timed(one, plan),
            "p_holm": float(by_holm[i]),
            "delta_bca_low": bootstrapped[i].ci_low,
            "delta_bca_high": bootstrapped[i].ci_high,
            "delta_adjusted_low": low[i],
            "delta_adjusted_high": high[i],
        }
        for i, one in enumerate(found)
    ]


def bootstraps(columns: Sequence[Differences], plan: TestPlan) -> list[stats.Estimate]:
    """BCa bootstrap intervals; comparisons of the same problems share their resamples."""
    groups: dict[tuple[str, tuple[str, ...]], list[int]] = {}
    for i, one in enumerate(columns):
        groups.setdefault((one.task, tuple(one.problems)), []).append(i)
    found: dict[int, stats.Estimate] = {}
    for places in groups.values():
        d = np.stack([columns[i].d for i in places], axis=1)
        clusters = columns[places[0]].clusters
        made = stats.bca_intervals(d, 1 - plan.alpha, clusters=clusters, n_resamples=plan.n_bootstrap, rng=plan.seed)
        found |= dict(zip(places, made, strict=True))
    return [found[i] for i in range(len(columns))]


def _compared(one: Compared, p_value: float, p_adjusted: float, plan: TestPlan) -> dict[str, Any]:
    """Difference, interval, test and verdict."""
    d = one.differences.d
    told = stats.compared(d, p_adjusted, margin=plan.margin, alpha=plan.alpha, clusters=one.clusters)
    return {
        "delta": told.delta,
        "delta_ci_low": told.ci_low,
        "delta_ci_high": told.ci_high,
        "p_value": p_value,
        "p_adjusted": p_adjusted,
        "verdict": told.verdict,
        "mde": told.mde,
        "note": told.note,
        "n_clusters": np.nan if one.clusters is None else len(np.unique(one.clusters)),
        "baseline_passes": float(one.pair.baseline.values("forward_passes", one.problems, one.replicates).mean()),
        "wins": int((d > 0).sum()),
        "losses": int((d < 0).sum()),
        "p_equivalence": stats.tost(d, margin=plan.margin, alpha=plan.alpha, clusters=one.clusters).p_value,
    }


def _checked(one: Compared, plan: TestPlan) -> dict[str, Any]:
    """The same by other methods: the posterior if asked for, and what suits problems that are right or wrong."""
    d = one.differences.d
    columns: dict[str, Any] = {}
    if plan.bayes and one.clusters is None:
        posterior = posterior_of_difference(d, margin=plan.margin, confidence=1 - plan.alpha, rng=plan.seed)
        columns |= {f"posterior_{name}": getattr(posterior, name) for name in ("better", "equivalent", "worse")}
    if not one.binary:
        return columns
    table = stats.mcnemar(one.baseline, one.candidate)
    tango = stats.difference_interval(one.baseline, one.candidate, 1 - plan.alpha)
    return columns | {
        "both_right": table.both,
        "only_baseline": table.baseline_only,
        "only_candidate": table.candidate_only,
        "neither": table.neither,
        "p_mcnemar": table.p_value,
        "delta_tango_low": tango.ci_low,
        "delta_tango_high": tango.ci_high,
    }


def _timed(one: Compared, plan: TestPlan) -> dict[str, Any]:
    """Candidate's seconds over the baseline's; nothing where a clock saw none pass.

    Problems of one batch were timed together, so that there is an interval only where it is known which these are: with one
    replicate, and the same batches in both runs.
    """
    base, candidate = (
        run.values("seconds", one.problems, one.replicates).mean(axis=1) for run in (one.pair.baseline, one.pair.candidate)
    )
    if not (base.min() > 0 and candidate.min() > 0):
        return {}
    batches = [np.unique(side, return_inverse=True)[1] for side in (base, candidate)]
    together = np.unique(batches[0] * len(base) + batches[1], return_inverse=True)[1]
    ratio = stats.ratio_interval(base, candidate, 1 - plan.alpha, together)
    replicated = one.baseline.shape[1] > 1 or one.candidate.shape[1] > 1  # of which each was in a batch of its own
    if replicated or together.max() > min(side.max() for side in batches):
        return {"seconds_ratio": ratio.value}
    return {"seconds_ratio": ratio.value, "seconds_ratio_low": ratio.ci_low, "seconds_ratio_high": ratio.ci_high}


def _row(run: Run, problems: Sequence[str], study: Study, describe: Describer, plan: TestPlan) -> dict[str, Any]:
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
    means = scores.mean(axis=1)
    score = stats.mean_interval(means, 1 - plan.alpha, run.clusters(problems))
    passes = run.values("forward_passes", problems, study.replicates)
    row |= {
        "replicates": scores.shape[1],
        "score": score.value,
        "score_ci_low": score.ci_low,
        "score_ci_high": score.ci_high,
        "forward_passes": float(passes.mean()),
        "seconds_per_problem": float(run.values("seconds", problems, study.replicates).mean()),
        "evaluated_positions": float(run.values("evaluated_positions", problems, study.replicates).mean()),
        **{
            name: int((run.values(column, problems, study.replicates) > 0).any(axis=1).sum())
            for name, column in (("n_cut", "cut"), ("n_short", "lacking"))
        },
        "tokens_per_pass": float(run.values("filled", problems, study.replicates).mean() / passes.mean()),
    }
    if scores.shape[1] == 1 and run.clusters(problems) is None and np.isin(means, (0, 1)).all():
        wilson = stats.proportion_interval(means, 1 - plan.alpha)
        row |= {"score_wilson_low": wilson.ci_low, "score_wilson_high": wilson.ci_high}
    return row
