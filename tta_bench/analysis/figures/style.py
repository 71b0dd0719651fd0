"""How every figure looks: sizes, colours, legends, files."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tta_bench.analysis.stats import Floats

STYLE = Path(__file__).with_name("paper.mplstyle")
ONE_COLUMN, TWO_COLUMNS = 3.3, 6.9
"""Widths in inches."""

UNDATED: dict[str, dict[str, None]] = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}
"""The kinds of file that a figure is saved as, with metadata that leave out its date."""

Dash = Literal["-", "--", "-.", ":"]

DASHES: tuple[Dash, ...] = ("-", "--", "-.", ":")
COLOURS, MARKERS = 7, "osD^vPX"
"""Lines that can be told apart by their colour, and what tells more of them apart."""


@contextmanager
def paper_style() -> Iterator[None]:
    """The style of every figure, leaving the user's own settings alone."""
    with matplotlib.rc_context():
        matplotlib.style.use(STYLE)
        yield


def panels(rows: int, columns: int, *, height: float, width: float | None = None) -> tuple[Figure, list[list[Axes]]]:
    """A grid of axes two columns of a paper wide, ``height`` inches a row, free of pyplot's global state."""
    width = width or (TWO_COLUMNS if columns > 1 else ONE_COLUMN)
    figure = Figure(figsize=(width, height * rows + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, [list(row) for row in figure.subplots(rows, columns, squeeze=False)]


def colour(number: int) -> str:
    """Of the series with this number."""
    return f"C{number % COLOURS}"


def dash(number: int) -> Dash:
    """Of the series with this number: as its colour, it changes where there are no more colours."""
    return DASHES[number // COLOURS % len(DASHES)]


def band(axis: Axes, x: Floats, low: Floats, high: Floats, colour: str, alpha: float = 0.13) -> None:
    """An interval at each x: an area, or a bar where there is but one x."""
    if len(x) > 1:
        axis.fill_between(x, low, high, color=colour, alpha=alpha, linewidth=0)
    else:
        axis.vlines(x, low, high, color=colour, alpha=0.4)


def whole_numbers(axis: Axis, n: int = 5) -> None:
    """At most ``n`` ticks on an axis, at whole numbers."""
    axis.set_major_locator(MaxNLocator(integer=True, nbins=n, min_n_ticks=1))


def legend_handles(axes: Iterable[Sequence[Axes]]) -> dict[str, Artist]:
    """What stands for each label, in any of the panels."""
    pairs = [zip(*axis.get_legend_handles_labels(), strict=True) for row in axes for axis in row]
    return {str(label): handle for found in pairs for handle, label in found}


def legend_below(figure: Figure, handles: Sequence[Artist], names: Sequence[str], per_column: int = 1) -> None:
    """A legend below all panels, in as many columns as the names leave room for.

    Args:
        figure: with the panels.
        handles: what stands for each name.
        names: of the series; ``per_column`` of them belong together and stand below each other.
        per_column: how many.
    """
    if not names:
        return
    room = figure.get_figwidth() / (0.4 + 0.058 * max(map(len, names)))
    columns = int(np.clip(room, 1, min(6, len(names) // per_column)))
    figure.legend(handles, names, loc="outside lower center", ncols=columns)


LONGEST_LABEL = 40
"""Characters of a row's name that stand on one line."""


def broken(name: str) -> str:
    """The name of a row in lines that leave room for its numbers, broken between settings."""
    return "\n".join(textwrap.wrap(name, LONGEST_LABEL, break_long_words=False, break_on_hyphens=False))


def row_height(names: Iterable[str]) -> float:
    """Inches that a row needs for any of these names."""
    lines = max(broken(name).count("\n") + 1 for name in names)
    return 0.14 if lines == 1 else 0.04 + 0.085 * lines


def name_rows(axis: Axes, names: Sequence[str]) -> None:
    """Names at the y axis, from the top."""
    told = [broken(name) for name in names]
    several = any("\n" in name for name in told)
    axis.set_yticks(range(len(told)), told, fontsize=5 if several else 6)
    axis.set_ylim(len(told) - 0.5, -0.5)


def say(axis: Axes, text: str) -> None:
    """Why a panel is empty."""
    axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", fontsize=7, color="0.35", wrap=True)


def hide(places: Iterable[Axes]) -> None:
    """Panels that nothing is drawn in."""
    for axis in places:
        axis.set_axis_off()


def in_order(values: Iterable[object]) -> list[str]:
    """The different values as texts, in order of first appearance."""
    return list(dict.fromkeys(map(str, values)))


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write PNG, PDF and SVG, without dates, so that the same figure is the same file."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    with paper_style():
        figure.draw_without_rendering()  # lays it out, once for all kinds of file
        figure.set_layout_engine("none")
        for kind, metadata in UNDATED.items():
            paths.append(folder / f"{name}.{kind}")
            figure.savefig(paths[-1], metadata=metadata)
    return paths
