"""Several processes that share every run leave what one process leaves, also where one of them is killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from tests.quick import QUICK
from tests.runner.processes import Child, fork
from tests.runner.stores import n_records, records, summary, traces, wait_for
from tta_bench import cli
from tta_bench.runner.execute import here
from tta_bench.runner.progress import Display
from tta_bench.runner.ranks import Crew, Ranks
from tta_bench.runner.settings import comparison
from tta_bench.runner.spec import RunSpec
from tta_bench.runner.store import RunFolder
from tta_bench.runner.study import run_comparison

# Random, so that replicates are no copies; one problem more than can be shared evenly.
SHORT = ("steps=2", "task=json", "n_problems=9", "replicates=2", "sampler=remdm_cap", "batch_size=2", *QUICK)
LONG = ("steps=8", "task=json", "n_problems=60", "sampler=remdm_cap", "batch_size=2", *QUICK)


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def together(folder: Path, *words: str, size: int = 2) -> list[Child]:
    """Processes that a launcher would have started."""
    shared = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}

    def rank(number: int) -> int:
        os.environ.update(shared, RANK=str(number), LOCAL_RANK=str(number))
        try:
            return cli.main(["run", *words, f"output_dir={folder}"])
        except SystemExit as ended:
            return int(ended.code or 0)

    return [fork(partial(rank, number), folder.parent / f"{folder.name}.{number}") for number in range(size)]


def alone(folder: Path, *words: str) -> int:
    return cli.main(["run", *words, f"output_dir={folder}"])


@pytest.fixture(autouse=True)
def stores_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tta_bench.runner.execute.GROUP_SECONDS", 0.02)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serial") / "long"
    assert alone(folder, *LONG) == 0
    return folder


def test_two_ranks_leave_what_one_process_leaves(tmp_path: Path) -> None:
    serial, shared = tmp_path / "serial", tmp_path / "shared"
    with Path(os.devnull).open("w") as nowhere:
        run_comparison(comparison(cli.compose([*SHORT, f"output_dir={serial}"])), Display(Console(file=nowhere), 1))
    ranks = together(shared, *SHORT)
    assert [rank.code() for rank in ranks] == [0, 0]
    assert records(shared) == records(serial)
    assert len(records(shared)) == 2 * 9 * 2
    for one, other in zip(traces(shared), traces(serial), strict=True):
        pd.testing.assert_frame_equal(one, other)
    for run in (shared / "runs").iterdir():
        manifest = RunFolder(run).manifest()
        assert (manifest["status"], manifest["n_records"], manifest["n_errors"]) == ("done", 18, 0)
    # Rank 0 says what all have done, the others nothing.
    assert ranks[0].said.read_text().count("18 generated") == 2
    assert ranks[1].said.read_text() == ""


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_rank_that_is_killed_loses_nothing_that_was_stored(victim: int, undisturbed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "outputs"
    ranks = together(folder, *LONG)
    wait_for(folder, 10)
    ranks[victim].kill()
    ranks[1 - victim].kill(number=signal.SIGTERM)  # as a launcher does then
    assert ranks[victim].code() == -signal.SIGKILL
    assert ranks[1 - victim].code() in (0, 130)
    assert 10 <= n_records(folder) < 120
    stored = records(folder)
    assert alone(folder, *LONG) == 0
    assert records(folder) == records(undisturbed)
    assert stored.items() <= records(folder).items()
    assert summary(folder) == summary(undisturbed)


def test_a_line_that_a_killed_rank_left_half_written_is_cut_by_the_next(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "runs" / "one")
    record = {"problem": "p", "replicate": 0, "error": None}
    with folder.claimed():
        folder.open({"model": {"fingerprint": "f"}}, shared=True).append([record | {"key": "p/0"}], pd.DataFrame())
        with (folder.path / "records.jsonl").open("ab") as stream:
            stream.write(b'{"schema": 2, "key": "p/')
        folder.join().append([record | {"key": "p/2"}], pd.DataFrame())
    assert [record["key"] for record in folder.lines()] == ["p/0", "p/2"]


def failing_in_rank_1(*arguments: Any) -> Any:
    if os.environ["RANK"] == "1":
        raise MemoryError("the machine is on fire")
    from tta_bench.runner.batch import decode_batch

    return decode_batch(*arguments)


@pytest.mark.slow
def test_what_fails_in_another_rank_reaches_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tta_bench.runner.execute.decode_batch", failing_in_rank_1)
    ranks = together(tmp_path / "outputs", *LONG, "n_problems=8", "max_failures=2")
    assert [rank.code() for rank in ranks] == [1, 0]
    said = ranks[0].said.read_text()
    assert "3 problems failed, more than max_failures=2; the last: MemoryError: the machine is on fire" in said
    assert "compare on the problems that both runs have: analysis.allow_missing=true" in said


def manifests(folder: Path) -> list[dict[str, Any]]:
    return [RunFolder(run).manifest() for run in sorted((folder / "runs").iterdir())]


def failing_in_rank_0(*arguments: Any) -> Any:
    if os.environ["RANK"] == "0":
        raise MemoryError("the machine is on fire")
    time.sleep(0.1)  # there would be much to do yet
    from tta_bench.runner.batch import decode_batch

    return decode_batch(*arguments)


def test_a_run_that_rank_0_gives_up_is_given_up_by_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tta_bench.runner.execute.decode_batch", failing_in_rank_0)
    folder = tmp_path / "outputs"
    ranks = together(folder, *LONG, "max_failures=1")
    assert [rank.code() for rank in ranks] == [1, 0]
    assert ranks[0].said.read_text().count("2 problems failed, more than max_failures=1; the last: MemoryError") == 2
    found = manifests(folder)
    assert [manifest["status"] for manifest in found] == ["failed"] * 2
    # Nothing was added once the manifest was written, and rank 1 has not done the 30 problems that it was dealt.
    assert sum(manifest["n_records"] + manifest["n_errors"] for manifest in found) == n_records(folder)
    assert max(manifest["n_records"] for manifest in found) < 30


def failing(*_: Any) -> Any:
    raise MemoryError("the machine is on fire")


@pytest.mark.slow
def test_failures_of_all_ranks_count_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tta_bench.runner.execute.decode_batch", failing)
    folder = tmp_path / "outputs"
    ranks = together(folder, *LONG, "n_problems=6", "max_failures=3")  # no rank has more than three
    assert [rank.code() for rank in ranks] == [1, 0]
    assert [manifest["status"] for manifest in manifests(folder)] == ["failed"] * 2
    assert "more than max_failures=3; the last: MemoryError" in ranks[0].said.read_text()


def nowhere_in_rank_1(spec: RunSpec) -> Any:
    if os.environ["RANK"] == "1":
        raise OSError("no such driver")
    return here(spec)


def test_a_rank_that_cannot_tell_where_it_is_ends_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tta_bench.runner.ranks.here", nowhere_in_rank_1)
    ranks = together(tmp_path / "outputs", *LONG, "n_problems=4", size=3)
    assert [rank.code() for rank in ranks] == [1, 0, 0]
    assert "rank 1 failed:\nTraceback" in ranks[0].said.read_text()
    assert "OSError: no such driver" in ranks[0].said.read_text()
    assert n_records(tmp_path / "outputs") == 0


@pytest.mark.slow
def test_an_error_of_the_program_in_another_rank_ends_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a mistake of ours")

    monkeypatch.setattr("tta_bench.runner.ranks.find_work", broken)
    ranks = together(tmp_path / "outputs", *LONG, "n_problems=4")
    assert [rank.code() for rank in ranks] == [1, 0]
    assert "rank 1 failed:\nTraceback" in ranks[0].said.read_text()
    assert "ZeroDivisionError: a mistake of ours" in ranks[0].said.read_text()


def test_a_mistake_is_refused_and_the_others_are_let_go(tmp_path: Path) -> None:
    ranks = together(tmp_path / "outputs", "sampler=ttta")
    assert [rank.code() for rank in ranks] == [2, 0]
    assert "unknown sampler 'ttta'" in ranks[0].said.read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["device=cuda:1"], "device=cuda:1: each process takes the GPU of its own rank; give device=cuda"),
        (["model.device_map=auto"], "model.device_map=auto: each process has one GPU"),
        (["-m", "hydra/launcher=slurm_local"], "accelerate or torchrun has started several processes"),
    ],
)
def test_what_ranks_cannot_do_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cli.understand(words, crew=Crew(Ranks(0, 2), []))


def test_more_ranks_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    for key, value in {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "3", "MASTER_ADDR": "nowhere"}.items():
        monkeypatch.setenv(key, value)
    assert cli.main(["run"]) == 2
    assert "LOCAL_RANK=3: this machine has 2 GPU(s)" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("module", [["torch.distributed.run"], ["accelerate.commands.launch", "--multi_gpu"]])
def test_the_documented_launchers(module: list[str], tmp_path: Path) -> None:
    import subprocess
    import sys

    processes = "--nproc_per_node=2" if len(module) == 1 else "--num_processes=2"
    command = [sys.executable, "-m", *module, processes, "-m", "tta_bench", "run", *SHORT, f"output_dir={tmp_path / 'shared'}"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert shown.count("18 generated") == 2
    assert alone(tmp_path / "serial", *SHORT) == 0
    assert records(tmp_path / "shared") == records(tmp_path / "serial")
    assert json.loads((tmp_path / "shared" / "reports" / "default" / "study.json").read_text())["n_problems"] == 9
