"""Runs as a folder that the ``datasets`` library loads: records, runs, comparisons and traces as parquet, and a card."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import yaml
from pyarrow.parquet import ParquetWriter

from tta_bench.analysis.describe import settings_of, shown
from tta_bench.analysis.load import Run, load_run
from tta_bench.analysis.stats import mean_interval
from tta_bench.runner.difference import PLACES
from tta_bench.runner.disk import StoreError, make_folder, storing
from tta_bench.runner.store import Record, RunFolder

NUMBERS = (
    "score", "forward_passes", "evaluated_positions", "nfe", "filled", "cut", "lacking", "seconds", "stability", "survival",
    "efficacy", "flips", "order", "violations",
)  # fmt: skip

RECORDS = pa.schema(
    [
        *((name, pa.string()) for name in ("run_id", "task", "sampler", "split")),
        ("steps", pa.int64()),
        *((name, pa.string()) for name in ("problem", "data", "prompt", "cluster", "text")),
        ("replicate", pa.int64()),
        ("tokens", pa.list_(pa.int64())),
        *((name, pa.float64()) for name in NUMBERS),
        ("drew", pa.bool_()),
        ("copy_of", pa.string()),
        ("error", pa.string()),
        ("more", pa.string()),
    ]
)
"""The columns of records; ``more`` holds what a record tells besides, as JSON."""

IMPLIED = ("schema", "key")
"""Of a record: what its columns tell already."""

OF_AN_ERROR = ("stage", "type", "message")
"""What is told of an error. Its traceback would tell where things lie on somebody's machine."""


@dataclass(frozen=True)
class Published:
    """Where runs lie that are to be published.

    Attributes:
        runs: with at least one answer each, by name.
        report: a report folder that compares them; None where a whole output folder is published.
        left_out: sentences on runs that are not among them.
    """

    runs: tuple[Run, ...]
    report: Path | None
    left_out: tuple[str, ...] = ()


def published(folder: Path) -> Published:
    """What ``folder``, an output folder or a report folder, holds.

    Raises:
        ValueError: it is neither, or holds no run with an answer.
    """
    study = folder / "study.json"
    if study.is_file():
        try:
            told = json.loads(study.read_text())
            names = dict.fromkeys(name for pair in told["pairs"] for name in pair)
            places = [folder / told["runs"] / name for name in names]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{study}: is no study ({error!r}); repair it, or run the study again") from error
    elif (folder / "runs").is_dir():
        places = sorted(path for path in (folder / "runs").iterdir() if path.is_dir())
    else:
        raise ValueError(f"{folder}: holds neither study.json (a report folder) nor runs/ (an output folder)")
    runs, left_out = [], []
    for place in places:
        try:
            runs.append(load_run(place))
        except (ValueError, StoreError) as error:
            left_out.append(str(error))
    if not runs:
        raise ValueError("\n  ".join([f"{folder}: holds no run with an answer", *left_out]))
    return Published(tuple(runs), folder if study.is_file() else None, tuple(left_out))


def write_data(found: Published, folder: Path, *, traces: bool) -> None:
    """Write everything but the card.

    Args:
        found: what is published.
        folder: that is written to.
        traces: whether to add the statistics of every step.

    Raises:
        StoreError: it cannot be written.
        ValueError: traces are asked for, and there are none.
    """
    steps = traces_of(found.runs) if traces else None
    with storing(folder):
        make_folder(folder / "data")
        with ParquetWriter(folder / "data" / "records.parquet", RECORDS) as writer:
            for run in found.runs:
                writer.write_table(pa.Table.from_pylist(list(rows_of(run)), RECORDS))
        table_of_runs(found.runs).to_parquet(folder / "data" / "runs.parquet", index=False)
        if found.report and (found.report / "summary.csv").is_file():
            summary = comparisons(pd.read_csv(found.report / "summary.csv"), found.runs)
            summary.to_parquet(folder / "data" / "comparisons.parquet", index=False)
        if steps is not None:
            steps.to_parquet(folder / "data" / "traces.parquet", index=False)
        for run in found.runs:
            place = folder / "runs" / run.run_id
            make_folder(place)
            (place / "config.yaml").write_text(yaml.safe_dump(portable(run.config), sort_keys=False))
            (place / "manifest.json").write_text(json.dumps(run.manifest, indent=2) + "\n")


