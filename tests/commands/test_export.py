"""``tta-bench export`` without Inspect; with it: tests/integrations/test_inspect.py."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.commands.runs import make_run
from tta_bench import cli
from tta_bench.commands.export import destination


def refused(words: list[str], capsys: pytest.CaptureFixture) -> str:
    assert cli.main(["export", *words]) == 2
    return str(capsys.readouterr().err)


def test_where_logs_go_is_told_anywhere() -> None:
    for words in (["--to", "there", "run", "out"], ["run", "--to=there", "out"], ["run", "out", "--to", "there"]):
        assert destination(words) == (["run", "out"], Path("there"))


def test_what_is_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    make_run(tmp_path, "json-tta-1", n_problems=1)
    monkeypatch.setitem(sys.modules, "inspect_ai.log", None)
    to = ["--to", str(tmp_path / "logs")]
    assert "export: --to FOLDER is missing" in refused(["json-tta-1", str(tmp_path)], capsys)
    assert "export: names no run" in refused([str(tmp_path), *to], capsys)
    assert "no run in" in refused(["sudoku", str(tmp_path), *to], capsys)
    assert 'is not installed; pip install "tta_bench[inspect]"' in refused(["json-tta-1", str(tmp_path), *to], capsys)
    assert not (tmp_path / "logs").exists()


def test_logs_may_go_where_runs_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    make_run(tmp_path / "outputs", "json-tta-1", n_problems=1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "inspect_ai.log", None)
    assert "is not installed" in refused(["json-tta-1", "--to", "outputs"], capsys)
