from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

from experiments.constraints import __main__ as constraints


@pytest.mark.slow
def test_the_cost_of_constraints_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["constraints", "--rounds", "1", "--folder", str(tmp_path)])
    monkeypatch.setattr(constraints, "BATCH", 2)
    monkeypatch.setattr(constraints, "STEPS", 2)
    constraints.main()
    frame = pd.read_csv(tmp_path / "table.csv")
    assert (frame["asked_per_step"] >= 1).all()
    assert len((tmp_path / "table.md").read_text().splitlines()) == 2 + len(frame) == 2 + 2 * (7 + 8)


def test_the_committed_table_is_that_of_its_numbers_and_within_a_fifth_of_a_step() -> None:
    frame = pd.read_csv(constraints.HERE / "table.csv")
    assert constraints.table(frame) == (constraints.HERE / "table.md").read_text()
    assert (frame["share"] < 0.2).all()
