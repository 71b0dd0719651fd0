"""How often answers flip when something changes that should not matter."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tta_bench.analysis.figures.style import MARKERS, colour, in_order, legend_below, legend_handles, panels, paper_style


def flip_rates(frame: pd.DataFrame) -> Figure:
    """The share of answers that flip in each variant, with its interval; a panel for each task, a colour for each sampler.

    Args:
        frame: columns task, series (sampler and settings), variant, flips, flips_low, flips_high (0..1).
    """
    tasks, variants = in_order(frame["task"]), in_order(frame["variant"])
    series = in_order(frame["series"])
    lines = max(text.count(" ") + 1 for text in variants)
    with paper_style():
        figure, axes = panels(1, len(tasks), height=0.8 + len(variants) * max(0.11 * (1 + len(series)), 0.12 + 0.075 * lines))
        for axis, task in zip(axes[0], tasks, strict=True):
            for number, name in enumerate(series):
                part = frame[(frame["task"] == task) & (frame["series"] == name)]
                y = np.array([variants.index(text) for text in part["variant"]]) + 0.6 * (number + 0.5) / len(series) - 0.3
                x, low, high = (100 * part[column].to_numpy(float) for column in ("flips", "flips_low", "flips_high"))
                axis.hlines(y, low, high, color=colour(number), alpha=0.4)
                axis.plot(
                    x,
                    y,
                    MARKERS[number % len(MARKERS)],
                    color=colour(number),
                    label=name,
                    markersize=3,
                    clip_on=False,
                    zorder=3,
                )
            axis.set(title=task, xlabel="flips (%)", ylim=(len(variants) - 0.5, -0.5))
            axis.set_xlim(left=0)
            axis.set_yticks(range(len(variants)), [""] * len(variants))
        axes[0][0].set_yticks(range(len(variants)), [text.replace(" ", "\n") for text in variants], fontsize=5)
        handles = legend_handles(axes)
        legend_below(figure, list(handles.values()), list(handles))
    return figure
