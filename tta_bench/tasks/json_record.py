"""A record in words, to be written as a JSON object."""

from __future__ import annotations

import json
import random
import string
from dataclasses import dataclass
from itertools import permutations, zip_longest
from typing import ClassVar

from tta_bench.tasks.base import GeneratedTask, Problem, check_range

STRING_KEYS = ("name", "city", "team", "pet")
NUMBER_KEYS = ("age", "size", "year", "rank")
FLAG_KEYS = ("vip", "new", "ok", "paid")
GEN_LENGTH = 48


@dataclass(frozen=True)
class JsonRecord(GeneratedTask):
    """``json name=bola, age=42, vip=yes:`` becomes ``{"name":"bola","age":42,"vip":true}``.

    Each record has a word, a whole number and a flag, in random order. Right is any JSON text of an object with just
    these members.
    """

    word_length: tuple[int, int] = (6, 7)
    name: ClassVar[str] = "json"
    version: ClassVar[str] = "1"

    def __post_init__(self) -> None:
        object.__setattr__(self, "word_length", check_range("task.word_length", self.word_length, 1, 8))

    def draw(self, rng: random.Random) -> tuple[str, Problem]:
        word = "".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(*self.word_length)))
        fields: list[tuple[str, str | int | bool]] = [
            (rng.choice(STRING_KEYS), word),
            (rng.choice(NUMBER_KEYS), rng.randrange(10 ** rng.randint(1, 4))),
            (rng.choice(FLAG_KEYS), rng.random() < 0.5),
        ]
        rng.shuffle(fields)
        record = dict(fields)
        words = ", ".join(f"{key}={in_words(value)}" for key, value in fields)
        target = json.dumps(record, separators=(",", ":"))
        return words, Problem("", f"json {words}:", target, GEN_LENGTH, {"record": record})

    def score(self, problem: Problem, text: str) -> float:
        try:
            answer = json.loads(text)
        except json.JSONDecodeError:
            return 0.0
        record = problem.facts["record"]
        # 1 == True in Python, so types are compared as well.
        same = isinstance(answer, dict) and answer == record
        return float(same and all(type(answer[k]) is type(v) for k, v in dict(record).items()))  # type: ignore[call-overload]

    def gold(self, problem: Problem, text: str) -> str | None:
        """What is right is its own measure; else the members in the order that differs in the fewest characters, no spaces."""
        if self.score(problem, text) == 1:
            return text
        members = dict(problem.facts["record"]).items()  # type: ignore[call-overload]
        texts = [json.dumps(dict(order), separators=(",", ":")) for order in permutations(members)]
        return min(texts, key=lambda right: sum(a != b for a, b in zip_longest(right, text)))

    def violations(self, problem: Problem, text: str) -> list[float]:
        """1 at the character where the text stops being JSON; 1 at the last where the JSON is no object."""
        scores = [0.0] * len(text)
        try:
            valid = isinstance(json.loads(text), dict)
            place = len(text) - 1
        except json.JSONDecodeError as error:
            valid, place = False, min(error.pos, len(text) - 1)
        if text and not valid:
            scores[place] = 1.0
        return scores


def in_words(value: str | int | bool) -> str:
    """A value as the prompt writes it."""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
