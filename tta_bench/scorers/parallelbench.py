"""Lists that were to be edited, Latin squares and small sudokus, by the rules of ParallelBench."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

LISTS = {
    "list_match_score": "",
    "list_shuffle_score": "input",
    "list_random_insert_score": "input, word",
    "list_random_remove_score": "input",
    "list_random_replace_score": "input, word",
}
"""Metrics of lists, with what the row's answer must tell; without that it is the list itself, as a text."""

GRIDS = {"latin_square_score": "symbols", "sudoku_score": ""}
WORDS = {"inclusion": "words"}
NEEDS = LISTS | GRIDS | WORDS


@dataclass(frozen=True)
class Parallelbench:
    """1 where the text is what the row's metric asks for.

    - ``list_match_score``: the list of the answer.
    - ``list_shuffle_score``: the entries of ``input`` in another order.
    - ``list_random_insert_score``: ``input`` with ``word`` anywhere.
    - ``list_random_remove_score``: ``input`` without any one entry.
    - ``list_random_replace_score``: ``input`` with ``word`` in the place of any one entry.
    - ``latin_square_score``: lines of cells between commas; the first that have each of ``symbols`` once make a square in which
      every column has, too. Other lines are not looked at.
    - ``sudoku_score``: the rows of the answer.
    - ``inclusion``: each of ``words`` occurs in the text.

    A list is read from the last ``[`` to the next ``]``; without brackets the whole text is. Its entries stand between commas,
    with or without quotes.

    The benchmark's metrics of sentences, summaries and paraphrases are refused: they rest on LanguageTool (Java), which is not
    in this package. ``inclusion`` can stand in for ``sentence_to_words_score``, and is another number.

    Attributes:
        metric: for all rows; None: the row's column ``metric``.
        strict: a list must be in brackets, its entries in double quotes; a sudoku must be four lines of four digits, and
            nothing else.

    Reference: Kang et al., arXiv:2510.04767.
    """

    metric: str | None = None
    strict: bool = False
    version: ClassVar[str] = "1"

    def __post_init__(self) -> None:
        if self.metric is not None:
            check_metric("scorer.metric", self.metric)

    def score(self, target: str, text: str, facts: Mapping[str, object]) -> float:
        metric, answer = self._metric(facts), facts.get("answer", target)
        if metric in WORDS:
            return float(all(word in text for word in told(answer, "words")))
        found = self._read(metric, text, answer)
        return float(found is not None and RULES[metric](found, answer))

    def answer(self, text: str, facts: Mapping[str, object]) -> Hashable:
        """The entries of the list, the lines of the grid, or the text; None where there is none."""
        metric = self._metric(facts)
        if metric in WORDS:
            return text.strip()
        return self._read(metric, text, facts.get("answer"))

    def check(self, target: str, facts: Mapping[str, object]) -> None:
        metric, answer = self._metric(facts), facts.get("answer", target)
        for key in filter(None, NEEDS[metric].split(", ")):
            told(answer, key)
        if not self.score(target, target, facts):
            raise ValueError(f"target={target[-60:]!r}: is not right by {metric}")

    def _metric(self, facts: Mapping[str, object]) -> str:
        return self.metric or check_metric("facts['metric']", facts.get("metric"))

    def _read(self, metric: str, text: str, answer: object) -> tuple[Any, ...] | None:
        if metric == "sudoku_score":
            return sudoku_rows(text, strict=self.strict)
        if metric == "latin_square_score":
            return square_rows(text, told(answer, "symbols"))
        return entries(text, strict=self.strict)


def check_metric(name: str, metric: object) -> str:
    """The metric.

    Raises:
        ValueError: it is none that is scored here.
    """
    if not isinstance(metric, str) or metric not in NEEDS:
        raise ValueError(
            f"{name}={metric!r}: must be one of {', '.join(NEEDS)}; those of sentences, summaries and paraphrases need a "
            "grammar checker that is not in this package (scorer_options={metric: inclusion} asks for the words alone)"
        )
    return metric


def told(answer: object, key: str) -> Any:
    """What a row's answer tells under ``key``.

    Raises:
        ValueError: nothing.
    """
    if not isinstance(answer, Mapping) or not answer.get(key):
        raise ValueError(f"facts['answer']={answer!r}: must be an object with {key}")
    return answer[key]


def entries(text: str, *, strict: bool = False) -> tuple[str, ...] | None:
    """The entries of the last list in a text; None where it has not the form."""
    _, opened, rest = text.rpartition("[")
    inner, closed, _ = rest.partition("]")
    if not strict:
        return tuple(entry for part in inner.split(",") if (entry := part.strip().strip("\"'").strip()))
    try:
        found = json.loads(f"[{inner}]") if opened and closed else None
    except ValueError:
        return None
    return tuple(found) if found is not None and all(isinstance(entry, str) for entry in found) else None


def square_rows(text: str, symbols: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """The first lines of a text that have each symbol once, as many as there are symbols; or fewer."""
    lines = (tuple(cell.strip() for cell in line.split(",")) for line in text.splitlines())
    return tuple([line for line in lines if sorted(line) == sorted(symbols)][: len(symbols)])


def sudoku_rows(text: str, *, strict: bool = False) -> tuple[str, ...] | None:
    """The lines of four digits; None where they are not four, or, where that is asked for, where there is anything else."""
    lines = [line.strip() if strict else re.sub(r"[\s,]", "", line) for line in text.strip().splitlines() if line.strip()]
    rows = tuple(line for line in lines if re.fullmatch("[0-9]{4}", line))
    return rows if len(rows) == 4 and not (strict and len(lines) > 4) else None


def is_part(fewer: Sequence[str], more: Sequence[str]) -> bool:
    """Whether ``fewer`` is left when one of ``more`` is taken out."""
    return any(tuple(fewer) == (*more[:i], *more[i + 1 :]) for i in range(len(more)))


def is_replaced(found: Sequence[str], old: Sequence[str], word: str) -> bool:
    """Whether ``found`` is ``old`` with ``word`` in the place of one entry."""
    changed = [(new, was) for new, was in zip(found, old, strict=False) if new != was]
    return len(found) == len(old) and [new for new, _ in changed] == [word]


def is_square(rows: Sequence[Sequence[str]], symbols: Sequence[str]) -> bool:
    """Whether the rows are as many as the symbols, and each column has each symbol once."""
    return len(rows) == len(symbols) and all(sorted(column) == sorted(symbols) for column in zip(*rows, strict=True))


def is_inserted(found: Sequence[str], old: Sequence[str], word: str) -> bool:
    """Whether ``found`` is ``old`` with ``word`` anywhere."""
    return any(tuple(found) == (*old[:i], word, *old[i:]) for i in range(len(old) + 1))


RULES: dict[str, Callable[[Any, Any], bool]] = {
    "list_match_score": lambda found, answer: found == entries(answer),
    "list_shuffle_score": lambda found, answer: found != tuple(answer["input"]) and sorted(found) == sorted(answer["input"]),
    "list_random_insert_score": lambda found, answer: is_inserted(found, answer["input"], answer["word"]),
    "list_random_remove_score": lambda found, answer: is_part(found, answer["input"]),
    "list_random_replace_score": lambda found, answer: is_replaced(found, answer["input"], answer["word"]),
    "latin_square_score": lambda found, answer: is_square(found, answer["symbols"]),
    "sudoku_score": lambda found, answer: found == sudoku_rows(answer),
}
