"""Kills at any moment, several processes at once: what ends up on disk is what one undisturbed process leaves."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from tests.quick import QUICK
from tests.runner.processes import Child, fork
from tta_bench import cli
from tta_bench.analysis.load import Pair, Study, load_run
from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.summary import TIMING_COLUMNS, summarize
from tta_bench.models.checkpoint import ModelSettings
from tta_bench.runner import disk
from tta_bench.runner.execute import execute
from tta_bench.runner.progress import Display
from tta_bench.runner.settings import Comparison, comparison
from tta_bench.runner.spec import RunSpec
from tta_bench.runner.store import RunFolder
from tta_bench.runner.study import model_source, run_comparison

GROUP_SECONDS = 0.02
"""Small, so that a short run has much to store, and some of it together."""

SETTINGS = ("task=json", "n_problems=16", "steps=2", "batch_size=2")


def settings(folder: Path, *overrides: str) -> Comparison:
    return comparison(cli.compose([*SETTINGS, *overrides, f"output_dir={folder}"]))


def work_on(found: Comparison, spec: RunSpec) -> None:
    """One run only."""
    model = model_source(ModelSettings("mini"), "cpu", "float32")
    execute(spec, found.task, found.problems, found.replicates, output_dir=found.output_dir, model=model, effort=found.effort)


def work(found: Comparison) -> None:
    with Path(os.devnull).open("w") as nowhere:
        run_comparison(found, Display(Console(file=nowhere), 1))


@pytest.fixture(autouse=True)
def stores_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tta_bench.runner.execute.GROUP_SECONDS", GROUP_SECONDS)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    model_source(ModelSettings("mini"), "cpu", "float32").get()  # children find it loaded
    found = settings(tmp_path_factory.mktemp("undisturbed"))
    work(found)
    return found


def lines(found: Comparison, run_id: str) -> list[dict[str, Any]]:
    """The lines of records.jsonl by key, without the time they took."""
    text = (found.output_dir / "runs" / run_id / "records.jsonl").read_text()
    assert text.endswith("\n")
    rows = [json.loads(line) for line in text.splitlines()]
    return sorted(({k: v for k, v in row.items() if k != "seconds"} for row in rows), key=lambda row: row["key"])


def trace(found: Comparison, run_id: str) -> pd.DataFrame:
    steps = RunFolder(found.output_dir / "runs" / run_id).traces()
    return steps.sort_values(["key", "step"]).reset_index(drop=True)


def summary(found: Comparison) -> str:
    runs = [load_run(found.output_dir / "runs" / spec.run_id) for spec in (found.baseline, found.candidate)]
    study = Study("s", (Pair(*runs),), found.n_problems, found.replicates)
    return summarize(study, TestPlan(n_resamples=99)).drop(columns=list(TIMING_COLUMNS)).to_csv()


def expect_the_same_run(found: Comparison, undisturbed: Comparison, spec: RunSpec) -> None:
    rows = lines(found, spec.run_id)
    assert len({row["key"] for row in rows}) == len(rows) == found.size
    assert rows == lines(undisturbed, spec.run_id)
    pd.testing.assert_frame_equal(trace(found, spec.run_id), trace(undisturbed, spec.run_id))
    manifest = RunFolder(found.output_dir / "runs" / spec.run_id).manifest()
    assert (manifest["status"], manifest["n_records"], manifest["n_errors"]) == ("done", found.size, 0)


def expect_the_same(found: Comparison, undisturbed: Comparison) -> None:
    for spec in found.runs:
        expect_the_same_run(found, undisturbed, spec)
    assert summary(found) == summary(undisturbed)


@pytest.mark.parametrize("wanted", [12, pytest.param(50, marks=pytest.mark.slow)])
def test_kills_at_random_moments_change_nothing(wanted: int, tmp_path: Path, undisturbed: Comparison) -> None:
    began = time.perf_counter()
    work(settings(tmp_path / "timed"))
    whole = time.perf_counter() - began
    kills = rounds = 0
    while kills < wanted:
        found = settings(tmp_path / f"{rounds}")
        code = -1
        while code:
            child = fork(partial(work, found), tmp_path / "said")
            if kills < wanted:
                child.kill(after=random.uniform(0, whole / 3))
            code = child.code()
            assert code in (0, -signal.SIGKILL), child.said.read_text()
            kills += code != 0
        expect_the_same(found, undisturbed)
        rounds += 1


class DyingOs:
    """The module ``os`` for a process that dies at its n-th call: in a write, when some of the bytes are written."""

    def __init__(self, n: int, calls: Path) -> None:
        self.left, self.calls = n, calls

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        return partial(self.call, name, real) if name in ("open", "write", "fsync", "close", "fstat") else real

    def call(self, name: str, real: Any, *arguments: Any) -> Any:
        self.left -= 1
        if self.left == 0:
            self.calls.write_text(name)
            if name == "write":
                real(arguments[0], bytes(arguments[1])[: random.randrange(1, len(arguments[1]))])
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments)


@pytest.mark.usefixtures("undisturbed")
def test_a_kill_at_any_call_of_the_operating_system_changes_nothing(tmp_path: Path) -> None:
    # One run of two batches, so that every moment of writing can be tried: folders, config, manifest, trace, records.
    small = ("n_problems=4",)
    whole = settings(tmp_path / "whole", *small)
    work_on(whole, whole.baseline)

    def die(found: Comparison, n: int) -> None:
        disk.os = DyingOs(n, tmp_path / "call")
        work_on(found, found.baseline)

    died_in, n, code = set(), 0, -1
    while code:
        n += 1
        found = settings(tmp_path / f"{n}", *small)
        child = fork(partial(die, found, n), tmp_path / "said")
        code = child.code()
        assert code in (0, -signal.SIGKILL), child.said.read_text()
        if code:
            died_in.add((tmp_path / "call").read_text())
        again = fork(partial(work_on, found, found.baseline), tmp_path / "said")
        assert again.code() == 0, again.said.read_text()
        expect_the_same_run(found, whole, found.baseline)
    assert n > 40
    assert died_in == {"open", "write", "fsync", "close", "fstat"}


def start(tmp_path: Path, *words: str) -> Child:
    said = tmp_path / f"said-{time.monotonic_ns()}"
    return fork(lambda: cli.main(["run", *words, f"output_dir={tmp_path}"]), said)


@pytest.mark.parametrize("n", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_processes_that_are_given_the_same_sweep_share_it(n: int, tmp_path: Path, undisturbed: Comparison) -> None:
    words = (
        "-m",
        "sampler.tta_k=3,5,7,9",
        *SETTINGS,
        *QUICK,
    )
    children = [start(tmp_path, *words) for _ in range(n)]
    codes = [child.code() for child in children]
    said = [child.said.read_text() for child in children]
    assert codes == [0] * n, said
    found = settings(tmp_path, "sampler.tta_k=5")
    expect_the_same(found, undisturbed)
    runs = sorted((tmp_path / "runs").iterdir())
    assert len(runs) == 5
    for run in runs:
        keys = [json.loads(line)["key"] for line in (run / "records.jsonl").read_text().splitlines()]
        assert len(keys) == len(set(keys)) == 16
    assert sum(text.count("16 generated") for text in said) == 5, said
    assert sum("generated" in text for text in said) > 1, "one process did all of it"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_after_its_batch(number: int, tmp_path: Path) -> None:
    words = (
        "task=json",
        "n_problems=300",
        "steps=4",
        "batch_size=4",
        *QUICK,
    )
    child = start(tmp_path, *words)
    while not (records := list((tmp_path / "runs").glob("json-low*/records.jsonl"))):
        time.sleep(0.01)
    child.kill(number=number)
    assert child.code() == 130
    said = child.said.read_text()
    assert f"{signal.Signals(number).name}: ends after this batch; again: at once" in said
    assert f"Go on with: tta-bench run {' '.join(words)}" in said
    stored = records[0].read_text().splitlines()
    assert 0 < len(stored) < 300
    assert len(stored) % 4 == 0
    manifest = json.loads(records[0].with_name("manifest.json").read_text())
    assert (manifest["status"], manifest["n_records"]) == ("interrupted", len(stored))
    assert start(tmp_path, *words, "n_problems=5").code() == 0
