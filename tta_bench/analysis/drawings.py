"""The figures of a report: the frame behind each, written beside it, and the figure drawn from that file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from tta_bench.analysis import equal_compute, figures, lifetimes, quality_curves
from tta_bench.analysis.compare import Compared
from tta_bench.analysis.describe import without_budget
from tta_bench.analysis.effects import Sweep, response, sweeps
from tta_bench.analysis.evolution import evolution
from tta_bench.analysis.figures.accuracy import MOST_COLOURED
from tta_bench.analysis.figures.differences import MOST_ROWS
from tta_bench.analysis.figures.style import save
from tta_bench.analysis.figures.trajectory import EVENTS
from tta_bench.analysis.load import Study
from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.remasking import CONTROL
from tta_bench.analysis.representative import CloseUp, close_ups, decodings_of_one_problem, representative, roles
from tta_bench.analysis.section import Section
from tta_bench.analysis.stats import mean_interval


def frames(
    summary: pd.DataFrame, sections: Sequence[Section], compared: Sequence[Compared], study: Study, plan: TestPlan
) -> dict[str, pd.DataFrame]:
    """The frame of each figure in ``figures.FIGURES`` for which the study has data."""
    tables = {section.name: section.frame for section in sections}
    shown = close_ups(compared, plan.focus)
    # The baseline's uncertainty and the control's are another story: the candidate's is judged.
    candidates = {one.pair.candidate.run_id for one in representative(compared, plan.focus)}
    ends = quality_curves.ends([one for one in shown if one.run.run_id in candidates], study.replicates)
    swept = first_of_each(sweeps(compared, study))
    made: dict[str, Callable[[], pd.DataFrame]] = {
        "accuracy_versus_passes": lambda: accuracy_frame(summary, plan.focus),
        "differences": lambda: differences_frame(summary, plan),
        "response_curves": lambda: response_curves_frame(swept, plan),
        "exploratory_response": lambda: response_maps_frame(swept),
        "uncertainty_evolution": lambda: evolution(shown, study.replicates, plan),
        "trajectories": lambda: trajectories_frame(representative(compared, plan.focus)),
        "commit_order": lambda: lifetimes.commit_order(shown, study.replicates),
        "signal_quality": lambda: signal_quality_frame(tables.get("uncertainty")),
        "risk_coverage": lambda: quality_curves.risk_coverage(ends, plan),
        "reliability": lambda: quality_curves.reliability(ends, plan),
        "remask_quality": lambda: remask_quality_frame(tables.get("remasking")),
        "survival": lambda: lifetimes.survival(shown, study.replicates, plan),
        "flip_rates": lambda: flip_rates_frame(tables.get("robustness")),
    }
    found = {name: made[name]() for name in figures.FIGURES}
    return {name: frame for name, frame in found.items() if len(frame)}


def draw(found: Mapping[str, pd.DataFrame], folder: Path) -> list[Path]:
    """Write each frame as CSV and draw the figure from what was written; files of figures that there are no more are removed.

    Returns:
        all files, of a figure the CSV file first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in figures.FIGURES.keys() - found.keys():
        for kind in ("csv", "png", "pdf", "svg"):
            (folder / f"{name}.{kind}").unlink(missing_ok=True)
    files = []
    for name, frame in found.items():
        files.append(folder / f"{name}.csv")
        frame.to_csv(files[-1], index=False, float_format="%.6g", lineterminator="\n")
        files += picture(name, read(files[-1]), folder)
    return files


def picture(name: str, frame: pd.DataFrame, folder: Path) -> list[Path]:
    """Draw a figure and write its files."""
    return save(figures.FIGURES[name].draw(frame), folder, name)


def read(file: Path) -> pd.DataFrame:
    """The frame of a figure. What is called NA or null is a name, not a missing value, and levels are texts."""
    levels = dict.fromkeys(("level", "level_one", "level_other"), str)
    found: pd.DataFrame = pd.read_csv(file, keep_default_na=False, na_values=[""], dtype=levels)
    return found


