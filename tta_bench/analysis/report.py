"""The report of a study: tables, figures and one self-contained page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
import pandas as pd

from tta_bench.analysis import drawings
from tta_bench.analysis.across_tasks import across_tasks
from tta_bench.analysis.answer import answer as answered
from tta_bench.analysis.budgets import at_equal_passes, pareto, whole_curves
from tta_bench.analysis.claims import claims
from tta_bench.analysis.compare import Compared, compare, made, untestable
from tta_bench.analysis.describe import Describer, describer
from tta_bench.analysis.effects import effects
from tta_bench.analysis.load import Study
from tta_bench.analysis.page.examples import examples
from tta_bench.analysis.page.render import render
from tta_bench.analysis.page.replay import replay
from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.remasking import remasking
from tta_bench.analysis.robustness import robustness
from tta_bench.analysis.section import Section
from tta_bench.analysis.selection import selection
from tta_bench.analysis.signals import uncertainty
from tta_bench.analysis.standings import fields_of, focused, standings, standings_table
from tta_bench.analysis.summary import SUMMARY_METHODS, summary_of
from tta_bench.analysis.tables import REFUSED, caption, write_tables
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
        evolution: uncertainty over the steps, see ``evolution``; empty where no trace was kept.
    """

    summary: pd.DataFrame
    sections: tuple[Section, ...]
    note: str
    answer: tuple[str, ...]
    page: Path
    files: tuple[Path, ...]
    n_refused: int
    untestable: str
    evolution: pd.DataFrame


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
    files = write_tables(summary, folder, note=note, alpha=plan.alpha) + write_sections(sections, folder / "tables")
    frames = drawings.frames(summary, sections, compared, study, plan)
    drawn = drawings.draw(frames, folder / "figures")
    files += drawn
    answer = answered(summary, compared, sections, describe, plan)
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
            [file for file in drawn if file.suffix == ".svg"],
            examples(compared, study, describe),
            replay(compared, describe, plan),
        )
    )
    refused = int(summary["verdict"].isin(REFUSED).sum())
    return Report(
        summary,
        sections,
        note,
        answer.all,
        page,
        (*files, page),
        refused,
        untestable(compared),
        frames.get("uncertainty_evolution", pd.DataFrame()),
    )


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
