"""Reading runs from disk. Nothing here, nor anywhere in the analysis, needs torch or the model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tta_bench.analysis.plan import NOTHING_ALLOWED, Allowances, TestPlan
from tta_bench.runner.difference import flat
from tta_bench.runner.disk import StoreError
from tta_bench.runner.store import RunFolder

FAILURE_COLUMNS = ["problem", "replicate", "stage", "type", "message", "traceback"]
RECORD_COLUMNS = ["key", "problem", "replicate", "data", "prompt", "text", "score", "forward_passes", "nfe", "seconds"]


class AnalysisError(ValueError):
    """There is nothing to analyse, or it cannot be compared."""


@dataclass(frozen=True)
class Run:
    """One run: its configuration, and a record per problem and replicate (columns as in records.jsonl).

    Attributes:
        run_id: its name.
        config: as frozen.
        records: of what was answered and scored.
        failures: of what was not: problem, replicate, and the error's type and message.
        manifest: empty where the run is not from disk.
        folder: on disk; None where it is not.
    """

    run_id: str
    config: dict[str, Any]
    records: pd.DataFrame
    failures: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=FAILURE_COLUMNS))
    manifest: dict[str, Any] = field(default_factory=dict)
    folder: RunFolder | None = None

    @property
    def task(self) -> str:
        return str(self.config["task"]["name"])

    @property
    def sampler(self) -> str:
        return str(self.config["sampler"]["name"])

    def values(self, column: str, problems: Sequence[str], replicates: int | None = None) -> np.ndarray:
        """A column of the records as (n, r): the problems named, the first ``replicates`` replicates (all when None)."""
        table = self.records.pivot(index="problem", columns="replicate", values=column).sort_index(axis=1)
        return table.loc[list(problems)].iloc[:, :replicates].to_numpy(dtype=float)

    def trace(self, problems: Sequence[str], replicates: int | None = None) -> pd.DataFrame:
        """Per-step statistics of the problems and replicates named, with their record's score."""
        steps = self.folder.traces() if self.folder else pd.DataFrame()
        if steps.empty:
            return steps
        counted = self.records[self.records["problem"].isin(problems)]
        if replicates is not None:
            counted = counted[counted["replicate"] < replicates]
        return steps.merge(counted[["key", "score"]], on="key")


@dataclass(frozen=True)
class Pair:
    """A candidate and the baseline it is compared with."""

    baseline: Run
    candidate: Run


@dataclass(frozen=True)
class Study:
    """What a report is about.

    Attributes:
        name: of the report.
        pairs: comparisons, in the order of the table.
        n_problems: problems of each run that count, the first of the split; None takes all.
        replicates: replicates that count; None takes all.
        plan: of the tests, as fixed before the runs; None where the folder holds none.
        allow: what may be compared although it should not be.
        problems: that a study asks for, by the run id of the baseline.
        excluded: sentences on what was left out, and why.
    """

    name: str
    pairs: tuple[Pair, ...]
    n_problems: int | None = None
    replicates: int | None = None
    plan: TestPlan | None = None
    allow: Allowances = NOTHING_ALLOWED
    excluded: tuple[str, ...] = ()
    problems: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def load_run(folder: Path) -> Run:
    """A run from its folder.

    Raises:
        AnalysisError: it has no configuration or no records.
    """
    run = RunFolder(folder)
    if not run.config():
        raise AnalysisError(f"{folder}: holds no config.yaml, so it is no run")
    good, bad = [], []
    for record in run.records().values():
        if record["error"]:
            bad.append({key: record[key] for key in ("problem", "replicate")} | record["error"])
        else:
            good.append({key: value for key, value in record.items() if key not in ("tokens", "error")})
    if not good and not bad:
        raise AnalysisError(f"{folder}: holds no records yet")
    failures = pd.DataFrame(bad, columns=FAILURE_COLUMNS)
    return Run(folder.name, run.config(), pd.DataFrame(good, columns=None if good else RECORD_COLUMNS), failures,
               run.manifest(), run)  # fmt: skip


