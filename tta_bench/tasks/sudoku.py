"""6x6 sudoku (boxes two rows high, three columns wide), as infill: the holes are masks inside the prompt."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

from tta_bench.tasks.base import HOLE, GeneratedTask, Problem

SIZE, BOX_ROWS, BOX_COLUMNS = 6, 2, 3
DIGITS = "123456"
HEADER = "sudoku\n"
MOST_SOLUTIONS = 1000
"""Looked at to find the nearest; 24 holes leave 7 in the median."""


@dataclass(frozen=True)
class Sudoku(GeneratedTask):
    """Fill ``holes`` random cells of a 6x6 sudoku. Every completion that keeps the givens and the rules is right.

    Keys are solved grids up to a renaming of the digits, so a test grid was never seen in training under other names.
    """

    holes: int = 24
    name: ClassVar[str] = "sudoku"
    version: ClassVar[str] = "1"

    def __post_init__(self) -> None:
        if not 1 <= self.holes <= SIZE * SIZE:
            raise ValueError(f"task.holes={self.holes}: must be 1 to {SIZE * SIZE}")

    def draw(self, rng: random.Random) -> tuple[str, Problem]:
        grid = solved_grid(rng)
        cells = list(grid)
        for i in rng.sample(range(SIZE * SIZE), self.holes):
            cells[i] = HOLE
        return canonical(grid), Problem("", HEADER + layout("".join(cells)), HEADER + layout(grid), 0)

    def score(self, problem: Problem, text: str) -> float:
        answer, given = body(text), body(problem.prompt)
        if len(answer) != SIZE * SIZE or any(g not in (HOLE, a) for a, g in zip(answer, given, strict=True)):
            return 0.0
        complete = all(a in DIGITS for a in answer)
        return float(complete and all(len({answer[i] for i in unit}) == SIZE for unit in UNITS))

    def gold(self, problem: Problem, text: str) -> str | None:
        """The solution that differs from the answer in the fewest cells; None where there are too many to look at all."""
        found = list(islice(solutions(body(problem.prompt)), MOST_SOLUTIONS + 1))
        if len(found) > MOST_SOLUTIONS:
            return None
        return HEADER + layout(min(found, key=lambda cells: sum(a != b for a, b in zip(cells, body(text), strict=False))))

    def violations(self, problem: Problem, text: str) -> list[float]:
        """Per cell, the number of its units (row, column, box) in which its digit occurs again."""
        answer = body(text)
        scores = iter(conflicts(answer, UNITS) if len(answer) == SIZE * SIZE else ())
        return [0.0] * len(HEADER) + [0.0 if c == "\n" else next(scores, 0.0) for c in text[len(HEADER) :]]


def units(size: int = SIZE, box_rows: int = BOX_ROWS, box_columns: int = BOX_COLUMNS) -> list[list[int]]:
    """Cell numbers (row major) of all rows, columns and boxes."""
    rows = [[r * size + c for c in range(size)] for r in range(size)]
    columns = [[r * size + c for r in range(size)] for c in range(size)]
    boxes = [
        [(top + r) * size + left + c for r in range(box_rows) for c in range(box_columns)]
        for top in range(0, size, box_rows)
        for left in range(0, size, box_columns)
    ]
    return rows + columns + boxes


def conflicts(cells: Sequence[str], groups: Sequence[Sequence[int]], digits: str = DIGITS, unknown: str = "") -> list[float]:
    """Per cell, the number of its groups in which its digit occurs again; all of them for no digit, none if ``unknown``."""
    scores = [0.0] * len(cells)
    for group in groups:
        counts = Counter(cells[i] for i in group)
        for i in group:
            scores[i] += cells[i] != unknown and (counts[cells[i]] > 1 or cells[i] not in digits)
    return scores


UNITS = units()
PEERS = [sorted({j for unit in UNITS if i in unit for j in unit if j < i}) for i in range(SIZE * SIZE)]
"""For each cell, the earlier cells that it must differ from."""


def solved_grid(rng: random.Random) -> str:
    """A random solved grid: cell by cell with backtracking, digits tried in random order."""
    grid = [""] * (SIZE * SIZE)

    def fill(i: int) -> bool:
        if i == SIZE * SIZE:
            return True
        taken = {grid[j] for j in PEERS[i]}
        for digit in rng.sample(DIGITS, SIZE):
            if digit not in taken:
                grid[i] = digit
                if fill(i + 1):
                    return True
        return False

    fill(0)
    return "".join(grid)


def solutions(cells: str) -> Iterator[str]:
    """Every way to fill the holes of 36 cells by the rules."""
    open_cells = [i for i, cell in enumerate(cells) if cell == HOLE]
    if not open_cells:
        yield cells
        return
    choices = {i: set(DIGITS) - {cells[j] for unit in UNITS if i in unit for j in unit} for i in open_cells}
    tightest = min(open_cells, key=lambda i: len(choices[i]))
    for digit in sorted(choices[tightest]):
        yield from solutions(cells[:tightest] + digit + cells[tightest + 1 :])


def canonical(grid: str) -> str:
    """The grid with its digits renamed so that the first row reads 123456."""
    return grid.translate(str.maketrans(grid[:SIZE], DIGITS))


def layout(cells: str) -> str:
    """36 cells as six lines."""
    return "\n".join(cells[i : i + SIZE] for i in range(0, SIZE * SIZE, SIZE))


def body(text: str) -> str:
    """The cells of a laid-out grid, without the header and the line ends."""
    return text.removeprefix(HEADER).replace("\n", "")
