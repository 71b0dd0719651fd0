"""``tta-bench tune``: search settings on dev, confirm one of them on test."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from rich.console import Console

from tta_bench.analysis.plan import Allowances, TestPlan
from tta_bench.commands.elsewhere import Outcome
from tta_bench.commands.run import Asked, check, check_comparable, do_comparison, perform
from tta_bench.commands.say import say
from tta_bench.commands.tune_table import BASELINE, named, print_front, table_of, write_tables
from tta_bench.rng import digest
from tta_bench.runner.progress import Display
from tta_bench.runner.select import Choice, check_apart, dev_means, with_choice
from tta_bench.runner.settings import Comparison, described, number, whole
from tta_bench.runner.spec import RunSpec
from tta_bench.runner.stopping import stop_requests
from tta_bench.runner.study import describe_study, read_study, run_comparison, untouched, write_study
from tta_bench.runner.survey import survey
from tta_bench.tuning.search import Claim, Plan, Search, Trial
from tta_bench.tuning.space import Space

FAILED = 1

BEST = "best"

AFRESH = "Search in another output_dir"
"""How to do again what cannot be compared."""


@dataclass(frozen=True)
class Tuning:
    """What a command line asks for, checked.

    Attributes:
        plan: of the search.
        baseline: compares the baseline with the first setting, on dev.
        hashes: of the configurations of the settings at every end of the space.
        setting: compares a setting, given as words, on a split.
        max_passes: what the setting that is confirmed may cost in forward passes; None for as much as the baseline does.
        choose: number of the trial to be confirmed; None for the best, -1 for none.
        tests, allow: of the analysis.
    """

    plan: Plan
    baseline: Comparison
    hashes: tuple[str, ...]
    setting: Callable[[tuple[str, ...], str], Comparison]
    max_passes: float | None
    choose: int | None
    tests: TestPlan
    allow: Allowances

    @property
    def folder(self) -> Path:
        """Where the search is kept: a search is named by what is searched, how, and on what.

        Every end of the space has a say, since a run's configuration lacks what its sampler does not use, and another may use.
        """
        first, plan = self.baseline, self.plan
        asked = (first.baseline.config_hash, self.hashes, first.n_problems, first.replicates)
        cap = self.max_passes if plan.objectives == ("score",) else "not searched with"
        name = digest(json.dumps([*asked, str(plan.space), plan.objectives, plan.search, plan.seed, cap]), size=6)
        return first.output_dir / "searches" / f"{first.task.name}-{first.candidate.sampler.name}-{name:012x}"


def tuning(
    space: Space,
    composed: Callable[[tuple[str, ...]], dict[str, Any]],
    config: Mapping[str, Any],
    tests: TestPlan,
    allow: Allowances,
) -> Tuning:
    """Read and check what is asked for; every end of the space is looked at, and no model is loaded.

    Args:
        space: what is searched.
        composed: the configuration for some words more.
        config: that for none, with the keys of conf/tune.
        tests, allow: of the analysis.

    Raises:
        ValueError: something is not as it must be; the message names the key, the value and the rule.
    """
    if config["split"] != "dev":
        raise ValueError(
            f"split={config['split']}: a search looks at its problems again and again, so it is done on dev; the setting that "
            "it chooses is then confirmed on test, once. Leave split out"
        )
    if config["select"] is not None:
        raise ValueError(f"select={config['select']}: tune chooses by max_passes and choose; leave select out")
    objectives = config["objectives"]
    plan = Plan(
        space=space,
        trials=whole(config, "trials", 1),
        objectives=tuple(map(str, objectives)) if isinstance(objectives, list) else (str(objectives),),
        search=str(config["search"]),
        seed=whole(config, "search_seed", 0),
    )
    steps = () if config["baseline_steps"] is None else (f"steps={whole(config, 'baseline_steps', 1)}",)
    basic = [word for word in space.first if word.lstrip("+").startswith("sampler")]

    @cache  # Hydra takes a third of a second
    def alone(words: tuple[str, ...], split: str) -> Comparison:
        # The baseline is not asked to fit what is searched.
        found = composed((*words, f"split={split}"))
        return described({**found, "baseline": found["sampler"]})

    every = [alone(words, "dev") for words in space.to_check()]
    found = composed((*basic, *steps))
    baseline = replace(described({**found, "sampler": found["baseline"], "controls": {}}), candidate=every[0].candidate)

    def against_baseline(words: tuple[str, ...], split: str) -> Comparison:
        found = alone(words, split)
        return replace(found, baseline=replace(baseline.baseline, split=split, task_data=found.candidate.task_data))

    hashes = tuple(one.candidate.config_hash for one in every)
    return Tuning(plan, baseline, hashes, against_baseline, bound(config), choice(config), tests, allow)


def bound(config: Mapping[str, Any]) -> float | None:
    """``max_passes`` of a configuration: None for as many as the baseline's, infinite for any.

    Raises:
        ValueError: it is something else.
    """
    if config["max_passes"] == BASELINE:
        return None
    if config["max_passes"] is None:
        return math.inf
    try:
        found = number(config, "max_passes")
    except ValueError as error:
        raise ValueError(f"{error}, {BASELINE}, or null for no bound") from error
    if found <= 0:
        raise ValueError(f"max_passes={found:g}: must be above 0, {BASELINE}, or null for no bound")
    return found


def choice(config: Mapping[str, Any]) -> int | None:
    """``choose`` of a configuration: None for the best, -1 for none.

    Raises:
        ValueError: it is something else.
    """
    if config["choose"] in (BEST, None):
        return None if config["choose"] else -1
    return whole(config, "choose", 0, instead=f"{BEST}, or null to leave the test split alone")


def tune(asked: Tuning, console: Console) -> int:
    """Search, report, confirm; returns the exit code.

    Raises:
        ValueError: the setting cannot be compared, or there is none to be confirmed.
        StoreError: something cannot be stored.
        KeyboardInterrupt: a signal asked to stop.
    """
    on_dev = replace(asked.baseline, report_dir=asked.baseline.report_dir / "dev")
    if asked.choose != -1:
        check_apart([on_dev], [asked.setting(asked.plan.space.first, "test")])
    check(Asked((on_dev,), asked.tests, asked.allow, None, lambda *_: []))
    if not asked.allow.differences:
        check_comparable((on_dev,), survey((on_dev,)), AFRESH)
    search = Search(asked.folder, asked.plan)
    say(console, announcement(asked, search))
    search = replace(search, max_passes=run_search(asked, search, console))
    trials = search.trials()
    found = table_of(trials, on_dev)
    write_tables(found, on_dev.report_dir)
    write_comparisons(trials, asked, on_dev)
    print_front(found, on_dev, search.max_passes, on_dev.report_dir, console)
    failed = [trial for trial in trials if trial.state == "failed"]
    if failed:
        first = f"trial {failed[0].number} ({' '.join(failed[0].words)}): {failed[0].failure}"
        print(f"tta-bench: {len(failed)} of {len(trials)} trials failed; {first}", file=sys.stderr)
    code = FAILED if any(trial.again for trial in failed) else 0
    if asked.choose == -1:
        return code
    return max(code, confirm(chosen(trials, asked.choose, search.max_passes), trials, asked, search.max_passes, console))


def announcement(asked: Tuning, search: Search) -> str:
    """What is searched, on what, and how much of it is there."""
    first, plan = asked.baseline, asked.plan
    size = f"{plan.space.size:,.0f} settings, " if math.isfinite(plan.space.size) else ""
    done = sum(1 for trial in search.trials() if trial.state == "done")
    return "\n".join(
        [
            f"{first.name}: {first.candidate.sampler.name} on {first.task.name}, {first.n_problems} problems x "
            f"{first.replicates} replicate(s) of dev, model {first.model.name_or_path}",
            f"searched  {plan.space}",
            f"          {size}{min(plan.trials, plan.space.size):.0f} to be tried by {plan.search}, {done} done already",
            f"baseline  {named(first.baseline)}",
            f"search    {search.folder}",
        ]
    )


def run_search(asked: Tuning, search: Search, console: Console) -> float:
    """Do the baseline and every trial that is missing; returns the forward passes that the setting to be confirmed may take."""
    first, done = asked.baseline, sum(1 for trial in search.trials() if trial.state != "running")
    total = first.size * (1 + int(min(asked.plan.trials, asked.plan.space.size)) - done)
    with Display(console, total, quiet=True).shown() as display, stop_requests(display.interject) as check_stop:
        do(replace(first, candidate=first.baseline, controls=()), display, check_stop)
        _, cost = measured(first.baseline, first)
        search = replace(search, max_passes=cost if asked.max_passes is None else asked.max_passes)
        while True:
            with search.claimed(check_stop, lambda: say(console, "waiting for another process's last trials")) as claim:
                if claim is None:
                    return search.max_passes
                try_out(claim, asked, search, display, check_stop)


def try_out(claim: Claim, asked: Tuning, search: Search, display: Display, check_stop: Callable[[], None]) -> None:
    """Do one trial, tell the search of it, and print a line."""
    words = " ".join(claim.words) + (" (taken over)" if claim.taken_over else "")
    head = f"trial {claim.number:<3} {words}"
    try:
        comparison = replace(asked.setting(claim.words, "dev"), controls=())
    except ValueError as error:
        search.fail(claim, str(error), again=False)
        say(display.console, f"{head}  FAILED: {error}", "yellow")
        return
    try:
        if not asked.allow.differences:
            check_comparable((comparison,), survey((comparison,)), AFRESH)
        do(replace(comparison, baseline=comparison.candidate), display, check_stop)
        score, passes = measured(comparison.candidate, comparison)
    except ValueError as error:
        search.fail(claim, str(error), again=True)
        say(display.console, f"{head}  FAILED: {error}", "yellow")
        return
    search.tell(claim, score, passes, comparison.candidate.run_id)
    say(display.console, f"{head}  {100 * score:.1f} % at {passes:.4g} passes")


def do(comparison: Comparison, display: Display, check_stop: Callable[[], None]) -> None:
    """Do what is missing of a run, or wait until another process has."""
    run_comparison(comparison, display, check_stop)
    if any(untouched(spec, comparison) for spec in comparison.runs):
        run_comparison(comparison, display, check_stop, last_round=True)


def measured(spec: RunSpec, comparison: Comparison) -> tuple[float, float]:
    """Mean score and forward passes of a run on dev.

    Raises:
        ValueError: it lacks answers.
    """
    try:
        score, passes, _ = dev_means(spec, comparison, allow_missing=False)
    except ValueError as error:
        raise ValueError(
            f"{spec.run_id} lacks answers (tta-bench show {spec.run_id} tells why); the same command tries again"
        ) from error
    return score, passes


def write_comparisons(trials: Sequence[Trial], asked: Tuning, on_dev: Comparison) -> None:
    """``study.json`` of all that was tried, from which ``tta-bench analyze`` makes a whole report."""
    done = [trial for trial in trials if trial.state == "done" and trial.run_id != on_dev.baseline.run_id]
    every = [replace(asked.setting(trial.words, "dev"), report_dir=on_dev.report_dir, controls=()) for trial in done]
    if every:
        distinct = {one.candidate.run_id: one for one in every}
        name = f"{on_dev.name} (dev, {len(trials)} settings tried)"
        study = describe_study([replace(one, name=name) for one in distinct.values()], asdict(asked.tests))
        write_study(on_dev.report_dir, study)


def chosen(trials: Sequence[Trial], number: int | None, cap: float) -> Trial:
    """The trial to be confirmed: of those within the bound the best, of equal ones the cheapest, then the first.

    Args:
        trials: all.
        number: of the one that was asked for; None for the best.
        cap: forward passes that it may take; not asked of one that is named.

    Raises:
        ValueError: there is no such trial.
    """
    done = [trial for trial in trials if trial.state == "done"]
    if number is not None:
        named = [trial for trial in done if trial.number == number]
        if not named:
            raise ValueError(
                f"choose={number}: no trial of this number is done; done are {', '.join(str(t.number) for t in done) or 'none'}"
            )
        return named[0]
    within = [trial for trial in done if trial.forward_passes <= cap + 1e-9]
    if not within:
        least = min((trial.forward_passes for trial in done), default=math.nan)
        raise ValueError(
            f"no setting that was tried takes at most {cap:.4g} forward passes (max_passes), the cheapest takes {least:.4g}; "
            "raise max_passes, give the baseline more steps (baseline_steps), or name a trial (choose=NUMBER)"
        )
    return max(within, key=lambda trial: (trial.score, -trial.forward_passes, -trial.number))


def confirm(best: Trial, trials: Sequence[Trial], asked: Tuning, cap: float, console: Console) -> int:
    """Do and report the chosen setting and the baseline on test."""
    final = asked.setting(best.words, "test")
    if final.candidate.run_id == final.baseline.run_id:
        say(console, f"\nchosen on dev: {' '.join(best.words)}, which is the baseline itself; there is nothing to confirm")
        return 0
    scores = {trial.run_id: trial.score for trial in trials if trial.state == "done"}
    rule = "named by choose" if asked.choose is not None else f"the best of those with at most {cap:.4g} forward passes"
    n_failed = len(trials) - sum(1 for trial in trials if trial.state == "done")
    failures = f" ({n_failed} more failed)" if n_failed else ""
    settings = dict(word.split("=", 1) for word in best.words)
    picked = Choice(best.number, final.candidate.run_id, best.run_id, scores, settings, 0, rule=f"tune: {rule}")
    sentence = (
        f"chosen on dev among {len(scores)} settings{failures}, {rule}: trial {best.number}, "
        f"{' '.join(best.words)}, {100 * best.score:.1f} % at {best.forward_passes:.4g} passes; on test it is {picked.run_id}"
    )
    console.print()
    say(console, sentence)

    def send(_: Sequence[int] | None, last_round: bool) -> list[Outcome]:
        do_comparison(final, console, last_round=last_round)
        return []

    one = Asked((final,), asked.tests, asked.allow, None, send)
    check(one)
    every, told = with_choice(read_study(final.report_dir).get("choices", ()), [picked])
    study = describe_study([final], asdict(asked.tests), [sentence, *told], every)
    return perform(one, console, study, afterwards=lambda: picked.record(final.output_dir))
