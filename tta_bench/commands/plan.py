"""``tta-bench plan``: what ``run`` would do, how long it would take, and what it could find."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tta_bench.analysis import power, stats
from tta_bench.analysis.gate import rule
from tta_bench.analysis.load import AnalysisError, Pair, Study, load_run
from tta_bench.analysis.plan import Allowances
from tta_bench.commands.run import Asked
from tta_bench.commands.say import say
from tta_bench.runner.preview import preview
from tta_bench.runner.progress import duration, label
from tta_bench.runner.spec import RunSpec
from tta_bench.runner.study import model_source
from tta_bench.runner.survey import Survey, incomparable, survey

FIRST_LOOK, SECOND_LOOK = 16, 64
"""Problems that are decoded to find out how long a run takes: a few, and more if those took less than ``QUICK`` seconds."""

QUICK = 1.5

CALIBRATION_SECONDS = 20.0
"""After so long no further run is tried out; its time is worked out from those that were."""


@dataclass(frozen=True)
class Pace:
    """What one answer of a run costs.

    Attributes:
        passes: forward passes.
        seconds: of wall-clock time, the model loaded.
        measured: False where it was worked out from another run.
    """

    passes: float
    seconds: float
    measured: bool = True


def print_plan(asked: Asked, console: Console) -> None:
    """Print the runs that are asked for; what is missing is tried out for a few problems, and nothing is stored."""
    comparisons, allow = asked.comparisons, asked.allow
    surveys = survey(comparisons)
    paces = Calibration().paces(surveys)
    console.print(run_table(surveys, paces))
    first = comparisons[0]
    missing = sum(len(found.work.missing) for found in surveys.values())
    wanted = len(surveys) * first.size
    passes = sum(len(surveys[run_id].work.missing) * pace.passes for run_id, pace in paces.items())
    seconds = sum(len(surveys[run_id].work.missing) * pace.seconds for run_id, pace in paces.items())
    sentences = [
        f"{len(surveys)} runs for {len({pair for c in comparisons for pair in c.pairs})} comparison(s): {wanted:,} answers, "
        f"{wanted - missing:,} of them on disk.",
        f"To do: {missing:,} answers, {passes:,.0f} forward passes, about {duration(seconds)} here"
        f" (tried out with {FIRST_LOOK} to {SECOND_LOOK} problems a run)."
        if missing
        else "Nothing is to be done.",
        *effects(asked, surveys),
    ]
    if asked.select:
        sentences.append("select=best_on_dev: after that, the best candidate for each baseline is done on test, and reported.")
    for sentence in sentences:
        console.print(sentence, highlight=False, markup=False)
    if not allow.differences and (reasons := incomparable(comparisons, surveys)):
        console.print("tta-bench run would refuse this, since it could not be compared:", style="yellow")
        for reason in reasons:
            say(console, f"  {reason}", "yellow")


def run_table(surveys: Mapping[str, Survey], paces: Mapping[str, Pace]) -> Table:
    """A row for each run."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("run", "what", "done", "passes", "time"):
        table.add_column(heading, justify="left" if heading in ("run", "what") else "right", overflow="fold")
    for run_id, found in surveys.items():
        n, pace = len(found.work.missing), paces.get(run_id)
        cost = (f"{n * pace.passes:,.0f}", ("" if pace.measured else "~") + duration(n * pace.seconds)) if pace else ("", "")
        table.add_row(
            run_id, escape(" ".join(label(found.spec).split())), f"{found.work.n_done}/{found.comparison.size}", *cost
        )
        if found.reason():
            table.add_row("", f"[dim]{escape(found.reason())}[/dim]", "", "", "")
    return table


