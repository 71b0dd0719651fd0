"""Which comparisons are looked at closely: of the many of a study one for each task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from tta_bench.analysis.compare import Compared
from tta_bench.analysis.load import Pair, Run
from tta_bench.analysis.remasking import CONTROL, same_budget


@dataclass(frozen=True)
class CloseUp:
    """A run that is looked at closely.

    Attributes:
        run: itself.
        problems: ids that count.
        role: what tells it from another run of its sampler; empty where nothing needs to.
    """

    run: Run
    problems: tuple[str, ...]
    role: str = ""

    @property
    def task(self) -> str:
        return self.run.task

    @property
    def sampler(self) -> str:
        """Its name, with its role."""
        return f"{self.run.sampler} ({self.role})" if self.role else self.run.sampler


def roles(pair: Pair) -> tuple[str, str]:
    """What tells the two apart besides their samplers: something only where these are the same."""
    return ("baseline", "candidate") if pair.baseline.sampler == pair.candidate.sampler else ("", "")


def representative(found: Sequence[Compared], focus: str | None = None) -> list[Compared]:
    """For each task, one comparison whose uncertainty is drawn: with the most steps, of several the middle one.

    Args:
        found: the comparisons.
        focus: the sampler that is preferred; None prefers tta.
    """
    chosen = []
    for task in dict.fromkeys(one.pair.candidate.task for one in found):
        pairs = [one for one in found if one.pair.candidate.task == task]
        for sampler in (focus, "tta"):
            preferred = [one for one in pairs if one.pair.candidate.sampler == sampler]
            if preferred:
                break
        among = preferred or pairs
        longest = max(one.pair.candidate.config["steps"] or 0 for one in among)
        finalists = [one for one in among if (one.pair.candidate.config["steps"] or 0) == longest]
        chosen.append(finalists[len(finalists) // 2])
    return chosen


def close_ups(found: Sequence[Compared], focus: str | None = None) -> list[CloseUp]:
    """For each task baseline and candidate of its representative comparison, and the blind control of the candidate."""
    shown = []
    for one in representative(found, focus):
        base, candidate = one.pair.baseline, one.pair.candidate
        controls = [
            other.pair.candidate
            for other in found
            if other.pair.candidate.sampler == CONTROL != candidate.sampler and same_budget(other.pair.candidate, candidate)
        ]
        shown += [CloseUp(run, one.problems, role) for run, role in zip((base, candidate), roles(one.pair), strict=True)]
        shown += [CloseUp(control, one.problems) for control in controls[:1]]
    return shown


def decodings_of_one_problem(pair: Pair, problems: Sequence[str]) -> list[tuple[Run, str, pd.DataFrame]]:
    """Of one problem, the runs, its id and the token traces of baseline and candidate; none where either kept no trace.

    The problem is the first on which the two differ in score, else the first.
    """
    traces = [run.token_trace(list(problems), 1) for run in (pair.baseline, pair.candidate)]
    if any(trace.empty for trace in traces):
        return []
    scores = [trace.groupby("problem")["score"].first() for trace in traces]
    both = scores[0].index.intersection(scores[1].index)
    if both.empty:
        return []
    differ = both[scores[0][both].to_numpy() != scores[1][both].to_numpy()]
    chosen = str((differ if len(differ) else both)[0])
    runs = (pair.baseline, pair.candidate)
    return [(run, chosen, trace[trace["problem"] == chosen]) for run, trace in zip(runs, traces, strict=True)]
