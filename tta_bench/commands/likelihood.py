"""``tta-bench likelihood``: how often the right choice is the most probable one, and two such results compared."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from tta_bench.analysis.choices import NEAR, RULES, Difference, accuracy_table, differ, labels
from tta_bench.analysis.tables import p_text
from tta_bench.commands.find import find_run, understood
from tta_bench.commands.say import say
from tta_bench.runner.difference import changes, flat
from tta_bench.runner.disk import check_writable, storing, write_atomically
from tta_bench.runner.environment import differences, environments
from tta_bench.runner.store import LIKELIHOOD, Record, RunFolder

USAGE = "tta-bench likelihood --compare A B [DIR] [normalise=none|tokens|bytes]"

MUST_AGREE = ("task.version", "task.name", "split")
"""Of two that are compared, what must be the same."""

INCOMPLETE = 1


def run_likelihood(config: Mapping[str, Any], rules: Sequence[str], console: Console) -> int:
    """Do what is missing, and print the accuracies; the exit code is 1 if problems failed.

    Args:
        config: resolved.
        rules: that are told of.
        console: to print on.

    Raises:
        ValueError: something in the configuration is not as it must be.
        StoreError: it cannot be stored.
    """
    from tta_bench.runner.execute import TooManyFailuresError
    from tta_bench.runner.likelihood import execute, likelihood_plan
    from tta_bench.runner.progress import Display
    from tta_bench.runner.stopping import stop_requests
    from tta_bench.runner.study import model_source
    from tta_bench.runner.threads import limit_threads

    limit_threads()
    plan = likelihood_plan(config)
    check_writable(plan.output_dir, "output_dir")
    spec, total = plan.spec, len(plan.problems)
    say(console, f"{spec.task_name}: {total} problem(s) of {spec.split}, {spec.mc_num} draw(s) a choice, model {spec.model}")
    given_up = False
    with (
        Display(console, total).shown() as display,
        stop_requests(display.interject) as check_stop,
        display.work(f"{spec.task_name}  likelihood of choices", total, "evaluated") as watch,
    ):
        try:
            execute(plan, model_source(plan.model, plan.device, spec.dtype), watch, check_stop=check_stop)
        except TooManyFailuresError as error:
            print(f"tta-bench: {error}", file=sys.stderr)
            given_up = True
    records = plan.folder.records()
    asked = [records[key] for key in (f"{problem.id}/0" for problem in plan.problems) if key in records]
    good, bad = [record for record in asked if not record["error"]], [record for record in asked if record["error"]]
    if good:
        print_accuracies(good, rules, plan.folder, console)
    if bad:
        first = bad[0]["error"]
        told = f"tta-bench: {len(bad)} problem(s) failed, the first, {bad[0]['problem']}: {first['type']}: {first['message']}"
        print(f"{told}; they are tried again by the same command", file=sys.stderr)
    return INCOMPLETE if bad or given_up else 0


def print_accuracies(records: Sequence[Record], rules: Sequence[str], folder: RunFolder, console: Console) -> None:
    """The table of accuracies, also as ``summary.csv``, and what it rests on."""
    every = accuracy_table(records, list(RULES))
    with storing(folder.path):
        write_atomically(folder.path / "summary.csv", every.to_csv(index=False, float_format="%.6g").encode())
    frame = every[every["rule"].isin(rules)]
    table = Table(box=None, pad_edge=False)
    for heading in ("", "log-likelihood divided by", "accuracy %", "95 % interval", "near"):
        table.add_column(heading, no_wrap=True, justify="left" if heading in ("", "log-likelihood divided by") else "right")
    for row in frame.to_dict("records"):
        near = "unknown" if np.isnan(row["near"]) else f"{row['near']:.0f}"
        interval = f"[{100 * row['low']:.1f}, {100 * row['high']:.1f}]"
        table.add_row(RULES[row["rule"]], row["rule"], f"{100 * row['accuracy']:.1f}", interval, near)
    console.print()
    console.print(table)
    passes = sum(record["forward_passes"] for record in records)
    cut = sum(1 for record in records if record["cut"])
    method = "Wilson's score interval" if labels(records) is None else "t interval, clustered"
    unknown = " Unknown with a single draw." if frame["near"].isna().any() else ""
    chance = 100 * frame["chance"].iloc[0]
    lines = [
        f"{len(records)} problem(s) ({method}), {passes:,} forward passes; a blind choice has {chance:.1f} %.",
        f"near: problems whose two best choices differ by less than {NEAR:g} standard errors of the draws, so that others "
        f"might have chosen otherwise. More draws: mc_num.{unknown}",
    ]
    lines += [f"{cut} prompt(s) were too long for the model and lost their beginning."] if cut else []
    say(console, "\n".join(lines))
    say(console, f"\nrecords  {folder.path}/records.jsonl\ntable    {folder.path}/summary.csv")


def compare(folder: Path, words: Sequence[str], rules: Sequence[str], console: Console) -> int:
    """Print the paired difference of two results, named by the beginning of their folders.

    Raises:
        ValueError: they are not there, or not about the same problems.
        StoreError: one of them cannot be read.
    """
    folder, names = understood(folder, words, USAGE, runs=2, place=LIKELIHOOD)
    first, second = (find_run(folder, name, LIKELIHOOD) for name in names)
    if first.path == second.path:
        raise ValueError(f"--compare: {' and '.join(names)} are the same, {first.path.name}; name two")
    configs = [flat(one.config()) for one in (first, second)]
    for key in MUST_AGREE:
        if configs[0].get(key) != configs[1].get(key):
            raise ValueError(f"--compare: {key} is {configs[0].get(key)} and {configs[1].get(key)}; it must be the same")
    sides, left_out = paired(first, second)
    say(console, f"A  {first.path.name}   model {first.config()['model']['name']}")
    say(console, f"B  {second.path.name}   model {second.config()['model']['name']}")
    told = changes(*configs) + environment_changes(first, second)
    say(console, "B against A: " + ("; ".join(told) if told else "the same settings"))
    if left_out:
        say(console, f"note: {left_out} problem(s) that only one of them has, or that failed in one, are left out", "yellow")
    print_differences([differ(*sides, rule) for rule in rules], len(sides[0]), console)
    return 0


def environment_changes(first: RunFolder, second: RunFolder) -> list[str]:
    """What the places differ in where the two were made."""
    found = differences(*(environments(one.manifest()) for one in (first, second)))
    return [f"{phrase} (A / B)" for phrase in found]


def paired(first: RunFolder, second: RunFolder) -> tuple[tuple[list[Record], list[Record]], int]:
    """The records of the problems that both have, in one order, and how many problems are left out.

    Raises:
        ValueError: there are none, or one name stands for two problems.
    """
    sides = [one.records() for one in (first, second)]
    good = [{key for key, record in side.items() if not record["error"]} for side in sides]
    both = sorted(good[0] & good[1])
    if not both:
        raise ValueError(f"--compare: {first.path.name} and {second.path.name} have no problem in common that both did")
    for key in both:
        one, other = (side[key] for side in sides)
        if one["data"] != other["data"]:
            raise ValueError(f"--compare: {one['problem']} is another problem in either; the rows of the task were changed")
    left_out = len(sides[0].keys() | sides[1].keys()) - len(both)
    return ([sides[0][key] for key in both], [sides[1][key] for key in both]), left_out


def print_differences(found: Sequence[Difference], n: int, console: Console) -> None:
    """A row for each rule."""
    table = Table(box=None, pad_edge=False)
    for heading in ("", "A %", "B %", "B - A, points", "95 % interval", "only A", "only B", "p"):
        table.add_column(heading, no_wrap=True, justify="left" if not heading else "right")
    for one in found:
        delta = one.delta
        table.add_row(
            RULES[one.rule],
            f"{100 * one.first:.1f}",
            f"{100 * one.second:.1f}",
            f"{100 * delta.value:+.1f}",
            f"[{100 * delta.ci_low:.1f}, {100 * delta.ci_high:.1f}]",
            str(one.only_first),
            str(one.only_second),
            p_text(one.p_value),
        )
    console.print()
    console.print(table)
    several = " The rows are not adjusted for each other: settle on one beforehand (normalise=)." if len(found) > 1 else ""
    say(console, f"{n} problems; {found[0].method}.{several}")
