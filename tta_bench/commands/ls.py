"""``tta-bench ls``: the runs of an output folder and how far they are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tta_bench.analysis.describe import Describer
from tta_bench.analysis.load import Run
from tta_bench.commands.find import problem_scores, read_run, run_folders, score_text, status, understood
from tta_bench.commands.machine import tell
from tta_bench.commands.say import say
from tta_bench.runner.disk import StoreError

USAGE = "tta-bench ls [DIR]"

HEADINGS = ("run", "task", "sampler and settings", "split", "status", "records", "score % [CI]", "updated")

STYLES = {"running": "cyan", "killed": "yellow", "interrupted": "yellow", "incomplete": "yellow", "failed": "red"}

WIDTH = 112
"""Columns of a terminal that the table needs; where there are fewer, each run has lines of its own."""

UNITS = (("day", 86_400), ("h", 3_600), ("min", 60))


def main(folder: Path, words: list[str], console: Console) -> int:
    """List the runs of an output folder; returns the exit code."""
    folder, _ = understood(folder, words, USAGE, runs=0)
    runs, unreadable = [], []
    for place in run_folders(folder):
        try:
            runs.append(read_run(place))
        except StoreError as error:
            unreadable.append(str(error))
    if not runs and not unreadable:
        raise ValueError(f"{folder}/runs: holds no runs yet; tta-bench run output_dir={folder} makes some")
    rows = listed(runs, datetime.now(UTC))
    tell(runs=[dict(zip(HEADINGS, cells, strict=True)) for cells in rows], unreadable=unreadable)
    if console.width < WIDTH:
        print_paragraphs(rows, console)
    else:
        print_rows(rows, console)
    for sentence in unreadable:
        say(console, f"note: {sentence}", "yellow")
    return 0


def listed(runs: Sequence[Run], moment: datetime) -> list[tuple[str, ...]]:
    """A row of texts for each run, in the order of ``HEADINGS``, those of a task and a sampler together."""
    describe = Describer(runs)
    describe.varying = {(sampler, key) for sampler, key in describe.varying if key != "split"}  # has a column of its own
    ordered = sorted(runs, key=lambda run: (run.task, run.sampler, describe(run), run.config["split"], run.run_id))
    return [row(run, f"{run.sampler} {describe(run)}".strip(), moment) for run in ordered]


def row(run: Run, settings: str, moment: datetime) -> tuple[str, ...]:
    """A run in the order of ``HEADINGS``."""
    return (
        run.run_id,
        run.task,
        settings,
        str(run.config["split"]),
        status(run),
        f"{len(run.records)}" + (f" + {len(run.failures)} errors" if len(run.failures) else ""),
        score_text(problem_scores(run)),
        age(run.manifest.get("updated"), moment),
    )


def age(updated: str | None, moment: datetime) -> str:
    """How long ago a manifest was written; empty where it does not say."""
    if updated is None:
        return ""
    seconds = (moment - datetime.fromisoformat(updated)).total_seconds()
    for unit, length in UNITS:
        if seconds >= length:
            n = int(seconds // length)
            return f"{n} {unit}{'s' if unit == 'day' and n > 1 else ''} ago"
    return "just now"


def print_rows(rows: Sequence[tuple[str, ...]], console: Console) -> None:
    """The rows as a table; what does not fit is folded, never cut."""
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    for heading in HEADINGS:
        table.add_column(heading, no_wrap=heading in ("run", "status", "score % [CI]"), overflow="fold")
    for cells in rows:
        table.add_row(*cells, style=STYLES.get(cells[HEADINGS.index("status")], ""))
    console.print(table, markup=False, highlight=False)


def print_paragraphs(rows: Sequence[tuple[str, ...]], console: Console) -> None:
    """The rows as a few lines each, for a terminal too narrow for the table."""
    for run_id, _, settings, split, state, records, score, updated in rows:
        told = [split, state, f"records: {records}", f"{score} %" if score else "", updated]
        say(console, run_id, "bold")
        for line in (settings, "  ".join(word for word in told if word)):
            say(console, f"  {line}", STYLES.get(state, ""))
