"""Printing text as it is."""

from __future__ import annotations

from rich.console import Console


def say(console: Console, text: str, style: str = "", end: str = "\n") -> None:
    """Print a text in one style: nothing in it is taken for markup, and the terminal alone folds its lines."""
    harmless = "\n".join(visible(line) for line in text.replace("\t", "    ").split("\n"))
    console.print(harmless, style=style, end=end, markup=False, highlight=False, soft_wrap=True)


def visible(line: str) -> str:
    """A line with its control characters, which a terminal would obey, as a sign for the unknown."""
    return "".join("\N{REPLACEMENT CHARACTER}" if ord(c) < 32 or 127 <= ord(c) < 160 else c for c in line)
