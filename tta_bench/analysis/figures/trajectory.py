"""Single decodings position by step, and the order in which positions are committed."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tta_bench.analysis.figures.style import (
    hide,
    in_order,
    legend_below,
    legend_handles,
    panels,
    paper_style,
    whole_numbers,
)

EVENTS = {"fresh": ("committed", ".", "C5"), "remasked": ("taken back", "x", "C1"), "frozen": ("frozen", "_", "C3")}
"""What happens to a token in a step: its name, its marker and its colour."""


def trajectories(frame: pd.DataFrame) -> Figure:
    """Single decodings, position by step: the entropy of every token that stands, and what happened to it in the step.

    White cells are masks; dots are commits, crosses what was taken back, dashes what was frozen.

    Args:
        frame: a row for each decoding, step and standing token; columns title (of the decoding), step (from 1), position,
            entropy (nats), and the names in ``EVENTS`` (bool), of which frozen may be missing.
    """
    titles = in_order(frame["title"])
    largest = max(float(frame["entropy"].max()), 1e-9)
    columns = min(2, len(titles))
    with paper_style():
        figure, axes = panels(-(-len(titles) // columns), columns, height=2.2)
        places = [axis for row in axes for axis in row]
        for axis, title in zip(places, titles, strict=False):
            trace = frame[frame["title"] == title]
            positions = np.sort(trace["position"].unique())
            rows, steps = np.searchsorted(positions, trace["position"]), trace["step"].to_numpy(int)
            grid = np.full((len(positions), steps.max()), np.nan)
            grid[rows, steps - 1] = trace["entropy"]
            extent = (0.5, grid.shape[1] + 0.5, len(positions) - 0.5, -0.5)
            image = axis.imshow(grid, cmap="cividis", aspect="auto", vmin=0, vmax=largest, extent=extent)
            for event, (name, marker, hue) in EVENTS.items():
                if event in trace and trace[event].any():
                    there = trace[event].to_numpy(bool)
                    axis.plot(steps[there], rows[there], marker, color=hue, markersize=3, label=name, linestyle="none")
            axis.set_title(title, fontsize=7)
            axis.set_xlabel("step")
            axis.grid(visible=False)
            whole_numbers(axis.xaxis, 8)
            whole_numbers(axis.yaxis, 8)
        hide(places[len(titles) :])
        for row in axes:
            row[0].set_ylabel("position")
        figure.colorbar(image, ax=places, label="entropy (nats)", shrink=0.8)
        handles = legend_handles(axes)
        legend_below(figure, list(handles.values()), list(handles))
    return figure


def commit_order(frame: pd.DataFrame) -> Figure:
    """When each position got the token that it ends with: a column for each position, the share of answers by step.

    Args:
        frame: columns task, sampler, position (from 1, that of the first token to be decoded), step (from 1), share (of the
            answers that have the position, 0..1); cells that are 0 may be missing.
    """
    tasks, samplers = in_order(frame["task"]), in_order(frame["sampler"])
    largest = float(frame["share"].max())
    with paper_style():
        figure, axes = panels(len(samplers), len(tasks), height=1.5)
        for row, sampler in zip(axes, samplers, strict=True):
            for axis, task in zip(row, tasks, strict=True):
                part = frame[(frame["task"] == task) & (frame["sampler"] == sampler)]
                if part.empty:
                    hide([axis])
                    continue
                of_task = frame[frame["task"] == task]
                grid = np.zeros((int(of_task["step"].max()), int(of_task["position"].max())))
                grid[part["step"].to_numpy(int) - 1, part["position"].to_numpy(int) - 1] = part["share"]
                extent = (0.5, grid.shape[1] + 0.5, grid.shape[0] + 0.5, 0.5)
                image = axis.imshow(grid, cmap="Blues", aspect="auto", vmin=0, vmax=largest, extent=extent)
                axis.set_title(f"{task}: {sampler}", fontsize=7)
                axis.grid(visible=False)
                whole_numbers(axis.xaxis, 6)
                whole_numbers(axis.yaxis, 6)
            row[0].set_ylabel("step of the last commit")
        for axis in axes[-1]:
            axis.set_xlabel("position")
        figure.colorbar(image, ax=[axis for row in axes for axis in row], label="share of answers", shrink=0.8)
    return figure
