"""Runs a program that nobody trusts, and says whether it passed and what held it. docs/sandbox.md says what that is worth.

A fresh interpreter runs ``jail.py``, which builds the sandbox in layers, as far as the kernel lets it:

- limits, always: wall clock, processor time, memory, size and number of files, processes; no core files;
- ``namespaces``: own users (unless root), processes, files, network, IPC; the file system is empty but for the interpreter and
  the system's libraries, read-only, and a folder in memory of limited size;
- ``landlock``: files outside the folder cannot be written, nor read but for interpreter and libraries;
- ``seccomp``: no sockets, no signals to others, no process group of its own.

Programs have no rights of root, no environment, no standard input, and none of the parent's descriptors.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import secrets
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

LAYERS = ("namespaces", "landlock", "seccomp")

PROTECTIONS = {
    "files": ("namespaces", "landlock"),
    "network": ("namespaces", "seccomp"),
    "signals": ("namespaces", "seccomp"),
    "processes": ("namespaces", "seccomp"),
    "disk": ("namespaces",),
}
"""What a program is kept from, with the layers of which any one suffices: reading and writing files that are not its own,
the network, signals to other processes, leaving processes behind, and filling the disk with many files."""

GRACE = 10.0
"""Seconds that the sandbox may take beyond the program's time to start and to end."""

JAIL = Path(__file__).with_name("jail.py")


class SandboxError(RuntimeError):
    """The sandbox itself could not be built; says nothing about the program."""


@dataclass(frozen=True)
class Limits:
    """What a program may use.

    Attributes:
        seconds: on the wall clock; and the same of processor time for each of its processes.
        memory_mb: address space of a process, and private memory of all of its processes.
        file_mb: size of a file, and of all files where namespaces are available.
        processes: and threads.
        files: open at once in a process.
        output_kb: of standard output and error that are kept; the rest is thrown away.
    """

    seconds: float = 5.0
    memory_mb: int = 512
    file_mb: int = 16
    processes: int = 16
    files: int = 64
    output_kb: int = 64

    def __post_init__(self) -> None:
        lowest = {"seconds": 0.01, "memory_mb": 64, "file_mb": 1, "processes": 1, "files": 16, "output_kb": 0}
        for name, low in lowest.items():
            if not low <= getattr(self, name) < 1e7:
                raise ValueError(f"{name}={getattr(self, name)}: must be a number from {low} to 1e7")


@dataclass(frozen=True)
class Outcome:
    """What became of a program.

    Attributes:
        passed: all pieces ran to their end.
        ended: ``exit N``, ``signal N``, ``time``, ``memory``, ``processes``, or ``killed`` (the watching process was).
        output: the beginning of what it wrote.
        protections: that were in force, names of ``PROTECTIONS``.
    """

    passed: bool
    ended: str
    output: str
    protections: tuple[str, ...]


@cache
def missing_layers() -> Mapping[str, str]:
    """Why each layer that this machine does not have is not there; tried once in a process."""
    reasons = {}
    for layer in LAYERS:
        try:
            _run([("probe", "pass")], Limits(), (layer,))
        except SandboxError as error:
            reasons[layer] = str(error)
    return reasons


def protections(layers: Sequence[str] | None = None) -> tuple[str, ...]:
    """What programs are kept from by these layers; None: by those of this machine."""
    layers = _layers() if layers is None else layers
    return tuple(name for name, any_of in PROTECTIONS.items() if set(any_of) & set(layers))


def require(names: Sequence[str]) -> None:
    """Refuse to go on without these protections.

    Raises:
        SandboxError: this machine lacks one; says why.
    """
    lacking = [name for name in names if name not in protections()]
    if lacking:
        why = "; ".join(missing_layers().values())
        raise SandboxError(
            f"programs cannot be kept from {', '.join(lacking)} here ({why}); run in a virtual machine that you can "
            f"lose, and leave them out of scorer.required"
        )


def run(pieces: Sequence[tuple[str, str]], limits: Limits | None = None, layers: Sequence[str] | None = None) -> Outcome:
    """Run a program in the sandbox.

    Args:
        pieces: (name, Python source), run one after the other as one module; the program passes when all have ended.
        limits: what it may use.
        layers: to build; None: all that this machine has.

    Raises:
        SandboxError: a layer could not be built.
    """
    return _run(pieces, limits or Limits(), _layers() if layers is None else tuple(layers))


