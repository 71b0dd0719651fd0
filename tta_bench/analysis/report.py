"""The report of a study: tables, figures and one self-contained page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from tta_bench.analysis import figures
from tta_bench.analysis.across_tasks import across_tasks
from tta_bench.analysis.budgets import at_equal_passes, pareto, whole_curves
from tta_bench.analysis.claims import claims
from tta_bench.analysis.compare import Compared, compare, made, untestable
from tta_bench.analysis.describe import Describer, describer
from tta_bench.analysis.effects import effects, response, sweeps
from tta_bench.analysis.examples import Example, examples
from tta_bench.analysis.load import Pair, Study
from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.remasking import remasking
from tta_bench.analysis.robustness import robustness
from tta_bench.analysis.section import Section, readable
from tta_bench.analysis.selection import selection
from tta_bench.analysis.signals import uncertainty
from tta_bench.analysis.standings import fields_of, focused, standings, standings_table
from tta_bench.analysis.summary import SUMMARY_METHODS, summary_of
from tta_bench.analysis.tables import REFUSED, caption, comparisons, headings, listed, readable_rows, write_tables
from tta_bench.analysis.texts import text_table
from tta_bench.analysis.trajectories import trajectory_table


@dataclass(frozen=True)
class Report:
    """A written report.

    Attributes:
        summary: the frame behind the table.
        sections: the tables beside it.
        note: what a reader must know to read the table.
        answer: the finding in a sentence per task.
        page: report.html.
        files: everything written.
        n_refused: comparisons that were asked for and not made.
        untestable: why nothing can be said at all; empty where something can.
    """

    summary: pd.DataFrame
    sections: tuple[Section, ...]
    note: str
    answer: tuple[str, ...]
    page: Path
    files: tuple[Path, ...]
    n_refused: int
    untestable: str


def write_report(study: Study, folder: Path, plan: TestPlan) -> Report:
    """Analyse a study and write summary.{csv,md,tex}, tables/, figures/, claims.json and report.html into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    found = compare(study)
    compared = made(found)
    describe = describer(study)
    equal = at_equal_passes(compared, study, describe, plan)
    summary = summary_of(found, study, plan, equal)
    sections = sections_of(compared, study, describe, plan, equal)
    note = caption(summary, plan)
    files = write_tables(summary, folder, note=note) + write_sections(sections, folder / "tables")
    drawn = drawings(summary, compared, study, plan)
    judged = next((section for section in sections if section.name == "uncertainty"), None)
    quality = figures.signal_quality(judged.frame) if judged else None
    if quality:
        drawn["signal_quality"] = quality
    robust = next((section for section in sections if section.name == "robustness"), None)
    if robust:
        drawn["flip_rates"] = figures.flip_rates(robust.frame)
    for name, figure in drawn.items():
        files += figures.save(figure, folder / "figures", name)
    answer = tuple(sentences(summary))
    # What the summary repeats of another table is claimed there, with what it rests on.
    own = summary[[name for name in summary if not str(name).startswith("equal_passes_")]]
    numbers = claims([Section("summary", study.name, own, SUMMARY_METHODS), *sections], study, plan)
    files.append(folder / "claims.json")
    files[-1].write_bytes(orjson.dumps(numbers, option=orjson.OPT_APPEND_NEWLINE))
    page = folder / "report.html"
    page.write_text(
        render(
            study,
            plan,
            summary,
            sections,
            note,
            answer,
            [folder / "figures" / f"{name}.svg" for name in drawn],
            examples(compared, study, describe),
        )
    )
    refused = int(summary["verdict"].isin(REFUSED).sum())
    return Report(summary, sections, note, answer, page, (*files, page), refused, untestable(compared))


