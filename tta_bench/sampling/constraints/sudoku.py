"""Digits of a sudoku that stand twice in a row, a column or a box."""

from __future__ import annotations

from typing import Any, Unpack

from tta_bench.sampling.constraints.text import UNKNOWN, Reading, of_text
from tta_bench.tasks.sudoku import HEADER, conflicts, units
from tta_bench.types import ConstraintFn

LARGEST = 9


def sudoku_units(
    tokenizer: Any, side: int = 6, box: tuple[int, int] = (2, 3), *, header: str = HEADER, **reading: Unpack[Reading]
) -> ConstraintFn:
    """At each cell, the number of its units (row, column, box) in which its digit occurs again; all of them for no digit.

    The text is laid out as that of the task ``sudoku``: ``header``, then ``side`` lines of ``side`` cells. What is no line end
    where there must be one gets 1; a text that is too short gets 1 at its end; what is too long is not looked at. A mask counts
    as one character that is not known.

    Args:
        tokenizer: of the model.
        side: cells of a row, 1 to 9; the digits are 1 to ``side``.
        box: rows and columns of a box.
        header: what stands before the grid.
        **reading: how rows are read, as for ``of_text``, but that without ``end_ids`` no token ends the text.

    Raises:
        ValueError: there is no such sudoku, or as ``of_text``.
    """
    if not 1 <= side <= LARGEST or box[0] < 1 or box[0] * box[1] != side:
        raise ValueError(f"side={side}, box={box}: must be 1 to {LARGEST} cells, and boxes of as many, as (2, 3) for 6")
    groups, digits = units(side, *box), "".join(str(i + 1) for i in range(side))
    cells = [len(header) + row * (side + 1) + column for row in range(side) for column in range(side)]
    line_ends = [len(header) + row * (side + 1) + side for row in range(side - 1)]

    def judge(text: str) -> list[float]:
        scores = [0.0] * len(text) + [float(len(text) <= cells[-1])]
        found = [text[place] if place < len(text) else UNKNOWN for place in cells]
        for place, conflict in zip(cells, conflicts(found, groups, digits, UNKNOWN), strict=True):
            if place < len(text):
                scores[place] = conflict
        for place in line_ends:
            if place < len(text):
                scores[place] = float(text[place] not in ("\n", UNKNOWN))
        return scores

    reading.setdefault("end_ids", ())
    return of_text(judge, tokenizer, **reading)