def _layers() -> tuple[str, ...]:
    return tuple(layer for layer in LAYERS if layer not in missing_layers())


def _run(pieces: Sequence[tuple[str, str]], limits: Limits, layers: tuple[str, ...]) -> Outcome:
    if os.name != "posix":
        raise SandboxError(f"programs are not run on {sys.platform}; use Linux")
    token = secrets.token_hex(16).encode()
    folder = tempfile.mkdtemp(prefix="tta-bench-")
    try:
        plan = json.dumps({**asdict(limits), "layers": layers, "pieces": pieces, "folder": folder})
        with _started(plan, token) as watched:
            return _outcome(watched, token, limits, layers)
    finally:
        _remove(folder)


def _remove(folder: str) -> None:
    """Remove a folder, also what the program forbade to."""
    shutil.rmtree(folder, ignore_errors=True)
    for path, folders, _ in os.walk(folder):
        for name in folders:
            if not os.path.islink(inner := os.path.join(path, name)):
                os.chmod(inner, 0o700)
    shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class _Watched:
    """A sandbox at work: its outer process, and what can be read of it."""

    process: subprocess.Popen[bytes]
    report: io.FileIO
    claim: io.FileIO
    output: io.FileIO


@contextlib.contextmanager
def _started(plan: str, token: bytes) -> Iterator[_Watched]:
    """Start the sandbox, and leave nothing of it when done, for whatever reason."""
    with contextlib.ExitStack() as stack:

        def pipe() -> tuple[io.FileIO, io.FileIO]:
            out, into = os.pipe()
            return stack.enter_context(io.FileIO(out, "r")), stack.enter_context(io.FileIO(into, "w"))

        (report, report_in), (token_out, token_in), (claim, claim_in), (output, output_in) = (pipe() for _ in range(4))
        handed = [file.fileno() for file in (report_in, token_out, claim_in)]
        process = subprocess.Popen(
            [sys.executable, "-P", "-s", str(JAIL), *map(str, handed)],
            stdin=subprocess.PIPE,
            stdout=output_in,
            stderr=output_in,
            pass_fds=handed,
            # With nothing else in the environment, -P -s is -I, which would not allow equal hashes in every run.
            env={"PYTHONHASHSEED": "0"},
            cwd="/",
            start_new_session=True,
        )
        try:
            token_in.write(token)
            for file in (report_in, token_out, claim_in, token_in, output_in):
                file.close()
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(plan.encode() + b"\n")
                process.stdin.flush()
            yield _Watched(process, report, claim, output)
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the outer process, which ends the others before itself when its input ends."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _outcome(watched: _Watched, token: bytes, limits: Limits, layers: tuple[str, ...]) -> Outcome:
    """Read until the sandbox has ended, and judge."""
    kept = {watched.report: 1 << 16, watched.claim: len(token) + 1, watched.output: limits.output_kb << 10}
    read = _read(watched.report, kept, time.monotonic() + limits.seconds + GRACE)
    said = {key: value for line in read[watched.report].splitlines() for key, value in json.loads(line).items()}
    output = read[watched.output].decode(errors="replace")
    if "broken" in said or not said:
        raise SandboxError(f"{', '.join(layers) or 'limits'}: {said.get('broken', output or 'nothing was reported')}")
    if "ended" not in said:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(said["first"], signal.SIGKILL)
    ended = said.get("ended", "killed")
    return Outcome(ended == "exit 0" and read[watched.claim] == token, ended, output, protections(layers))


def _read(until: io.FileIO, kept: Mapping[io.FileIO, int], deadline: float) -> dict[io.FileIO, bytes]:
    """What comes from each file until ``until`` ends, cut to the number of bytes that are kept."""
    read = dict.fromkeys(kept, b"")

    def take(file: io.FileIO) -> bool:
        part = file.read(1 << 16) or b""
        read[file] += part[: kept[file] - len(read[file])]
        return bool(part)

    with selectors.DefaultSelector() as selector:
        for file in kept:
            os.set_blocking(file.fileno(), False)
            selector.register(file, selectors.EVENT_READ, file)
        while until in selector.get_map() and time.monotonic() < deadline:
            for key, _ in selector.select(0.1):
                if not take(key.data):
                    selector.unregister(key.data)
    for file in kept:
        take(file)
    return read
