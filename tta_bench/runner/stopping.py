"""Ctrl-C and SIGTERM: the batch at work is finished and stored, then the process stops. A second signal stops it at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A signal asked to stop, and a good moment has come."""


@contextmanager
def terminable() -> Iterator[None]:
    """Have SIGTERM raise KeyboardInterrupt, as SIGINT does, while the context lasts; in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def stop_requests(tell: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """Take signals while the context lasts.

    Only the main thread of a process can. Elsewhere, and where somebody else handles a signal already (submitit, which has a
    pre-empted job queued again; Ray), it is left to them.

    Args:
        tell: shows a sentence at once; called in the middle of whatever goes on.

    Yields:
        A function to be called at good moments; raises ``Stopped`` once a signal has come.
    """
    asked: list[int] = []

    def ask(number: int, _: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        tell(f"{signal.Signals(number).name}: ends after this batch; again: at once")

    def check() -> None:
        if asked:
            raise Stopped

    if threading.current_thread() is not threading.main_thread():
        yield check
        return
    before = {number: signal.signal(number, ask) for number in SIGNALS if unclaimed(number)}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def unclaimed(number: int) -> bool:
    """Whether nobody but Python itself and ``terminable`` handles a signal."""
    return signal.getsignal(number) in (signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler)
