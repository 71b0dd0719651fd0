"""What scorers look for in texts: where an answer ends, boxes of LaTeX, fenced blocks. All in linear time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

NEXT_QUESTION = ("\n\nQuestion:", "\nQuestion:", "\n\nQ:", "\nQ:", "\n\nProblem:")
"""Where a base model, shown examples, goes on to questions of its own."""

BRACES = re.compile(r"\\(?:boxed|fbox)\s*+\{|\\.|[{}]", re.DOTALL)
FENCE = re.compile(r"```([\w+-]*+)\s(.*?)(?:\n[ \t]*+```|\Z)", re.DOTALL)


def until(text: str, stop: Sequence[str]) -> str:
    """``text`` up to the first of the strings in ``stop``."""
    return text[: min((place for s in stop if (place := text.find(s)) >= 0), default=len(text))]


def check_stop(stop: Sequence[str]) -> None:
    """Refuse an empty string, at which every text would end.

    Raises:
        ValueError: there is one.
    """
    if "" in stop:
        raise ValueError(f"scorer.stop={list(stop)}: must hold no empty string; leave it out")


def last_box(text: str) -> str | None:
    r"""What is in the last ``\boxed{...}`` that is closed; None where there is none."""
    opened: list[tuple[int, bool]] = []
    found: tuple[int, int] | None = None
    for match in BRACES.finditer(text):
        if match[0][-1] == "{" and match[0] != r"\{":
            opened.append((match.end(), match[0] != "{"))
        elif match[0] == "}" and opened:
            start, box = opened.pop()
            if box and (found is None or start > found[0]):
                found = start, match.start()
    return text[found[0] : found[1]] if found else None


def fenced(text: str, languages: Sequence[str]) -> Iterator[str]:
    """What is in the fenced blocks of one of the ``languages`` or of none; the last may lack its end."""
    return (match[2] for match in FENCE.finditer(text) if match[1].lower() in ("", *languages))
