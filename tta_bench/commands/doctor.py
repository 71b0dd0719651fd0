"""``tta-bench doctor``: is this machine fit for it, and does the harness keep its promises here?"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from tta_bench import catalog
from tta_bench.analysis import stats
from tta_bench.runner.batch import LoadedModel
from tta_bench.runner.disk import append_durably
from tta_bench.runner.environment import describe
from tta_bench.runner.execute import Effort
from tta_bench.runner.preview import Preview, PreviewError, preview
from tta_bench.runner.settings import Comparison, check_folders, without_idle_settings
from tta_bench.runner.spec import RunSpec
from tta_bench.runner.store import RunFolder
from tta_bench.runner.study import model_source
from tta_bench.runner.threads import usable_cores

SIZES = (1, 3, 8, 64)
"""Batch sizes whose answers are compared."""

MOST_PROBLEMS = 48
"""A check decodes no more problems than this."""

TOLERATED = 0.001
"""Share of problems whose answer may depend on the batch: rounding in another matrix shape can flip a near-tie."""

SURPRISING = 0.01
"""An A/A test with a smaller p-value is a finding; one in a hundred is, by chance."""

LITTLE_DISK = 1 << 30
"""Bytes below which a disk is called nearly full."""


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        fine: whether all is as it should be.
        what: was checked.
        detail: what was seen.
        remedy: what to do if it is not fine.
    """

    fine: bool
    what: str
    detail: str
    remedy: str = ""


@dataclass(frozen=True)
class Patient:
    """What is examined: the baseline's run of a comparison, on its first problems, with a loaded model."""

    comparison: Comparison
    loaded: LoadedModel

    def decode(
        self, sampler: str, parameters: Mapping[str, object], *, seed: int | None = None, size: int = SIZES[-1]
    ) -> Preview:
        """The answers of a sampler."""
        return self.decode_spec(self.spec(sampler, parameters, seed), size)

    def spec(self, sampler: str, parameters: Mapping[str, object], seed: int | None = None) -> RunSpec:
        """The comparison's settings with another sampler and seed."""
        base = self.comparison.candidate
        changed = replace(
            base,
            sampler=catalog.entry("sampler", sampler, parameters),
            seed=base.seed if seed is None else seed,
            steps=base.steps or self.comparison.baseline.steps or 8,
        )
        return without_idle_settings(changed)

    def decode_spec(self, spec: RunSpec, size: int) -> Preview:
        """The answers of a run."""
        return preview(spec, self.comparison.task, self.comparison.problems[:MOST_PROBLEMS], self.loaded, Effort(size))


def examine(comparison: Comparison, console: Console) -> bool:
    """Run every check and print what it found, each as soon as it is known; whether all is fine."""
    found = [
        told(console, check)
        for check in (
            environment_of(comparison),
            lambda: memory(),
            lambda: disk(comparison),
            lambda: locks(comparison.output_dir),
        )
    ]
    began = time.perf_counter()
    source = model_source(comparison.model, comparison.device, comparison.candidate.dtype)
    patient = Patient(comparison, source.get())
    seconds = time.perf_counter() - began
    checks = (
        lambda: model(patient, seconds),
        lambda: repeats(patient),
        lambda: same_as_baseline(patient),
        lambda: batch_invariance(patient),
        lambda: against_itself(patient),
    )
    found += [told(console, check) for check in checks]
    bad = sum(not finding.fine for finding in found)
    console.print(f"\n{bad} of {len(found)} checks found something." if bad else f"\nAll {len(found)} checks are fine.")
    return not bad


def told(console: Console, check: Callable[[], Finding]) -> Finding:
    """Do a check and print what it found."""
    try:
        finding = check()
    except PreviewError as error:
        finding = Finding(
            False, "decoding", str(error), "a sampler, the task or the model fails here; tta-bench run would record it"
        )
    row = Table.grid(Column(width=4), Column(width=18), Column(overflow="fold"), padding=(0, 1))
    row.add_row("[green]ok[/green]" if finding.fine else "[red]BAD[/red]", finding.what, escape(finding.detail))
    if not finding.fine:
        row.add_row("", "", f"[yellow]{escape(finding.remedy)}[/yellow]")
    console.print(row)
    return finding


def environment_of(comparison: Comparison) -> Callable[[], Finding]:
    """Versions, device, threads."""

    def check() -> Finding:
        spec = comparison.candidate
        here = describe(comparison.device, spec.dtype, spec.sampler.target, spec.task.target)
        cores = usable_cores()
        detail = (
            f"tta_bench {here['code']}, Python {here['python']}, torch {here['packages']['torch']}, "
            f"transformers {here['packages']['transformers']}; {here['device']} ({here['hardware']}), {here['dtype']}, "
            f"{here['threads']} thread(s) on {cores} core(s)"
        )
        return Finding(here["threads"] <= cores, "environment", detail, "more threads than cores: set OMP_NUM_THREADS")

    return check


def memory() -> Finding:
    """Free memory of host and GPU."""
    free = psutil.virtual_memory().available
    detail = f"{free / 2**30:.1f} GB of host memory free"
    if torch.cuda.is_available():
        detail += f", {torch.cuda.mem_get_info()[0] / 2**30:.1f} GB on the GPU"
    return Finding(free > LITTLE_DISK, "memory", detail, "less than 1 GB is free: close other programs")


