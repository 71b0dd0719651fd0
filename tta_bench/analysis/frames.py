"""What is on disk as pandas frames: a row for each record, for each step or token, or for each comparison."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from tta_bench.analysis.describe import Describer, settings_of, shown
from tta_bench.analysis.load import MEASURED, AnalysisError, Run, Study, load_run, load_study, read_records
from tta_bench.analysis.plan import Allowances, TestPlan
from tta_bench.analysis.summary import summarize
from tta_bench.runner.disk import StoreError

FIRST = ("problem", "replicate", "score", "forward_passes", "seconds", "text", "error")
"""What records tell, in the order of the columns; what else was measured follows."""


def results(folder: str | Path = "outputs") -> pd.DataFrame:
    """Every record on disk, also of what failed.

    Args:
        folder: an output folder (all its runs), a report folder (the problems and replicates of its study), or one run's.

    Returns:
        A row for each run, problem and replicate. ``task``, ``model``, ``sampler``, ``settings`` (what tells the run from the
        sampler's others, in words, as in summary.csv), ``split``, ``steps`` (None where the sampler does not use them); every
        other setting in which the runs differ, by its name in ``settings``, missing where a run has no such setting;
        ``run_id``, ``problem``, ``replicate``, ``score`` (0 to 1; NaN where there is none), ``forward_passes`` (evaluations of
        the model), ``seconds`` (wall clock), ``text`` (the answer), ``error`` (type and message; None where there is none),
        ``cluster``, and what else was measured (docs/runs.md), NaN where it was not.

    Raises:
        AnalysisError: the folder holds no runs, or none that has records.

    Warns:
        UserWarning: a run cannot be read, or has no records yet, and is left out.
    """
    parts = parts_of(Path(folder))
    frame = pd.concat([part.records() for part in parts], ignore_index=True)
    return with_settings(frame, parts).sort_values(["run_id", "problem", "replicate"], ignore_index=True)


def traces(folder: str | Path = "outputs", per: str = "step") -> pd.DataFrame:
    """How the decoding of every record on disk went.

    Args:
        folder: as in ``results``.
        per: ``step`` for a row per denoising step, with means over the committed tokens (``sampling.trace.STATISTICS``);
            ``token`` for a row per step and token that stands on the canvas then, of the problems whose tokens were kept
            (``token_traces``): ``position``, ``token`` and ``gold`` (the right one; -1 where it is not known) as ids, what
            happened to it, and its signals (``sampling.trace.token_statistics``).

    Returns:
        The columns that ``results`` has from the configurations, ``run_id``, ``problem``, ``replicate``, ``score``, ``step``,
        and these statistics (entropies in nats). Replicates that were copied, because the decoding draws nothing, have no trace
        of their own.

    Raises:
        ValueError: ``per`` is something else.
        AnalysisError: the folder holds no runs, or no traces.

    Warns:
        UserWarning: as ``results``.
    """
    if per not in ("step", "token"):
        raise ValueError(f"per={per!r}: must be 'step' or 'token'")
    parts = parts_of(Path(folder))
    found = [rows for part in parts if not (rows := part.trace(per)).empty]
    if not found:
        remedy = {
            "step": "restore the folder traces/ of each, or do the runs again with tta-bench run --fresh",
            "token": "token_traces=N keeps those of the first N problems; of runs that are done, together with --fresh",
        }[per]
        raise AnalysisError(f"{folder}: no run has traces of {per}s; {remedy}")
    frame = with_settings(pd.concat(found, ignore_index=True), parts)
    order = ["run_id", "problem", "replicate", "step", *(["position"] if per == "token" else [])]
    return frame.sort_values(order, ignore_index=True)


def summary(
    folder: str | Path = "outputs",
    *,
    baseline: str | None = None,
    margin: float | None = None,
    alpha: float | None = None,
    n_resamples: int | None = None,
    n_bootstrap: int | None = None,
    seed: int | None = None,
    bayes: bool | None = None,
    allow_missing: bool = False,
    allow_differences: bool = False,
) -> pd.DataFrame:
    """The paired comparisons of a folder, with intervals and p-values: what ``tta-bench analyze`` writes to summary.csv.

    Args:
        folder: a report folder (its study, by the plan fixed before its runs), or an output folder (all runs, paired by their
            settings).
        baseline: of an output folder, the sampler that the others are compared with; None takes ``low_confidence``.
        margin, alpha, n_resamples, n_bootstrap, seed, bayes: instead of what the plan says, see ``analysis.plan.TestPlan``.
        allow_missing, allow_differences: compare all the same; ``caveat`` says what is wrong (``analysis.plan.Allowances``).

    Returns:
        A row for each run and comparison, a baseline before its candidates; the columns are explained in docs/statistics.md.
        A comparison that may not be made has no numbers, and its ``verdict`` and ``caveat`` say why.

    Raises:
        ValueError: a value of the plan is out of range, or ``baseline`` is given for a report folder.
        AnalysisError: the folder holds nothing that can be compared.

    Warns:
        UserWarning: with what a report says below its table: runs that were left out, settings that were chosen on dev, a plan
            that is not the one fixed before the runs.
    """
    folder = Path(folder)
    reported = (folder / "study.json").is_file()
    if reported and baseline is not None:
        raise ValueError(
            f"baseline={baseline}: {folder} is a report folder, whose study says what is compared; leave it out, "
            "or give the output folder"
        )
    study = load_study(folder, baseline or "low_confidence", Allowances(missing=allow_missing, differences=allow_differences))
    fixed = study.plan or TestPlan()
    asked: dict[str, Any] = {
        "margin": margin, "alpha": alpha, "n_resamples": n_resamples, "n_bootstrap": n_bootstrap, "seed": seed, "bayes": bayes,
    }  # fmt: skip
    plan = replace(fixed, **{name: value for name, value in asked.items() if value is not None})
    changed = [f"analysis settings differ from those fixed before the runs ({fixed})"] if study.plan and plan != fixed else []
    for sentence in (*study.excluded, *changed):
        warnings.warn(sentence, stacklevel=2)
    return summarize(study, plan)


@dataclass(frozen=True)
class Part:
    """A run, and what of it a folder is about.

    Attributes:
        run: from disk.
        problems: that count; None takes all.
        replicates: that count; None takes all.
    """

    run: Run
    problems: frozenset[str] | None = None
    replicates: int | None = None

    def records(self) -> pd.DataFrame:
        """The columns of ``results`` that records tell."""
        assert self.run.folder
        names = [*dict.fromkeys((*FIRST, "cluster", *MEASURED))]
        found = self._counted(read_records(self.run.folder, names))
        told = found["error"].map(lambda error: f"{error['type']}: {error['message']}", na_action="ignore")
        found = found.assign(run_id=self.run.run_id, error=told, score=pd.to_numeric(found["score"]))
        return found[["run_id", *names]]

    def trace(self, per: str) -> pd.DataFrame:
        """The columns of ``traces`` but those from the configuration; empty where nothing was kept."""
        assert self.run.folder
        rows = self.run.folder.traces() if per == "step" else self.run.folder.token_traces()
        if rows.empty:
            return rows
        whose = self._counted(read_records(self.run.folder, ("problem", "replicate")))
        whose = whose[["key", "problem", "replicate", "score"]].assign(score=pd.to_numeric(whose["score"]))
        return whose.merge(rows, on="key").drop(columns="key").assign(run_id=self.run.run_id)

    def _counted(self, records: pd.DataFrame) -> pd.DataFrame:
        counts = records["replicate"] < (self.replicates or float("inf"))
        return records[counts if self.problems is None else counts & records["problem"].isin(self.problems)]


def parts_of(folder: Path) -> list[Part]:
    """What a folder is about.

    Raises:
        AnalysisError: it holds no runs, or none that has records.
    """
    if (folder / "study.json").is_file():
        study = load_study(folder)
        runs = {run.run_id: run for pair in study.pairs for run in (pair.baseline, pair.candidate)}
        return [Part(run, asked_of(run, study), study.replicates) for run in runs.values()]
    if (folder / "config.yaml").is_file():
        return [Part(load_run(folder))]
    if not (folder / "runs").is_dir():
        raise AnalysisError(
            f"{folder}: holds neither runs/ (an output folder), study.json (a report folder) nor config.yaml (a run); "
            "tta-bench run makes them, in outputs if nothing else is said"
        )
    parts, unreadable = [], []
    for path in sorted(path for path in (folder / "runs").iterdir() if path.is_dir()):
        try:
            parts.append(Part(load_run(path)))
        except (AnalysisError, StoreError) as error:
            unreadable.append(str(error))
    if not parts:
        reasons = "".join(f"\n  {reason}" for reason in unreadable)
        raise AnalysisError(f"{folder}: no run in it has records; tta-bench run makes some{reasons}")
    for reason in unreadable:
        warnings.warn(f"left out: {reason}", stacklevel=3)  # of who called this module
    return parts


def asked_of(run: Run, study: Study) -> frozenset[str] | None:
    """The problems of a run that a study compares; None where it does not name them."""
    baselines = {pair.baseline.run_id for pair in study.pairs if run.run_id in (pair.baseline.run_id, pair.candidate.run_id)}
    named = [study.problems[run_id] for run_id in baselines if run_id in study.problems]
    return frozenset().union(*named) if named else None


def with_settings(frame: pd.DataFrame, parts: Sequence[Part]) -> pd.DataFrame:
    """Rows with a ``run_id``, with the columns before it that the configurations of their runs tell.

    A setting with the name of a column that ``frame`` has is called ``setting.`` + name.
    """
    runs = [part.run for part in parts]
    describe = Describer(runs)
    configured = [settings_of(run) for run in runs]
    names = list(dict.fromkeys(name for settings in configured for name in settings))
    differing = [name for name in names if len({repr(found[name]) for found in configured if name in found}) > 1]
    heads: dict[str, Any] = {
        "task": [run.task for run in runs],
        "model": [run.config["model"]["name"] for run in runs],
        "sampler": [run.sampler for run in runs],
        "settings": [describe(run) for run in runs],
        "split": [run.config["split"] for run in runs],
        "steps": column(configured, "steps"),
    }
    for name in differing:
        if name not in heads:
            heads[f"setting.{name}" if name in frame else name] = column(configured, name)
    told = pd.DataFrame(heads).assign(run_id=[run.run_id for run in runs])
    rest = [name for name in frame if name != "run_id"]
    return told.merge(frame, on="run_id")[[*heads, "run_id", *rest]]


def column(configured: Sequence[Mapping[str, Any]], name: str) -> pd.Series:
    """A setting of each run; whole numbers stay whole where some runs have none, lists are words."""
    values = [settings.get(name) for settings in configured]
    values = [shown(value) if isinstance(value, list | dict) else value for value in values]
    whole = all(isinstance(value, int) and not isinstance(value, bool) for value in values if value is not None)
    return pd.Series(values, dtype="Int64" if whole and None in values else None)
