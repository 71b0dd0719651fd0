"""``tta-bench run``: survey what is there, do what is missing, report."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import asdict, dataclass, replace
from typing import Any

from rich.console import Console

from tta_bench.analysis.load import study_of
from tta_bench.analysis.plan import Allowances, TestPlan
from tta_bench.commands.elsewhere import Engine, Outcome, told_from_disk
from tta_bench.commands.report import print_report
from tta_bench.commands.say import say
from tta_bench.runner.progress import Display
from tta_bench.runner.ranks import Crew
from tta_bench.runner.select import check_apart, choose, with_choice
from tta_bench.runner.settings import Comparison, check_folders
from tta_bench.runner.stopping import stop_requests
from tta_bench.runner.study import (
    check_study,
    describe_study,
    read_study,
    retire,
    run_comparison,
    untouched,
    write_study,
)
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
            its second argument is ``last_round``. What it returns became of jobs in other processes.
        engine: of these processes; None for this one.
        crew: processes that were started together with this one, and share every run; None if it is alone.
    """

    comparisons: tuple[Comparison, ...]
    tests: TestPlan
    allow: Allowances
    select: str | None
    send: Callable[[Sequence[int] | None, bool], list[Outcome]]
    engine: Engine | None = None
    crew: Crew | None = None


@dataclass(frozen=True)
class Here:
    """What the comparisons of a sweep share where they are done in this process."""

    display: Display
    check_stop: Callable[[], None]
    crew: Crew | None


_HERE: ContextVar[Here | None] = ContextVar("here", default=None)


def run_all(asked: Asked, console: Console, *, fresh: bool) -> int:
    """Do and report every comparison; returns the exit code."""
    check(asked)
    if fresh:
        move_aside(asked.comparisons, console)
    earlier = read_study(asked.comparisons[0].report_dir)
    return perform(asked, console, describe_study(asked.comparisons, asdict(asked.tests), choices=earlier.get("choices", ())))


def run_selected(dev: Asked, test: Asked, console: Console, *, fresh: bool) -> int:
    """Do every comparison on dev, choose the best candidate for each baseline, do and report those on test.

    Args:
        dev, test: the same comparisons on either split.
        console: to report on.
        fresh: whether to ignore what is on disk, on either split.
    """
    check(test)
    check_apart(dev.comparisons, test.comparisons)
    if fresh:
        move_aside([*dev.comparisons, *test.comparisons], console)
    on_dev = tuple(replace(c, report_dir=c.report_dir / "dev", name=f"{c.name} (dev, to choose from)") for c in dev.comparisons)
    run_all(replace(dev, comparisons=on_dev), console, fresh=False)
    choices = choose(on_dev, test.comparisons, allow_missing=dev.allow.missing)
    console.print()
    for choice in choices:
        say(console, choice.sentence)
    final = replace(test, comparisons=tuple(test.comparisons[choice.number] for choice in choices))
    # Which runs are looked at on test is written down before they are.
    every, told = with_choice(read_study(final.comparisons[0].report_dir).get("choices", ()), choices)
    notes = [*(choice.sentence for choice in choices), *told]
    study = describe_study(final.comparisons, asdict(final.tests), notes, every)

    def record() -> None:
        for choice in choices:
            choice.record(final.comparisons[0].output_dir)

    return perform(final, console, study, chosen=[choice.number for choice in choices], afterwards=record)


def check(asked: Asked) -> None:
    """Refuse what cannot be stored or reported, before anything is moved or done.

    Raises:
        ValueError: comparisons that cannot share a report, or a folder that cannot be written to.
    """
    check_study(asked.comparisons)
    check_folders(asked.comparisons[0])


def move_aside(comparisons: Sequence[Comparison], console: Console) -> None:
    """Move what is on disk of the runs to where it is not found any more, and say where that is."""
    for place in retire(comparisons):
        say(console, f"moved aside: {place}")


def perform(
    asked: Asked,
    console: Console,
    study: Mapping[str, Any],
    *,
    chosen: Sequence[int] | None = None,
    afterwards: Callable[[], None] = lambda: None,
) -> int:
    """Do what is missing of all comparisons and report them; returns the exit code.

    Args:
        asked: the comparisons.
        console: to announce, show progress and report on.
        study: of the comparisons; stored before anything is done.
        chosen: numbers of the comparisons among those that ``asked.send`` knows; None if they are all of them.
        afterwards: called when all is done, before the report.

    Raises:
        ValueError: the runs could not be compared afterwards.
        StoreError: a run cannot be stored.
        KeyboardInterrupt: a signal asked to stop.
    """
    surveys = survey(asked.comparisons)
    if not asked.allow.differences and not asked.engine:  # else the jobs look, which know where they are
        check_comparable(asked.comparisons, surveys)
    folder = asked.comparisons[0].report_dir
    write_study(folder, study)
    say(console, announcement(asked.comparisons, surveys))
    failed: list[Outcome] = []
    if asked.engine:
        failed = do_elsewhere(asked, asked.engine, console, surveys, chosen)
        unbegun = [run_id for run_id, found in surveys.items() if not found.folder.config()]
        if failed and unbegun:
            print(
                f"tta-bench: {len(unbegun)} of {len(surveys)} runs were not begun, so there is no report; remove the cause and "
                "give the same command again",
                file=sys.stderr,
            )
            return max(outcome.code for outcome in failed)
    else:
        do_here(asked, console, surveys, chosen)
    afterwards()
    # Not from the file: another command may have been given the same report folder meanwhile.
    code = print_report(study_of(study, folder, asked.allow), folder, asked.tests, console, generated=True)
    return max([code, *(outcome.code for outcome in failed)])


