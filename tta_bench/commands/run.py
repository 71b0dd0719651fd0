"""``tta-bench run``: survey what is there, do what is missing, report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console

from tta_bench.analysis.load import load_study
from tta_bench.analysis.plan import Allowances, TestPlan
from tta_bench.commands.report import print_report
from tta_bench.runner.progress import Display
from tta_bench.runner.select import choose, earlier_choices
from tta_bench.runner.settings import Comparison, check_folders
from tta_bench.runner.stopping import stop_requests
from tta_bench.runner.study import retire, run_comparison, untouched, write_study
from tta_bench.runner.survey import Survey, incomparable, survey

MOST_REASONS = 6
"""Runs whose state is explained in an announcement; ``tta-bench plan`` explains all."""


@dataclass(frozen=True)
class Asked:
    """What a command line asks for, checked.

    Attributes:
        comparisons: one for each combination of values.
        tests: plan of the tests.
        allow: what may be compared although it should not be.
        select: how the candidate is chosen; None compares all.
        send: has ``do_comparison`` called for the comparisons with these numbers (None: for all), in whatever processes;
            its second argument is ``last_round``.
    """

    comparisons: tuple[Comparison, ...]
    tests: TestPlan
    allow: Allowances
    select: str | None
    send: Callable[[Sequence[int] | None, bool], None]


@dataclass(frozen=True)
class Here:
    """What the comparisons of a sweep share where they are done in this process."""

    display: Display
    check_stop: Callable[[], None]


_HERE: ContextVar[Here | None] = ContextVar("here", default=None)


def run_all(asked: Asked, console: Console, *, fresh: bool) -> int:
    """Do and report every comparison; returns the exit code."""
    folder = perform(asked, console, fresh=fresh)
    return print_report(load_study(folder, allow=asked.allow), folder, asked.tests, console)


def run_selected(dev: Asked, test: Asked, console: Console, *, fresh: bool) -> int:
    """Do every comparison on dev, choose the best candidate for each baseline, do and report those on test.

    Args:
        dev, test: the same comparisons on either split.
        console: to report on.
        fresh: whether to ignore what is on disk.
    """
    on_dev = tuple(replace(c, report_dir=c.report_dir / "dev", name=f"{c.name} (dev, to choose from)") for c in dev.comparisons)
    run_all(replace(dev, comparisons=on_dev), console, fresh=fresh)
    choices = choose(on_dev, test.comparisons, allow_missing=dev.allow.missing)
    console.print()
    for choice in choices:
        console.print(choice.sentence, highlight=False, soft_wrap=True)
    final = replace(test, comparisons=tuple(test.comparisons[choice.number] for choice in choices))
    folder = final.comparisons[0].report_dir
    notes = [choice.sentence for choice in choices] + earlier_choices(folder, choices)
    perform(final, console, fresh=fresh, chosen=[choice.number for choice in choices], notes=notes)
    for choice in choices:
        choice.record(final.comparisons[0].output_dir)
    return print_report(load_study(folder, allow=final.allow), folder, final.tests, console)


def perform(
    asked: Asked, console: Console, *, fresh: bool, chosen: Sequence[int] | None = None, notes: Sequence[str] = ()
) -> Path:
    """Do what is missing of all comparisons; returns the folder of their study.

    Args:
        asked: the comparisons.
        console: to announce and show progress on.
        fresh: move aside what is on disk of the runs.
        chosen: numbers of the comparisons among those that ``asked.send`` knows; None if they are all of them.
        notes: sentences that belong under the table of the study.

    Raises:
        ValueError: the runs could not be compared afterwards, or a folder cannot be written to.
        StoreError: a run cannot be stored.
        KeyboardInterrupt: a signal asked to stop.
    """
    check_folders(asked.comparisons[0])
    if fresh:
        for place in retire(asked.comparisons):
            console.print(f"moved aside: {place}", highlight=False, soft_wrap=True)
    surveys = survey(asked.comparisons)
    if not asked.allow.differences:
        check_comparable(asked.comparisons, surveys)
    folder = write_study(asked.comparisons, asdict(asked.tests), notes)
    console.print(announcement(asked.comparisons, surveys), highlight=False, soft_wrap=True)
    total = sum(found.comparison.size for found in surveys.values())
    with Display(console, total).shown() as display, stop_requests(display.interject) as check_stop:
        token = _HERE.set(Here(display, check_stop))
        try:
            asked.send(chosen, False)
            if any(untouched(found.spec, found.comparison) for found in surveys.values()):
                asked.send(chosen, True)  # other processes were at work on some of the runs
        finally:
            _HERE.reset(token)
    return folder


def do_comparison(comparison: Comparison, console: Console, *, last_round: bool) -> None:
    """Do what is missing of one comparison, see ``run_comparison``; the process may be one that a launcher made for it."""
    here = _HERE.get()
    if here:
        run_comparison(comparison, here.display, here.check_stop, last_round=last_round)
        return
    total = comparison.size * len(comparison.runs)
    with Display(console, total).shown() as display, stop_requests(display.interject) as check_stop:
        run_comparison(comparison, display, check_stop, last_round=last_round)


def check_comparable(comparisons: Sequence[Comparison], surveys: Mapping[str, Survey]) -> None:
    """Refuse to make what could not be compared with what is on disk.

    Raises:
        ValueError: with the pairs, and what each would differ in.
    """
    reasons = incomparable(comparisons, surveys)
    if reasons:
        raise ValueError(
            "what is on disk cannot be compared with what would be done now:\n  "
            + "\n  ".join(reasons)
            + "\nDo all of it again with --fresh, go back to the conditions of the first, or compare all the same with "
            "analysis.allow_differences=true"
        )


def announcement(comparisons: Sequence[Comparison], surveys: Mapping[str, Survey]) -> str:
    """What is about to be done, what is there already, and why something is done again."""
    pairs = {pair for c in comparisons for pair in c.pairs}
    first = comparisons[0]
    done = sum(found.work.n_done for found in surveys.values())
    lines = [
        f"{first.name}: {len(pairs)} comparison(s), {len(surveys)} runs of {first.n_problems} problems x {first.replicates} "
        f"replicate(s) on {first.candidate.split}, model {first.model_name}"
    ]
    if done:
        lines.append(f"{done:,} of {len(surveys) * first.size:,} answers are in {first.output_dir}/runs already")
    reasons = [f"  {run_id}: {found.reason()}" for run_id, found in surveys.items() if found.reason()]
    lines += reasons[:MOST_REASONS]
    if len(reasons) > MOST_REASONS:
        lines.append(f"  and {len(reasons) - MOST_REASONS} more; tta-bench plan with the same words explains all")
    return "\n".join(lines)
