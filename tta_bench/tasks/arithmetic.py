"""Addition of two numbers of many digits: a digit of the sum depends on all digits to its right, through the carries."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import ClassVar

from tta_bench.tasks.base import GeneratedTask, Problem, check_range

LONGEST = 16


@dataclass(frozen=True)
class Arithmetic(GeneratedTask):
    """``a+b=`` with both numbers of the same length, answered with one digit more, zeros in front kept.

    Half of the problems have a long run of columns that add to 9, over which a carry has to travel.
    """

    digits: tuple[int, int] = (6, 7)
    name: ClassVar[str] = "arithmetic"
    version: ClassVar[str] = "1"

    def __post_init__(self) -> None:
        object.__setattr__(self, "digits", check_range("task.digits", self.digits, 1, LONGEST))

    def draw(self, rng: random.Random) -> tuple[str, Problem]:
        n = rng.randint(*self.digits)
        a = [rng.randrange(10) for _ in range(n)]
        b = [rng.randrange(10) for _ in range(n)]
        if rng.random() < 0.5:
            start = rng.randrange(n)
            for i in range(start, rng.randint(start, n)):
                b[i] = 9 - a[i]
        left, right = ("".join(map(str, digits)) for digits in (a, b))
        total = str(int(left) + int(right)).zfill(n + 1)
        key = " ".join(sorted((left, right)))
        return key, Problem("", f"{left}+{right}=", total, n + 2, {"digits": n})

    def score(self, problem: Problem, text: str) -> float:
        return float(text == problem.target)

    def gold(self, problem: Problem, text: str) -> str | None:
        """The sum."""
        return problem.target

    def violations(self, problem: Problem, text: str) -> list[float]:
        """1 for each character that is no digit, for a first digit above 1, and for what lies past the answer's length."""
        width = int(str(problem.facts["digits"])) + 1
        return [float(not ("0" <= c <= "9") or (i == 0 and c not in "01") or i >= width) for i, c in enumerate(text)]
