"""What lies in an output folder, for comparison with what another command left in another."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pandas as pd

from tta_bench.analysis.summary import TIMING_COLUMNS
from tta_bench.runner.store import RunFolder

SECONDS = 240
"""That other processes may take to begin, on a busy machine."""


def records(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """All records by run and key, without what time they took; a key that is there twice is an error."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for run in sorted((folder / "runs").iterdir()):
        for record in RunFolder(run).lines():
            key = run.name, record["key"]
            assert key not in found, f"{key} was done twice"
            found[key] = {name: value for name, value in record.items() if name != "seconds"}
    return found


def traces(folder: Path) -> list[pd.DataFrame]:
    runs = sorted((folder / "runs").iterdir())
    return [RunFolder(run).traces().sort_values(["key", "step"], ignore_index=True) for run in runs]


def summary(folder: Path) -> str:
    return pd.read_csv(folder / "reports" / "default" / "summary.csv").drop(columns=list(TIMING_COLUMNS)).to_csv()


def n_records(folder: Path) -> int:
    return sum(file.read_bytes().count(b"\n") for file in folder.glob("runs/*/records.jsonl"))


def wait_for(folder: Path, n: int) -> None:
    until = time.monotonic() + SECONDS
    while n_records(folder) < n:
        assert time.monotonic() < until, f"{folder}: only {n_records(folder)} records"
        time.sleep(0.01)
