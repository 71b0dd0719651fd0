"""Whether two runs may be compared: on the same problems, both complete, made with the same data, code and machine."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pandas as pd

from tta_bench.analysis.load import Pair, Run, Study
from tta_bench.runner.difference import changes, flat
from tta_bench.runner.environment import differences as environment_differences
from tta_bench.runner.environment import environments


@dataclass(frozen=True)
class Ruling:
    """What a pair may be used for.

    Attributes:
        problems: to be compared, in order; none where the comparison is refused.
        refused: ``incomplete`` or ``incomparable``; empty where the pair is compared.
        reasons: why it is refused, or what a reader must know of it all the same.
    """

    problems: tuple[str, ...]
    refused: str = ""
    reasons: tuple[str, ...] = ()

    @property
    def caveat(self) -> str:
        """What was allowed although it should not be; empty where nothing was."""
        return "" if self.refused else "; ".join(self.reasons)


def rule(pair: Pair, study: Study) -> Ruling:
    """Decide on a pair of a study."""
    asked, n_asked = asked_problems(pair, study)
    common = tuple(p for p in asked if all(p in complete(run, study.replicates) for run in (pair.baseline, pair.candidate)))
    missing, differing = missing_reasons(pair, n_asked, common, study), differences(pair, common)
    if not common or (missing and not study.allow.missing):
        return Ruling((), "incomplete", tuple(missing) or ("no problem is done in both runs",))
    if differing and not study.allow.differences:
        return Ruling((), "incomparable", tuple(differing))
    return Ruling(common, "", (*missing, *differing))


def asked_problems(pair: Pair, study: Study) -> tuple[list[str], int]:
    """The problems that a pair should be compared on, as far as they are known, and how many they should be.

    A study says how many, the first of the split; otherwise it is what was tried in both runs.
    """
    tried = [set(run.records["problem"]) | set(run.failures["problem"]) for run in (pair.baseline, pair.candidate)]
    if study.n_problems is None:
        both = sorted(tried[0] & tried[1])
        return both, len(both)
    return sorted(tried[0] | tried[1])[: study.n_problems], study.n_problems


def complete(run: Run, replicates: int | None) -> set[str]:
    """The problems of a run that have a score for every replicate (None: for as many as any problem was tried with)."""
    counts = run.records.groupby("problem")["replicate"].nunique()
    tried = pd.concat([run.records["replicate"], run.failures["replicate"]])
    need = int(tried.max()) + 1 if replicates is None and len(tried) else replicates or 1
    return set(counts.index[counts >= need])


def missing_reasons(pair: Pair, n_asked: int, common: tuple[str, ...], study: Study) -> list[str]:
    """For each run that lacks problems, how many and why; also where the runs of a pair were not tried on the same ones."""
    if len(common) == n_asked:
        return []
    found = []
    for run in (pair.baseline, pair.candidate):
        done = complete(run, study.replicates)
        failed = run.failures[~run.failures["problem"].isin(done)]
        kinds = Counter(failed.drop_duplicates("problem")["type"])
        n_failed = sum(kinds.values())
        not_done = n_asked - len(done & set(asked_problems(pair, study)[0]))
        parts = [f"{n} {kind}" for kind, n in sorted(kinds.items())]
        parts += [f"{not_done - n_failed} not done yet"] if not_done > n_failed else []
        if not_done:
            found.append(f"{run.run_id}: {not_done} of {n_asked} problems missing ({', '.join(parts)})")
    return found


def differences(pair: Pair, problems: tuple[str, ...]) -> list[str]:
    """A sentence on what a pair differs in besides the sampler and what samplers do not use; none where that is nothing."""
    one, other = (run.config for run in (pair.baseline, pair.candidate))
    parts = [{key: config.get(key) for key in ("engine", "model", "task")} for config in (one, other)]
    found = changes(*(flat(part) for part in parts))
    found += environment_differences(*(environments(run.manifest) for run in (pair.baseline, pair.candidate)))
    for column, what in (("data", "problems"), ("prompt", "encoded prompts")):
        n = differing_problems(pair, problems, column)
        found += [f"{what}: {n} of {len(problems)} are not the same or were not recorded"] if n else []
    return [f"{pair.baseline.run_id} and {pair.candidate.run_id} differ in {'; '.join(found)}"] if found else []


def differing_problems(pair: Pair, problems: tuple[str, ...], column: str) -> int:
    """Of how many problems two runs recorded something else in ``column``; runs that are not from disk recorded nothing."""
    sides: list[pd.Series] = []
    for run in (pair.baseline, pair.candidate):
        told = run.records.reindex(columns=["problem", column]).drop_duplicates()
        side = told[told["problem"].isin(problems)].set_index("problem")[column]
        sides.append(side.map(lambda value: value if isinstance(value, str) else "").sort_index())
    if any(side.index.has_duplicates for side in sides):  # replicates of one problem recorded different things
        return len(problems)
    return int((sides[0] != sides[1]).to_numpy().sum())
