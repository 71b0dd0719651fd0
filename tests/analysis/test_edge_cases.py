"""What ``tta-bench analyze`` says where there is nothing to analyse: a sentence, exit code 2, no traceback."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.analysis.folders import write_run
from tta_bench import cli

HALF = np.tile([[0.0], [1.0]], (20, 1))
WORDS = ["analysis.n_resamples=99", "analysis.n_bootstrap=200"]


def analyze(folder: Path, capsys: pytest.CaptureFixture, *words: str) -> tuple[int, str, str]:
    code = cli.main(["analyze", str(folder), *WORDS, *words])
    said = capsys.readouterr()
    assert "Traceback" not in said.out + said.err
    return code, said.out, said.err


def base(folder: Path, scores: np.ndarray = HALF, **more: object) -> None:
    write_run(folder, {"name": "low_confidence"}, scores, **more)


def other(folder: Path, scores: np.ndarray = 1 - HALF, **more: object) -> None:
    write_run(folder, {"name": "tta"}, scores, **more)


def test_nothing_there(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        code, _, err = analyze(folder, capsys)
        assert code == 2
        assert "holds neither study.json (a report folder) nor runs/ (an output folder)" in err
    (tmp_path / "runs").mkdir()
    code, _, err = analyze(tmp_path, capsys)
    assert code == 2
    assert "no candidate has a low_confidence run to be compared with" in err


def test_one_run(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    base(tmp_path)
    code, _, err = analyze(tmp_path, capsys)
    assert code == 2
    assert "no candidate has a low_confidence run to be compared with" in err


def test_one_problem(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    base(tmp_path, HALF[:1])
    other(tmp_path, 1 - HALF[:1])
    code, out, err = analyze(tmp_path, capsys)
    assert code == 2
    assert err == "tta-bench: one problem: no interval or test is possible; do more problems (n_problems)\n"
    assert "[n/a]" in out  # what there is, is told


def test_no_common_problems(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    base(tmp_path)
    other(tmp_path, first=100)
    for words in ((), ("analysis.allow_missing=true",)):
        code, _, err = analyze(tmp_path, capsys, *words)
        assert code == 2
        assert "toy-low_confidence-test-8- and toy-tta-test-8-: no problem is done in both" in err
        assert "40 of 80 problems missing (40 not done yet)" in err


def test_all_errors(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    base(tmp_path)
    other(tmp_path, np.full((40, 1), np.nan))
    code, _, err = analyze(tmp_path, capsys)
    assert code == 2
    assert "toy-tta-test-8-: 40 of 40 problems missing (40 ModelOutputError)" in err


@pytest.mark.parametrize("text", ["null", "NaN"])
def test_scores_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture, text: str) -> None:
    base(tmp_path)
    other(tmp_path)
    file = tmp_path / "runs" / "toy-tta-test-8-" / "records.jsonl"
    file.write_text(file.read_text().replace('"score":0.0', f'"score":{text}').replace('"score":1.0', f'"score":{text}'))
    code, _, err = analyze(tmp_path, capsys)
    assert code == 2
    assert ("40 of 40 problems missing (40 NoScore)" if text == "null" else "records.jsonl, line 1: not a record") in err


def test_some_scores_that_are_none_are_named_and_left_out_if_allowed(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    base(tmp_path)
    other(tmp_path)
    file = tmp_path / "runs" / "toy-tta-test-8-" / "records.jsonl"
    file.write_text(file.read_text().replace('"score":0.0', '"score":null', 3))
    code, _, err = analyze(tmp_path, capsys)
    assert code == 2
    assert "3 of 40 problems missing (3 NoScore)" in err
    code, out, _ = analyze(tmp_path, capsys, "analysis.allow_missing=true")
    assert code == 0
    assert "3 of 40 problems missing (3 NoScore)" in " ".join(out.split())


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_constant_scores(tmp_path: Path, capsys: pytest.CaptureFixture, score: float) -> None:
    base(tmp_path, HALF * 0 + score)
    other(tmp_path, HALF * 0 + score)
    code, out, err = analyze(tmp_path, capsys)
    assert code == 2
    assert err == (f"tta-bench: every score is {score:g}: nothing tells the samplers apart; choose other problems or steps\n")
    assert "identical outputs" in (tmp_path / "reports" / "all" / "summary.csv").read_text()
    assert "low_confidence" in out


def test_one_identical_candidate_among_others_is_no_reason_to_stop(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    base(tmp_path)
    other(tmp_path)
    write_run(tmp_path, {"name": "margin"}, HALF)
    code, out, _ = analyze(tmp_path, capsys)
    assert code == 0
    (line,) = [line for line in out.splitlines() if "margin" in line]
    assert "+0.0 [0.0, 0.0]" in line
    assert "1.000" in line


def test_a_broken_claim_file_or_table_is_written_again(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    base(tmp_path)
    other(tmp_path)
    assert analyze(tmp_path, capsys)[0] == 0
    report = tmp_path / "reports" / "all"
    first = {file.name: file.read_bytes() for file in report.rglob("*.csv")}
    (report / "claims.json").write_text("{")
    (report / "tables" / "selection.csv").write_text("of a table that there is no more")
    (report / "tables" / "mine.csv").write_text("of the user")
    assert analyze(tmp_path, capsys)[0] == 0
    assert (report / "tables" / "mine.csv").read_text() == "of the user"
    (report / "tables" / "mine.csv").unlink()
    json.loads((report / "claims.json").read_text())
    assert {file.name: file.read_bytes() for file in report.rglob("*.csv")} == first


def test_the_order_of_records_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    rng = np.random.default_rng(0)
    base(tmp_path, rng.integers(0, 2, size=(50, 2)).astype(float))
    other(tmp_path, rng.integers(0, 2, size=(50, 2)).astype(float))
    assert analyze(tmp_path, capsys)[0] == 0
    report = tmp_path / "reports" / "all"
    first = {file.name: file.read_bytes() for file in report.rglob("*.csv")}
    for file in (tmp_path / "runs").glob("*/records.jsonl"):
        lines = file.read_text().splitlines(keepends=True)
        file.write_text("".join(lines[i] for i in rng.permutation(len(lines))))
    assert analyze(tmp_path, capsys)[0] == 0
    assert {file.name: file.read_bytes() for file in report.rglob("*.csv")} == first