def load_study(folder: Path, baseline: str = "low_confidence", allow: Allowances = NOTHING_ALLOWED) -> Study:
    """The study of a report folder (``study.json``), or all comparisons in an output folder (``runs/``).

    Args:
        folder: where to look.
        baseline: for an output folder, the sampler that the others are compared with.
        allow: what may be compared although it should not be.

    Raises:
        AnalysisError: the folder holds neither, or nothing that can be compared.
    """
    if (folder / "study.json").is_file():
        try:
            study = json.loads((folder / "study.json").read_text())
        except ValueError as error:
            raise AnalysisError(
                f"{folder / 'study.json'}: cannot be read ({error}); run the study again to write it"
            ) from error
        return study_of(study, folder, allow)
    if not (folder / "runs").is_dir():
        raise AnalysisError(f"{folder}: holds neither study.json (a report folder) nor runs/ (an output folder)")
    return pair_all(folder, baseline, allow)


def study_of(study: Mapping[str, Any], folder: Path, allow: Allowances = NOTHING_ALLOWED) -> Study:
    """The study that ``study.json`` describes, in the report folder ``folder``."""
    runs = {run_id: load_run(folder / study["runs"] / run_id) for pair in study["pairs"] for run_id in pair}
    lists = study.get("problems", [])
    return Study(
        name=study["name"],
        pairs=tuple(Pair(runs[base], runs[candidate]) for base, candidate in study["pairs"]),
        n_problems=study["n_problems"],
        replicates=study["replicates"],
        plan=TestPlan(**study["tests"]),
        allow=allow,
        excluded=tuple(study.get("notes", ())),
        problems={run_id: tuple(lists[place]) for run_id, place in study.get("problems_of", {}).items()},
    )


def pair_all(folder: Path, baseline: str, allow: Allowances) -> Study:
    """Pair every run in an output folder with each baseline run that differs from it in the sampler only.

    Where ``allow`` has it, also in what should be the same; the gate then tells.
    """
    runs: list[Run] = []
    excluded: list[str] = []
    for path in sorted(p for p in (folder / "runs").iterdir() if p.is_dir()):
        try:
            runs.append(load_run(path))
        except (AnalysisError, StoreError) as error:
            excluded.append(str(error))
    idle = MUST_MATCH if allow.differences else ()
    pairs = []
    for run in sorted(runs, key=lambda r: (r.task, r.config["steps"] or 0, r.run_id)):
        bases = [base for base in runs if base.sampler == baseline]
        if run.sampler == baseline:
            pairs += [Pair(run, other) for other in runs if other.sampler != baseline and alike(other, run, idle)]
        elif not any(alike(base, run, idle) for base in bases):
            near = [base.run_id for base in bases if alike(base, run, MUST_MATCH)]
            hint = f"; {near[0]} differs in what must be the same (analysis.allow_differences=true compares)" if near else ""
            excluded.append(f"{run.run_id}: no {baseline} run with the same settings to compare it with{hint}")
    if not pairs:
        reasons = "".join(f"\n  {reason}" for reason in excluded)
        raise AnalysisError(f"{folder}: no candidate has a {baseline} run to be compared with{reasons}")
    return Study(folder.name, tuple(pairs), allow=allow, excluded=tuple(excluded))


MUST_MATCH = ("schema", "engine", "model", "device", "dtype")
"""Keys of a configuration that two runs must agree in because results depend on them, not because they are settings."""


def alike(one: Run, other: Run, idle: Sequence[str] = ()) -> bool:
    """Whether two runs differ in nothing but the sampler, what one of the samplers does not use, and the ``idle`` keys."""
    ignored = {"sampler", "constraint", *idle}
    if None in (one.config["steps"], other.config["steps"]):
        ignored.add("steps")
    sides = [{key: value for key, value in run.config.items() if key not in ignored} for run in (one, other)]
    return flat(sides[0]) == flat(sides[1])
