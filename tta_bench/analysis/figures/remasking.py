"""Remasking: whether the tokens taken back are the wrong ones; how long tokens stand; how often positions change."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tta_bench.analysis.figures.style import (
    TWO_COLUMNS,
    band,
    colour,
    dash,
    hide,
    in_order,
    legend_below,
    name_rows,
    panels,
    paper_style,
    row_height,
    say,
    whole_numbers,
)

RATES = {"precision": "wrong among those taken back", "recall": "taken back among the wrong"}
"""What the figure of remasking quality shows."""

LEAST_RANGE = 5.0
"""Per cent that its axes span at least."""


def remask_quality(frame: pd.DataFrame) -> Figure:
    """Precision and recall of what was taken back, with intervals; a row for each run, grey for blind remasking.

    Args:
        frame: a row for each run; columns task, run (its name), control (whether it is blind), chance (precision of a blind
            choice at the same steps), and each of ``RATES`` with its ends ``_low`` and ``_high`` (0..1).
    """
    tasks = in_order(frame["task"])
    heights = [len(frame[frame["task"] == task]) for task in tasks]
    with paper_style():
        figure, axes = panels(
            len(tasks), len(RATES), height=0.45 + row_height(frame["run"]) * max(heights) + 0.5 / len(tasks), width=TWO_COLUMNS
        )
        for row, task in zip(axes, tasks, strict=True):
            part = frame[frame["task"] == task]
            y, blind = np.arange(len(part)), part["control"].to_numpy(bool)
            for axis, (rate, label) in zip(row, RATES.items(), strict=True):
                for marked, hue in ((~blind, "C0"), (blind, "0.5")):
                    low, value, high = (100 * part[name][marked] for name in (f"{rate}_low", rate, f"{rate}_high"))
                    axis.hlines(y[marked], low, high, color=hue, alpha=0.5)
                    axis.plot(value, y[marked], "o", color=hue, markersize=3.5)
                if part[rate].isna().all():
                    say(axis, "undefined: no wrong token\ncould be taken back")
                if rate == "precision":
                    axis.plot(100 * part["chance"], y, "|", color="C1", markersize=7)
                name_rows(axis, list(part["run"]) if axis is row[0] else [""] * len(y))
                axis.set_xlim(0, max(LEAST_RANGE, axis.get_xlim()[1]))
                axis.set_title(task if axis is row[0] else "")
                if row is axes[-1]:
                    axis.set_xlabel(f"{rate} (%)\n{label}")
        keys = [Line2D([], [], color=hue, marker="o", markersize=3.5) for hue in ("C0", "0.5")]
        keys.append(Line2D([], [], color="C1", marker="|", markersize=7, linestyle="none"))
        legend_below(figure, keys, ["by uncertainty", "blind control", "a blind choice at the same steps"])
    return figure


def survival(frame: pd.DataFrame) -> Figure:
    """Share of committed tokens that still stand so many steps later (Kaplan-Meier), and changes of a position's token.

    Args:
        frame: columns task, sampler, quantity, step, value, low, high. Of quantity ``survival``, step counts from a token's
            commit, 0 included; of quantity ``flips``, there is one row for each task and sampler.
    """
    tasks, samplers = in_order(frame["task"]), in_order(frame["sampler"])
    quantities = [name for name in ("survival", "flips") if name in set(frame["quantity"])]
    with paper_style():
        figure, axes = panels(len(quantities), len(tasks), height=1.6)
        for row, quantity in zip(axes, quantities, strict=True):
            for axis, task in zip(row, tasks, strict=True):
                part = frame[(frame["task"] == task) & (frame["quantity"] == quantity)]
                if part.empty:
                    hide([axis])
                    continue
                for sampler, line in part.groupby("sampler", sort=False):
                    number = samplers.index(str(sampler))
                    y, low, high = (line[name].to_numpy(float) for name in ("value", "low", "high"))
                    x = line["step"].to_numpy(float) if quantity == "survival" else np.array([float(number)])
                    if quantity == "survival":
                        alone = "o" if len(x) == 1 else ""  # a single point has no line
                        axis.step(x, y, where="post", color=colour(number), linestyle=dash(number), marker=alone)
                        axis.fill_between(x, low, high, step="post", color=colour(number), alpha=0.13, linewidth=0)
                    else:
                        axis.plot(x, y, "o", color=colour(number), clip_on=False, zorder=3)
                        band(axis, x, low, high, colour(number))
                axis.set_title(task if row is axes[0] else "")
                if quantity == "survival":
                    axis.set(xlabel="steps since commit", ylim=(min(0.5, float(part["low"].min()) - 0.02), 1.01))
                    whole_numbers(axis.xaxis)
                else:
                    axis.set_xticks([])
                    axis.set_xlim(-0.6, len(samplers) - 0.4)
                    axis.set_ylim(bottom=0)
            row[0].set_ylabel("share standing" if quantity == "survival" else "changes per position")
        keys = [Line2D([], [], color=colour(i), linestyle=dash(i), marker="o") for i in range(len(samplers))]
        legend_below(figure, keys, samplers)
    return figure
