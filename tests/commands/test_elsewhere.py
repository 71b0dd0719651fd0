"""Sweeps through Hydra's launchers give what a sweep in one process gives, also where a process of theirs is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console

from tests.quick import QUICK
from tests.runner.stores import n_records, records, summary, wait_for
from tta_bench import cli
from tta_bench.commands import elsewhere
from tta_bench.commands.elsewhere import ENGINES, IN_TURN, Outcome, check_processes, engine_of, lines_after, outcome
from tta_bench.commands.run import run_all
from tta_bench.runner.disk import StoreError
from tta_bench.runner.stopping import stop_requests

SWEEP = ("-m", "steps=2,4", "task=json", "n_problems=8", "device=cpu", *QUICK)
LONG = ("-m", "steps=8,16", "task=json", "n_problems=60", "batch_size=4", "device=cpu", *QUICK)
JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
TARGETS = {engine.name: engine.target for engine in ENGINES}


def asked(name: str, multirun: bool = True, device: str = "cpu", **more: Any) -> elsewhere.Engine | None:
    return engine_of({"_target_": TARGETS.get(name, name), **more}, multirun=multirun, device=device)


def test_without_a_launcher_jobs_are_done_here() -> None:
    assert asked(IN_TURN, multirun=False, device="auto") is None


@pytest.mark.parametrize("name", ["joblib", "slurm", "slurm_local", "ray"])
def test_a_launcher_that_is_not_installed_names_its_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elsewhere, "installed", lambda _: False)
    extra = name.removesuffix("_local")
    with pytest.raises(ValueError, match=rf'hydra/launcher={name}: is not installed; pip install "tta_bench\[{extra}\]"'):
        asked(name)


def test_joblib_whose_file_is_its_own_names_its_extra_too() -> None:
    assert "pip install" in cli.explain("Could not find 'hydra/launcher/joblib'", [])
    assert "did you mean slurm_local" in cli.explain("Could not find 'hydra/launcher/slurm_loca'", [])


def test_whether_a_module_is_there_is_found_out_without_importing_it() -> None:
    assert elsewhere.installed("hydra_plugins.hydra_joblib_launcher")
    assert not elsewhere.installed("hydra_plugins.of_somebody_else")
    assert not elsewhere.installed("nobody.has.this")


def test_launchers_are_refused_where_they_would_do_nothing_or_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elsewhere, "installed", lambda _: True)
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(ValueError, match="launches the jobs of a sweep; add -m"):
        asked("slurm", multirun=False)
    with pytest.raises(ValueError, match="hydra/launcher=slurm: this machine has no sbatch"):
        asked("slurm")
    with pytest.raises(ValueError, match="device=auto: with hydra/launcher=ray it must be said where the jobs run"):
        asked("ray", device="auto")
    with pytest.raises(ValueError, match="was never tried with tta_bench; use one of joblib, "):
        asked("some.Other")
    found = asked("slurm_local", device="auto")
    assert found is not None
    assert found.near


@pytest.mark.parametrize(
    ("n_jobs", "threads", "message"),
    [
        (2, "4", r"n_jobs=2: 2 processes of 4 thread\(s\) \(OMP_NUM_THREADS\) need 8 cores, and there are 4; .*n_jobs=1"),
        (-1, "2", r"n_jobs=-1: 4 processes of 2 thread\(s\) .* need 8 cores, and there are 4; .*n_jobs=2"),
        (5, None, "n_jobs=5: 5 processes .* need 5 cores"),
        (0, None, "n_jobs=0: must be a number of processes"),
        ("all", None, "n_jobs=all: must be a number of processes"),
    ],
)
def test_processes_and_threads_must_fit_the_cores(
    n_jobs: object, threads: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if threads:
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
    with pytest.raises(ValueError, match=message):
        check_processes(n_jobs, 4)


def test_processes_that_fit_are_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    check_processes(2, 4)
    monkeypatch.delenv("OMP_NUM_THREADS")
    check_processes(-1, 4)


def test_a_device_that_only_the_jobs_have_is_not_looked_for_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elsewhere, "installed", lambda _: True)
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/sbatch")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(ValueError, match="this torch sees 0 cuda"):
        cli.understand(["device=cuda"])
    found = cli.understand(["-m", "hydra/launcher=slurm", "device=cuda"])
    assert [(spec.device, spec.dtype) for spec in found.comparisons[0].runs] == [("cuda", "bfloat16")] * 2


def raising(error: Exception) -> Callable[[], Callable[[], None]]:
    def work() -> None:
        raise error

    return lambda: work


def test_what_goes_wrong_in_a_job_is_its_answer() -> None:
    def mistaken() -> Callable[[], None]:
        raise ValueError("steps=0: must be more")

    assert outcome(lambda: lambda: None) == Outcome()
    assert outcome(mistaken) == Outcome(2, "steps=0: must be more")
    assert outcome(raising(StoreError("full"))) == Outcome(1, "full")
    broken = outcome(raising(KeyError("gone")))
    assert broken.code == 1
    assert "KeyError: 'gone'" in broken.message
    assert "Traceback" in broken.message


@pytest.mark.parametrize("error", [StoreError("records.jsonl, line 3: not a record"), OSError("no such driver")])
def test_what_goes_wrong_before_a_job_begins_is_its_answer_too(error: Exception) -> None:
    def unprepared() -> Callable[[], None]:
        raise error

    found = outcome(unprepared)
    assert (found.code, found.died) == (1, False)
    assert str(error) in found.message
    assert ("Traceback" in found.message) == isinstance(error, OSError)


def test_lines_are_counted_once_and_when_they_are_whole(tmp_path: Path) -> None:
    file = tmp_path / "records.jsonl"
    assert lines_after(file, 0) == (0, 0)
    file.write_bytes(b"one\ntwo\nth")
    assert lines_after(file, 0) == (2, 8)
    file.write_bytes(b"one\ntwo\nthree\n")
    assert lines_after(file, 8) == (1, 14)
    assert lines_after(file, 14) == (0, 14)


def test_signals_that_a_launcher_handles_are_left_to_it() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        with stop_requests(lambda _: None) as check:
            os.kill(os.getpid(), signal.SIGTERM)
            check()
            ours = signal.getsignal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]
    assert ours is not signal.default_int_handler


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serial")
    assert cli.main(["run", *SWEEP, f"output_dir={folder}"]) == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [JOBLIB, ("hydra/launcher=slurm_local",), ("hydra/launcher=ray",)])
def test_launchers_give_what_one_process_gives(launcher: tuple[str, ...], serial: Path, tmp_path: Path) -> None:
    shown = started(*SWEEP, *launcher, folder=tmp_path).communicate()[0]
    assert "report.html" in shown
    assert summary(tmp_path) == summary(serial)
    assert records(tmp_path) == records(serial)


@pytest.mark.parametrize(("n_problems", "code"), [(8, 0), (9, 1)])
def test_a_job_that_died_counts_only_where_something_is_missing(
    n_problems: int, code: int, serial: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    words = [
        *SWEEP,
        f"n_problems={n_problems}",
        f"output_dir={serial}",
        f"report_dir={tmp_path}",
        "analysis.allow_missing=true",
    ]
    sent: list[bool] = []

    def send(_: Sequence[int] | None, last_round: bool) -> list[Outcome]:
        sent.append(last_round)
        return [elsewhere.died(ENGINES[0], RuntimeError("terminated"))]

    asked = replace(cli.understand(words), engine=ENGINES[0], send=send)
    said = StringIO()
    assert run_all(asked, Console(file=said, width=200), fresh=False) == code
    assert sent == [False, True][: 1 + code]
    # The traceback is for the end; what comes in the middle is a sentence.
    sentence = "hydra/launcher=joblib: a job ended without an answer (RuntimeError: terminated)"
    assert (f"tta-bench: {sentence}\nRuntimeError: terminated" in capsys.readouterr().err) == bool(code)
    assert (f"{sentence}; what is missing is tried once more" in said.getvalue()) == bool(code)


def started(*words: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tta_bench", "run", *words, f"output_dir={folder}"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def worker(parent: int, words: str) -> psutil.Process:
    """A descendant of a process that computes, by what its command line says."""
    found = [p for p in psutil.Process(parent).children(recursive=True) if words in " ".join(p.cmdline())]
    return max(found, key=lambda process: sum(process.cpu_times()[:2]))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    assert cli.main(["run", *LONG, f"output_dir={folder}"]) == 0
    return folder


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("launcher", "words"),
    [(JOBLIB, "popen_loky"), (("hydra/launcher=slurm_local",), "core._submit"), (("hydra/launcher=ray",), "ray::run_there")],
)
def test_a_worker_that_is_killed_is_made_good(launcher: tuple[str, ...], words: str, undisturbed: Path, tmp_path: Path) -> None:
    command = started(*LONG, *launcher, folder=tmp_path)
    wait_for(tmp_path, 4)
    worker(command.pid, words).kill()
    stored = n_records(tmp_path)
    shown = command.communicate()[0]
    assert command.returncode == 0, shown
    assert 4 <= stored < 240
    assert records(tmp_path) == records(undisturbed)
    assert summary(tmp_path) == summary(undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_pre_empted_job_is_queued_again_and_resumes(undisturbed: Path, tmp_path: Path) -> None:
    command = started(*LONG, "hydra/launcher=slurm_local", folder=tmp_path)
    wait_for(tmp_path, 4)
    job = worker(command.pid, "core._submit")
    job.send_signal(signal.SIGTERM)  # Slurm's first word, which is for submitit
    time.sleep(0.2)
    job.send_signal(signal.SIGUSR2)  # its last
    shown = command.communicate()[0]
    assert command.returncode == 0, shown
    said = "".join(file.read_text() for file in tmp_path.glob("jobs/*/*_log.out"))
    assert "Requeued job" in said
    assert records(tmp_path) == records(undisturbed)


@pytest.mark.slow
def test_what_fails_in_a_job_reaches_the_user_with_its_exit_code(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("in the way")
    command = started(*SWEEP, *JOBLIB, "report_dir=" + str(tmp_path / "report"), folder=tmp_path)
    shown = command.communicate()[0]
    assert command.returncode == 1
    assert "cannot be written to" in shown or "Not a directory" in shown


def test_how_far_others_are_is_said_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elsewhere, "QUIET_SECONDS", 0.01)
    file, said = tmp_path / "records.jsonl", StringIO()
    file.write_text("before\n")
    with elsewhere.told_from_disk([file], 1, 10, Console(file=said, width=100)):
        time.sleep(0.05)
        with file.open("a") as stream:
            stream.write("two\nthree\n")
        time.sleep(0.2)
    (line,) = said.getvalue().splitlines()
    assert line.startswith("all runs: 3 of 10 answers")


def test_plan_does_not_try_what_only_the_jobs_have(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(elsewhere, "installed", lambda _: True)
    assert cli.main(["plan", "-m", "hydra/launcher=ray", "device=cuda"]) == 2
    assert "plan tries a few problems in this process" in capsys.readouterr().err
