from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

from experiments.caches import __main__ as caches


@pytest.mark.slow
def test_the_study_of_caches_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["caches", "--n-problems", "3", "--folder", str(tmp_path)])
    monkeypatch.setattr(caches, "SETTINGS", caches.SETTINGS[-1:])
    caches.main()
    frame = pd.read_csv(tmp_path / "table.csv")
    assert (frame["evaluated"] < 1).all()
    assert len((tmp_path / "table.md").read_text().splitlines()) == 2 + len(frame) == 2 + 8


def test_the_committed_table_is_that_of_its_numbers() -> None:
    frame = pd.read_csv(caches.HERE / "table.csv")
    assert caches.table(frame) == (caches.HERE / "table.md").read_text()
    assert (frame["n_problems"] == 200).all()
