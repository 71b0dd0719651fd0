"""What is seen while runs go on: bars for sweep, run and steps on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Column

from tta_bench.models.loading import resolve_dtype
from tta_bench.runner.difference import constraint_text
from tta_bench.runner.execute import News
from tta_bench.runner.prompts import PLACE
from tta_bench.runner.spec import RunSpec
from tta_bench.runner.store import Record
from tta_bench.types import StepInfo

QUIET_SECONDS = 30.0
"""Without a terminal, a run says where it is this often."""


class Display:
    """The bars of a sweep, and of the run and the batch at work.

    Attributes:
        total: answers that the sweep asks for.
        quiet: leaves it to others to tell what became of a run.
    """

    def __init__(self, console: Console, total: int, *, quiet: bool = False) -> None:
        self.console, self.quiet = console, quiet
        self.terminal = console.is_terminal
        text = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, ratio=1))
        columns = (text, BarColumn(bar_width=20), MofNCompleteColumn(), TextColumn("{task.fields[pace]}", markup=False))
        self.bars = Progress(*columns, console=console, transient=True, disable=not self.terminal, expand=self.terminal)
        self.sweep = Pace(total)
        self.sweep_bar = self.bars.add_task("all runs", total=total, pace="")

    @contextmanager
    def shown(self) -> Iterator[Display]:
        """Show the bars while the context lasts."""
        with self.bars:
            yield self

    def interject(self, sentence: str) -> None:
        """Say something in the middle of whatever goes on, even of printing."""
        if self.terminal:
            self.bars.update(self.sweep_bar, description=sentence, refresh=True)
        else:
            os.write(2, f"{sentence}\n".encode())

    @contextmanager
    def run(self, spec: RunSpec, total: int) -> Iterator[RunWatch]:
        """Watch one run; what it generated is told in a line when the context ends, however it ends."""
        with self.work(label(spec), total, "generated") as watch:
            yield watch

    @contextmanager
    def work(self, name: str, total: int, done: str) -> Iterator[RunWatch]:
        """Watch work of some name; ``done`` is the word for what becomes of a record."""
        watch = RunWatch(self, name, total, done)
        try:
            yield watch
        finally:
            self.bars.remove_task(watch.bar)
            self.bars.remove_task(watch.step_bar)
            if (watch.pace.made or watch.n_failed) and not self.quiet:
                self.console.print(watch.outcome, highlight=False, markup=False, soft_wrap=True)


class Pace:
    """Counts records and forward passes, and how fast they come."""

    def __init__(self, total: int) -> None:
        self.total, self.reused, self.made, self.passes = total, 0, 0, 0
        self.began = time.perf_counter()

    @property
    def done(self) -> int:
        """Records that are there."""
        return self.reused + self.made

    @property
    def seconds(self) -> float:
        """Since generation began."""
        return time.perf_counter() - self.began

    @property
    def rates(self) -> str:
        """Problems and forward passes a second."""
        seconds = max(self.seconds, 1e-9)
        return f"{self.made / seconds:.1f} problems/s, {self.passes / seconds:,.0f} passes/s"

    @property
    def left(self) -> str:
        """Time left at the pace so far."""
        if not self.made or self.done >= self.total:
            return ""
        return f", {duration(self.seconds / self.made * (self.total - self.done))} left"


class RunWatch:
    """A ``Watch`` (see ``execute``) that moves the bars of a display."""

    def __init__(self, display: Display, name: str, total: int, done: str) -> None:
        self.display, self.name, self.done = display, name, done
        self.pace, self.n_failed = Pace(total), 0
        self.bar = display.bars.add_task(name, total=total, pace="")
        self.step_bar: TaskID = display.bars.add_task("  batch at work, steps", total=None, pace="", visible=False)
        self.spoke = time.perf_counter()

    def reused(self, n: int) -> None:
        """So many records were there."""
        for pace in (self.pace, self.display.sweep):
            pace.reused += n
        self._draw()

    def started(self) -> None:
        """The model is there; generation begins."""
        for pace in (self.pace, self.display.sweep):
            if not pace.passes:
                pace.began = time.perf_counter()

    def step(self, info: StepInfo) -> None:
        """A batch made a step."""
        active = info.canvas.editable.any(dim=1)
        rows, passes = int(active.sum()), int((active * info.prediction.forward_passes).sum())
        for pace in (self.pace, self.display.sweep):
            pace.passes += passes
        canvas, bars = info.canvas, self.display.bars
        bars.update(self.step_bar, completed=canvas.step + 1, total=canvas.n_steps, pace=f"{rows} rows", visible=True)
        self._speak()

    def evaluated(self, passes: int) -> None:
        """So many forward passes were made without a step."""
        for pace in (self.pace, self.display.sweep):
            pace.passes += passes
        self._speak()

    def finished(self, records: Sequence[Record]) -> None:
        """These records are on disk."""
        for pace in (self.pace, self.display.sweep):
            pace.made += len(records)
        self.n_failed += sum(1 for record in records if record["error"])
        self._draw()

    def others(self, news: News) -> None:
        """Other processes that share the run have stored this."""
        for pace in (self.pace, self.display.sweep):
            pace.made += news.made
            pace.passes += news.passes
        self.n_failed += news.failed
        self._draw()
        self._speak()

    @property
    def outcome(self) -> str:
        """One line on what was done."""
        parts = [f"{self.pace.made} {self.done} ({self.pace.rates})"]
        parts += [f"{self.n_failed} of them failed"] if self.n_failed else []
        parts += [f"{self.pace.reused} reused"] if self.pace.reused else []
        return f"{self.name:<56} {', '.join(parts)}"

    def _draw(self) -> None:
        bars = self.display.bars
        for bar, pace in ((self.bar, self.pace), (self.display.sweep_bar, self.display.sweep)):
            bars.update(bar, completed=pace.done, pace=pace.rates + pace.left if pace.made else "")

    def _speak(self) -> None:
        """Without a terminal, a line now and then."""
        now = time.perf_counter()
        if self.display.terminal or now - self.spoke < QUIET_SECONDS:
            return
        self.spoke = now
        line = f"{self.name:<56} {self.pace.done} of {self.pace.total}, {self.pace.rates}{self.pace.left}"
        self.display.console.print(line, highlight=False, markup=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """Seconds as 45 s, 3 min 20 s or 2 h 5 min."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def label(spec: RunSpec) -> str:
    """A run in a few words."""
    shown = [f"{key}={value}" for key, value in spec.sampler.changed.items()]
    shown += [f"constraint={constraint_text(spec.constraint.config())}"] if spec.constraint else []
    steps = "open" if spec.steps is None else f"{spec.steps} steps"
    if spec.dtype != str(resolve_dtype("auto", torch.device(spec.device))).removeprefix("torch."):
        shown.append(f"dtype={spec.dtype}")
    if spec.prompt_form != PLACE:
        shown.append(f"prompt_form={spec.prompt_form!r}")
    if spec.batch_size is not None:
        shown.append(f"batch_size={spec.batch_size}")
    return f"{spec.task_name:<10} {steps:>9}  {' '.join([spec.sampler.name, *shown])}"
