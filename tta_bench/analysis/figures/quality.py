"""How well uncertainty tells what is wrong: AUROC over the steps, risk against coverage, reliability."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tta_bench.analysis.figures.style import (
    MARKERS,
    band,
    colour,
    dash,
    hide,
    in_order,
    legend_below,
    legend_handles,
    panels,
    paper_style,
    say,
    whole_numbers,
)


def signal_quality(frame: pd.DataFrame) -> Figure:
    """AUROC of every signal over the steps: how well it tells wrong tokens from right ones; a panel for each task and sampler.

    Args:
        frame: columns task, sampler, signal, step (from 1), value, low, high.
    """
    samplers, tasks, signals = (in_order(frame[name]) for name in ("sampler", "task", "signal"))
    with paper_style():
        figure, axes = panels(len(samplers), len(tasks), height=1.75)
        for row, sampler in zip(axes, samplers, strict=True):
            for axis, task in zip(row, tasks, strict=True):
                part = frame[(frame["sampler"] == sampler) & (frame["task"] == task)]
                if part.empty:
                    hide([axis])
                    continue
                for signal, line in part.groupby("signal", sort=False):
                    drawn(axis, line, "step", signals.index(str(signal)), str(signal))
                axis.axhline(0.5, color="0.4", linewidth=0.8, linestyle=":")
                axis.set(ylim=(min(0.3, float(part["value"].min()) - 0.02), 1.02))
                axis.set_title(f"{task}: {sampler}", fontsize=8)
                whole_numbers(axis.xaxis)
            row[0].set_ylabel("AUROC")
        for axis in axes[-1]:
            axis.set_xlabel("step")
        handles = legend_handles(axes)
        legend_below(figure, [handles[name] for name in signals], signals)
    return figure


def risk_coverage(frame: pd.DataFrame) -> Figure:
    """Mean loss of the most certain items against the share of them that is kept; below the dotted line the signal helps.

    The first signal has a band; those of the others would hide each other.

    Args:
        frame: columns task, sampler, level (answer or token), signal, coverage, risk, risk_low, risk_high (0..1). Signal
            ``random`` is what an arbitrary order has, ``best`` what a perfect one has.
    """
    tasks, levels = in_order(frame["task"]), in_order(frame["level"])
    signals = [name for name in in_order(frame["signal"]) if name not in BOUNDS]
    with paper_style():
        figure, axes = panels(len(levels), len(tasks), height=1.75)
        for row, level in zip(axes, levels, strict=True):
            for axis, task in zip(row, tasks, strict=True):
                part = frame[(frame["task"] == task) & (frame["level"] == level)]
                axis.set_title(f"{task}: {frame.loc[frame['task'] == task, 'sampler'].iloc[0]}", fontsize=8)
                if part.empty:
                    say(axis, f"all {level}s are right,\nor all are wrong")
                for signal, line in part.groupby("signal", sort=False):
                    if str(signal) in BOUNDS:
                        axis.plot(line["coverage"], line["risk"], BOUNDS[str(signal)], color="0.4", linewidth=0.8)
                    else:
                        number = signals.index(str(signal))
                        drawn(axis, line, "coverage", number, str(signal), "risk", marker="", alpha=0 if number else 0.13)
                axis.set(xlim=(0, 1.02))
                axis.set_ylim(bottom=0)
            row[0].set_ylabel(f"{level}s wrong among kept")
        for axis in axes[-1]:
            axis.set_xlabel("share kept")
        handles = legend_handles(axes)
        legend_below(figure, [handles[name] for name in signals], signals)
    return figure


BOUNDS = {"random": ":", "best": "-"}
"""Signals that are no signals, and how they are drawn."""


def reliability(frame: pd.DataFrame) -> Figure:
    """Share of right tokens against the probability that they were given, in bins of equal mass; on the diagonal, it is honest.

    Args:
        frame: columns task, sampler, signal, expected, observed, observed_low, observed_high (0..1).
    """
    tasks, signals = in_order(frame["task"]), in_order(frame["signal"])
    with paper_style():
        figure, axes = panels(1, len(tasks), height=1.95)
        for axis, task in zip(axes[0], tasks, strict=True):
            part = frame[frame["task"] == task]
            axis.plot([0, 1], [0, 1], color="0.4", linewidth=0.8, linestyle=":")
            for signal, line in part.groupby("signal", sort=False):
                number = signals.index(str(signal))
                drawn(axis, line, "expected", number, str(signal), "observed", marker=MARKERS[number % len(MARKERS)])
            axis.set_title(f"{task}: {part['sampler'].iloc[0]}", fontsize=8)
            axis.set(xlabel="probability", xlim=(0, 1.02), ylim=(0, 1.02))
        axes[0][0].set_ylabel("share right")
        handles = legend_handles(axes)
        legend_below(figure, [handles[name] for name in signals], signals)
    return figure


def drawn(
    axis: Axes, line: pd.DataFrame, x: str, number: int, label: str, y: str = "value", *, marker: str = ".", alpha: float = 0.1
) -> None:
    """A signal's line with its band, in the colour and dash of its number."""
    at = line[x].to_numpy(float)
    low, high = (f"{y}_low", f"{y}_high") if f"{y}_low" in line else ("low", "high")
    axis.plot(at, line[y], dash(number), color=colour(number), label=label, marker=marker, markersize=3)
    band(axis, at, line[low].to_numpy(float), line[high].to_numpy(float), colour(number), alpha)
