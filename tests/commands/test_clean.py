from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest

from tests.commands.runs import make_run
from tta_bench import cli
from tta_bench.commands.clean import Candidate
from tta_bench.runner.disk import StoreError
from tta_bench.runner.store import RunFolder

Clean = Callable[..., tuple[int, str]]
"""Of the line that is answered and the names of runs: the exit code, and what was said."""


@pytest.fixture
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Clean:
    def cleaned(answer: str, *names: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.stdin", StringIO(answer))
        code = cli.main(["clean", *names, str(tmp_path)])
        said = capsys.readouterr()
        return code, said.out + said.err

    return cleaned


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if "locks" not in path.parts}


@pytest.fixture
def litter(tmp_path: Path) -> set[str]:
    """An output folder with one good run, and what nobody will miss; returns the names of that."""
    good = make_run(tmp_path, "good")
    make_run(tmp_path, "empty", n_problems=0)
    bare = tmp_path / "runs" / "bare"
    bare.mkdir()
    torn = make_run(tmp_path, "torn", n_problems=0)
    (torn.path / "records.jsonl").write_text('{"key": "dev-0')
    (torn.path / "words.json").write_text("{}")  # written before the first record
    (good.path / "traces").mkdir()
    parts = [good.path / ".manifest.json.7.part", good.path / "traces" / ".a.parquet.7.part"]
    for part in parts:
        part.write_text("x")
    retired = make_run(tmp_path, "old").retire()
    (tmp_path / "replaced" / "link").symlink_to(good.path)
    return {str(path.relative_to(tmp_path)) for path in (bare, torn.path, tmp_path / "runs" / "empty", *parts, retired)} | {
        "replaced/link"
    }


@pytest.mark.usefixtures("litter")
@pytest.mark.parametrize("answer", ["", "\n", "n\n", "yep\n", "y y\n"])
def test_nothing_is_deleted_unless_yes_is_said(answer: str, tmp_path: Path, clean: Clean) -> None:
    before = everything(tmp_path)
    code, said = clean(answer)
    assert code == 0
    assert said.endswith("nothing was deleted\n")
    assert everything(tmp_path) == before


@pytest.mark.parametrize("answer", ["y\n", "yes\n", "Y", " YES \n"])
def test_what_nobody_will_miss_is_listed_and_deleted(answer: str, litter: set[str], tmp_path: Path, clean: Clean) -> None:
    before = everything(tmp_path)
    code, said = clean(answer)
    assert code == 0
    assert f"Delete these {len(litter)}? [y/N]" in said
    assert f"deleted {len(litter)} of {len(litter)}" in said
    listed = "".join(line.strip() for line in said.splitlines())
    assert all(f"{tmp_path / name}" in listed for name in litter)
    gone = before - everything(tmp_path)
    assert gone == {name for name in before if any(name == part or name.startswith(f"{part}/") for part in litter)}
    assert clean("y\n") == (0, f"{tmp_path}: there is nothing to clean\n")


def test_what_is_at_work_is_neither_listed_nor_deleted(tmp_path: Path, clean: Clean) -> None:
    run, full = make_run(tmp_path, "empty", n_problems=0), make_run(tmp_path, "full")
    (full.path / ".part.part").write_text("x")
    before = everything(tmp_path)
    with run.claimed(), full.claimed():
        assert clean("y\n") == (0, f"{tmp_path}: there is nothing to clean\n")
        code, said = clean("y\n", "full")
        assert (code, "full: a process is at work on this run; stop it, or leave the run out" in said) == (2, True)
    assert everything(tmp_path) == before


def test_a_run_is_deleted_by_its_name_and_no_other(tmp_path: Path, clean: Clean) -> None:
    for name in ("json-a", "json-b", "json-c"):
        make_run(tmp_path, name)
    code, said = clean("y\n", "json-a", "json-c", "json-a")
    assert (code, "Delete these 2?" in said) == (0, True)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["json-b"]


def test_a_run_in_a_report_is_warned_of(tmp_path: Path, clean: Clean) -> None:
    make_run(tmp_path, "json-a")
    make_run(tmp_path, "json-b")
    report = tmp_path / "reports" / "mine"
    report.mkdir(parents=True)
    (report / "study.json").write_text(json.dumps({"pairs": [["json-b", "x"]]}))
    assert f"warning: json-b is in {report}" in clean("n\n", "json-b")[1]
    assert "warning" not in clean("n\n", "json-a")[1]


def test_a_folder_with_something_else_in_it_is_not_proposed(tmp_path: Path, clean: Clean) -> None:
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "thesis.tex").write_text("x")
    broken = make_run(tmp_path, "broken")
    (broken.path / "records.jsonl").write_text("{broken\n")
    assert clean("y\n") == (0, f"{tmp_path}: there is nothing to clean\n")


class Answered:
    """A standard input on which something happens before the answer is given."""

    def __init__(self, happens: object) -> None:
        self.happens = happens

    def readline(self) -> str:
        self.happens()  # type: ignore[operator]
        return "y\n"


def test_a_run_that_began_while_the_question_stood_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    taken, filled, empty = (make_run(tmp_path, name, n_problems=0) for name in ("taken", "filled", "empty"))
    claim = taken.claimed()

    def happens() -> None:
        claim.__enter__()
        make_run(tmp_path, "filled")

    monkeypatch.setattr("sys.stdin", Answered(happens))
    try:
        assert cli.main(["clean", str(tmp_path)]) == 1
    finally:
        claim.__exit__(None, None, None)
    said = " ".join(capsys.readouterr().out.split())
    assert f"left alone: {taken.path}: a process is at work on this run now" in said
    assert f"left alone: {filled.path}: has got records since it was listed" in said
    assert "deleted 1 of 3" in said
    assert taken.path.exists()
    assert len(filled.records()) == 4
    assert not empty.path.exists()


def test_what_cannot_be_deleted_is_an_error_with_its_reason(tmp_path: Path) -> None:
    gone = RunFolder(tmp_path / "runs" / "gone")
    for candidate in (
        Candidate(gone.path, "replaced"),
        Candidate(gone.path, "empty", gone),
        Candidate(gone.path, "x", gone, True),
    ):
        with pytest.raises(StoreError, match="gone"):
            candidate.delete()
