"""The notebook runs, cell by cell, in one namespace; a kernel of Jupyter would bring two dozen packages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib
import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs" / "results.ipynb"


def test_the_notebook_is_stored_without_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    assert {cell["cell_type"] for cell in cells} == {"markdown", "code"}
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells if cell["cell_type"] == "code")


def test_the_notebook_runs_and_its_paired_test_is_that_of_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    names: dict[str, Any] = {"__name__": "notebook"}
    for number, cell in enumerate(json.loads(NOTEBOOK.read_text())["cells"]):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{NOTEBOOK}, cell {number}", "exec", dont_inherit=True), names)
    assert names["code"] == 0
    assert names["frame"].groupby("sampler").size().to_dict() == {"low_confidence": 40, "random_remask": 40, "tta": 40}
    assert [line.get_label() for line in names["axis"].get_lines()] == ["right", "wrong"]
    row = names["table"].set_index("sampler").loc["tta"]
    found = names["found"]
    assert (found.delta, found.ci_low, found.p_value) == pytest.approx((row["delta"], row["delta_ci_low"], row["p_value"]))
    assert f"p = {row['p_value']:.3f}" in capsys.readouterr().out
