"""Paired differences from the baseline: a forest plot."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tta_bench.analysis.figures.style import TWO_COLUMNS, in_order, name_rows, panels, paper_style, row_height

MOST_ROWS = 40
"""Comparisons of a task that the figure has room for."""


def differences(frame: pd.DataFrame) -> Figure:
    """Each candidate's paired difference from its baseline: intervals alone (thick) and adjusted for all comparisons (thin).

    Filled where the adjusted test rejects; a row for each comparison, a panel for each task, the largest difference first.

    Args:
        frame: a row for each comparison; columns task, comparison, delta, delta_low, delta_high, adjusted_low, adjusted_high
            (-1..1), significant, alpha.
    """
    tasks = in_order(frame["task"])
    most = int(frame["task"].value_counts().max())
    with paper_style():
        figure, axes = panels(
            len(tasks), 1, height=0.35 + row_height(frame["comparison"]) * most + 0.25 / len(tasks), width=TWO_COLUMNS
        )
        for axis, task in zip((row[0] for row in axes), tasks, strict=True):
            part = frame[frame["task"] == task].sort_values("delta", ascending=False, kind="stable")
            y = np.arange(len(part))
            for kind, width in (("adjusted", 0.7), ("delta", 2.2)):
                low, high = (100 * part[f"{kind}_{end}"].clip(-1, 1) for end in ("low", "high"))
                axis.hlines(y, low, high, color="C0", linewidth=width, alpha=0.7)
            found = part["significant"].to_numpy(bool)
            for marked, face in ((found, "C0"), (~found, "white")):
                axis.plot(100 * part["delta"][marked], y[marked], "o", color="C0", markerfacecolor=face, markersize=4, zorder=3)
            axis.axvline(0, color="0.4", linewidth=0.8, linestyle=":")
            name_rows(axis, list(part["comparison"]))
            axis.set(title=task)
            axis.grid(visible=False, axis="y")
        level = f"{100 * (1 - frame['alpha'].iloc[0]):g} % intervals"
        axes[-1][0].set_xlabel(f"difference from the baseline (points); {level} alone (thick) and adjusted together (thin)")
    return figure
