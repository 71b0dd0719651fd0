"""Score against forward passes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tta_bench.analysis.figures.style import COLOURS, MARKERS, band, colour, in_order, legend_below, panels, paper_style

GREY: dict[str, Any] = {"color": "0.75", "linewidth": 0.7, "marker": ".", "markersize": 2}
"""Of variants without a colour of their own."""


def accuracy_versus_passes(frame: pd.DataFrame) -> Figure:
    """Score against forward passes, one panel a task, one line a sampler variant, 95 % intervals as bands.

    Args:
        frame: a row for each run; columns task, variant, forward_passes, score, score_low, score_high (0..1), and shown: the
            number of the variant's colour, -1 for thin and grey.
    """
    tasks = in_order(frame["task"])
    with paper_style():
        figure, axes = panels(1, len(tasks), height=2.5)
        for axis, task in zip(axes[0], tasks, strict=True):
            of_task = frame[frame["task"] == task]
            for _, part in of_task.groupby("variant", sort=False):
                line = part.sort_values("forward_passes", kind="stable")
                if line["shown"].iloc[0] < 0:
                    axis.plot(line["forward_passes"], 100 * line["score"], **GREY)
                else:
                    coloured(axis, line)
            axis.set(title=task, xlabel="forward passes", ylim=(-2, 102))
            ticks = pass_ticks(of_task["forward_passes"])
            axis.set_xscale("log", base=2)
            axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axis.minorticks_off()
        axes[0][0].set_ylabel("score (%)")
        variants = frame.drop_duplicates("variant").sort_values("shown", kind="stable")
        shown = variants[variants["shown"] >= 0]
        names = [*map(str, shown["variant"])]
        keys = [Line2D([], [], color=colour(n), marker=MARKERS[n % len(MARKERS)]) for n in shown["shown"]]
        if len(variants) > len(shown):
            names.append(f"{len(variants) - len(shown)} others")
            keys.append(Line2D([], [], **GREY))
        legend_below(figure, keys, names)
    return figure


def coloured(axis: Axes, line: pd.DataFrame) -> None:
    """One variant's line with its intervals, in the colour and with the marker of its number."""
    number = int(line["shown"].iloc[0])
    x, y = line["forward_passes"].to_numpy(float), 100 * line["score"].to_numpy(float)
    label = str(line["variant"].iloc[0])
    axis.plot(x, y, marker=MARKERS[number % len(MARKERS)], label=label, zorder=3, color=colour(number))
    low, high = (100 * line[f"score_{end}"].to_numpy(float) for end in ("low", "high"))
    band(axis, x, low, high, colour(number))


MOST_TICKS = 6
"""Powers of two that an axis has room for; of more, every second is told."""


def pass_ticks(passes: pd.Series) -> list[float]:
    """The numbers of passes themselves where they are few and whole, else the powers of two around them."""
    measured = sorted(passes.unique())
    if len(measured) <= 5 and all(value == int(value) for value in measured):
        return measured
    exponents = np.log2([max(measured[0], 0.5), measured[-1]])
    low, high = int(np.floor(exponents[0])), int(np.ceil(exponents[1]))
    return [float(2**e) for e in range(low, high + 1, 1 if high - low < MOST_TICKS else 2)]


MOST_COLOURED = COLOURS
"""Variants that have a colour of their own."""
