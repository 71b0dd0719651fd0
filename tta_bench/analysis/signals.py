"""The tables of uncertainty quality: which signal finds the wrong tokens, and the wrong answers, from step to step.

Tokens are judged against the right answer nearest to the one that was given, as far as the task knows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tta_bench.analysis.compare import Compared
from tta_bench.analysis.describe import Describer, named
from tta_bench.analysis.load import Run, Study
from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.section import Section
from tta_bench.analysis.stats import CELLS, Estimate
from tta_bench.analysis.uncertainty_quality import CONSTANT, METRICS, Items, Judged, calibration, difference, judge
from tta_bench.runner.store import UNJUDGED

SIGNALS = {
    "entropy": "entropy",
    "disagreement": "disagreement",
    "mutual_information": "mutual information",
    "violation": "violation",
    "support": "token probability",
    "holdout": "holdout probability",
    "shadow": "shadow probability",
    "instability": "instability",
    "confidence": "commit confidence",
    "doubt": "remasking score",
}
"""Columns of a trace, and what they are called."""

PROBABILITIES = ("support", "holdout", "shadow", "confidence")
"""Signals that are probabilities of being right: their uncertainty is 1 - p."""

FIRST = ("tta", "random_remask")
"""Samplers whose uncertainty is judged before that of others."""

REFERENCE = "entropy"
"""The signal that the others are compared with."""

MOST_STEPS = 32
"""Steps at which signals are judged, evenly spread where there are more."""


@dataclass(frozen=True)
class Moment:
    """Items to be judged at a time.

    Attributes:
        level: token or answer.
        step: number of the step, from 1, or ``end``.
        rows: an item each, with its signals, ``problem`` and ``loss``.
        metrics: to be worked out.
    """

    level: str
    step: str
    rows: pd.DataFrame
    metrics: tuple[str, ...]


def uncertainty(found: Sequence[Compared], study: Study, describe: Describer, plan: TestPlan) -> Section | None:
    """Every metric of every signal at the end, AUROC at every step; None where no trace was kept."""
    rows = []
    for run, problems in shown_runs(found, plan.n_judged):
        for moment in moments(run, problems, study.replicates):
            rows += [
                {**named(run, describe), **row, "replicates": moment.rows["key"].nunique() / moment.rows["problem"].nunique(),
                 "run_id": run.run_id}
                for row in judged(moment, plan)
            ]  # fmt: skip
    if not rows:
        return None
    level = f"{100 * (1 - plan.alpha):g} % percentile interval of a bootstrap over problems"
    return Section(
        "uncertainty",
        "Uncertainty quality",
        pd.DataFrame(rows),
        {
            "value": f"as column metric says, {level}",
            "difference": f"signal minus {SIGNALS[REFERENCE]} in the same resamples, {level}",
            "share_wrong": "mean loss of the items",
        },
        "Items are tokens on the canvas, judged against the right answer nearest to the one given, or answers, each with the "
        "mean of its tokens' signals. Signals that are probabilities count as 1 - p. auroc, average_precision, prr: higher is "
        "better; aurc, e_aurc, augrc, brier, ece: lower. One run for each task and each of analysis.n_judged samplers: the one "
        "with the most steps, the middle one of several. Of the problems whose tokens were traced, those count whose tokens "
        "can be judged; answers count in steps that they still took part in. At a step, tokens count that stood there before; "
        "at the end all, those of the last step by what was known before they stood there. The ece is a plug-in estimate, too "
        "large where items are few; its interval is the basic bootstrap's, approximate.",
        brief=f"step == 'end' and metric in ['auroc', 'augrc', 'prr_50', 'ece'] and note != '{CONSTANT}'",
    )


def shown_runs(found: Sequence[Compared], n_samplers: int) -> list[tuple[Run, tuple[str, ...]]]:
    """Of some samplers of each task the run with the most steps, the middle one of several, and the problems that count.

    Of more than ``n_samplers`` these are the baselines, ``FIRST``, and then the others in order.
    """
    groups: dict[tuple[str, Any, str], dict[str, dict[str, tuple[Run, tuple[str, ...]]]]] = {}
    baselines = {one.pair.baseline.sampler for one in found}
    for one in found:
        for run in (one.pair.baseline, one.pair.candidate):
            place = (run.task, run.config.get("split"), run.config["model"]["name"])
            groups.setdefault(place, {}).setdefault(run.sampler, {}).setdefault(run.run_id, (run, one.problems))
    chosen = []
    for samplers in groups.values():
        ranked = sorted(samplers, key=lambda name: (name not in baselines, name not in FIRST))
        for name in ranked[:n_samplers]:
            members = samplers[name].values()
            most = max(run.config["steps"] or 0 for run, _ in members)
            finalists = [(run, problems) for run, problems in members if (run.config["steps"] or 0) == most]
            chosen.append(finalists[len(finalists) // 2])
    return chosen


def moments(run: Run, problems: Sequence[str], replicates: int | None) -> Iterable[Moment]:
    """When the items of a run are judged: tokens at each step and at the end, answers likewise."""
    tokens = known_tokens(run, problems, replicates)
    if len(tokens):
        last = tokens.groupby("key")["step"].transform("max")
        standing = tokens[~tokens["fresh"]]
        yield from steps_of("token", standing)
        yield Moment("token", "end", tokens[tokens["step"] == last], tuple(METRICS))
    answers = run.trace(problems, replicates)
    if len(answers):
        answers = answers.assign(loss=1 - answers["score"])
        last = answers.groupby("key")["step"].transform("max")
        yield from steps_of("answer", answers)
        yield Moment("answer", "end", answers[answers["step"] == last], tuple(METRICS))


def steps_of(level: str, rows: pd.DataFrame) -> Iterable[Moment]:
    """A moment for each step, as far as ``MOST_STEPS`` go."""
    steps = np.unique(rows["step"])
    if len(steps) > MOST_STEPS:
        steps = steps[np.unique(np.linspace(0, len(steps) - 1, MOST_STEPS).round().astype(int))]
    for step in steps:
        yield Moment(level, str(step + 1), rows[rows["step"] == step], ("auroc",))


def known_tokens(run: Run, problems: Sequence[str], replicates: int | None) -> pd.DataFrame:
    """The tokens of which it is known whether they are wrong: column ``loss`` is 1 where they are."""
    tokens = run.token_trace(problems, replicates)
    if tokens.empty:
        return tokens
    tokens = tokens[tokens["gold"] != UNJUDGED]
    return tokens.assign(loss=(tokens["token"] != tokens["gold"]).astype(float))


def judged(moment: Moment, plan: TestPlan) -> list[dict[str, Any]]:
    """A row for each signal and metric of a moment."""
    rows = moment.rows
    full = len(moment.metrics) > 1
    items = Items.of(
        rows["loss"].to_numpy(float),
        rows["unit"].to_numpy(object),
        n_resamples=resamples(rows["unit"].nunique(), plan, full=full),
        confidence=1 - plan.alpha,
        rng=plan.seed,
    )
    found: dict[tuple[str, str], Judged] = {}
    for signal in SIGNALS:
        if signal not in rows or rows[signal].isna().all():
            continue  # the sampler does not tell, or an older version did not record it
        values = rows[signal].to_numpy(float)
        if np.ptp(values) == 0 and not full:
            continue  # it ranks nothing, which the rows at the end say
        doubt = 1 - values if signal in PROBABILITIES else values
        found |= {(signal, metric): one for metric, one in judge(items, doubt, moment.metrics).items()}
        if full and signal in PROBABILITIES and moment.level == "token":
            found |= {(signal, metric): one for metric, one in calibration(items, values).items()}
    return [
        {
            "level": moment.level,
            "step": moment.step,
            "signal": SIGNALS[signal],
            "metric": metric,
            "n_problems": rows["problem"].nunique(),
            "n_items": len(rows),
            "n_resamples": len(items.counts),
            "share_wrong": float(items.loss.mean()),
            **estimate_columns("value", one.estimate),
            **estimate_columns("difference", versus(items, found, signal, metric)),
            "note": one.estimate.note,
        }
        for (signal, metric), one in found.items()
    ]


def resamples(units: int, plan: TestPlan, *, full: bool) -> int:
    """How many resamples are drawn: as planned for one metric, a fifth for all of them, fewer where very many units are."""
    planned = max(200, plan.n_bootstrap // 5) if full else plan.n_bootstrap
    return min(planned, max(200, CELLS // units))


def versus(items: Items, found: dict[tuple[str, str], Judged], signal: str, metric: str) -> Estimate:
    """The paired difference of a signal's metric from that of the reference; undefined for the reference itself."""
    reference = found.get((REFERENCE, metric))
    if signal == REFERENCE or reference is None:
        return Estimate(np.nan, np.nan, np.nan)
    return difference(items, found[signal, metric], reference)


def estimate_columns(name: str, estimate: Estimate) -> dict[str, float]:
    """A value and its interval."""
    return {name: estimate.value, f"{name}_low": estimate.ci_low, f"{name}_high": estimate.ci_high}