def sections_of(
    compared: Sequence[Compared], study: Study, describe: Describer, plan: TestPlan, equal: Section | None
) -> tuple[Section, ...]:
    """The tables beside the summary, ``equal`` first, those left out for which the study has no data."""
    fields = fields_of(compared, study, describe)
    found = (
        equal,
        standings(fields, plan),
        focused(fields, study, plan),
        whole_curves(compared, study, describe, plan),
        pareto(compared, study, describe, plan),
        across_tasks(compared, plan),
        effects(compared, study, plan),
        selection(compared, describe, plan),
        robustness(compared, study, describe, plan),
        uncertainty(compared, study, describe, plan),
        remasking(compared, study, describe, plan),
        trajectory_table(compared, study, describe, plan),
        text_table(compared, study, describe, plan) if plan.texts else None,
    )
    return tuple(section for section in found if section)


TABLES = (
    "equal_passes",
    "standings",
    "focus",
    "curves",
    "pareto",
    "tasks",
    "effects",
    "selection",
    "robustness",
    "uncertainty",
    "remasking",
    "trajectories",
    "texts",
)
"""Names of the tables that a report may have."""


def write_sections(sections: Sequence[Section], folder: Path) -> list[Path]:
    """A CSV file for each; an earlier report's files of tables that there are no more are removed."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{section.name}.csv" for section in sections]
    for name in set(TABLES) - {section.name for section in sections}:
        (folder / f"{name}.csv").unlink(missing_ok=True)
    for section, path in zip(sections, paths, strict=True):
        section.frame.to_csv(path, index=False, float_format="%.6g", lineterminator="\n")
    readable_standings = folder / "standings.md"
    readable_standings.unlink(missing_ok=True)
    for section in sections:
        if section.name == "standings":
            readable_standings.write_text(standings_page(section))
            paths.append(readable_standings)
    return paths


def standings_page(section: Section) -> str:
    """The standings for reading: a table for each budget."""
    tables = [standings_table(section.frame, [budget]) for budget in sorted(set(section.frame["budget"]))]
    key = (
        "Per cent; columns: task, forward passes. Bold: better than the baseline at the same budget, italic: worse, both "
        "adjusted by max-T over all cells."
    )
    return "\n".join(tables) + f"\n{key} {section.note}\n"


def drawings(summary: pd.DataFrame, compared: Sequence[Compared], study: Study, plan: TestPlan) -> dict[str, Figure]:
    """The figures, by name; a sampler in focus has a colour of its own in any case."""
    drawn = {"accuracy_versus_passes": figures.accuracy_versus_passes(summary[summary["score"].notna()], plan.focus)}
    differences = figures.forest(summary, plan.alpha)
    if differences:
        drawn["differences"] = differences
    pairs = [(one.pair, one.problems) for one in compared]
    shown = representative(pairs)
    traces = {title(pair): pair.candidate.trace(problems, study.replicates) for pair, problems in shown}
    traces = {name: trace for name, trace in traces.items() if len(trace)}
    if traces:
        drawn["uncertainty_evolution"] = figures.uncertainty_evolution(traces)
    single = {name: one for pair, problems in shown for name, one in decodings(pair, problems)}
    if single:
        drawn["trajectories"] = figures.trajectory_maps(single)
    maps = {sweep.title: response(sweep, *list(sweep.levels)[:2]) for sweep in sweeps(compared, study) if len(sweep.levels) > 1}
    if maps:
        drawn["exploratory_response"] = figures.response_maps(maps)
    return drawn


def decodings(pair: Pair, problems: Sequence[str]) -> list[tuple[str, pd.DataFrame]]:
    """Of one problem, the token traces of baseline and candidate: the first on which they differ in score, else the first."""
    traces = [run.token_trace(list(problems), 1) for run in (pair.baseline, pair.candidate)]
    if any(trace.empty for trace in traces):
        return []
    scores = [trace.groupby("problem")["score"].first() for trace in traces]
    both = scores[0].index.intersection(scores[1].index)
    if both.empty:
        return []
    differ = both[scores[0][both].to_numpy() != scores[1][both].to_numpy()]
    chosen = (differ if len(differ) else both)[0]
    found = []
    for run, trace in zip((pair.baseline, pair.candidate), traces, strict=True):
        one = trace[trace["problem"] == chosen]
        outcome = f"score {one['score'].iloc[0]:g}"
        found.append((f"{run.task}, {chosen}\n{run.sampler}, {outcome}", one))
    return found


def representative(compared: Sequence[tuple[Pair, Sequence[str]]]) -> list[tuple[Pair, Sequence[str]]]:
    """For each task, one candidate whose uncertainty is drawn: tta if there is one, with the most steps, the middle one."""
    chosen = []
    for task in dict.fromkeys(pair.candidate.task for pair, _ in compared):
        pairs = [c for c in compared if c[0].candidate.task == task]
        tta = [c for c in pairs if c[0].candidate.sampler == "tta"] or pairs
        longest = max(pair.candidate.config["steps"] or 0 for pair, _ in tta)
        finalists = [c for c in tta if (c[0].candidate.config["steps"] or 0) == longest]
        chosen.append(finalists[len(finalists) // 2])
    return chosen


def title(pair: Pair) -> str:
    """Names a trace: task, sampler, views and steps."""
    config = pair.candidate.config
    views = f", K = {config['sampler']['tta_k']}" if "tta_k" in config["sampler"] else ""
    steps = "" if config["steps"] is None else f", {config['steps']} steps"
    return f"{pair.candidate.task}: {pair.candidate.sampler}{views}{steps}"


MANY = 4
"""Samplers of a task of which each gets a sentence; more are told by verdict."""


def sentences(summary: pd.DataFrame) -> list[str]:
    """The finding per task: for each sampler, or for each verdict where there are many samplers."""
    compared = comparisons(summary)
    found = []
    for task, rows in compared.groupby("task", sort=False):
        if rows["sampler"].nunique() <= MANY:
            found += [of_sampler(str(task), str(name), part) for name, part in rows.groupby("sampler", sort=False)]
        else:
            found += [of_verdict(str(task), str(verdict), part) for verdict, part in rows.groupby("verdict")]
    return found


def of_sampler(task: str, sampler: str, rows: pd.DataFrame) -> str:
    """How many settings of a sampler are better, worse, equivalent or undecided, and the range."""
    counts = ", ".join(f"{n} {verdict}" for verdict, n in rows["verdict"].value_counts(sort=False).sort_index().items())
    low, high = 100 * rows["delta"].min(), 100 * rows["delta"].max()
    spread = f"{low:+.1f}" if len(rows) == 1 else f"{low:+.1f} to {high:+.1f}"
    times = (rows["forward_passes"] / rows["baseline_passes"]).round(2)
    cost = "" if (times == 1).all() else f" at {listed(times)} times the passes"
    return f"{task}: {sampler} against its baseline{cost}, {spread} points in {len(rows)} comparison(s): {counts}."


def of_verdict(task: str, verdict: str, rows: pd.DataFrame) -> str:
    """Which samplers got a verdict, largest difference first."""
    ordered = rows.sort_values("delta", ascending=False)
    named = [f"{name} ({100 * delta:+.1f})" for name, delta in zip(ordered["sampler"], ordered["delta"], strict=True)]
    heading = f"{verdict} than the baseline" if verdict in ("better", "worse") else verdict
    return f"{task}: {heading}: {', '.join(named)}."


def render(
    study: Study,
    plan: TestPlan,
    summary: pd.DataFrame,
    sections: Sequence[Section],
    note: str,
    answer: tuple[str, ...],
    pictures: list[Path],
    shown: Sequence[Example] = (),
) -> str:
    """report.html; pictures are embedded as SVG and every text is escaped."""
    environment = Environment(loader=PackageLoader("tta_bench.analysis", "."), autoescape=True, undefined=StrictUndefined)
    runs = {run.run_id: run for pair in study.pairs for run in (pair.baseline, pair.candidate)}
    return environment.get_template("report.html.j2").render(
        name=study.name,
        level=f"{100 * (1 - 2 * plan.alpha):g} %",
        headings=headings(summary),
        rows=readable_rows(summary),
        note=note,
        answer=answer,
        sections=[(section, *readable(section)) for section in sections],
        excluded=study.excluded,
        examples=shown,
        pictures={p.stem.replace("_", " "): p.read_text().partition("<svg")[2] for p in pictures},
        runs={run_id: json.dumps(run.config, indent=1) for run_id, run in runs.items()},
    )
