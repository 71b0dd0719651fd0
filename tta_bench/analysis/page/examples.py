"""Examples: what was asked, what was answered, what was expected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tta_bench.analysis.compare import Compared
from tta_bench.analysis.describe import Describer
from tta_bench.analysis.load import Run, Study

MOST_RUNS = 6
"""Of a task, whose answers are shown."""


@dataclass(frozen=True)
class Example:
    """A problem and some answers to it.

    Attributes:
        task: of the problem.
        problem: its id.
        prompt: what was asked.
        target: what was expected.
        answers: (sampler and settings, text, score) of some runs.
    """

    task: str
    problem: str
    prompt: str
    target: str
    answers: tuple[tuple[str, str, float], ...]


def examples(found: Sequence[Compared], study: Study, describe: Describer) -> list[Example]:
    """The problems that the study names as examples, with the answers of the first runs of their task."""
    shown = []
    for task, problems in study.examples.items():
        runs: dict[str, Run] = {}
        for one in found:
            if one.pair.candidate.task == task:
                runs |= {run.run_id: run for run in (one.pair.baseline, one.pair.candidate)}
        answers = {f"{run.sampler} {describe(run)}".strip(): texts_of(run) for run in list(runs.values())[:MOST_RUNS]}
        for problem in problems:
            given = [(name, *texts[problem["data"]]) for name, texts in answers.items() if problem["data"] in texts]
            if given:
                shown.append(Example(task, problem["problem"], problem["prompt"], problem["target"], tuple(given)))
    return shown


def texts_of(run: Run) -> dict[str, tuple[str, float]]:
    """Text and score of the first replicate of each problem that was answered, by the problem's digest."""
    return {r["data"]: (r["text"], r["score"]) for r in run.answers() if r["replicate"] == 0}
