"""Jobs of a sweep in other processes: the engines there are, what a job answers, and how far all are, as seen on disk."""

from __future__ import annotations

import os
import shutil
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console

from tta_bench.catalog import unknown
from tta_bench.commands.say import say
from tta_bench.models.checkpoint import CheckpointError
from tta_bench.runner.disk import StoreError
from tta_bench.runner.progress import QUIET_SECONDS, Pace
from tta_bench.runner.threads import usable_cores

FAILED, BAD_INPUT = 1, 2


@dataclass(frozen=True)
class Engine:
    """What runs jobs in other processes.

    Attributes:
        name: in the group ``hydra/launcher``; of joblib, the file is the launcher's own.
        target: the launcher, as Hydra names it.
        module: that must be installed.
        extra: of tta_bench that installs it.
        near: whether jobs run on this machine, so that ``device=auto`` means the same here and there.
    """

    name: str
    target: str
    module: str
    extra: str
    near: bool = False


ENGINES = (
    Engine(
        "joblib",
        "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
        "hydra_plugins.hydra_joblib_launcher",
        "joblib",
        near=True,
    ),
    Engine(
        "slurm",
        "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher",
        "hydra_plugins.hydra_submitit_launcher",
        "slurm",
    ),
    Engine(
        "slurm_local",
        "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher",
        "hydra_plugins.hydra_submitit_launcher",
        "slurm",
        near=True,
    ),
    Engine("ray", "hydra_plugins.tta_bench.RayLauncher", "ray", "ray"),
)

IN_TURN = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
"""Hydra's own launcher: one job after the other, in this process."""


def engine_of(launcher: Mapping[str, Any], *, multirun: bool, device: str) -> Engine | None:
    """The engine that a configuration chooses, None for this process.

    Args:
        launcher: Hydra's configuration of it.
        multirun: whether a sweep is asked for.
        device: as configured.

    Raises:
        ValueError: it is none of ours, is not installed, cannot be used here, or not with such a device.
    """
    target = launcher["_target_"]
    if target == IN_TURN:
        return None
    engine = next((engine for engine in ENGINES if engine.target == target), None)
    if engine is None:
        names = ", ".join(engine.name for engine in ENGINES)
        raise ValueError(f"hydra/launcher: {target} was never tried with tta_bench; use one of {names}, or none")
    if not multirun:
        raise ValueError(f"hydra/launcher={engine.name}: launches the jobs of a sweep; add -m, also for a single job")
    if not installed(engine.module):
        raise ValueError(no_launcher(engine.name))
    if engine.name == "slurm" and shutil.which("sbatch") is None:
        raise ValueError(
            "hydra/launcher=slurm: this machine has no sbatch; give the command where jobs are submitted to Slurm, or try "
            "hydra/launcher=slurm_local"
        )
    if device == "auto" and not engine.near:
        raise ValueError(
            f"device=auto: with hydra/launcher={engine.name} it must be said where the jobs run; give device=cuda or device=cpu"
        )
    if engine.name == "joblib":
        check_processes(launcher["n_jobs"], usable_cores())
    return engine


def no_launcher(name: str) -> str:
    """What to say where a launcher is asked for that is not there."""
    engine = next((engine for engine in ENGINES if engine.name == name), None)
    if engine is None:
        return unknown("hydra/launcher", name, ("basic", *(engine.name for engine in ENGINES)))
    return f'hydra/launcher={name}: is not installed; pip install "tta_bench[{engine.extra}]"'


def installed(module: str) -> bool:
    """Whether a module can be imported, found out without importing it."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package that it is in
        return False


def check_processes(n_jobs: object, cores: int) -> None:
    """Refuse more threads than cores: ``n_jobs`` processes (-1: as many as cores) of ``OMP_NUM_THREADS``, where that is set.

    Raises:
        ValueError: there are; or ``n_jobs`` is no number of processes.
    """
    if not isinstance(n_jobs, int) or isinstance(n_jobs, bool) or n_jobs == 0 or n_jobs < -1:
        raise ValueError(f"hydra.launcher.n_jobs={n_jobs}: must be a number of processes, or -1 for one on each core")
    processes, threads = cores if n_jobs == -1 else n_jobs, int(os.environ.get("OMP_NUM_THREADS", 1))
    if processes * threads > cores:
        raise ValueError(
            f"hydra.launcher.n_jobs={n_jobs}: {processes} processes of {threads} thread(s) (OMP_NUM_THREADS) need "
            f"{processes * threads} cores, and there are {cores}; give hydra.launcher.n_jobs={max(1, cores // threads)}"
        )


@dataclass(frozen=True)
class Outcome:
    """What became of a job, as a value that travels between processes.

    Attributes:
        code: the exit code that it would have had here.
        message: what went wrong, empty where nothing did.
        died: whether nobody knows, since its process did not live to tell; the message is a sentence and a traceback then.
    """

    code: int = 0
    message: str = ""
    died: bool = False


def outcome(prepare: Callable[[], Callable[[], None]]) -> Outcome:
    """Do a job, so that the others go on whatever becomes of it.

    Args:
        prepare: reads and checks what is asked for, and raises ValueError where that is wrong; what it returns does the job.
    """
    try:
        try:
            work = prepare()
        except ValueError as error:
            return Outcome(BAD_INPUT, str(error))
        work()
    except CheckpointError as error:
        return Outcome(BAD_INPUT, str(error))
    except StoreError as error:
        return Outcome(FAILED, str(error))
    except Exception:
        return Outcome(FAILED, f"a job failed:\n{traceback.format_exc()}")
    return Outcome()


def died(engine: Engine, error: Exception) -> Outcome:
    """The outcome of jobs that gave no answer: their engine, or a process of it, died."""
    told = str(error).strip().splitlines() or ["no reason given"]
    reason = f"{type(error).__name__}: {told[0]}"
    sentence = f"hydra/launcher={engine.name}: a job ended without an answer ({reason})"
    return Outcome(FAILED, f"{sentence}\n{''.join(traceback.format_exception(error))}", died=True)


@contextmanager
def told_from_disk(files: Sequence[Path], done: int, total: int, console: Console) -> Iterator[None]:
    """Say now and then how many records other processes have added to files, while the context lasts.

    Args:
        files: records of runs; need not exist yet.
        done: records that are there.
        total: records that are asked for.
        console: to say it on.
    """
    ends = {file: file.stat().st_size if file.exists() else 0 for file in files}
    pace, over = Pace(total), threading.Event()
    pace.reused = done

    def watch() -> None:
        while not over.wait(QUIET_SECONDS):
            before = pace.made
            for file in files:
                added, ends[file] = lines_after(file, ends[file])
                pace.made += added
            if pace.made > before:
                rate = pace.made / max(pace.seconds, 1e-9)
                say(console, f"all runs: {pace.done:,} of {total:,} answers, {rate:.1f} problems/s{pace.left}")

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def lines_after(file: Path, start: int) -> tuple[int, int]:
    """How many lines end after the byte ``start`` of a file, and where the last of them ends."""
    if not file.exists():
        return 0, start
    with file.open("rb") as stream:
        stream.seek(start)
        added = stream.read()
    return added.count(b"\n"), start + added.rfind(b"\n") + 1
