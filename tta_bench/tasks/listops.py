"""Operations on lists of letters. Their answers' tokens depend on each other, which parallel decoding ignores."""

from __future__ import annotations

import random
import string
from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

from tta_bench.tasks.base import GeneratedTask, Problem, check_range

OPERATIONS = ("sort", "reverse", "shuffle")
LONGEST = 12


@dataclass(frozen=True)
class ListOps(GeneratedTask):
    """``sort`` or ``reverse`` distinct letters, or ``shuffle`` them: any order of the same letters but the given one.

    ``shuffle`` has many right answers and no token of any is certain: a decoder that commits several tokens at once from
    their marginals repeats letters (the task is after ParallelBench, Kang et al., arXiv:2510.04767).
    """

    length: tuple[int, int] = (8, 8)
    operations: tuple[str, ...] = OPERATIONS
    name: ClassVar[str] = "listops"
    version: ClassVar[str] = "1"

    def __post_init__(self) -> None:
        object.__setattr__(self, "length", check_range("task.length", self.length, 2, LONGEST))
        object.__setattr__(self, "operations", tuple(self.operations))
        unknown = [o for o in self.operations if o not in OPERATIONS]
        if unknown or not self.operations:
            raise ValueError(f"task.operations={list(self.operations)}: must be some of {', '.join(OPERATIONS)}")

    def draw(self, rng: random.Random) -> tuple[str, Problem]:
        operation = rng.choice(self.operations)
        letters = "".join(rng.sample(string.ascii_lowercase, rng.randint(*self.length)))
        answer = {"sort": "".join(sorted(letters)), "reverse": letters[::-1], "shuffle": letters}[operation]
        while operation == "shuffle" and answer == letters:
            answer = "".join(rng.sample(letters, len(letters)))
        facts = {"operation": operation, "letters": letters}
        return f"{operation} {letters}", Problem("", f"{operation} {letters}=", answer, len(letters) + 2, facts)

    def score(self, problem: Problem, text: str) -> float:
        if problem.facts["operation"] == "shuffle":
            letters = str(problem.facts["letters"])
            return float(sorted(text) == sorted(letters) and text != letters)
        return float(text == problem.target)

    def gold(self, problem: Problem, text: str) -> str | None:
        """None for ``shuffle``, where which of two equal letters is wrong is anybody's guess."""
        return None if problem.facts["operation"] == "shuffle" else problem.target

    def violations(self, problem: Problem, text: str) -> list[float]:
        """1 for each character that is not a given letter or occurs again, and, in ``sort``, for each at a descent."""
        letters, counts = str(problem.facts["letters"]), Counter(text)
        scores = [float(c not in letters or counts[c] > 1) for c in text]
        if problem.facts["operation"] == "sort":
            for i in range(1, len(text)):
                if text[i] < text[i - 1]:
                    scores[i - 1] += 1.0
                    scores[i] += 1.0
        return scores