def first_of_each(found: Sequence[Sweep]) -> list[Sweep]:
    """For each task and sampler the first sweep: those of other models, seeds or the like are no part of its lines."""
    first: dict[tuple[str, str], Sweep] = {}
    for sweep in found:
        first.setdefault((sweep.task, sweep.sampler), sweep)
    return list(first.values())


def accuracy_frame(summary: pd.DataFrame, focus: str | None = None) -> pd.DataFrame:
    """Every run once; of many variants those have a colour that ``chosen`` names."""
    frame = summary[summary["score"].notna()]
    frame = frame.assign(variant=[variant(s, t) for s, t in zip(frame["sampler"], frame["settings"], strict=True)])
    if frame.empty:
        return frame
    variants = list(dict.fromkeys(frame["variant"]))
    shown = chosen(frame, focus) if len(variants) > MOST_COLOURED else variants
    numbers = {name: number for number, name in enumerate(shown)}
    runs = frame.drop_duplicates(["task", "run_id"])  # one may stand beside several baselines
    return pd.DataFrame(
        {
            "task": runs["task"],
            "variant": runs["variant"],
            "forward_passes": runs["forward_passes"],
            "score": runs["score"],
            "score_low": runs["score_ci_low"],
            "score_high": runs["score_ci_high"],
            "shown": [numbers.get(name, -1) for name in runs["variant"]],
        }
    )


def variant(sampler: str, settings: str) -> str:
    """A sampler with its settings but those that set its budget, which is the x axis."""
    return f"{sampler} {without_budget(sampler, settings)}".strip()


def chosen(frame: pd.DataFrame, focus: str | None = None) -> list[str]:
    """The variants to be told apart: the baselines, those in focus, and those with the most runs on the Pareto fronts.

    Args:
        frame: a summary with a column ``variant``.
        focus: a sampler.
    """
    runs = frame.drop_duplicates("run_id")
    on_front = [
        pd.Series(equal_compute.on_front(part["forward_passes"], part["score"]), index=part.index)
        for _, part in runs.groupby("task", sort=False)
    ]
    counts = pd.concat(on_front).groupby(runs["variant"]).sum()
    baselines = list(dict.fromkeys(frame.loc[frame["verdict"] == "", "variant"]))
    first = [*baselines[:MOST_BASELINES], *frame.loc[frame["sampler"] == focus, "variant"]]
    ranked = sorted(counts[counts > 0].index, key=lambda name: (-counts[name], name))
    return [*dict.fromkeys([*first, *ranked, *baselines])][:MOST_COLOURED]


MOST_BASELINES = 3
"""Variants of baselines that have a colour before others; the first of them."""


def named(rows: pd.DataFrame) -> pd.Series:
    """Sampler and settings of each row."""
    return (rows["sampler"] + " " + rows["settings"]).str.strip()


def differences_frame(summary: pd.DataFrame, plan: TestPlan) -> pd.DataFrame:
    """Every comparison; nothing where there are so many that no row could be read."""
    rows = summary[summary["delta"].notna()]
    if rows.empty or rows["task"].value_counts().max() > MOST_ROWS:
        return pd.DataFrame()
    names = named(rows)
    runs = summary.drop_duplicates("run_id").set_index("run_id")
    bases = named(runs)[rows["baseline_run_id"]]
    twice = pd.DataFrame({"task": rows["task"], "name": names}).duplicated(keep=False)
    return pd.DataFrame(
        {
            "task": rows["task"],
            "comparison": np.where(twice, [f"{a} against {b}" for a, b in zip(names, bases, strict=True)], names),
            "delta": rows["delta"],
            "delta_low": rows["delta_ci_low"],
            "delta_high": rows["delta_ci_high"],
            "adjusted_low": rows["delta_adjusted_low"],
            "adjusted_high": rows["delta_adjusted_high"],
            "significant": rows["p_adjusted"] < plan.alpha,
            "alpha": plan.alpha,
        }
    )


