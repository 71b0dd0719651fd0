"""What a failure leaves in a record, limits on time, and a record with its score. Needs no torch."""

from __future__ import annotations

import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tta_bench.runner.store import Record
from tta_bench.tasks.base import Problem, Task


class TimeLimitError(RuntimeError):
    """A problem took longer than it may."""


def failure(error: BaseException, stage: str) -> Record:
    """The fields of a record that say what went wrong; ``stage`` is encode, generate or score."""
    return {
        "score": None,
        "error": {
            "stage": stage,
            "type": type(error).__name__,
            "message": writable(str(error)),
            "traceback": writable("".join(traceback.format_exception(error))),
        },
    }


def writable(text: str) -> str:
    """A text without the halves of characters that no file can hold."""
    return text.encode("utf-8", "backslashreplace").decode()


def answered(record: Record) -> bool:
    """Whether a record holds an answer: it was scored, or nothing but its score failed."""
    return not record.get("error") or record["error"]["stage"] == "score"


def scored(record: Record, task: Task, problem: Problem, seconds: float | None = None) -> Record:
    """A record with its score; with an error, if the scorer failed, that leaves the answer in place.

    Args:
        record: returned as it is where it holds no answer.
        task: gives the score.
        problem: that the record is about.
        seconds: that the scorer may take, see ``time_limit``.
    """
    if not answered(record):
        return record
    try:
        with time_limit(seconds):
            score = float(task.score(problem, record["text"]))
        if not 0 <= score <= 1:
            raise ValueError(f"score={score}: must lie in 0..1")
    except Exception as error:
        return record | failure(error, "score")
    return record | {"score": score, "error": None}


def check_alarms(seconds: float | None) -> None:
    """Refuse a time limit where alarms cannot be set.

    Raises:
        ValueError: this is not the main thread of a process on Unix.
    """
    here = threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")
    if seconds is not None and not here:
        raise ValueError(f"time_limit={seconds}: needs the main thread of a process on Unix; leave it null here")


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Raise in the middle of whatever goes on for longer than ``seconds``; None sets no limit.

    Raises:
        TimeLimitError: it took longer.
    """
    if seconds is None:
        yield
        return

    def expire(_: int, __: FrameType | None) -> None:
        raise TimeLimitError(f"took longer than {seconds:g} s; raise time_limit if that is too short")

    before = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