def do_here(asked: Asked, console: Console, surveys: Mapping[str, Survey], chosen: Sequence[int] | None) -> None:
    """Do what is missing in this process, with bars."""
    with Display(console, wanted(surveys)).shown() as display, stop_requests(display.interject) as check_stop:
        token = _HERE.set(Here(display, check_stop, asked.crew))
        try:
            asked.send(chosen, False)
            if unfinished(surveys):
                asked.send(chosen, True)  # other processes were at work on some of the runs
        finally:
            _HERE.reset(token)


def do_elsewhere(
    asked: Asked, engine: Engine, console: Console, surveys: Mapping[str, Survey], chosen: Sequence[int] | None
) -> list[Outcome]:
    """Have what is missing done by other processes, and what a process that died left once more; returns what went wrong."""
    logs = f"; what they say: {asked.comparisons[0].output_dir}/jobs" if engine.extra == "slurm" else ""
    say(console, f"jobs go to {engine.name}{logs}")
    files = [found.folder.path / "records.jsonl" for found in surveys.values()]
    done = sum(found.work.n_done for found in surveys.values())
    with told_from_disk(files, done, wanted(surveys), console):
        outcomes = asked.send(chosen, False)
        dead = [outcome.message for outcome in outcomes if outcome.died]
        # Who could tell what is wrong would tell the same again.
        if unfinished(surveys) and (dead or not any(outcome.code for outcome in outcomes)):
            for text in dead:
                say(console, f"{text.splitlines()[0]}; what is missing is tried once more")
            outcomes = asked.send(chosen, True)
    if any(outcome.died for outcome in outcomes) and not unfinished(surveys):
        outcomes = [outcome for outcome in outcomes if not outcome.died]  # what died had done its work
    failed = [outcome for outcome in outcomes if outcome.code]
    for text in dict.fromkeys(outcome.message for outcome in failed):
        print(f"tta-bench: {text}", file=sys.stderr)
    return failed


def wanted(surveys: Mapping[str, Survey]) -> int:
    """Records that are asked for, of all runs together."""
    return sum(found.comparison.size for found in surveys.values())


def unfinished(surveys: Mapping[str, Survey]) -> bool:
    """Whether there is a run that no process got to, or to the end of."""
    return any(untouched(found.spec, found.comparison) for found in surveys.values())


def do_comparison(comparison: Comparison, console: Console, *, last_round: bool) -> None:
    """Do what is missing of one comparison, see ``run_comparison``; the process may be one that a launcher made for it."""
    here = _HERE.get()
    if here:
        help = here.crew.on(comparison) if here.crew else None
        run_comparison(comparison, here.display, here.check_stop, last_round=last_round, help=help)
        return
    total = comparison.size * len(comparison.runs)
    with Display(console, total).shown() as display, stop_requests(display.interject) as check_stop:
        run_comparison(comparison, display, check_stop, last_round=last_round)


def check_comparable(
    comparisons: Sequence[Comparison], surveys: Mapping[str, Survey], afresh: str = "Do all of it again with --fresh"
) -> None:
    """Refuse to make what could not be compared with what is on disk.

    Args:
        comparisons: that are asked for.
        surveys: of their runs.
        afresh: how to do all of it again, as the beginning of a sentence.

    Raises:
        ValueError: with the pairs, and what each would differ in.
    """
    reasons = incomparable(comparisons, surveys)
    if reasons:
        raise ValueError(
            "what is on disk cannot be compared with what would be done now:\n  "
            + "\n  ".join(reasons)
            + f"\n{afresh}, go back to the conditions of the first, or compare all the same with "
            "analysis.allow_differences=true"
        )


def announcement(comparisons: Sequence[Comparison], surveys: Mapping[str, Survey]) -> str:
    """What is about to be done, what is there already, and why something is done again."""
    pairs = {pair for c in comparisons for pair in c.pairs}
    first = comparisons[0]
    done = sum(found.work.n_done for found in surveys.values())
    lines = [
        f"{first.name}: {len(pairs)} comparison(s), {len(surveys)} runs of {first.n_problems} problems x {first.replicates} "
        f"replicate(s) on {first.candidate.split}, model {first.model.name_or_path}"
    ]
    if done:
        lines.append(f"{done:,} of {len(surveys) * first.size:,} answers are in {first.output_dir}/runs already")
    reasons = [f"  {run_id}: {found.reason()}" for run_id, found in surveys.items() if found.reason()]
    lines += reasons[:MOST_REASONS]
    if len(reasons) > MOST_REASONS:
        lines.append(f"  and {len(reasons) - MOST_REASONS} more; tta-bench plan with the same words explains all")
    return "\n".join(lines)
