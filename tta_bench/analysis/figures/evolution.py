"""How uncertainty evolves over the steps of a decoding."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tta_bench.analysis.figures.style import Dash, band, colour, in_order, legend_below, panels, paper_style, whole_numbers

LABELS = {
    "entropy": "entropy (nats)",
    "disagreement": "disagreement",
    "violation": "violation",
    "remask_ratio": "remasked",
    "frozen_ratio": "frozen",
}
"""The quantities that the figure knows, and what their axes say."""

OUTCOMES: dict[str, Dash] = {"right": "-", "wrong": "--"}
"""Answers told apart, and how they are drawn."""


def uncertainty_evolution(frame: pd.DataFrame) -> Figure:
    """Mean and interval of each quantity over the steps; a row for each task, a colour for each sampler, right against wrong.

    Args:
        frame: columns task, sampler, outcome (right or wrong), quantity (a name in ``LABELS``), step (from 1), value, low,
            high.
    """
    tasks, samplers = in_order(frame["task"]), in_order(frame["sampler"])
    quantities = [name for name in LABELS if name in set(frame["quantity"])]
    with paper_style():
        figure, axes = panels(len(tasks), len(quantities), height=1.45)
        for row, task in zip(axes, tasks, strict=True):
            for axis, quantity in zip(row, quantities, strict=True):
                part = frame[(frame["task"] == task) & (frame["quantity"] == quantity)]
                for (sampler, outcome), line in part.groupby(["sampler", "outcome"], sort=False):
                    number, x = samplers.index(str(sampler)), line["step"].to_numpy(float)
                    hue, alone = colour(number), "o" if len(x) == 1 else ""  # a single point has no line
                    axis.plot(x, line["value"], OUTCOMES[str(outcome)], color=hue, marker=alone, zorder=3 - 0.1 * number)
                    band(axis, x, line["low"].to_numpy(float), line["high"].to_numpy(float), hue)
                axis.set_title(LABELS[quantity] if row is axes[0] else "", fontsize=8)
                axis.set_ylim(bottom=0)
                whole_numbers(axis.xaxis, 4)
            row[0].set_ylabel(task)
        for axis in axes[-1]:
            axis.set_xlabel("step")
        names = [f"{sampler}, {outcome}" for sampler in samplers for outcome in OUTCOMES]
        keys = [Line2D([], [], color=colour(i), linestyle=style) for i in range(len(samplers)) for style in OUTCOMES.values()]
        legend_below(figure, keys, names, len(OUTCOMES))
    return figure
