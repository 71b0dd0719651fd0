"""Whether two runs may be compared: on the same problems, both complete, made with the same data, code and machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tta_bench.analysis.load import MIXED, Pair, Run, Study
from tta_bench.runner.difference import changes, constraint_targets, flat
from tta_bench.runner.environment import differences as environment_differences
from tta_bench.runner.environment import environments, values


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
    done = {run.run_id: complete(run, study.replicates) for run in (pair.baseline, pair.candidate)}
    common = tuple(p for p in asked if all(p in problems for problems in done.values()))
    missing, differing = missing_reasons(pair, asked, n_asked, done), differences(pair, common)
    if not common:
        nothing = f"{pair.baseline.run_id} and {pair.candidate.run_id}: no problem is done in both"
        return Ruling((), "incomplete", (*missing, nothing))
    if missing and not study.allow.missing:
        return Ruling((), "incomplete", tuple(missing))
    if differing and not study.allow.differences:
        return Ruling((), "incomparable", tuple(differing))
    return Ruling(common, "", (*missing, *differing))


def asked_problems(pair: Pair, study: Study) -> tuple[list[str], int]:
    """The problems that a pair should be compared on, as far as they are known, and how many they should be.

    A study names them, or, if it is of an older version, says how many of the split; otherwise it is what either run tried.
    """
    if pair.baseline.run_id in study.problems:
        named = study.problems[pair.baseline.run_id]
        return list(named), len(named)
    tried = sorted(pair.baseline.tried | pair.candidate.tried)
    return tried[: study.n_problems], len(tried) if study.n_problems is None else study.n_problems


def complete(run: Run, replicates: int | None) -> set[str]:
    """The problems of a run that have a score for every replicate (None: for as many as any problem was tried with)."""
    tried = pd.concat([run.records["replicate"], run.failures["replicate"]])
    need = int(tried.max()) + 1 if replicates is None and len(tried) else replicates or 1
    known = ~np.isnan(run.grid("score")[:, :need])
    return set(run.problems[known.sum(axis=1) >= need])


def missing_reasons(pair: Pair, asked: Sequence[str], n_asked: int, done: Mapping[str, set[str]]) -> list[str]:
    """For each run that lacks problems that are asked for, how many and why.

    Args:
        pair: two runs.
        asked: the problems, as far as they are known.
        n_asked: how many they should be.
        done: complete problems by run id.
    """
    found = []
    for run in (pair.baseline, pair.candidate):
        left = set(asked) - done[run.run_id]
        failed = run.failures[run.failures["problem"].isin(left)].drop_duplicates("problem")
        n_missing = n_asked - len(asked) + len(left)
        parts = [f"{n} {kind}" for kind, n in sorted(Counter(failed["type"]).items())]
        parts += [f"{n_missing - len(failed)} not done yet"] if n_missing > len(failed) else []
        if n_missing:
            found.append(f"{run.run_id}: {n_missing} of {n_asked} problems missing ({', '.join(parts)})")
    return found


def differences(pair: Pair, problems: tuple[str, ...]) -> list[str]:
    """A sentence on what a pair differs in besides the sampler and what samplers do not use; none where that is nothing."""
    one, other = (run.config for run in (pair.baseline, pair.candidate))
    keys = ("engine", "model", "task", "device", "dtype")
    found = changes(*(flat({key: config[key] for key in keys if key in config}) for config in (one, other)))
    places = [environments(run.manifest) if run.folder or run.manifest else [] for run in (pair.baseline, pair.candidate)]
    found += environment_differences(*places)
    for part, targets in {"sampler": sampler_target, "constraint": constraint_targets}.items():
        if targets(one) == targets(other) and all(places):
            sources = [values(f"{part}_code", side) for side in places]
            found += [f"{part}_code: {sources[0][0]} / {sources[1][0]}"] if sources[0] != sources[1] else []
    for column, what in (("data", "problems"), ("prompt", "encoded prompts")):
        n = differing_problems(pair, problems, column)
        found += [f"{what}: {n} of {len(problems)} are not the same or were not recorded"] if n else []
    return [f"{pair.baseline.run_id} and {pair.candidate.run_id} differ in {'; '.join(found)}"] if found else []


def sampler_target(config: Mapping[str, Any]) -> str | None:
    """What builds the sampler of a run."""
    target: str | None = config["sampler"].get("target")
    return target


def differing_problems(pair: Pair, problems: tuple[str, ...], column: str) -> int:
    """Of how many problems two runs recorded something else in ``column``; runs that are not from disk recorded nothing."""
    one, other = (run.texts(column).reindex(list(problems)).to_numpy(object) for run in (pair.baseline, pair.candidate))
    return int(((one != other) | (one == MIXED)).sum())
