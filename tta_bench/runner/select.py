"""Choosing settings on dev, to be reported once on test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tta_bench.runner.difference import flat
from tta_bench.runner.settings import Comparison
from tta_bench.runner.spec import RunSpec
from tta_bench.runner.store import RunFolder, record_key


@dataclass(frozen=True)
class Choice:
    """The best candidate for one baseline.

    Attributes:
        number: of its comparison among those that were chosen from.
        run_id: of its run on test.
        on_dev: of its run on dev.
        scores: mean score on dev of every candidate of this baseline, by run id on dev.
        settings: what tells it from the other candidates.
        n_missing: answers of the candidates that were missing when the choice was made.
        rule: by which it was chosen.
    """

    number: int
    run_id: str
    on_dev: str
    scores: dict[str, float]
    settings: dict[str, Any]
    n_missing: int
    rule: str = "best_on_dev"

    @property
    def sentence(self) -> str:
        """The choice in words."""
        best, n = 100 * self.scores[self.on_dev], len(self.scores)
        what = "".join(f"{key}={value} " for key, value in self.settings.items())
        holes = f", {self.n_missing} answers missing" if self.n_missing else ""
        return f"chosen on dev: {what}{self.on_dev} ({best:.1f} %, best of {n}{holes}); on test it is {self.run_id}"

    def record(self, output_dir: Path) -> None:
        """Write into the manifest of the run on test how it was chosen."""
        folder = RunFolder(output_dir / "runs" / self.run_id)
        selection = {"rule": self.rule, "on_dev": self.on_dev, "scores": self.scores, "settings": self.settings}
        with folder.claimed(wait=lambda: None):
            folder.open(folder.config()).write_manifest(folder.manifest() | {"selection": selection})


def check_apart(on_dev: Sequence[Comparison], on_test: Sequence[Comparison]) -> None:
    """Refuse to choose on problems on which the choice is then reported.

    Raises:
        ValueError: dev and test have problems in common, as where one file serves both.
    """
    for one, other in zip(on_dev, on_test, strict=True):
        known = {(problem.prompt, problem.target) for problem in one.problems}
        shared = [problem.id for problem in other.problems if (problem.prompt, problem.target) in known]
        if shared:
            raise ValueError(
                f"select=best_on_dev: dev and test of {one.task.name} have {len(shared)} problem(s) in common ({shared[0]}), "
                "so that the choice would be reported on what it was made on; task.dev_share=0.3 divides the rows of one file"
            )


def choose(on_dev: Sequence[Comparison], on_test: Sequence[Comparison], *, allow_missing: bool) -> list[Choice]:
    """The candidate with the highest mean score on dev for each baseline.

    Of equal ones the one with fewer forward passes, then the first of the sweep.

    Args:
        on_dev, on_test: the same comparisons on either split, in the same order.
        allow_missing: take means over what is there.

    Raises:
        ValueError: a candidate lacks records on dev, and that is not allowed.
    """
    groups: dict[str, list[int]] = {}
    for number, comparison in enumerate(on_dev):
        groups.setdefault(comparison.baseline.run_id, []).append(number)
    choices = []
    for numbers in groups.values():
        means = {i: dev_means(on_dev[i].candidate, on_dev[i], allow_missing) for i in numbers}
        best = max(numbers, key=lambda i: (means[i][0], -means[i][1]))
        scores = {on_dev[i].candidate.run_id: means[i][0] for i in numbers}
        settings = distinct([on_dev[i].candidate for i in numbers], on_dev[best].candidate)
        missing = sum(means[i][2] for i in numbers)
        choices.append(Choice(best, on_test[best].candidate.run_id, on_dev[best].candidate.run_id, scores, settings, missing))
    return choices


def distinct(candidates: Sequence[RunSpec], chosen: RunSpec) -> dict[str, Any]:
    """The settings of one candidate in which the candidates are not all the same."""
    every = [flat(spec.config()) for spec in candidates]
    mine = flat(chosen.config())
    return {key: value for key, value in mine.items() if any(other.get(key, other) != value for other in every)}


def dev_means(spec: RunSpec, comparison: Comparison, allow_missing: bool) -> tuple[float, float, int]:
    """Mean score and forward passes of a run over what a comparison asks for, and how many answers are missing."""
    wanted = {record_key(p.id, r) for p in comparison.problems for r in range(comparison.replicates)}
    records = RunFolder(comparison.output_dir / "runs" / spec.run_id).records()
    found = [r for key, r in records.items() if key in wanted and not r["error"]]
    if len(found) < len(wanted) and not (allow_missing and found):
        raise ValueError(
            f"select=best_on_dev: {spec.run_id} has {len(found)} of {len(wanted)} answers on dev, so nothing can be chosen; "
            "run the same command again to do the rest, or choose from what is there with analysis.allow_missing=true"
        )
    score, passes = (sum(r[key] for r in found) / len(found) for key in ("score", "forward_passes"))
    return score, passes, len(wanted) - len(found)


def with_choice(earlier: Sequence[Sequence[str]], choices: Sequence[Choice]) -> tuple[list[list[str]], list[str]]:
    """Add a choice to the earlier ones for the same report.

    Returns:
        All of them, as lists of run ids on test; and a sentence for the reader if there was another one, for which the test
        split has been looked at.
    """
    now = sorted(choice.run_id for choice in choices)
    every = [list(choice) for choice in earlier]
    every += [] if now in every else [now]
    others = sorted({run_id for choice in every for run_id in choice} - set(now))
    verb = "was" if len(others) == 1 else "were"
    told = f"the test split is not fresh: {', '.join(others)} {verb} chosen for this report as well"
    return every, [told] if others else []
