"""Uncertainty over the steps on a terminal: a line of bars for each sampler."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from tta_bench.analysis.figures.evolution import OUTCOMES

BARS = "▁▂▃▄▅▆▇█"
MOST_BARS = 24
"""Of longer decodings, neighbouring steps share a bar."""


def print_evolution(frame: pd.DataFrame, console: Console) -> None:
    """Mean entropy over the steps, right against wrong answers, the lines of a task on one scale; nothing without traces.

    Args:
        frame: of ``evolution``.
        console: to print on.
    """
    rows = frame[frame["quantity"] == "entropy"] if len(frame) else frame
    if rows.empty:
        return
    table = Table(title="entropy over the steps (nats)", box=None, pad_edge=False)
    table.title_justify = "left"
    for heading in ("task", "sampler", "scale", *OUTCOMES):
        table.add_column(heading, no_wrap=True)
    for (task, sampler), part in rows.groupby(["task", "sampler"], sort=False):
        largest = float(rows.loc[rows["task"] == task, "value"].max())
        cells = [f"0 to {largest:.2f}"]
        for outcome in OUTCOMES:
            line = part[part["outcome"] == outcome]
            cells.append(f"{sparkline(line['value'].tolist(), largest)} (n = {line['n'].iloc[0]})" if len(line) else "")
        table.add_row(str(task), str(sampler), *cells)
    console.print()
    console.print(table, markup=False)


def sparkline(values: Sequence[float], largest: float) -> str:
    """A bar for each value, on a scale from 0 to ``largest``."""
    parts = np.array_split(np.asarray(values, dtype=float), min(len(values), MOST_BARS))
    heights = np.array([part.mean() for part in parts]) / (largest or 1.0)
    return "".join(BARS[i] for i in np.minimum((heights * len(BARS)).astype(int), len(BARS) - 1))
