"""Asks math-verify, in a process that may be killed: a script that ``math`` starts.

A line of JSON in, a line of JSON out: {"gold", "text"}: whether they are equal; {"text"}: its answer in a normal form;
{"gold"}: whether it can be read. The gold answer is LaTeX without dollars or box. Needs nothing of this package.
"""

from __future__ import annotations

import contextlib
import json
import logging
import resource
import sys

import sympy
from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify


def read_gold(gold: str) -> list:
    return parse(f"${gold}$", [LatexExtractionConfig(), ExprExtractionConfig()], parsing_timeout=None)


def normal(parsed: list) -> str | None:
    """The same text for answers that sympy can see to be equal."""
    if not parsed:
        return None
    expression = parsed[0]
    with contextlib.suppress(Exception):
        expression = sympy.simplify(sympy.nsimplify(expression, rational=True))
    return str(expression)


def reply(question: dict[str, str]) -> bool | str | None:
    if "text" not in question:
        return bool(read_gold(question["gold"]))
    parsed = parse(question["text"], parsing_timeout=None)
    if "gold" not in question:
        return normal(parsed)
    return verify(read_gold(question["gold"]), parsed, timeout_seconds=None)


def main() -> None:
    """Answer until there are no more questions; an error, also one of memory or depth, is the answer None."""
    logging.disable(logging.CRITICAL)
    size = int(sys.argv[1]) << 20
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            said = reply(json.loads(line))
        except Exception:
            said = None
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
