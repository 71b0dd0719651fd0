"""Reading runs from disk. Nothing here, nor anywhere in the analysis, needs torch or the model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tta_bench.analysis.plan import NOTHING_ALLOWED, Allowances, TestPlan
from tta_bench.analysis.stats import Floats
from tta_bench.runner.difference import flat
from tta_bench.runner.disk import StoreError
from tta_bench.runner.store import NO_WORDS, RunFolder, Words

FAILURE_COLUMNS = ["problem", "replicate", "stage", "type", "message", "traceback"]
TRAJECTORY = ("stability", "survival", "efficacy", "flips", "order")
"""Of records: how their decoding went, see ``sampling.trajectory``."""

MEASURED = (
    "filled", "forward_passes", "evaluated_positions", "nfe", "seconds", "cut", "lacking", *TRAJECTORY, "violations",
)  # fmt: skip
"""Of records: what is a number, or was not recorded."""

RECORD_COLUMNS = ["key", "problem", "replicate", "data", "prompt", "cluster", "score", *MEASURED]
"""Of the records, as far as the analysis needs them; what older runs did not record is None."""


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

    @cached_property
    def problems(self) -> pd.Index:
        """Ids (n,) of the problems that have a score, sorted."""
        return self._places[1]

    @cached_property
    def tried(self) -> frozenset[str]:
        """Ids of the problems that have a score or failed."""
        return frozenset(self.problems) | frozenset(self.failures["problem"])

    @cached_property
    def _places(self) -> tuple[np.ndarray, pd.Index]:
        codes, problems = pd.factorize(self.records["problem"], sort=True)
        return codes, pd.Index(problems)

    @cached_property
    def _grids(self) -> dict[str, Floats]:
        return {}

    @cached_property
    def _said(self) -> dict[str, pd.Series]:
        return {}

    def grid(self, column: str) -> Floats:
        """A column of numbers as (n, r): problems as in ``problems``, replicates from 0; NaN where there is none."""
        if column not in self._grids:
            codes, problems = self._places
            replicate = self.records["replicate"].to_numpy(int)
            table = np.full((len(problems), int(replicate.max(initial=-1)) + 1), np.nan)
            if column in self.records:
                table[codes, replicate] = self.records[column].to_numpy(float)
            self._grids[column] = table
        return self._grids[column]

    def values(self, column: str, problems: Sequence[str], replicates: int | None = None) -> Floats:
        """A column of the records as (n, r): the problems named, the first ``replicates`` replicates (all when None)."""
        rows = self.problems.get_indexer(pd.Index(problems))
        if (rows < 0).any():
            raise KeyError(f"{self.run_id}: has no score for {problems[int((rows < 0).argmax())]}")
        return self.grid(column)[rows][:, :replicates]

    def texts(self, column: str) -> pd.Series:
        """What the records of a problem say in a column of texts, by problem: empty where they say nothing.

        Where replicates of one problem say different things, that is ``MIXED``.
        """
        if column not in self._said:
            self._said[column] = self._read_texts(column)
        return self._said[column]

    def _read_texts(self, column: str) -> pd.Series:
        codes, problems = self._places
        if column not in self.records:
            return pd.Series("", index=problems, dtype=object)
        said = self.records[column]
        said = said.where(said.map(lambda text: isinstance(text, str)), "")
        first = pd.Series(said.to_numpy(object)).groupby(codes).first()
        mixed = said.to_numpy(object) != first.to_numpy(object)[codes]
        first.index = problems
        first.iloc[np.unique(codes[mixed])] = MIXED
        return first

    def clusters(self, problems: Sequence[str]) -> np.ndarray | None:
        """Labels (n,) of problems that are not independent, as the task recorded them; None where it recorded none.

        A problem without a label is a cluster of its own.
        """
        labels = self.texts("cluster")[list(problems)]
        if not (labels != "").any():
            return None
        return np.where(labels == "", "problem " + labels.index.astype(str), "cluster " + labels.astype(str))

    def answers(self) -> list[dict[str, Any]]:
        """The records that have a score, whole, read from the disk; none where the run is not there."""
        records = self.folder.records().values() if self.folder else ()
        return [record for record in records if not record["error"]]

    @cached_property
    def words(self) -> Words:
        """The words to its token traces, empty where there are none; see ``runner.words``."""
        return self.folder.words() if self.folder else NO_WORDS

    def trace(self, problems: Sequence[str], replicates: int | None = None) -> pd.DataFrame:
        """Per-step statistics of the problems and replicates named, with their record's problem and score.

        Column ``unit`` is what is independent: the problem, or its cluster.
        """
        return self._of_records(self.folder.traces() if self.folder else pd.DataFrame(), problems, replicates)

    def token_trace(self, problems: Sequence[str], replicates: int | None = None) -> pd.DataFrame:
        """Per-step statistics of every token of the problems and replicates named, with their record's problem and score.

        Empty where none were kept.
        """
        return self._of_records(self.folder.token_traces() if self.folder else pd.DataFrame(), problems, replicates)

    def _of_records(self, rows: pd.DataFrame, problems: Sequence[str], replicates: int | None) -> pd.DataFrame:
        if rows.empty:
            return rows
        counted = self.records[self.records["problem"].isin(problems)]
        if replicates is not None:
            counted = counted[counted["replicate"] < replicates]
        names = list(dict.fromkeys(counted["problem"]))
        labels = self.clusters(names)
        units = dict(zip(names, names if labels is None else labels, strict=True))
        return rows.merge(counted[["key", "problem", "score"]].assign(unit=counted["problem"].map(units)), on="key")


MIXED = "\N{NOT EQUAL TO}"
"""Stands for what the records of one problem do not agree on."""


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
        examples: by task, some problems (problem, prompt, target) to be shown with their answers.
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
    examples: Mapping[str, tuple[Mapping[str, str], ...]] = field(default_factory=dict)


def load_run(folder: Path, *, texts: bool = False) -> Run:
    """A run from its folder; with ``texts`` also what was answered.

    Raises:
        AnalysisError: it has no configuration or no records.
    """
    run = RunFolder(folder)
    config = run.config()
    if not config:
        raise AnalysisError(f"{folder}: holds no config.yaml, so it is no run")
    names = [*RECORD_COLUMNS, *(["text"] if texts else [])]
    found = read_records(run, names)
    if found.empty:
        raise AnalysisError(f"{folder}: holds no records yet")
    failed = found["error"].notna()
    errors = found[failed]
    bad = errors[["problem", "replicate"]].join(pd.DataFrame(list(errors["error"]), index=errors.index))
    good = found.loc[~failed, names].reset_index(drop=True).astype({"score": float})
    return Run(folder.name, config, good, bad.reindex(columns=FAILURE_COLUMNS), run.manifest(), run)


def read_records(run: RunFolder, names: Sequence[str]) -> pd.DataFrame:
    """The last record of every key: the fields named, None where one was not recorded, and ``error``, None where there is none.

    A record whose score is missing or NaN has an error, ``UNSCORED``.
    """
    rows: dict[str, list[Any]] = {name: [] for name in dict.fromkeys(("key", "score", *names, "error"))}
    for record in run.lines():
        for name, values in rows.items():
            values.append(record.get(name))
    # As numbers from the start: columns of objects take several times the time and memory.
    columns = {name: np.array(values, dtype=float) if name in MEASURED else values for name, values in rows.items()}
    found = pd.DataFrame(columns).drop_duplicates("key", keep="last", ignore_index=True)
    lost = found["error"].isna() & pd.to_numeric(found["score"], errors="coerce").isna()
    found.loc[lost, "error"] = pd.Series([UNSCORED] * int(lost.sum()), index=found.index[lost], dtype=object)
    return found


UNSCORED = {"stage": "score", "type": "NoScore", "message": "the record has neither a score nor an error", "traceback": ""}
"""What is said of a record whose score is missing or NaN."""


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
    names = dict.fromkeys(run_id for pair in study["pairs"] for run_id in pair)
    runs = {run_id: load_run(folder / study["runs"] / run_id) for run_id in names}
    lists = study.get("problems", [])
    return Study(
        name=study["name"],
        pairs=tuple(Pair(runs[base], runs[candidate]) for base, candidate in dict.fromkeys(map(tuple, study["pairs"]))),
        n_problems=study["n_problems"],
        replicates=study["replicates"],
        plan=TestPlan(**study["tests"]),
        allow=allow,
        excluded=tuple(study.get("notes", ())),
        problems={run_id: tuple(lists[place]) for run_id, place in study.get("problems_of", {}).items()},
        examples={task: tuple(told) for task, told in study.get("examples", {}).items()},
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
