"""``--json``: what a command found, as one JSON document on standard output, for machines."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from typing import Any

import orjson
import pandas as pd

_TOLD: ContextVar[dict[str, Any] | None] = ContextVar("told", default=None)


@contextmanager
def json_on_stdout() -> Iterator[None]:
    """What is printed for people goes to standard error, what ``tell`` is told to standard output, once all is done."""
    found: dict[str, Any] = {}
    out, token = sys.stdout, _TOLD.set(found)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _TOLD.reset(token)
    if found:
        print(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode(), file=out)


def tell(**values: Any) -> None:
    """What a command found; nothing where nobody asked for JSON. Numbers that are undefined become null."""
    found = _TOLD.get()
    if found is not None:
        found.update(values)


def rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """A frame as a list of its rows."""
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]
