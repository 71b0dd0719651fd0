"""Where a text stops being JSON: a pushdown automaton over its characters."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, TypeAlias, Unpack

from tta_bench.sampling.constraints.text import UNKNOWN, Reading, of_text
from tta_bench.types import ConstraintFn

Configuration: TypeAlias = tuple[str, str]
"""A state, and what is open, outermost first: ``{``, ``[``, ``:`` for the string of a key, ``*`` for anything or nothing."""

ROOTS = {"any": "value", "object": "object", "array": "array"}
"""The state in which a text begins, by what it must be."""

SPACE = " \t\n\r"
DIGITS = {"0": "0", **dict.fromkeys("123456789", "int")}
MORE_DIGITS = dict.fromkeys("0123456789", "int")
FRACTION = dict.fromkeys("0123456789", "fraction")
EXPONENT = dict.fromkeys("0123456789", "exponent")
POINT = {".": "point"}
POWER = dict.fromkeys("eE", "power")

NUMBERS = {
    "minus": DIGITS,
    "0": POINT | POWER,
    "int": MORE_DIGITS | POINT | POWER,
    "point": FRACTION,
    "fraction": FRACTION | POWER,
    "power": EXPONENT | dict.fromkeys("+-", "sign"),
    "sign": EXPONENT,
    "exponent": EXPONENT,
}
"""State within a number -> character -> next state."""

COMPLETE = ("after", "0", "int", "fraction", "exponent")
"""States in which a value may be at its end."""

BEGINS = {'"': "string", "-": "minus", **DIGITS, "t": "=rue", "f": "=alse", "n": "=ull"}
"""First character of a value that opens nothing -> state. ``=`` stands before letters that must follow."""

FINISHED: frozenset[Configuration] = frozenset({("after", "")})

ANYWHERE: frozenset[Configuration] = frozenset(
    [
        *((state, "*") for state in ("value", "after", *NUMBERS)),
        *(("=" + word[i:], "*") for word in ("true", "false", "null") for i in range(1, len(word))),
        *((state, stack) for state in ("string", "escape", "u", "uu", "uuu", "uuuu") for stack in ("*", "*{:")),
        *((state, "*{") for state in ("open", "key", "colon")),
        ("first", "*["),
    ]
)
"""All that may be after characters that are not known."""


def json_format(tokenizer: Any, *, root: str = "any", **reading: Unpack[Reading]) -> ConstraintFn:
    """1 at the token with the first character at which the text stops being the beginning of any JSON text (RFC 8259).

    Where the text is such a beginning and no more, 1 at the token that ends it (too early), or else at the last token. What is
    open is not marked: a missing bracket is rarely mended where its partner stands. A mask may become any text: behind it only
    that is marked which no text in its place can mend.

    Args:
        tokenizer: of the model.
        root: what the text must be: ``any`` value, an ``object`` or an ``array``.
        **reading: how rows are read, as for ``of_text``.

    Raises:
        ValueError: no such root, or as ``of_text``.
    """
    if root not in ROOTS:
        raise ValueError(f"root={root!r}: must be one of {', '.join(ROOTS)}")
    begin = frozenset({(ROOTS[root], "")})

    def judge(text: str) -> list[float]:
        scores = [0.0] * (len(text) + 1)
        found = begin
        for place, character in enumerate(text):
            found = _advanced(found, character)
            if not found:
                scores[place] = 1.0
                return scores
        scores[-1] = float(not any(state in COMPLETE and stack in ("", "*") for state, stack in found))
        return scores

    return of_text(judge, tokenizer, **reading)


@lru_cache(maxsize=1 << 14)
def _advanced(found: frozenset[Configuration], character: str) -> frozenset[Configuration]:
    """All that may be after one more character; nothing where no JSON text goes on like this."""
    if character == UNKNOWN:
        return found if found == FINISHED else ANYWHERE
    return frozenset(after for state, stack in found for after in _next(state, stack, character))


def _next(state: str, stack: str, c: str) -> list[Configuration]:
    """What may be after a character: one configuration or none, two where it is not known what is open."""
    if state == "string":
        return _in_string(stack, c)
    if state == "escape":
        return [("string", stack)] if c in '"\\/bfnrt' else [("uuuu", stack)] if c == "u" else []
    if state[0] == "u":
        return [(state[1:] or "string", stack)] if c in "0123456789abcdefABCDEF" else []
    if state[0] == "=":
        return [("after" if state == "=" + c else "=" + state[2:], stack)] if c == state[1] else []
    if c in NUMBERS.get(state, {}):
        return [(NUMBERS[state][c], stack)]
    if state in NUMBERS and state not in COMPLETE:
        return []
    if c in SPACE:
        return [("after" if state in NUMBERS else state, stack)]
    return _outside(state, stack, c)


def _in_string(stack: str, c: str) -> list[Configuration]:
    if c == '"':
        return [("colon", stack[:-1]) if stack.endswith(":") else ("after", stack)]
    return [("escape" if c == "\\" else "string", stack)] if c >= " " else []


def _outside(state: str, stack: str, c: str) -> list[Configuration]:
    """What follows a character that is no space, between values or at the beginning of one."""
    if state in COMPLETE:
        return _closed(stack, c) if c in "}]" else _separated(stack) if c == "," else []
    if state == "colon":
        return [("value", stack)] if c == ":" else []
    if (state == "open" and c == "}") or (state == "first" and c == "]"):
        return _closed(stack, c)
    if state in ("open", "key"):
        return [("string", stack + ":")] if c == '"' else []
    if c == "{" and state != "array":
        return [("open", stack + "{")]
    if c == "[" and state != "object":
        return [("first", stack + "[")]
    return [(BEGINS[c], stack)] if c in BEGINS and state not in ("object", "array") else []


def _closed(stack: str, c: str) -> list[Configuration]:
    if stack.endswith("*"):
        return [("after", stack)]
    return [("after", stack[:-1])] if stack.endswith({"}": "{", "]": "["}[c]) else []


def _separated(stack: str) -> list[Configuration]:
    if stack.endswith("*"):
        return [("key", stack + "{"), ("value", stack + "[")]
    return [("key" if stack.endswith("{") else "value", stack)] if stack else []
