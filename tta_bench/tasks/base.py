"""What a task is: seeded problems in three disjoint splits, an exact score, and a constraint that never sees the answer."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import ClassVar, Protocol

from tta_bench.rng import digest

HOLE = "▢"
"""Stands, in a prompt, for one position that the model has to fill (an *infill* problem)."""

SPLITS = ("train", "dev", "test")
SPLIT_SIZE = 1000
"""How many problems ``problems(split)`` gives; ``stream(split)`` goes on for as long as it is asked."""


PATIENCE = 20_000
"""Draws in a row without a new problem after which a split counts as exhausted."""


@dataclass(frozen=True)
class Problem:
    """One item of a task.

    Attributes:
        id: unique within the task, and stable: the same id is the same problem on every machine.
        prompt: what the model is given; every ``HOLE`` in it is a position to fill.
        target: one right answer: the filled prompt where there are holes, else the text that follows the prompt.
        gen_length: positions appended after the prompt; 0 where the prompt has holes.
        facts: what scorer and constraint need to know beyond the texts.
        cluster: shared by problems that are not independent, as those about one passage; empty where none are.
    """

    id: str
    prompt: str
    target: str
    gen_length: int
    facts: Mapping[str, object] = field(default_factory=dict)
    cluster: str = ""

    @property
    def infill(self) -> bool:
        return HOLE in self.prompt


def problem_digest(problem: Problem) -> str:
    """16 hex digits over all that a problem is."""
    facts = json.dumps(dict(problem.facts), sort_keys=True, default=_plain)
    return f"{digest(problem.id, problem.prompt, problem.target, problem.gen_length, facts, size=8):016x}"


def _plain(value: object) -> object:
    """A value that JSON does not know, as one that it does, the same in every process."""
    return sorted(value, key=repr) if isinstance(value, set | frozenset) else repr(value)


class Task(Protocol):
    """The contract of a task; ``GeneratedTask`` does the splitting for tasks that generate their problems."""

    name: ClassVar[str]
    version: ClassVar[str]

    def problems(self, split: str, n: int | None = None) -> list[Problem]:
        """The first ``n`` problems of ``split`` (all when None), in a fixed order."""
        ...

    def score(self, problem: Problem, text: str) -> float:
        """How right ``text`` is, in 0..1. ``text`` has the form of ``problem.target``."""
        ...

    def violations(self, problem: Problem, text: str) -> list[float]:
        """How much each character of ``text`` breaks the task's rules, >= 0. Uses the prompt, never the target."""
        ...

    def answer(self, problem: Problem, text: str) -> Hashable:
        """What ``text`` answers: two texts with equal answers are one answer in a vote. Uses the prompt, never the target."""
        ...

    def gold(self, problem: Problem, text: str) -> str | None:
        """The right answer nearest to ``text``, by which its tokens are judged, in the form of the target; None judges none.

        It is asked for after decoding, for measurements only.
        """
        ...


class GeneratedTask:
    """Splits by a hash of a problem's key, so no problem can be in two splits, however many are drawn."""

    name: ClassVar[str]
    version: ClassVar[str]

    def draw(self, rng: random.Random) -> tuple[str, Problem]:
        """Draw (key, problem without id). Problems with equal keys are one problem, and in one split."""
        raise TypeError(f"{type(self).__name__} must define draw(rng)")

    def answer(self, problem: Problem, text: str) -> Hashable:
        """The text itself."""
        return text

    def gold(self, problem: Problem, text: str) -> str | None:
        """None: single tokens are not judged."""
        return None

    def stream(self, split: str, seed: int = 0) -> Iterator[Problem]:
        """Problems of ``split``, each key once, in an order that depends on nothing but ``split`` and ``seed``.

        Ends when no new problem turns up any more.
        """
        if split not in SPLITS:
            raise ValueError(f"split={split!r}: must be one of {', '.join(SPLITS)}")
        rng = random.Random(f"{self.name}/{self.version}/{split}/{seed}")
        seen: set[str] = set()
        rejected = 0
        while rejected < PATIENCE:
            key, problem = self.draw(rng)
            if key in seen or split_of(key) != split:
                rejected += 1
                continue
            seen.add(key)
            rejected = 0
            yield replace(problem, id=f"{split}-{len(seen) - 1:05d}")

    def problems(self, split: str, n: int | None = None) -> list[Problem]:
        """The first ``n`` problems of ``split``.

        Raises:
            ValueError: no such split, ``n`` out of range, or the options leave fewer different problems than that.
        """
        return first_of(self.name, split, self.stream, n)


def check_line_breaks(name: str, text: str) -> None:
    """Refuse a text in which a backslash and an n stand where a line break was meant; LaTeX commands are none.

    Raises:
        ValueError: they do.
    """
    if re.search(r"\\n(?![a-z])", text):
        raise ValueError(
            f"{name}={text!r}: holds a backslash and an n; type a line break as {DOLLAR} in a shell, "
            'or as "\\n" in the double quotes of a YAML file'
        )


DOLLAR = "$'KEY=\"...\\n...\"'"


def first_of(name: str, split: str, stream: Callable[[str], Iterator[Problem]], n: int | None) -> list[Problem]:
    """The first ``n`` problems of a split of task ``name``; all ``SPLIT_SIZE`` when None.

    Raises:
        ValueError: no such split, ``n`` out of range, or ``stream(split)`` has fewer.
    """
    size = SPLIT_SIZE if n is None else n
    if split not in SPLITS:
        raise ValueError(f"split={split!r}: must be one of {', '.join(SPLITS)}")
    if not 1 <= size <= SPLIT_SIZE:
        raise ValueError(f"n_problems={n}: task {name} has {SPLIT_SIZE} problems in a split; choose 1 to {SPLIT_SIZE}")
    found = list(islice(stream(split), size))
    if len(found) < size:
        raise ValueError(
            f"n_problems={size}: with these options task {name} has only {len(found)} different problems in {split}; "
            "ask for fewer, or for harder ones"
        )
    return found


def split_of(key: str, ends: tuple[float, float] = (0.7, 0.8)) -> str:
    """The split a key belongs to: train and dev end at these shares, so 70 % are train, 10 % dev, 20 % test."""
    share = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") / 2**64
    return "train" if share < ends[0] else "dev" if share < ends[1] else "test"


def check_range(name: str, value: tuple[int, int] | list[int], low: int, high: int) -> tuple[int, int]:
    """``value`` as (smallest, largest) with low <= smallest <= largest <= high, or a ValueError that says so."""
    numbers = tuple(int(v) for v in value)
    if len(numbers) != 2 or not low <= numbers[0] <= numbers[1] <= high:
        raise ValueError(f"{name}={list(value)}: must be [smallest, largest] with {low} <= smallest <= largest <= {high}")
    return numbers[0], numbers[1]