@dataclass
class Calibration:
    """Tries runs out until its time is up.

    Attributes:
        known: what was found, by run.
    """

    known: list[tuple[RunSpec, Pace]] = field(default_factory=list)

    def paces(self, surveys: Mapping[str, Survey]) -> dict[str, Pace]:
        """The pace of every run of which something is missing."""
        began = time.perf_counter()
        found = {}
        for run_id, surveyed in surveys.items():
            if not surveyed.work.missing:
                continue
            if not self.known or time.perf_counter() - began < CALIBRATION_SECONDS:
                self.known.append((surveyed.spec, tried(surveyed)))
                found[run_id] = self.known[-1][1]
            else:
                found[run_id] = self.worked_out(surveyed.spec)
        return found

    def worked_out(self, spec: RunSpec) -> Pace:
        """From the run that is most like it: the same task and sampler if there is one, scaled by the steps."""

        def likeness(other: RunSpec) -> tuple[bool, bool, bool]:
            return (other.task_name == spec.task_name, other.sampler.name == spec.sampler.name, other.steps == spec.steps)

        nearest, pace = max(self.known, key=lambda known: likeness(known[0]))
        ratio = spec.steps / nearest.steps if spec.steps and nearest.steps else 1.0
        return Pace(pace.passes * ratio, pace.seconds * ratio, measured=False)


def tried(surveyed: Survey) -> Pace:
    """Decode a few of the problems that are missing."""
    comparison, spec = surveyed.comparison, surveyed.spec
    loaded = model_source(comparison.model, comparison.device, spec.dtype).get()
    problems = list({problem.id: problem for _, problem, _ in surveyed.work.missing}.values())

    def look(n: int) -> Pace:
        done = preview(spec, comparison.task, problems[:n], loaded, comparison.effort)
        return Pace(done.passes, done.seconds / len(done.records))

    pace = look(FIRST_LOOK)
    return look(SECOND_LOOK) if pace.seconds * FIRST_LOOK < QUICK and len(problems) > FIRST_LOOK else pace


def effects(asked: Asked, surveys: Mapping[str, Survey]) -> list[str]:
    """Sentences on the smallest difference that so many problems can detect."""
    first, tests = asked.comparisons[0], asked.tests
    pairs = dict.fromkeys(pair for comparison in asked.comparisons for pair in comparison.pairs)
    n, k, m = first.n_problems, first.replicates, len(pairs)
    noisy = [power.planned_mde(n, replicates=k, alpha=tests.alpha / parts) for parts in (1, m)]
    quiet = [power.planned_mde(n, noise=0.0, alpha=tests.alpha / parts) for parts in (1, m)]
    found = [
        f"Minimum detectable effect with {n} problems x {k} replicate(s), 80 % power, level {tests.alpha:g}: "
        f"{points(quiet, m)} where answers do not change with the seed, {points(noisy, m)} where they do "
        "(variances of 1/9 between problems and 1/6 within one, as in Miller, arXiv:2411.00640)."
    ]
    measured = [d for pair in pairs if (d := pilot(pair, surveys, asked.allow)) is not None]
    if measured:
        effect = [
            100 * power.minimum_detectable_effect(stats.standard_error(d), alpha=tests.alpha) * np.sqrt(len(d) / n)
            for d in measured
        ]
        found.append(
            f"From what is on disk of {len(measured)} comparison(s) it would be {min(effect):.1f} to {max(effect):.1f} points "
            "(one comparison)."
        )
    return found


def points(effects: Sequence[float], comparisons: int) -> str:
    """An effect in points for one comparison, and for each of several."""
    one, each = (100 * effect for effect in effects)
    return f"{one:.1f} points" + (f" ({each:.1f} if adjusted for {comparisons} comparisons)" if comparisons > 1 else "")


def pilot(pair: tuple[str, str], surveys: Mapping[str, Survey], allow: Allowances) -> np.ndarray | None:
    """Differences per problem of a pair on the problems that both runs have; None where there are fewer than two."""
    if not all(surveys[run_id].work.n_done for run_id in pair):
        return None
    try:
        runs = [load_run(surveys[run_id].folder.path) for run_id in pair]
    except AnalysisError:  # all that is there are errors
        return None
    found = Pair(*runs)
    ruling = rule(found, Study("plan", (found,), allow=Allowances(missing=True, differences=allow.differences)))
    if len(ruling.problems) < 2:
        return None
    base, candidate = (run.values("score", ruling.problems) for run in runs)
    return stats.paired_differences(base, candidate)
