"""What hyper-parameters do to the score: curves of single ones, maps of two."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tta_bench.analysis.figures.style import (
    MARKERS,
    colour,
    hide,
    in_order,
    legend_below,
    legend_handles,
    panels,
    paper_style,
)

LEAST_RANGE = 10.0
"""Points that the colours of a map span at least, so that they do not blow up what is chance."""

COLUMNS = 4
"""Of panels."""


def response_curves(frame: pd.DataFrame) -> Figure:
    """Mean score by the levels of each hyper-parameter; a panel for each sampler and parameter, a line for each task.

    Args:
        frame: columns task, sampler, factor, level, place (of the level, from 0), score, score_low, score_high (0..1).
    """
    groups = list(frame.groupby(["sampler", "factor"], sort=False))
    tasks, columns = in_order(frame["task"]), min(COLUMNS, len(groups))
    with paper_style():
        figure, axes = panels(-(-len(groups) // columns), columns, height=1.7)
        places = [axis for row in axes for axis in row]
        for axis, ((sampler, factor), part) in zip(places, groups, strict=False):
            for task, line in part.groupby("task", sort=False):
                number = tasks.index(str(task))
                x = line["place"].to_numpy(float) + 0.03 * (number - (len(tasks) - 1) / 2)
                y, low, high = (100 * line[name].to_numpy(float) for name in ("score", "score_low", "score_high"))
                axis.plot(x, y, color=colour(number), marker=MARKERS[number % len(MARKERS)], markersize=3, label=str(task))
                axis.vlines(x, low, high, color=colour(number), alpha=0.4)
            levels = part.drop_duplicates("place").sort_values("place")
            axis.set_xticks(levels["place"], [brief(level) for level in levels["level"]])
            axis.set_xlim(-0.4, float(levels["place"].max()) + 0.4)
            axis.set_title(str(sampler), fontsize=8)
            axis.set_xlabel(brief(str(factor).removeprefix("sampler."), 26))
        hide(places[len(groups) :])
        for row in axes:
            row[0].set_ylabel("score (%)")
        handles = legend_handles(axes)
        legend_below(figure, [handles[task] for task in tasks], tasks)
    return figure


def brief(text: object, most: int = 9) -> str:
    """At most so many characters."""
    said = str(text)
    return said if len(said) <= most else said[: most - 2] + ".."


def exploratory_response(frame: pd.DataFrame) -> Figure:
    """Mean score by the levels of two hyper-parameters, one panel a sweep; to look for patterns, not to report them.

    Args:
        frame: columns title, one, other (names of the parameters), level_one (a row), level_other (a column), score (0..1), in
            the order of the levels.
    """
    titles = in_order(frame["title"])
    columns = min(3, len(titles))
    rows = -(-len(titles) // columns)
    with paper_style():
        figure, axes = panels(rows, columns, height=2.1)
        places = [axis for row in axes for axis in row]
        for axis, title in zip(places, titles, strict=False):
            part = frame[frame["title"] == title]
            down, right = in_order(part["level_one"]), in_order(part["level_other"])
            scores = np.full((len(down), len(right)), np.nan)
            for one, other, score in zip(part["level_one"], part["level_other"], part["score"], strict=True):
                scores[down.index(str(one)), right.index(str(other))] = 100 * score
            low, high = float(np.nanmin(scores)), float(np.nanmax(scores))
            low, high = min(low, (low + high - LEAST_RANGE) / 2), max(high, (low + high + LEAST_RANGE) / 2)
            axis.imshow(scores, cmap="cividis", aspect="auto", vmin=low, vmax=high)
            axis.set_xticks(range(len(right)), right)
            axis.set_yticks(range(len(down)), down)
            axis.set(title=title, xlabel=part["other"].iloc[0], ylabel=part["one"].iloc[0])
            axis.grid(visible=False)
            for (i, j), score in np.ndenumerate(scores):
                dark = (score - low) / (high - low) < 0.6
                if not np.isnan(score):
                    axis.text(j, i, f"{score:.1f}", ha="center", va="center", color="white" if dark else "black")
        hide(places[len(titles) :])
        figure.suptitle("Exploratory: score (%) by two hyper-parameters; choose on dev, confirm on test")
    return figure