def rows_of(run: Run) -> Iterator[dict[str, Any]]:
    """The records of a run as rows of ``RECORDS``, in the order of their keys."""
    head = {"run_id": run.run_id, "task": run.task, "sampler": run.sampler}
    head |= {"split": run.config["split"], "steps": run.config["steps"]}
    for _, record in sorted(folder_of(run).records().items()):
        yield {**head, **row_of(record)}


def row_of(record: Record) -> dict[str, Any]:
    """A record's columns."""
    names = set(RECORDS.names)
    row = {key: value for key, value in record.items() if key in names}
    row["cluster"] = None if record.get("cluster") is None else str(record["cluster"])
    error = record["error"]
    row["error"] = None if error is None else json.dumps({key: error.get(key) for key in OF_AN_ERROR}, ensure_ascii=False)
    more = {key: value for key, value in record.items() if key not in names and key not in IMPLIED}
    row["more"] = json.dumps(more, ensure_ascii=False) if more else None
    return row


def table_of_runs(runs: Sequence[Run]) -> pd.DataFrame:
    """A row for each run: what it is, how it scored and what it cost; means over problems with their 95 % t interval.

    A run that is not ``complete`` has no score.
    """
    rows = []
    for run in runs:
        names = list(run.problems)
        found = mean_interval(run.values("score", names), clusters=run.clusters(names)) if complete(run) else None
        score = {"score": found.value, "score_ci_low": found.ci_low, "score_ci_high": found.ci_high} if found else {}
        rows.append(
            {
                "run_id": run.run_id,
                "task": run.task,
                "sampler": run.sampler,
                "model": portable(run.config)["model"]["name"],
                "model_fingerprint": run.config["model"]["fingerprint"],
                "split": run.config["split"],
                "steps": run.config["steps"],
                "n_problems": len(run.problems),
                "n_records": len(run.records),
                "n_errors": len(run.failures),
                "score": None,
                "score_ci_low": None,
                "score_ci_high": None,
                **score,
                "forward_passes": run.records["forward_passes"].astype(float).mean(),
                "config": json.dumps(portable(run.config)),
            }
        )
    return pd.DataFrame(rows).astype({"steps": "Int64", "score": float, "score_ci_low": float, "score_ci_high": float})


def complete(run: Run) -> bool:
    """Whether nothing of a run failed and every problem has all replicates, so that a mean over problems means something."""
    counts = run.records.groupby("problem").size()
    return run.failures.empty and bool(counts.min() == counts.max())


def comparisons(summary: pd.DataFrame, runs: Sequence[Run]) -> pd.DataFrame:
    """A report's summary.csv with file names in place of paths."""
    words = shorter_words(runs)
    found = summary.map(lambda cell: with_words(cell, words) if isinstance(cell, str) else cell)
    return found.assign(model=summary["model"].map(without_folder))


def shorter_words(runs: Sequence[Run]) -> dict[str, str]:
    """Settings with paths, as a report has them in a word each (which may be cut), and the same with file names."""
    found = {}
    for run in runs:
        names = settings_of(replace(run, config=portable(run.config)))
        for key, value in settings_of(run).items():
            if value != names[key]:
                found[f"{key}={shown(value)}"] = f"{key}={shown(names[key])}"
    return found


def with_words(text: str, words: Mapping[str, str]) -> str:
    """A text in which some words are replaced by others."""
    return re.sub(r"\S+", lambda word: words.get(word[0], word[0]), text)


def traces_of(runs: Sequence[Run]) -> pd.DataFrame:
    """A row for each run, key and step.

    Raises:
        ValueError: there are none.
    """
    parts = [frame.assign(run_id=run.run_id) for run in runs if len(frame := folder_of(run).traces())]
    if not parts:
        raise ValueError("--traces: these runs have none; leave it out")
    found = pd.concat(parts)
    return found[["run_id", *(str(name) for name in found if name != "run_id")]]


def folder_of(run: Run) -> RunFolder:
    """A run's folder; it has one, as it was read from there."""
    assert run.folder
    return run.folder


def portable(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with file names in place of paths, which concern nobody but the machine they are on."""
    model = {**config["model"], "name": without_folder(config["model"]["name"])}
    task = {key: without_folder(value) if key in PLACES else value for key, value in config["task"].items()}
    return {**config, "model": model, "task": task}


def without_folder(value: Any) -> Any:
    """The last part of a path of this machine; anything else as it is."""
    local = isinstance(value, str) and (Path(value).is_absolute() or Path(value).exists() or value.startswith((".", "~")))
    return Path(value).name if local else value
