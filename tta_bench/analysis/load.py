"""Reading runs from disk. Nothing here, nor anywhere in the analysis, needs torch or the model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from tta_bench.analysis.plan import TestPlan
from tta_bench.runner.store import RunFolder, StoreError


class AnalysisError(ValueError):
    """There is nothing to analyse, or it cannot be compared."""


@dataclass(frozen=True)
class Run:
    """One run: its configuration, and a record per problem and replicate (columns as in records.jsonl)."""

    run_id: str
    config: dict[str, Any]
    records: pd.DataFrame
    traces: Path | None = None

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
        """Per-step statistics of the problems and replicates named, with their record's score.

        A batch that was done twice counts once.
        """
        files = sorted(self.traces.glob("*.parquet")) if self.traces else []
        if not files:
            return pd.DataFrame()
        steps = pd.concat([pd.read_parquet(file) for file in files]).drop_duplicates(["key", "step"], keep="last")
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
        excluded: sentences on what was left out, and why.
    """

    name: str
    pairs: tuple[Pair, ...]
    n_problems: int | None = None
    replicates: int | None = None
    plan: TestPlan | None = None
    excluded: tuple[str, ...] = ()


def load_run(folder: Path) -> Run:
    """A run from its folder.

    Raises:
        AnalysisError: it has no configuration or no records.
    """
    if not (folder / "config.yaml").is_file():
        raise AnalysisError(f"{folder}: holds no config.yaml, so it is no run")
    records = RunFolder(folder).records()
    if not records:
        raise AnalysisError(f"{folder}: holds no records yet")
    frame = pd.DataFrame(list(records.values())).drop(columns=["tokens"])
    return Run(folder.name, yaml.safe_load((folder / "config.yaml").read_text()), frame, folder / "traces")


def load_study(folder: Path, baseline: str = "low_confidence") -> Study:
    """The study of a report folder (``study.json``), or all comparisons in an output folder (``runs/``).

    Args:
        folder: where to look.
        baseline: for an output folder, the sampler that the others are compared with.

    Raises:
        AnalysisError: the folder holds neither, or nothing that can be compared.
    """
    if (folder / "study.json").is_file():
        plan = json.loads((folder / "study.json").read_text())
        runs = {run_id: load_run(folder / plan["runs"] / run_id) for pair in plan["pairs"] for run_id in pair}
        pairs = tuple(Pair(runs[base], runs[candidate]) for base, candidate in plan["pairs"])
        return Study(plan["name"], pairs, plan["n_problems"], plan["replicates"], TestPlan(**plan["tests"]))
    if not (folder / "runs").is_dir():
        raise AnalysisError(f"{folder}: holds neither study.json (a report folder) nor runs/ (an output folder)")
    return pair_all(folder, baseline)


def pair_all(folder: Path, baseline: str) -> Study:
    """Pair every run in an output folder with each baseline run that differs from it in the sampler only."""
    runs: list[Run] = []
    excluded: list[str] = []
    for path in sorted(p for p in (folder / "runs").iterdir() if p.is_dir()):
        try:
            runs.append(load_run(path))
        except (AnalysisError, StoreError) as error:
            excluded.append(str(error))
    pairs = []
    for run in sorted(runs, key=lambda r: (r.task, r.config["steps"] or 0, r.run_id)):
        if run.sampler == baseline:
            pairs += [Pair(run, other) for other in runs if other.sampler != baseline and alike(other, run)]
        elif not any(base.sampler == baseline and alike(base, run) for base in runs):
            excluded.append(f"{run.run_id}: no {baseline} run with the same settings to compare it with")
    if not pairs:
        reasons = "".join(f"\n  {reason}" for reason in excluded)
        raise AnalysisError(f"{folder}: no candidate has a {baseline} run to be compared with{reasons}")
    excluded += [sentence for pair in pairs if (sentence := unfinished(pair))]
    return Study(folder.name, tuple(pairs), excluded=tuple(excluded))


def unfinished(pair: Pair) -> str:
    """A sentence on problems that only one run of a pair has done, or not with every replicate; empty if there are none."""
    known = set(pair.baseline.records["problem"]) | set(pair.candidate.records["problem"])
    left = len(known) - len(common_problems(pair, Study("", (pair,))))
    return f"{left} problem(s) not done by both {pair.baseline.run_id} and {pair.candidate.run_id}" if left else ""


def alike(one: Run, other: Run) -> bool:
    """Whether two runs differ in nothing but the sampler, and what one of the samplers does not use."""
    idle = {"sampler", "constraint"}
    if None in (one.config["steps"], other.config["steps"]):
        idle.add("steps")
    return all(one.config.get(key) == other.config.get(key) for key in (one.config.keys() | other.config.keys()) - idle)


def common_problems(pair: Pair, study: Study) -> list[str]:
    """Problems that both runs have done with every replicate that counts, in order.

    Raises:
        AnalysisError: there are none, or the study asked for more than both runs hold.
    """
    done = [_complete(run, study.replicates) for run in (pair.baseline, pair.candidate)]
    common = sorted(done[0] & done[1])[: study.n_problems]
    if not common:
        raise AnalysisError(f"{pair.baseline.run_id} and {pair.candidate.run_id} have no problem in common")
    if study.n_problems is not None and len(common) < study.n_problems:
        raise AnalysisError(
            f"{pair.candidate.run_id}: only {len(common)} of {study.n_problems} problems are done in both runs; "
            "run the same command again to do the rest"
        )
    return common


def _complete(run: Run, replicates: int | None) -> set[str]:
    counts = run.records.groupby("problem")["replicate"].nunique()
    need = int(counts.max()) if replicates is None else replicates
    return set(counts.index[counts >= need])
