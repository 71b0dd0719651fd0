"""Texts beside each other on a terminal, with the characters marked in which two of them differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import zip_longest

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from tta_bench.commands.say import visible

GAP = 3
"""Columns between two texts."""

MARK = "bold underline"
EMPTY = "(empty)"


@dataclass(frozen=True)
class Passage:
    """A text with its label.

    Attributes:
        label: stands above or before it.
        text: of one line or several.
        marks: places in ``text`` that are marked.
    """

    label: str
    text: str
    marks: frozenset[int] = frozenset()

    def lines(self, width: int | None = None) -> list[Line]:
        """The lines of the text, folded after ``width`` characters."""
        found, start = [], 0
        for line in self.text.split("\n"):
            step = width or max(len(line), 1)
            for begin in range(0, max(len(line), 1), step):
                piece = line[begin : begin + step]
                places = range(start + begin, start + begin + len(piece))
                found.append(Line(visible(piece), tuple(place in self.marks for place in places)))
            start += len(line) + 1
        return found if self.text else [Line(EMPTY, (False,) * len(EMPTY))]


@dataclass(frozen=True)
class Line:
    """One line of a passage, and for each of its characters whether it is marked."""

    text: str
    marked: tuple[bool, ...]

    @property
    def carets(self) -> str:
        """A line that has ``^`` below every marked character."""
        signs = ("^" if mark else " " for mark in self.marked)
        return "".join(sign * cell_len(character) for sign, character in zip(signs, self.text, strict=True)).rstrip()

    def styled(self) -> Text:
        """The line with its marked characters in ``MARK``."""
        found = Text(self.text)
        for place, mark in enumerate(self.marked):
            if mark:
                found.stylize(MARK, place, place + 1)
        return found


def differing(one: str, other: str) -> tuple[frozenset[int], frozenset[int]]:
    """The places in which two texts differ: one by one where they are equally long, else as they are best aligned."""
    if len(one) == len(other):
        places = frozenset(i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)
        return places, places
    changed = [code for code in SequenceMatcher(None, one, other, autojunk=False).get_opcodes() if code[0] != "equal"]
    return (
        frozenset(i for _, begin, end, _, _ in changed for i in range(begin, end)),
        frozenset(i for _, _, _, begin, end in changed for i in range(begin, end)),
    )


def print_passages(passages: Sequence[Passage], console: Console, indent: int) -> None:
    """Print passages: beside each other where some have several lines and all fit, else below each other.

    Marked characters are bold and underlined where the console can show it, and have a ``^`` below them elsewhere.
    """
    styled = console.color_system is not None
    beside = any("\n" in passage.text for passage in passages) and needed(passages) + indent <= console.width
    for row in columns(passages, styled) if beside else stacked(passages, styled, console.width - indent):
        line = Text(" " * indent)
        line.append_text(row)
        line.rstrip()
        console.print(line, soft_wrap=True)


def needed(passages: Sequence[Passage]) -> int:
    """Columns of a terminal that passages take beside each other."""
    return sum(breadth(passage) for passage in passages) + GAP * (len(passages) - 1)


def breadth(passage: Passage) -> int:
    """Columns of a terminal that a passage takes."""
    return max(cell_len(text) for text in (passage.label, *(line.text for line in passage.lines())))


def columns(passages: Sequence[Passage], styled: bool) -> Iterator[Text]:
    """Passages beside each other, line by line."""
    widths = [breadth(passage) for passage in passages]
    yield row([Text(passage.label, style="dim") for passage in passages], widths)
    for lines in zip_longest(*(passage.lines() for passage in passages), fillvalue=Line("", ())):
        yield row([line.styled() if styled else Text(line.text) for line in lines], widths)
        if not styled and any(line.carets for line in lines):
            yield row([Text(line.carets) for line in lines], widths)


def row(cells: Sequence[Text], widths: Sequence[int]) -> Text:
    """Cells, each as wide as its column."""
    found = Text()
    for cell, width in zip(cells, widths, strict=True):
        found.append_text(cell)
        found.append(" " * (width + GAP - cell.cell_len))
    return found


def stacked(passages: Sequence[Passage], styled: bool, width: int) -> Iterator[Text]:
    """Passages below each other, their labels in a column of their own."""
    margin = max(cell_len(passage.label) for passage in passages) + GAP
    for passage in passages:
        for number, line in enumerate(passage.lines(max(width - margin, 20))):
            label = passage.label if number == 0 else ""
            yield Text.assemble((label.ljust(margin), "dim"), line.styled() if styled else line.text)
            if not styled and line.carets:
                yield Text(" " * margin + line.carets)
