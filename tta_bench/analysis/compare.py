"""From runs to differences per problem: what every table of a report starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tta_bench.analysis import stats
from tta_bench.analysis.gate import Ruling, rule
from tta_bench.analysis.load import AnalysisError, Pair, Study
from tta_bench.analysis.section import Differences
from tta_bench.analysis.stats import Floats


@dataclass(frozen=True)
class Compared:
    """A pair that may be compared, and its scores.

    Attributes:
        pair: two runs.
        ruling: of the gate; not a refusal.
        baseline, candidate: (n, r) scores, rows as in ``problems``.
        clusters: (n,) labels of problems that are not independent; None where all are.
        replicates: that count; None takes all.
    """

    pair: Pair
    ruling: Ruling
    baseline: Floats
    candidate: Floats
    clusters: np.ndarray | None
    replicates: int | None = None

    @property
    def problems(self) -> tuple[str, ...]:
        return self.ruling.problems

    @cached_property
    def differences(self) -> Differences:
        """Candidate - baseline per problem, replicates averaged first."""
        d = stats.paired_differences(self.baseline, self.candidate)
        return Differences(self.pair.candidate.task, self.problems, d, self.clusters)

    @property
    def binary(self) -> bool:
        """Whether every problem is independent and has one score, and that is 0 or 1."""
        return self.clusters is None and all(
            side.shape[1] == 1 and bool(np.isin(side, (0, 1)).all()) for side in (self.baseline, self.candidate)
        )


@dataclass(frozen=True)
class Refused:
    """A pair that may not be compared, and why."""

    pair: Pair
    ruling: Ruling


def compare(study: Study) -> list[Compared | Refused]:
    """Every pair of a study, in its order.

    Raises:
        AnalysisError: no pair may be compared.
    """
    found: list[Compared | Refused] = []
    for pair in study.pairs:
        ruling = rule(pair, study)
        found.append(Refused(pair, ruling) if ruling.refused else scored(pair, ruling, study.replicates))
    if not made(found):
        reasons = "".join(f"\n  {reason}" for reason in dict.fromkeys(r for one in found for r in one.ruling.reasons))
        raise AnalysisError(
            f"{study.name}: no comparison is possible{reasons}\n{remedy({one.ruling.refused for one in found})}"
        )
    return found


def scored(pair: Pair, ruling: Ruling, replicates: int | None) -> Compared:
    """The scores of a pair on the problems that it is compared on."""
    base, candidate = (run.values("score", ruling.problems, replicates) for run in (pair.baseline, pair.candidate))
    return Compared(pair, ruling, base, candidate, pair.baseline.clusters(ruling.problems), replicates)


def made(found: Sequence[Compared | Refused]) -> list[Compared]:
    """Those that are compared."""
    return [one for one in found if isinstance(one, Compared)]


def untestable(found: Sequence[Compared]) -> str:
    """Why nothing can be said of any comparison; empty where something can."""
    if max(len(one.problems) for one in found) < 2:
        return "one problem: no interval or test is possible; do more problems (n_problems)"
    values = np.unique(np.concatenate([side.ravel() for one in found for side in (one.baseline, one.candidate)]))
    if len(values) == 1:
        return f"every score is {values[0]:g}: nothing tells the samplers apart; choose other problems or steps"
    return ""


REMEDIES = {
    "incomplete": "Run the same command again to do what is missing (errors are tried again; tta-bench show RUN has their "
    "tracebacks), or compare on the problems that both runs have: analysis.allow_missing=true",
    "incomparable": "Do them again under the same conditions (--fresh), or compare them all the same: "
    "analysis.allow_differences=true",
}


def remedy(refusals: set[str]) -> str:
    """What can be done about refused comparisons."""
    return " ".join(text for kind, text in REMEDIES.items() if kind in refusals)
