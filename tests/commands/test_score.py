from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.commands.runs import make_run, right_up_to
from tta_bench import cli
from tta_bench.runner.environment import source_digest
from tta_bench.runner.store import RunFolder
from tta_bench.tasks.base import Problem
from tta_bench.tasks.json_record import JsonRecord


def lenient(_: JsonRecord, problem: Problem, text: str) -> float:
    """Half a point for an empty object."""
    return float(text == problem.target) or 0.5 * (text == "{}")


def failing(*_: object) -> float:
    raise ZeroDivisionError("the scorer is broken")


def test_scores_that_change_are_superseded_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    run = make_run(tmp_path, "json-tta-1", right_up_to(2))
    before = run.records()
    n_bytes = (run.path / "records.jsonl").read_bytes()
    monkeypatch.setattr(JsonRecord, "score", lenient)
    assert cli.main(["score", "json", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "json-tta-1: 2 of 4 scores changed; mean 50.0 [-41.9, 141.9] before, 75.0 [29.1, 120.9] now" in said
    assert (run.path / "records.jsonl").read_bytes().startswith(n_bytes)
    assert len(list(run.lines())) == 6
    after = run.records()
    assert [record["score"] for record in after.values()] == [1, 1, 0.5, 0.5]
    assert all(after[key] | {"score": before[key]["score"]} == before[key] for key in before)
    manifest, source = run.manifest(), source_digest("tta_bench.tasks.json_record.JsonRecord")
    assert (manifest["status"], manifest["n_records"], manifest["n_errors"]) == ("done", 4, 0)
    assert [entry | {"time": 0} for entry in manifest["rescored"]] == [{"time": 0, "task_code": source, "n_changed": 2}]
    assert [place["task_code"] for place in manifest["environments"]] == [source]


def test_a_second_time_nothing_changes(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = make_run(tmp_path, "json-tta-1", right_up_to(2))
    for _ in range(2):
        assert cli.main(["score", "json", str(tmp_path)]) == 0
    assert "0 of 4 scores changed" in capsys.readouterr().out
    assert len(list(run.lines())) == 4
    assert [entry["n_changed"] for entry in run.manifest()["rescored"]] == [0, 0]


def test_a_scorer_that_fails_leaves_the_answer_and_an_error_that_a_later_one_lifts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    run = make_run(tmp_path, "json-tta-1")
    texts = [record["text"] for record in run.records().values()]
    with monkeypatch.context() as patch:
        patch.setattr(JsonRecord, "score", failing)
        assert cli.main(["score", "json", str(tmp_path)]) == 1
        assert "4 of 4 scores changed; mean 100.0 [100.0, 100.0] before, none now" in capsys.readouterr().out
        failed = list(run.records().values())
        assert {(r["error"]["stage"], r["error"]["type"], r["score"]) for r in failed} == {("score", "ZeroDivisionError", None)}
        assert "in failing" in failed[0]["error"]["traceback"]
        assert [record["text"] for record in failed] == texts
        assert (run.manifest()["status"], run.manifest()["n_records"], run.manifest()["n_errors"]) == ("incomplete", 0, 4)
        assert cli.main(["score", "json", str(tmp_path)]) == 1
        assert len(list(run.lines())) == 8  # the same error again is no news
    assert cli.main(["score", "json", str(tmp_path)]) == 0
    assert [(r["score"], r["error"]) for r in run.records().values()] == [(1.0, None)] * 4
    assert run.manifest()["status"] == "done"


def test_what_was_not_generated_is_not_scored(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    status = {"status": "interrupted"}
    run = make_run(tmp_path, "json-tta-1", lambda p, i, _: ValueError("x") if i else p.target, manifest=status)
    assert cli.main(["score", "json", str(tmp_path)]) == 0
    assert "0 of 1 scores changed" in capsys.readouterr().out
    assert len(list(run.lines())) == 4
    # What was interrupted still is.
    assert (run.manifest()["status"], run.manifest()["n_errors"]) == ("interrupted", 3)
    make_run(tmp_path, "empty", n_problems=0)
    assert cli.main(["score", "empty", str(tmp_path)]) == 0
    assert "empty: no answers" in capsys.readouterr().out


def test_another_version_of_the_task_is_refused_before_any_run_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    runs = [make_run(tmp_path, "sudoku-tta-1", task="sudoku", n_problems=1), make_run(tmp_path, "json-tta-1")]
    monkeypatch.setattr(JsonRecord, "version", "2")
    assert cli.main(["score", "sudoku", "json", str(tmp_path)]) == 2
    assert "task json: the run was made with version 1, the present one is 2" in capsys.readouterr().err
    assert not any("rescored" in run.manifest() for run in runs)


def test_a_problem_that_is_not_the_answered_one_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = make_run(tmp_path, "json-tta-1")
    file = run.path / "records.jsonl"
    file.write_text(file.read_text().replace('"data": "', '"data": "0'))
    assert cli.main(["score", "json", str(tmp_path)]) == 2
    assert "another problem under the name of its record" in capsys.readouterr().err
    assert len(list(run.lines())) == 4


def test_a_run_in_work_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = make_run(tmp_path, "json-tta-1")
    with run.claimed():
        assert cli.main(["score", "json", str(tmp_path)]) == 2
    assert "another process is at work on this run" in capsys.readouterr().err
    assert "rescored" not in run.manifest()


def test_reports_with_the_old_scores_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    make_run(tmp_path, "json-tta-1", right_up_to(1))
    report = tmp_path / "reports" / "mine"
    report.mkdir(parents=True)
    (report / "study.json").write_text(json.dumps({"pairs": [["x", "json-tta-1"]]}))
    assert cli.main(["score", "json", str(tmp_path)]) == 0
    assert "old scores" not in capsys.readouterr().out
    monkeypatch.setattr(JsonRecord, "score", lenient)
    assert cli.main(["score", "json", str(tmp_path)]) == 0
    assert f"{report} has the old scores; tta-bench analyze {report}" in capsys.readouterr().out


def test_runs_of_version_1_are_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(Path(__file__).parents[1] / "runner" / "data" / "version_1" / "runs", tmp_path / "runs")
    monkeypatch.setattr(JsonRecord, "score", lambda *_: 0.25)
    assert cli.main(["score", "json-tta", str(tmp_path)]) == 0
    run = RunFolder(tmp_path / "runs" / "json-tta-2524ded153f1")
    assert [record["score"] for record in run.records().values()] == [0.25] * 5
    assert run.manifest()["packages"]["torch"] == "2.13.0+cpu"