def disk(comparison: Comparison) -> Finding:
    """Space, and how long it takes until the disk has a record."""
    check_folders(comparison)
    free = shutil.disk_usage(comparison.output_dir).free
    with tempfile.TemporaryDirectory(dir=comparison.output_dir) as folder:
        began = time.perf_counter()
        for _ in range(20):
            append_durably(Path(folder) / "probe", b"x" * 500)
        seconds = (time.perf_counter() - began) / 20
    detail = f"{comparison.output_dir}: {free / 2**30:.1f} GB free, {1e3 * seconds:.1f} ms to store a record for good"
    return Finding(free > LITTLE_DISK, "disk", detail, "less than 1 GB is free: choose another output_dir, or tta-bench clean")


HOLD = """
import sys, pathlib
from tta_bench.runner.store import RunFolder
with RunFolder(pathlib.Path(sys.argv[1])).claimed():
    print("held", flush=True)
    sys.stdin.read()
"""


def locks(output_dir: Path) -> Finding:
    """Whether a run that another process holds is closed to this one, and open again when that process is killed."""
    with tempfile.TemporaryDirectory(dir=output_dir) as folder:
        run = RunFolder(Path(folder) / "runs" / "probe")
        command = [sys.executable, "-c", HOLD, str(run.path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdout is not None
            held = holder.stdout.readline().strip() == "held"
            closed = held and run.busy()
            holder.kill()
        opened = not run.busy()
    kind = file_system(output_dir)
    detail = f"a run that another process holds is closed, and open when that is killed ({kind} file system)"
    if kind in SHARED:
        detail += "; whether that holds between machines, docs/scaling.md says how to find out"
    remedy = (
        "locks do not work in this folder: let only one process at a time write to it, choose another output_dir, or have it "
        "mounted with locks (docs/scaling.md)"
    )
    return Finding(closed and opened, "locks", detail, remedy)


SHARED = ("nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "cifs", "smb3", "9p", "virtiofs", "fuse.glusterfs")
"""File systems that several machines may have mounted."""


def file_system(folder: Path) -> str:
    """The kind of file system that a folder lies in, as the operating system names it."""
    place = folder.resolve()
    mounts = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    return next((mounts[parent] for parent in (place, *place.parents) if parent in mounts), "unknown")


def model(patient: Patient, seconds: float) -> Finding:
    """The model decodes, and its mask token is never written."""
    mask = patient.loaded.mask_id
    done = patient.decode("low_confidence", {})
    written = sum(mask in row for row in done.tokens)
    n = sum(p.numel() for p in patient.loaded.model.parameters())
    detail = (
        f"{patient.comparison.model.name_or_path}: {n:,} parameters, loaded in {seconds:.1f} s; "
        f"{len(done.records) / done.seconds:.1f} problems/s on {patient.comparison.task.name}, "
        f"{100 * np.mean(done.scores):.0f} % of {len(done.records)} right"
    )
    return Finding(
        written == 0, "model", detail, f"{written} answers hold the mask token: is mask_token_id of the model right?"
    )


def repeats(patient: Patient) -> Finding:
    """The same seed gives the same tokens, whatever the global random numbers are."""
    sampler, parameters = "low_confidence", {"temperature": 1.0}
    first = patient.decode(sampler, parameters).tokens
    with torch.random.fork_rng():
        torch.manual_seed(12345)
        again = patient.decode(sampler, parameters).tokens
    return counted("repeatability", first, [again], "decoded twice with the same seed", BROKEN)


def same_as_baseline(patient: Patient) -> Finding:
    """TTA with one view that takes nothing back is low-confidence decoding, bit for bit."""
    tta = patient.decode("tta", {"tta_k": 1, "remask_top_pct": 0.0}).tokens
    plain = patient.decode("low_confidence", {}).tokens
    return counted("TTA without TTA", plain, [tta], "K = 1 and no remasking against low_confidence", BROKEN)


def batch_invariance(patient: Patient) -> Finding:
    """The candidate's answers do not depend on the batch size."""
    spec = patient.comparison.candidate
    alone, *others = (patient.decode_spec(spec, size).tokens for size in SIZES)
    what = f"{spec.sampler.name} in batches of {', '.join(map(str, SIZES))}"
    remedy = (
        "rounding differs with the shape of a batch on this device and dtype: give batch_size, and compare only runs made "
        "with the same, or use dtype=float32"
    )
    return counted("batch invariance", alone, others, what, remedy, tolerated=TOLERATED)


BROKEN = "the harness itself does not keep its promise here: please report it, with all of this output"


def counted(
    what: str,
    expected: Sequence[list[int]],
    others: Sequence[Sequence[list[int]]],
    detail: str,
    remedy: str,
    *,
    tolerated: float = 0.0,
) -> Finding:
    """A finding on how many answers are not the same everywhere."""
    flipped = sum(any(other[i] != row for other in others) for i, row in enumerate(expected))
    told = f"{detail}: {flipped} of {len(expected)} answers differ"
    return Finding(flipped <= tolerated * len(expected), what, told, remedy)


def against_itself(patient: Patient) -> Finding:
    """A/A test: a sampler against itself with other seeds is no significant difference."""
    seed = patient.comparison.candidate.seed
    base, other = (patient.decode("low_confidence", {"temperature": 1.0}, seed=s).scores for s in (seed, seed + 1))
    found = stats.paired_comparison(base, other)
    detail = (
        f"low_confidence at temperature 1, seeds {seed} and {seed + 1}: {100 * found.delta:+.1f} points, "
        f"p = {found.p_value:.3f}, {found.n_problems} problems"
    )
    remedy = "a difference where there is none: one in a hundred is chance; repeat with another seed=, then suspect the machine"
    return Finding(found.p_value >= SURPRISING, "A/A test", detail, remedy)
