"""Trackers are told of runs, and can make none of them fail."""

from __future__ import annotations

import importlib.machinery
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from rich.console import Console

from tests.quick import QUICK
from tta_bench import cli
from tta_bench.integrations import trackers
from tta_bench.runner.progress import Display
from tta_bench.runner.settings import comparison
from tta_bench.runner.store import RunFolder
from tta_bench.runner.study import run_comparison


class FakeRun:
    """A run of a tracker that writes down what it is told.

    Attributes:
        module: that began it.
        begun_with: what it was told then.
        logged, finished: what it was told after that.
    """

    def __init__(self, module: Fake, begun_with: dict[str, Any]) -> None:
        self.module, self.begun_with = module, begun_with
        self.logged: list[dict[str, Any]] = []
        self.finished = False

    def log(self, metrics: dict[str, Any]) -> None:
        self.module.fail_in("log")
        self.logged.append(metrics)

    def finish(self) -> None:
        self.module.fail_in("finish")
        self.finished = True


class Fake(ModuleType):
    """Stands for wandb and trackio."""

    def __init__(self, name: str, fails_in: str = "") -> None:
        super().__init__(name)
        self.__spec__ = importlib.machinery.ModuleSpec(name, None)
        self.fails_in, self.runs = fails_in, []

    def fail_in(self, verb: str) -> None:
        if verb == self.fails_in:
            raise ConnectionError("no network")

    def init(self, **told: Any) -> FakeRun:
        self.fail_in("init")
        self.runs.append(FakeRun(self, told))
        return self.runs[-1]


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """What is broken stays so in a process, but must not in the next test."""
    trackers.tracker.cache_clear()
    yield
    trackers.tracker.cache_clear()


def run(folder: Path, *words: str) -> None:
    """What ``tta-bench run`` does, without the report."""
    fixed = ("task=json", "n_problems=4", "steps=2", "batch_size=2", f"output_dir={folder}")
    asked = comparison(cli.compose([*fixed, *words]))
    with Display(Console(quiet=True), 8).shown() as display:
        run_comparison(asked, display)


def fake(monkeypatch: pytest.MonkeyPatch, name: str, fails_in: str = "") -> Fake:
    module = Fake(name, fails_in)
    monkeypatch.setitem(sys.modules, name, module)
    return module


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_tracker_is_told_settings_progress_and_summary(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tta_bench.runner.execute.GROUP_SECONDS", 0.0)  # store, and tell, every batch
    module = fake(monkeypatch, name)
    run(tmp_path, f"tracker={name}", "tracker_project=mine", "name=study")
    assert len(module.runs) == 2
    for made in module.runs:
        folder = RunFolder(tmp_path / "runs" / made.begun_with["name"])
        scores = {key: record["score"] for key, record in folder.records().items()}
        assert (made.begun_with["project"], made.begun_with["group"]) == ("mine", "study")
        config = {**folder.config(), "n_problems": 4, "replicates": 1}
        assert made.begun_with["config"] == config
        first = [score for _, score in sorted(scores.items())][:2]
        assert made.logged[0] == {"records": 2, "errors": 0, "score_so_far": sum(first) / 2}
        assert made.logged[-2]["records"] == 4
        assert made.logged[-1]["summary/score"] == made.logged[-2]["score_so_far"] == sum(scores.values()) / 4
        assert made.logged[-1]["summary/forward_passes"] == 2
        assert made.finished
        assert ("id" in made.begun_with) == (name == "wandb")
    run(tmp_path, f"tracker={name}")
    assert len(module.runs) == 2, "a run of which nothing was done was begun"


def test_a_tracker_is_no_part_of_what_a_run_is(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, "wandb")
    ids = [[spec.run_id for spec in comparison(cli.compose(["task=json", *words])).runs] for words in ([], ["tracker=wandb"])]
    assert ids[0] == ids[1]


@pytest.mark.parametrize("verb", ["init", "log", "finish"])
def test_a_tracker_that_fails_is_told_of_once_and_changes_nothing(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    fake(monkeypatch, "wandb", fails_in=verb)
    run(tmp_path, "tracker=wandb")
    said = capsys.readouterr().err
    assert said.count("tta-bench: warning: tracker=wandb failed") == 1
    assert "the runs go on: ConnectionError: no network" in said
    for path in (tmp_path / "runs").iterdir():
        assert RunFolder(path).manifest()["status"] == "done"


def test_a_tracker_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["run", "tracker=wanddb"]) == 2
    assert "unknown tracker 'wanddb'; did you mean wandb" in capsys.readouterr().err
    monkeypatch.setattr(trackers, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r'tracker=trackio needs trackio: pip install "tta_bench\[trackio\]"'):
        trackers.Tracking("trackio", "mine")
    with pytest.raises(ValueError, match="tracker_project: must be a name"):
        trackers.Tracking("trackio", "")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "left"), [("wandb", "*/offline-run-*/*.wandb"), ("trackio", "*.db")])
def test_the_real_ones_take_it_offline(name: str, left: str, tmp_path: Path) -> None:
    pytest.importorskip(name)
    words = ["run", "task=json", "n_problems=4", "steps=2", f"tracker={name}", f"output_dir={tmp_path}", *QUICK]
    places = {"WANDB_MODE": "offline", "WANDB_CACHE_DIR": str(tmp_path), "TRACKIO_DIR": str(tmp_path)}
    code = f"import sys; from tta_bench.cli import main; sys.exit(main({words!r}))"
    made = subprocess.run([sys.executable, "-c", code], env={**os.environ, **places}, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert "warning: tracker" not in made.stderr
    assert len(list(tmp_path.glob(left))) == (2 if name == "wandb" else 1)
