"""``tta-bench explain``: what two runs differ in, and the problems that only one of them solved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.console import Console

from tta_bench.analysis.load import Run
from tta_bench.analysis.stats import paired_comparison
from tta_bench.analysis.tables import interval, p_text
from tta_bench.commands.find import find_run, problem_scores, read_run, score_text, status, understood
from tta_bench.commands.problems import problems_of, task_of
from tta_bench.commands.say import say
from tta_bench.commands.side_by_side import Passage, differing, print_passages
from tta_bench.runner.difference import changes, flat
from tta_bench.runner.environment import COMPARED, differences, environments
from tta_bench.tasks.base import Problem

USAGE = "tta-bench explain RUN_A RUN_B [DIR] [--all]"

SOLVED = 0.5
"""Mean score over replicates from which a problem counts as solved."""

SHOWN = 10
"""Problems shown of those that only one run solved, unless all are asked for."""


@dataclass(frozen=True)
class Sides:
    """Two runs of the same problems.

    Attributes:
        a, b: the runs.
        scores: a row per problem that has a score in both, by id; columns a and b, the means over replicates.
        missing: of the problems that either run has tried, how many have no score in a, and in b.
    """

    a: Run
    b: Run
    scores: pd.DataFrame
    missing: tuple[int, int]

    def only(self, winner: str) -> list[str]:
        """The problems that only ``winner``, a or b, solved."""
        solved = self.scores >= SOLVED
        return list(self.scores.index[solved[winner] & ~solved["b" if winner == "a" else "a"]])


def main(folder: Path, words: list[str], console: Console) -> int:
    """Explain what two runs differ in; returns the exit code."""
    whole = "--all" in words
    if whole:
        words = [word for word in words if word != "--all"]
    folder, names = understood(folder, words, USAGE, runs=2)
    found = sides(*(read_run(find_run(folder, name)) for name in names))
    problems = common_problems(found)

    for name, run in (("A", found.a), ("B", found.b)):
        score = score_text(problem_scores(run))
        told = (status(run), f"{len(run.records)} records", f"{score} %" if score else "no score")
        say(console, f"{name}  {run.run_id}  {', '.join(told)}", "bold")
    for heading, lines in (
        ("settings of B, as against those of A", settings(found)),
        ("environments, A / B", surroundings(found)),
        ("problems", table(found)),
    ):
        say(console, f"\n{heading}", "bold")
        for line in lines:
            say(console, f"  {line}")
    if found.only("a") or found.only("b"):
        say(console, "\nBelow, target is one right answer, and marked is what the answers of A and B differ in.")
    for winner in ("b", "a"):
        show_flipped(found, winner, problems, console, len(problems) if whole else SHOWN)
    return 0


def sides(a: Run, b: Run) -> Sides:
    """Two runs as sides of one comparison.

    Raises:
        ValueError: they are one run, or were made of different problems.
    """
    if a.run_id == b.run_id:
        raise ValueError(f"{a.run_id}: is both RUN_A and RUN_B; name two runs")
    about = [flat({"task": run.config["task"], "split": run.config["split"]}) for run in (a, b)]
    if about[0] != about[1]:
        told = changes(*about) if a.task == b.task else [f"task {b.task}, was {a.task}"]
        raise ValueError(
            f"{a.run_id} and {b.run_id} are about different problems ({', '.join(told)}); "
            "name two runs of one task, with the same options, and of one split"
        )
    scores = [problem_scores(run) for run in (a, b)]
    tried = {name for run in (a, b) for name in (*run.records["problem"], *run.failures["problem"])}
    both = pd.DataFrame({"a": scores[0], "b": scores[1]}).dropna().sort_index()
    return Sides(a, b, both, (len(tried) - len(scores[0]), len(tried) - len(scores[1])))


def common_problems(found: Sides) -> dict[str, Problem]:
    """The problems of the runs by id, which are what they were for both."""
    problems: dict[str, Problem] = {}
    for run in (found.a, found.b):
        assert run.folder
        problems |= problems_of(run.folder, task_of(run.config), run.folder.records().values())
    return problems


def settings(found: Sides) -> list[str]:
    """What the configurations differ in."""
    return changes(flat(found.a.config), flat(found.b.config)) or ["the same"]


def surroundings(found: Sides) -> list[str]:
    """What the environments differ in."""
    known = [environments(run.manifest) for run in (found.a, found.b)]
    for name, environment in zip("AB", known, strict=True):
        if not environment:
            return [f"those of {name} were not recorded"]
    return differences(*known) or [f"the same in all that counts ({', '.join(COMPARED)})"]


def table(found: Sides) -> list[str]:
    """How many problems both runs, one or none solved, and whether that may be chance."""
    if found.scores.empty:
        return [f"none has a score in both runs; missing: {missing(found)}"]
    solved = found.scores >= SOLVED
    both, neither = int(solved.all(axis=1).sum()), int((~solved).all(axis=1).sum())
    only_a, only_b = len(found.only("a")), len(found.only("b"))
    result = paired_comparison(found.scores["a"], found.scores["b"])
    return [
        f"{'':14}{'B solved':>10}{'B did not':>11}",
        f"{'A solved':14}{both:>10}{only_a:>11}",
        f"{'A did not':14}{only_b:>10}{neither:>11}",
        "",
        f"{len(found.scores)} problems have a score in both runs; missing: {missing(found)}.",
        f"Solved: a mean score over replicates of at least {SOLVED}.",
        f"B - A: {100 * result.delta:+.1f} points {interval(result.ci_low, result.ci_high)}, p = {p_text(result.p_value)}.",
        "p: sign-flip permutation test on the mean scores (McNemar's test where these are all 0 or 1), not adjusted for other "
        "comparisons.",
    ]


def missing(found: Sides) -> str:
    """How many problems lack a score, in either run."""
    return " and ".join(f"{n} in {name}" for n, name in zip(found.missing, "AB", strict=True)) if any(found.missing) else "none"


def show_flipped(found: Sides, winner: str, problems: dict[str, Problem], console: Console, most: int) -> None:
    """Print problems that only one run solved, with both answers."""
    names = found.only(winner)
    shown = names[:most]
    more = f"; the first {len(shown)}, --all shows all" if len(shown) < len(names) else ""
    say(console, f"\nonly {winner.upper()} solved: {len(names)}{more}", "bold")
    for name in shown:
        a, b = means(found, name)
        told = "" if {a, b} == {0.0, 1.0} else f"  (mean score: A {a:.2g}, B {b:.2g})"
        say(console, f"\n  {name}{told}", "bold")
        print_passages(passages(found, problems[name]), console, indent=2)


def means(found: Sides, problem: str) -> tuple[float, float]:
    """The mean scores of a problem in both runs."""
    a, b = found.scores.loc[problem].to_numpy(dtype=float)
    return float(a), float(b)


def passages(found: Sides, problem: Problem) -> list[Passage]:
    """Prompt, target and the two answers, with what the answers differ in marked."""
    a, b = (answer(run, problem.id, mean) for run, mean in zip((found.a, found.b), means(found, problem.id), strict=True))
    in_a, in_b = differing(a, b)
    return [
        Passage("prompt", problem.prompt),
        Passage("target", problem.target),
        Passage("A", a, in_a),
        Passage("B", b, in_b),
    ]


def answer(run: Run, problem: str, mean: float) -> str:
    """The answer of the first replicate that did as most did."""
    rows = run.records[run.records["problem"] == problem].sort_values("replicate")
    typical = rows[(rows["score"] >= SOLVED) == (mean >= SOLVED)]
    return str((typical if len(typical) else rows)["text"].iloc[0])
