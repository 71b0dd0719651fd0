"""Scorers by name: what turns a gold answer and a text into a number in 0..1. Needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tta_bench import catalog
from tta_bench.scorers.base import Scorer

__all__ = ["Scorer", "names", "scorer"]

HELPERS = ("__init__", "base", "jail", "math_worker", "reading", "sandbox")
"""Modules of this package that are no scorers."""

CONTRACT = ("version", "score", "answer", "check")


def names() -> tuple[str, ...]:
    """The names of the scorers of this package, sorted: one module each."""
    return tuple(sorted(f.stem for f in Path(__file__).parent.glob("*.py") if f.stem not in HELPERS))


def scorer(name: str, **options: Any) -> Scorer:
    """The scorer ``name`` with its options.

    Args:
        name: one of ``names()``, or the dotted path of a class of your own that keeps to ``Scorer``.
        **options: fields of the class, for instance ``casefold=True`` of ``exact``.

    Raises:
        ValueError: no such scorer or option (the nearest are suggested), or a value of the wrong type or out of range.
    """
    if "." not in name and name not in names():
        raise ValueError(catalog.unknown("scorer", name, names()))
    target = name if "." in name else f"{__name__}.{name}.{name.title().replace('_', '')}"
    cls = catalog.resolve(target)
    missing = [part for part in CONTRACT if not hasattr(cls, part)]
    if missing:
        raise ValueError(f"scorer {name}: has no {', '.join(missing)}; a scorer needs all of {', '.join(CONTRACT)}")
    built: Scorer = cls(**catalog.coerce("scorer", cls, options))
    return built
