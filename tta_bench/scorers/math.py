"""Mathematical expressions that must be equal, as the library math-verify sees it."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from tta_bench.scorers.reading import last_box

WORKER = Path(__file__).with_name("math_worker.py")
START = 120.0
"""Seconds that the worker may take to start."""


@dataclass(frozen=True)
class Math:
    r"""1 where math-verify finds the text's answer equal to the target, 0 also where that takes too long.

    The target is LaTeX, with or without dollars, or holds a ``\boxed{...}`` (the last one counts) or ``#### ``; of the text,
    math-verify finds the answer. Both are read in another process, one for each of ours, because math-verify's own limit is
    SIGALRM, which ``time_limit`` uses, and because expressions such as 9**9**9 end neither soon nor in memory.

    Attributes:
        timeout: seconds for a text.
        memory_mb: of the other process.

    Reference: https://github.com/huggingface/Math-Verify.
    """

    timeout: float = 10.0
    memory_mb: int = 4096
    version: ClassVar[str] = "1"

    def __post_init__(self) -> None:
        if not 0 < self.timeout < 1e6:
            raise ValueError(f"scorer.timeout={self.timeout}: must be a number of seconds above 0")
        if not 1024 <= self.memory_mb < 1e7:
            raise ValueError(f"scorer.memory_mb={self.memory_mb}: must be 1024 or more")
        if find_spec("math_verify") is None:
            raise ValueError("scorer math needs math-verify; run: python -m pip install 'tta_bench[math]'")

    def score(self, target: str, text: str, facts: Mapping[str, object]) -> float:
        return float(self._ask(gold=plain(target), text=text) is True)

    def answer(self, text: str, facts: Mapping[str, object]) -> Hashable:
        """The answer in a normal form of sympy's; None where there is none."""
        answer = self._ask(text=text)
        return answer if isinstance(answer, str) else None

    def check(self, target: str, facts: Mapping[str, object]) -> None:
        if self._ask(gold=plain(target)) is not True:
            raise ValueError(f"target={target[-60:]!r}: must be an expression that math-verify reads, as \\frac{{1}}{{2}}")

    def _ask(self, **question: str) -> Any:
        """What the worker says; None where it does not in time, or runs out of memory."""
        with _LOCK:
            worker = _WORKERS.get((os.getpid(), self.memory_mb)) or _start(self.memory_mb)
            try:
                return _exchange(worker, question, self.timeout)
            except (OSError, ValueError):
                _stop(worker)
                return None
            except BaseException:
                _stop(worker)  # what it still has to say would be taken for the answer to the next question
                raise


def plain(target: str) -> str:
    """The LaTeX of a gold answer: in its last box, behind ``#### ``, or all of it, without dollars."""
    box = last_box(target)
    return (target.rpartition("#### ")[2] if box is None else box).strip().strip("$").strip()


_LOCK = threading.Lock()
_WORKERS: dict[tuple[int, int], subprocess.Popen[bytes]] = {}


def _start(memory_mb: int) -> subprocess.Popen[bytes]:
    worker = subprocess.Popen(
        [sys.executable, "-P", str(WORKER), str(memory_mb)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        start_new_session=True,
    )
    _WORKERS[os.getpid(), memory_mb] = worker
    try:
        _line(worker, START)
    except BaseException as error:
        _stop(worker)
        if isinstance(error, OSError):
            raise RuntimeError("math-verify could not be started; try: python -c 'import math_verify'") from error
        raise
    return worker


def _exchange(worker: subprocess.Popen[bytes], question: Mapping[str, str], seconds: float) -> Any:
    assert worker.stdin is not None
    worker.stdin.write(json.dumps(question).encode() + b"\n")
    worker.stdin.flush()
    return json.loads(_line(worker, seconds))


def _line(worker: subprocess.Popen[bytes], seconds: float) -> bytes:
    """A line of what the worker says.

    Raises:
        OSError: none came in time, or the worker ended.
    """
    assert worker.stdout is not None
    deadline, read = time.monotonic() + seconds, b""
    while not read.endswith(b"\n"):
        if not select.select([worker.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TimeoutError(f"no answer within {seconds:g} s")
        part = os.read(worker.stdout.fileno(), 1 << 16)
        if not part:
            raise BrokenPipeError("the worker ended")
        read += part
    return read


def _stop(worker: subprocess.Popen[bytes]) -> None:
    for key in [key for key, other in _WORKERS.items() if other is worker]:
        del _WORKERS[key]
    worker.kill()
    worker.wait()
    for file in (worker.stdin, worker.stdout):
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()


@atexit.register
def _stop_all() -> None:
    for (pid, _), worker in list(_WORKERS.items()):
        if pid == os.getpid():
            _stop(worker)
