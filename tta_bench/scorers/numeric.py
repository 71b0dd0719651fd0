"""Numbers, read by the conventions of GSM8K and compared exactly."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from tta_bench.scorers.reading import NEXT_QUESTION, check_stop, last_box, until

LONGEST = 1000
"""Characters of a number; what is longer is none."""

MARKER = re.compile(r"####|\banswer\s++is\b", re.IGNORECASE)
NUMBER = re.compile(
    r"""
    (?P<minus>(?<![\w.)\]}])-)?+        # a minus behind a number or a name is no sign
    (?:[$€£]\s?(?P<inner>-)?+)?+
    (?P<digits>(?:[0-9]{1,3}(?:,[0-9]{3})++(?![0-9])|[0-9]++)(?:\.[0-9]++)?+|\.[0-9]++)
    (?:[eE](?P<exponent>[+-]?[0-9]{1,3})(?![0-9A-Za-z]))?
    (?:\s?/\s?(?P<below>[0-9]++(?:\.[0-9]++)?+))?
    """,
    re.VERBOSE,
)
SUM = re.compile(r"(?:[-+*/\u00d7\u00f7x:()0-9.,$€£%\s]*+=)++")
"""What stands before the result in ``5 + 3 = 8`` and in ``x = 8``."""
MIXED = re.compile(r"(?<![\w.,/])([0-9]{1,15}) ([0-9]{1,15})/([0-9]{1,15})(?!\w|[/.,][0-9]|[ ][0-9]++/)")
"""A mixed number, as 1 1/2; no date (5 3/4/2020) and no list (1 1/2 1/3)."""
GOES_ON = re.compile(r"\s*+%?+\s*+(?:[-+*/\u00d7\u00f7\u22c5\u00b7x:]|of\b|times\b|\\(?:times|cdot|div)\b)\s*+[-($€£]*+[0-9.]")
"""What follows a number that is the beginning of a sum."""

LATEX = (
    (re.compile(r"[\u2212\u2013\ufe63\uff0d]"), "-"),
    (re.compile(r"\\([$%])"), r"\1"),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\[,!;: ]"), ""),
    (re.compile(r"(?<=[0-9])\s*+(?=\\[dt]?frac)"), " "),
    (re.compile(r"\\[dt]?frac\s*+\{\s*+([0-9.]++)\s*+\}\s*+\{\s*+([0-9.]++)\s*+\}"), r"\1/\2"),
    (re.compile(r"\\[dt]?frac\s*+([0-9])([0-9])"), r"\1/\2"),
)


@dataclass(frozen=True)
class Numeric:
    r"""1 where the text answers with the number of the target.

    The answer is the first number behind the last ``####`` or "answer is"; without these, the last number in the last
    ``\boxed{...}``; without a box, the last number. Where the marker or the box has no number, there is no answer. Of an
    equation behind a marker it is the last side that is a number and no sum: in ``5 + 3 = 8`` and ``8 = 5 + 3`` the result.
    The target is read in the same way.

    Read are signs, also the minus of Unicode, $, € and £ in front, commas that separate thousands, decimals, exponents, a/b and
    ``\frac{a}{b}``, and mixed numbers: a whole number, one space and a fraction below 1, ``1 1/2`` or ``1\frac{1}{2}``, unless
    more digits make it a date or a list. What follows a number is not looked at: units, percent signs (50% is 50), periods.
    18.0 is 18 and 1/2 is 0.5, exactly.

    Attributes:
        stop: strings at the first of which a text ends.

    Reference: Cobbe et al., arXiv:2110.14168, for ``####``.
    """

    stop: tuple[str, ...] = NEXT_QUESTION
    version: ClassVar[str] = "2"

    def __post_init__(self) -> None:
        check_stop(self.stop)

    def score(self, target: str, text: str, facts: Mapping[str, object]) -> float:
        gold = read(target)
        return float(gold is not None and self.answer(text, facts) == gold)

    def answer(self, text: str, facts: Mapping[str, object]) -> Hashable:
        """The number as a fraction; None where there is none."""
        return read(until(text, self.stop))

    def check(self, target: str, facts: Mapping[str, object]) -> None:
        if read(target) is None:
            raise ValueError(f"target={target[-60:]!r}: must hold a number, behind #### where there is more text")


def read(text: str) -> Fraction | None:
    """The number that a text answers with, by the rules of ``Numeric``."""
    for pattern, plain in LATEX:
        text = pattern.sub(plain, text)
    text = MIXED.sub(_improper, text)
    places = [match.end() for match in MARKER.finditer(text)]
    if places:
        return _first(text[places[-1] :])
    box = last_box(text)
    return _last(text if box is None else box)


def _first(text: str) -> Fraction | None:
    """The first number; where a line begins with an equation, its result."""
    first = NUMBER.search(text)
    if first is None:
        return None
    line = text[text.rfind("\n", 0, first.start()) + 1 :].partition("\n")[0]
    match = SUM.match(line)
    result = NUMBER.search(line, match.end()) if match else None
    if match is None or result is None:
        return _value(first)
    if GOES_ON.match(line, result.end()):
        sides = [NUMBER.fullmatch(side.strip()) for side in match[0].split("=")]
        result = next((side for side in reversed(sides) if side), result)
    return _value(result)


def _last(text: str) -> Fraction | None:
    found = None
    for match in NUMBER.finditer(text):
        found = match
    return _value(found) if found else None


def _value(match: re.Match[str]) -> Fraction | None:
    """What a match of ``NUMBER`` stands for; None for too many digits and for x/0."""
    if len(match[0]) > LONGEST:
        return None
    below = Fraction(match["below"] or 1)
    sign = -1 if bool(match["minus"]) != bool(match["inner"]) else 1
    value = Fraction(match["digits"].replace(",", "")) * Fraction(10) ** int(match["exponent"] or 0)
    return sign * value / below if below else None


def _improper(match: re.Match[str]) -> str:
    """A match of ``MIXED`` as one fraction: 1 1/2 is 3/2; what it is where its fraction is not below 1."""
    whole, above, below = map(int, match.groups())
    return f"{whole * below + above}/{below}" if above < below else match[0]
