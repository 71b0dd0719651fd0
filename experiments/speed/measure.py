"""How things are timed here: in alternation, after one round that does not count, with the model's share told apart."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from tta_bench.sampling.sampler import Step

Case = Callable[[], object]


def now() -> float:
    """Seconds, once a GPU that is in use has done all it was asked to."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def alternated(cases: Mapping[str, Case], rounds: int) -> dict[str, np.ndarray]:
    """Seconds (rounds,) of each case: every round runs all of them, one after the other; one round before does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds + 1):
        for name, case in cases.items():
            began = now()
            case()
            seconds[name].append(now() - began)
    return {name: np.array(values[1:]) for name, values in seconds.items()}


@dataclass
class Shares:
    """Seconds of each part of each decoding: the model, the sampler, and the rest, which is bookkeeping.

    Attributes:
        model: in the model.
        step: in steps, the model included.
        whole: in all.
    """

    model: list[float] = field(default_factory=list)
    step: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)

    def take(self, seconds: float) -> None:
        """End a decoding that took ``seconds``."""
        self.whole.append(seconds)
        self.model.append(0.0)
        self.step.append(0.0)

    def parts(self) -> dict[str, float]:
        """Median seconds of the parts, the first decoding left out, and the median share of what is not the model."""
        whole, model, step = (np.array(values[1 : len(self.whole)]) for values in (self.whole, self.model, self.step))
        return {
            "model": float(np.median(model)),
            "sampler": float(np.median(step - model)),
            "bookkeeping": float(np.median(whole - step)),
            "overhead": float(np.median(1 - model / whole)),
        }


@contextmanager
def watched(model: Any) -> Iterator[Callable[[str, Case], Shares]]:
    """A function that runs a case and adds to the shares of its name."""
    forward, advance = model.forward, Step.advance
    shares: dict[str, Shares] = {}
    current = Shares([0.0], [0.0])

    def timed(function: Callable[..., Any], part: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            began = now()
            result = function(*args, **kwargs)
            getattr(current, part)[-1] += now() - began
            return result

        return run

    def run(name: str, case: Case) -> Shares:
        nonlocal current
        current = shares.setdefault(name, Shares([0.0], [0.0]))
        began = now()
        case()
        current.take(now() - began)
        return current

    model.forward = timed(forward, "model")
    Step.advance = timed(advance, "step")  # type: ignore[method-assign]
    try:
        yield run
    finally:
        model.forward = forward
        Step.advance = advance  # type: ignore[method-assign]
