"""Constraints, from token ids (B, L) to violations (B, L): how one is asked, and ready ones, one a file."""

from __future__ import annotations

from tta_bench.sampling.constraints.combine import combined
from tta_bench.sampling.constraints.evaluate import ConstraintError, asked_once, evaluate_constraint
from tta_bench.sampling.constraints.forbidden import forbidden_tokens
from tta_bench.sampling.constraints.json_text import json_format
from tta_bench.sampling.constraints.math_text import math_expression
from tta_bench.sampling.constraints.ngrams import no_repeat_ngrams
from tta_bench.sampling.constraints.pattern import regex
from tta_bench.sampling.constraints.sudoku import sudoku_units
from tta_bench.sampling.constraints.text import UNKNOWN, UNREADABLE, of_text

__all__ = [
    "UNKNOWN",
    "UNREADABLE",
    "ConstraintError",
    "asked_once",
    "combined",
    "evaluate_constraint",
    "forbidden_tokens",
    "json_format",
    "math_expression",
    "no_repeat_ngrams",
    "of_text",
    "regex",
    "sudoku_units",
]
