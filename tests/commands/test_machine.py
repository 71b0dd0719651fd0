"""What machines read: JSON on standard output, and nothing else there."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from tests.quick import QUICK
from tta_bench import cli
from tta_bench.analysis.sparkline import BARS, print_evolution, sparkline


def test_run_analyze_and_ls_print_json_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "task=json", "n_problems=4", "steps=4", "--json", *QUICK, f"output_dir={tmp_path}"]
    assert cli.main(words) == 0
    said = capsys.readouterr()
    told = json.loads(said.out)
    base, candidate = told["summary"]
    assert (base["sampler"], candidate["sampler"]) == ("low_confidence", "tta")
    assert base["delta"] is None
    assert candidate["delta"] == pytest.approx(candidate["score"] - base["score"])
    assert Path(told["report"]).is_file()
    assert "4 generated" in said.err
    assert "entropy over the steps" in said.err

    assert cli.main(["analyze", told["folder"], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["summary"][1]["delta"] == candidate["delta"]

    assert cli.main(["ls", str(tmp_path), "--json"]) == 0
    assert {run["task"] for run in json.loads(capsys.readouterr().out)["runs"]} == {"json"}


def test_a_command_without_json_says_which_have_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--json"]) == 2
    said = capsys.readouterr()
    assert (said.out, "run, analyze, ls" in said.err) == ("", True)


def test_a_refused_command_prints_no_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "steps=x", "--json"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "steps" in said.err


def test_a_bar_for_each_step_on_one_scale() -> None:
    assert sparkline([0.0, 0.5, 1.0], 1.0) == BARS[0] + BARS[4] + BARS[-1]
    assert sparkline([0.0, 0.5], 2.0) == BARS[0] + BARS[2]
    assert sparkline([0.0], 0.0) == BARS[0]
    assert len(sparkline(list(range(100)), 100.0)) == 24


def test_the_lines_tell_right_from_wrong() -> None:
    frame = pd.DataFrame(
        {
            "task": "t", "sampler": "tta", "outcome": ["right", "right", "wrong", "wrong"], "n": [3, 3, 2, 2],
            "quantity": "entropy", "step": [1, 2, 1, 2], "value": [0.0, 0.1, 0.2, 0.8],
        }
    )  # fmt: skip
    console = Console(file=StringIO(), width=100)
    print_evolution(pd.concat([frame, frame.assign(task="u", value=100.0)]), console)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "0 to 0.80" in text
    assert f"{BARS[0]}{BARS[1]} (n = 3)" in text
    assert f"{BARS[2]}{BARS[7]} (n = 2)" in text
    quiet = Console(file=StringIO())
    print_evolution(pd.DataFrame(), quiet)
    assert quiet.file.getvalue() == ""  # type: ignore[attr-defined]
