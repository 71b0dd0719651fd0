"""Texts that must match a pattern as a whole."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import regex

SECONDS = 1.0
"""That a match may take: some patterns need longer than the universe lasts."""


@dataclass(frozen=True)
class Regex:
    """1 where the whole text, without whitespace at its ends, matches; 0 also where that is not found within a second.

    Attributes:
        pattern: for all rows, in the syntax of the package ``regex`` (that of ``re`` and more); None: each target is a pattern.
    """

    pattern: str | None = None
    version: ClassVar[str] = "1"

    def __post_init__(self) -> None:
        if self.pattern is not None:
            compiled("scorer.pattern", self.pattern)

    def score(self, target: str, text: str, facts: Mapping[str, object]) -> float:
        pattern = compiled("target", target) if self.pattern is None else compiled("scorer.pattern", self.pattern)
        try:
            return float(pattern.fullmatch(text.strip(), timeout=SECONDS) is not None)
        except TimeoutError:
            return 0.0

    def answer(self, text: str, facts: Mapping[str, object]) -> Hashable:
        """The text without whitespace at its ends."""
        return text.strip()

    def check(self, target: str, facts: Mapping[str, object]) -> None:
        if self.pattern is None:
            compiled("target", target)


def compiled(name: str, pattern: str) -> regex.Pattern[str]:
    """The pattern, compiled.

    Raises:
        ValueError: it is no pattern; ``name`` says whose.
    """
    try:
        return regex.compile(pattern)
    except (regex.error, RecursionError) as error:
        raise ValueError(f"{name}={pattern!r}: must be a regular expression ({error})") from error


def found(pattern: str, text: str) -> bool:
    """Whether ``pattern`` matches somewhere in ``text``; False also where that takes too long."""
    try:
        return compiled("pattern", pattern).search(text, timeout=SECONDS) is not None
    except TimeoutError:
        return False
