"""What is wrong with the arithmetic in a text: parentheses, divisions by zero, equalities that do not hold."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any, Unpack

from tta_bench.sampling.constraints.text import UNKNOWN, Reading, of_text
from tta_bench.types import ConstraintFn

LONGEST, DEEPEST, LARGEST = 200, 40, 1024
"""Tokens of an expression, levels within it, and bits of a numerator or denominator; what has more is not judged."""

MINUS, TIMES = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"

TOKENS = re.compile(
    rf"""
      (?P<space> [^\S\n]+ | [$€£] )
    | (?P<number> \.?[0-9{UNKNOWN}]+ (?:[.,:][0-9{UNKNOWN}]+)* )
    | (?P<word> (?<={UNKNOWN})\. | \.{{2,}} | … | \*{{3,}} )
    | (?P<stop> [<>!]= | =[<>] | [\n;?<>≈≠≤≥~"'`“”{{}}\[\],:.] )
    | (?P<equals> ==? )
    | (?P<operator> \*\* | /+ | [-+*·⋅÷^(){MINUS}{TIMES}] )
    | (?P<rest> [^\W\d]\w* (?: {UNKNOWN}[\w{UNKNOWN}]*(?:[.,:][0-9{UNKNOWN}]+)* )? | . )
    """,
    re.VERBOSE | re.DOTALL,
)
"""``stop`` ends a statement; ``word`` and ``rest`` are what no arithmetic is made of."""

NUMBER = re.compile(r"(?:[0-9]+|[0-9]{1,3}(?:,[0-9]{3})+)?(?:\.[0-9]+)?")
"""A number that is read: digits, with commas at thousands, and decimals."""

ZERO = re.compile(r"0+(\.0+)?|\.0+")

DIVISIONS = ("/", "÷")
PRODUCTS = ("*", TIMES, "·", "⋅")
SIGNS = ("-", MINUS, "+")
POWERS = ("^", "**")

BINDING = re.compile(
    r"plus|minus|times|over|mod|divided|multiplied|of|percent|hundred|thousand|million|billion|trillion|dozen|half|twice|double|"
    r"triple|sqrt|root|log|ln|exp|sin|cos|tan|abs|max|min|sum|squared|cubed|factorial|pi|"
    r"remainder|approx|approximately|roughly|rounded",
    re.IGNORECASE,
)
"""Words that change the value of what stands beside them."""


@dataclass(frozen=True)
class Token:
    """A piece of a text, ``start`` to ``end - 1``. Kinds: stop, number, equals, operator, and word for all else."""

    kind: str
    text: str
    start: int
    end: int

    @property
    def binds(self) -> bool:
        """Whether it may change the value of what stands beside it, with a space between."""
        return self.kind == "word" and (
            len(self.text) == 1 or not self.text.isalpha() or BINDING.fullmatch(self.text) is not None
        )


class Unclear(Exception):
    """What an expression is worth is not known, or not looked at."""


def math_expression(tokenizer: Any, **reading: Unpack[Reading]) -> ConstraintFn:
    """1 at the tokens of what is wrong with the arithmetic in a text.

    - A parenthesis without a partner.
    - A division by a literal zero (``/0``, ``÷ 0.00``), from the sign of division on. ``/05`` and ``/0.5`` divide by no zero,
      ``/0!`` and ``/0^x`` by none that is known.
    - The right side of an equality that is false (``8`` in ``3+4=8``); in a chain each side is compared with the one before it.
      Arithmetic is exact: + - * / ^ and parentheses, with commas at thousands. A number written with a point, alone on its
      side, need only be right when rounded to its decimals (``1/3=0.33``); one without is exact (``7/2=4`` is false).

    Sides are judged where it is clear what they are. Letters, units, percentages and functions are not computed with, and where
    they may change a value nothing is marked. Words beside an expression are prose if a space lies between and, in front, if
    the expression has an operator (``so 3+4=8 apples``, but not ``half of 10 = 5``). A mask may become any text: what it could
    mend is not marked.

    It computes, so where the task is arithmetic it knows the answer.

    Args:
        tokenizer: of the model.
        **reading: how rows are read, as for ``of_text``.

    Raises:
        ValueError: as ``of_text``.
    """
    return of_text(_judge, tokenizer, **reading)


def _judge(text: str) -> list[float]:
    scores = [0.0] * len(text)
    tokens = _tokens(text)
    partner = _partners(tokens)
    for found in (_lonely(tokens, partner), _zero_divisors(tokens), _false_sides(_cut(tokens, partner))):
        for start, end in found:
            scores[start:end] = [1.0] * (end - start)
    return scores


def _tokens(text: str) -> list[Token]:
    found = []
    for match in TOKENS.finditer(text):
        kind = str(match.lastgroup)
        if kind != "space":
            found.append(Token("word" if kind == "rest" else kind, match.group(), *match.span()))
    for i in range(1, len(found) - 1):
        before, token, after = found[i - 1 : i + 2]
        spaced = before.end < token.start and token.end < after.start
        # "3 x 4" is a product, x a letter anywhere else.
        if token.text in ("x", "X") and spaced and _ends_value(before) and _begins_value(after):
            found[i] = Token("operator", TIMES, token.start, token.end)
    return found


def _ends_value(token: Token) -> bool:
    return token.kind == "number" or token.text == ")"


def _begins_value(token: Token) -> bool:
    return token.kind == "number" or token.text == "("


def _partners(tokens: Sequence[Token]) -> dict[int, int]:
    """The number of the partner of each parenthesis that has one."""
    partner: dict[int, int] = {}
    opened: list[int] = []
    for i, token in enumerate(tokens):
        if token.text == "(":
            opened.append(i)
        elif token.text == ")" and opened:
            partner[i] = opened.pop()
            partner[partner[i]] = i
    return partner


def _lonely(tokens: Sequence[Token], partner: dict[int, int]) -> Iterator[tuple[int, int]]:
    """Parentheses without a partner, unless a mask may become it."""
    masks = [i for i, token in enumerate(tokens) if UNKNOWN in token.text]
    first, last = (masks[0], masks[-1]) if masks else (len(tokens), -1)
    for i, token in enumerate(tokens):
        if i not in partner and ((token.text == "(" and i > last) or (token.text == ")" and i < first)):
            yield token.start, token.end


def _zero_divisors(tokens: Sequence[Token]) -> Iterator[tuple[int, int]]:
    for i, token in enumerate(tokens[:-1]):
        if token.kind != "operator" or token.text.strip("/") not in ("", "÷"):
            continue
        j = i + 1 + (tokens[i + 1].text in SIGNS)
        if j < len(tokens) and ZERO.fullmatch(tokens[j].text) and not _changes_zero(tokens, j):
            yield token.start, tokens[j].end


def _changes_zero(tokens: Sequence[Token], i: int) -> bool:
    """Whether what follows a zero may make something else of it."""
    if i + 1 == len(tokens):
        return False
    after = tokens[i + 1]
    masked = UNKNOWN in after.text or (after.text == "*" and any(UNKNOWN in token.text for token in tokens[i + 2 : i + 3]))
    attached = after.kind == "word" and after.start == tokens[i].end
    return masked or attached or after.binds or after.text in POWERS


def _cut(tokens: Sequence[Token], partner: dict[int, int]) -> list[Token]:
    """The tokens, with parentheses around a statement as stops, and those that are not known to be a pair as words."""
    found = list(tokens)
    opened: list[int] = []
    for i, token in enumerate(tokens):
        if i in partner and partner[i] > i:
            opened.append(i)
        elif i in partner:
            opened.pop()
        elif token.text in ("(", ")"):
            found[i] = Token("word", token.text, token.start, token.end)
        kind = "word" if UNKNOWN in token.text else "stop" if token.kind == "equals" else ""
        # A mask may part all pairs around it, an equality belongs to the innermost.
        for one in opened if kind == "word" else opened[-1:] if kind else ():
            for j in (one, partner[one]):
                if found[j].kind != "word":
                    found[j] = Token(kind, tokens[j].text, tokens[j].start, tokens[j].end)
    return found


def _false_sides(tokens: Sequence[Token]) -> Iterator[tuple[int, int]]:
    """The right sides of equalities that do not hold."""
    for statement in _split(tokens, "stop"):
        for left, right in pairwise(_split(statement, "equals")):
            one, other = _before(left), _behind(right)
            if one and other and _differ(one, other):
                yield other[0].start, other[-1].end


def _split(tokens: Sequence[Token], kind: str) -> list[Sequence[Token]]:
    places = [-1, *(i for i, token in enumerate(tokens) if token.kind == kind), len(tokens)]
    return [tokens[one + 1 : other] for one, other in pairwise(places)]


def _before(side: Sequence[Token]) -> Sequence[Token]:
    """The expression that an equals sign behind a side has in front of it; nothing where that is not clear."""
    last = max((i for i, token in enumerate(side) if token.kind == "word"), default=-1)
    found = side[last + 1 :]
    if last < 0 or not found:
        return found
    word = side[last]
    attached = (last > 0 and side[last - 1].end == word.start) or word.end == found[0].start
    computes = any(token.kind == "operator" and token.text not in "()" for token in found)
    return () if attached or word.binds or not computes or found[0].text in SIGNS else found


def _behind(side: Sequence[Token]) -> Sequence[Token]:
    """The expression that an equals sign in front of a side has behind it; nothing where that is not clear."""
    first = next((i for i, token in enumerate(side) if token.kind == "word"), len(side))
    found = side[:first]
    if first == len(side) or not found:
        return found
    return () if found[-1].end == side[first].start or side[first].binds else found


def _differ(one: Sequence[Token], other: Sequence[Token]) -> bool:
    """Whether two expressions are known to have different values."""
    try:
        distance = abs(_value(one) - _value(other))
    except Unclear:
        return False
    return distance > max(_rounding(one), _rounding(other))


def _rounding(expression: Sequence[Token]) -> Fraction:
    """Half a unit of the last decimal of a number that stands alone, 0 for all else."""
    signed = len(expression) == 2 and expression[0].text in SIGNS
    if len(expression) > 1 + signed or "." not in expression[-1].text:
        return Fraction(0)
    return Fraction(1, 2 * 10 ** len(expression[-1].text.partition(".")[2]))


def _value(expression: Sequence[Token]) -> Fraction:
    """What an expression is worth.

    Raises:
        Unclear: it is none, or breaks a limit.
    """
    if len(expression) > LONGEST:
        raise Unclear
    value, rest = _sum(expression, 0)
    if rest:
        raise Unclear
    return value


def _sum(tokens: Sequence[Token], depth: int) -> tuple[Fraction, Sequence[Token]]:
    """The value of the sum that some tokens begin with, and the tokens behind it."""
    if depth > DEEPEST:
        raise Unclear
    value, tokens = _product(tokens, depth)
    while tokens and tokens[0].text in SIGNS:
        sign = tokens[0].text
        term, tokens = _product(tokens[1:], depth)
        value = _limited(value + term if sign == "+" else value - term)
    return value, tokens


def _product(tokens: Sequence[Token], depth: int) -> tuple[Fraction, Sequence[Token]]:
    value, rest = _signed(tokens, depth)
    divided = False
    while rest:
        sign, last = rest[0].text, tokens[len(tokens) - len(rest) - 1]
        if sign in DIVISIONS:
            divisor, rest = _signed(rest[1:], depth)
            if not divisor:
                raise Unclear
            value, divided = _limited(value / divisor), True
        elif sign in PRODUCTS:
            factor, rest = _signed(rest[1:], depth)
            value = _limited(value * factor)
        elif sign == "(" and last.end == rest[0].start and not divided:  # 2(3+4); of 8/2(3+4) nobody knows what it means
            factor, rest = _signed(rest, depth)
            value = _limited(value * factor)
        else:
            break
    return value, rest


def _signed(tokens: Sequence[Token], depth: int) -> tuple[Fraction, Sequence[Token]]:
    """A power with signs before it. A sign with a space behind it may be a dash."""
    if depth > DEEPEST or not tokens:
        raise Unclear
    if tokens[0].text in SIGNS:
        if len(tokens) == 1 or tokens[0].end != tokens[1].start:
            raise Unclear
        value, rest = _signed(tokens[1:], depth + 1)
        return (value if tokens[0].text == "+" else -value), rest
    value, rest = _single(tokens, depth)
    if rest and rest[0].text in POWERS:
        exponent, rest = _signed(rest[1:], depth + 1)
        value = _power(value, exponent)
    return value, rest


def _single(tokens: Sequence[Token], depth: int) -> tuple[Fraction, Sequence[Token]]:
    """A number, or a sum in parentheses."""
    first = tokens[0]
    if first.text == "(":
        value, rest = _sum(tokens[1:], depth + 1)
        if not rest or rest[0].text != ")":
            raise Unclear
        return value, rest[1:]
    if first.kind != "number" or len(first.text) > LONGEST or not NUMBER.fullmatch(first.text):
        raise Unclear
    return _limited(Fraction(first.text.replace(",", ""))), tokens[1:]


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if exponent.denominator > 1 or bits * abs(exponent) > LARGEST or (not base and exponent <= 0):
        raise Unclear
    return base ** int(exponent)


def _limited(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > LARGEST:
        raise Unclear
    return value
