"""What is seen while runs go on: a bar on a terminal, a line a run elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tta_bench.runner.execute import Advance
from tta_bench.runner.spec import RunSpec


class RunTracker:
    """Counts the records of one run; those that were there already come in the first call."""

    def __init__(self, label: str, total: int) -> None:
        self.label, self.total, self.reused, self.made = label, total, 0, 0
        self.started: float | None = None

    def count(self, n: int) -> None:
        if self.started is None:
            self.started, self.reused = time.perf_counter(), n
        else:
            self.made += n

    @property
    def rate(self) -> str:
        """Records a second, as text."""
        seconds = time.perf_counter() - self.started if self.started else 0.0
        return f"{self.made / seconds:.1f} problems/s" if self.made and seconds else ""

    @property
    def outcome(self) -> str:
        """One line on what was done."""
        made = f"{self.made} generated ({self.rate})" if self.made else ""
        reused = f"{self.reused} reused" if self.reused else ""
        return f"{self.label:<64} {', '.join(part for part in (made, reused) if part)}"


@contextmanager
def tracked(console: Console, spec: RunSpec, total: int) -> Iterator[Advance]:
    """Show the progress of a run while the context lasts, and one line of what was generated, if anything was."""
    tracker = RunTracker(label(spec), total)
    columns = (
        TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
        TextColumn("left"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(tracker.label, total=total, rate="")

        def advance(n: int) -> None:
            tracker.count(n)
            progress.update(task, advance=n, rate=tracker.rate)

        yield advance
    if tracker.made:
        console.print(tracker.outcome, highlight=False, soft_wrap=True)


def label(spec: RunSpec) -> str:
    """A run in a few words."""
    shown = [f"{key}={value}" for key, value in spec.sampler.changed.items()]
    steps = "open" if spec.steps is None else f"{spec.steps} steps"
    return f"{spec.task_name:<10} {steps:>9}  {' '.join([spec.sampler.name, *shown])}"
