"""Processes that start at once, because they are copies of the test's own, and can be killed."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Child:
    """A forked process.

    Attributes:
        pid: its number.
        said: file with what it printed.
    """

    pid: int
    said: Path

    def kill(self, after: float = 0.0, number: int = signal.SIGKILL) -> None:
        """Send it a signal after so many seconds."""
        time.sleep(after)
        os.kill(self.pid, number)

    def code(self) -> int:
        """Wait for its end: the exit code, or minus the signal that killed it."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def fork(work: Callable[[], int | None], said: Path) -> Child:
    """Run ``work`` in a process of its own; what it returns is the exit code, 70 if it raises."""
    pid = os.fork()
    if pid:
        return Child(pid, said)
    code = 70
    try:
        descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        code = work() or 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