def response_curves_frame(swept: Sequence[Sweep], plan: TestPlan) -> pd.DataFrame:
    """Mean score at each level of each factor, over the runs that share it, with its t interval over problems."""
    rows = []
    for sweep in swept:
        clusters = sweep.runs[0].clusters(sweep.problems)
        for factor, levels in sweep.levels.items():
            for place, level in enumerate(sweep.values(factor)):
                ours = [i for i, value in enumerate(levels) if value == level]
                found = mean_interval(sweep.scores[:, ours].mean(axis=1), 1 - plan.alpha, clusters)
                named = {"task": sweep.task, "sampler": sweep.sampler, "factor": factor, "level": str(level), "place": place}
                rows.append(named | {"score": found.value, "score_low": found.ci_low, "score_high": found.ci_high})
    return pd.DataFrame(rows)


def response_maps_frame(swept: Sequence[Sweep]) -> pd.DataFrame:
    """Mean score by the levels of the first two factors of every sweep that has two."""
    rows = []
    for sweep in swept:
        if len(sweep.levels) > 1:
            one, other = list(sweep.levels)[:2]
            table = response(sweep, one, other)
            rows += [
                {"title": sweep.title, "one": one, "other": other, "level_one": str(a), "level_other": str(b), "score": score}
                for a, row in zip(table.index, table.to_numpy(float), strict=True)
                for b, score in zip(table.columns, row, strict=True)
            ]
    return pd.DataFrame(rows)


def trajectories_frame(shown: Sequence[Compared]) -> pd.DataFrame:
    """The standing tokens of one decoding by each side of each comparison, step by step."""
    parts = []
    for one in shown:
        for run, problem, trace in decodings_of_one_problem(one.pair, one.problems):
            name = CloseUp(run, one.problems, roles(one.pair)[run is one.pair.candidate]).sampler
            title = f"{run.task}, {problem}\n{name}, score {trace['score'].iloc[0]:g}"
            events = [name for name in EVENTS if name in trace and trace[name].notna().all()]
            parts.append(trace[["step", "position", "entropy", *events]].assign(title=title, step=trace["step"] + 1))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def signal_quality_frame(table: pd.DataFrame | None) -> pd.DataFrame:
    """AUROC of tokens at every step; of several models the first."""
    if table is None:
        return pd.DataFrame()
    rows = table[(table["level"] == "token") & (table["metric"] == "auroc") & (table["step"] != "end")].dropna(subset=["value"])
    first = rows.groupby(["sampler", "task"])["run_id"].transform("first")
    rows = rows[rows["run_id"] == first]
    columns = {"task": "task", "sampler": "sampler", "signal": "signal", "value": "value", "value_low": "low"}
    return rows.assign(step=rows["step"].astype(int)).rename(columns=columns | {"value_high": "high"})[
        ["task", "sampler", "signal", "step", "value", "low", "high"]
    ]


def remask_quality_frame(table: pd.DataFrame | None) -> pd.DataFrame:
    """Precision and recall of every run that took tokens back; nothing where there are so many that no row could be read."""
    if table is None or table["task"].value_counts().max() > MOST_ROWS:
        return pd.DataFrame()
    names = [f"{rate}{end}" for rate in ("precision", "recall") for end in ("", "_low", "_high")]
    found = table.assign(run=named(table), control=np.asarray(table["sampler"] == CONTROL))
    return found[["task", "run", "control", "chance", *names]]


def flip_rates_frame(table: pd.DataFrame | None) -> pd.DataFrame:
    """Flips of every variant."""
    if table is None:
        return pd.DataFrame()
    return table.assign(series=named(table))[["task", "series", "variant", "flips", "flips_low", "flips_high"]]
