"""Figures: each a function from a frame to a Figure; ``save`` writes PNG, PDF and SVG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from tta_bench.analysis import equal_compute
from tta_bench.analysis.describe import without_budget
from tta_bench.analysis.stats import mean_interval

STYLE = Path(__file__).with_name("paper.mplstyle")
ONE_COLUMN, TWO_COLUMNS = 3.3, 6.9
"""Widths in inches."""

UNDATED: dict[str, dict[str, None]] = {"png": {}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}
"""The kinds of file that a figure is saved as, with metadata that leave out its date."""

EVOLUTION = {"entropy": "entropy (nats)", "disagreement": "disagreement", "remask_ratio": "remasked share"}


@contextmanager
def paper_style() -> Iterator[None]:
    """The style of every figure, leaving the user's own settings alone."""
    with matplotlib.rc_context():
        matplotlib.style.use(STYLE)
        yield


COLOURS, MARKERS = 7, "osD^vPX"
"""Lines that can be told apart by their colour; where there are more, the others are grey."""


def accuracy_versus_passes(summary: pd.DataFrame, focus: str | None = None) -> Figure:
    """Score against forward passes, one panel a task, one line a sampler variant, 95 % intervals as bands.

    Of many variants those have a colour that ``chosen`` names; the others are thin and grey.

    Args:
        summary: as ``summarize`` gives it.
        focus: a sampler that has a colour in any case.
    """
    tasks = list(dict.fromkeys(summary["task"]))
    frame = summary.assign(variant=[variant(s, t) for s, t in zip(summary["sampler"], summary["settings"], strict=True)])
    variants = list(dict.fromkeys(frame["variant"]))
    shown = chosen(frame, focus) if len(variants) > COLOURS else variants
    with paper_style():
        figure, axes = panels(1, len(tasks), height=2.5)
        for axis, task in zip(axes[0], tasks, strict=True):
            of_task = frame[frame["task"] == task].drop_duplicates("run_id")  # one may stand beside several baselines
            for name, part in of_task.groupby("variant", sort=False):
                line = part.sort_values("forward_passes")
                if name in shown:
                    coloured(axis, line, shown.index(str(name)), str(name))
                else:
                    axis.plot(
                        line["forward_passes"], 100 * line["score"], color="0.75", linewidth=0.7, marker=".", markersize=2
                    )
            axis.set(title=task, xlabel="forward passes", ylim=(-2, 102))
            ticks = pass_ticks(of_task["forward_passes"])
            axis.set_xscale("log", base=2)
            axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axis.minorticks_off()
        axes[0][0].set_ylabel("score (%)")
        handles = legend_handles(axes)
        names = [name for name in shown if name in handles]
        keys = [handles[name] for name in names]
        if len(variants) > len(shown):
            names.append(f"{len(variants) - len(shown)} others")
            keys.append(Line2D([], [], color="0.75", linewidth=0.7, marker=".", markersize=2))
        width = figure.get_figwidth() / (0.35 + 0.055 * max(map(len, names)))
        figure.legend(keys, names, loc="outside lower center", ncols=max(1, min(5, len(names), int(width))))
    return figure


def coloured(axis: Axes, line: pd.DataFrame, number: int, name: str) -> None:
    """One variant's line with its intervals, in the colour and with the marker of its number."""
    colour, marker = f"C{number % COLOURS}", MARKERS[number % len(MARKERS)]
    x, y = line["forward_passes"].to_numpy(float), 100 * line["score"].to_numpy(float)
    axis.plot(x, y, marker=marker, label=name, zorder=3, color=colour)
    low, high = (100 * line[c].to_numpy(float) for c in ("score_ci_low", "score_ci_high"))
    if len(x) > 1:
        axis.fill_between(x, low, high, alpha=0.12, linewidth=0, color=colour)
    else:
        axis.vlines(x, low, high, color=colour, alpha=0.35)


def chosen(frame: pd.DataFrame, focus: str | None = None) -> list[str]:
    """The variants to be told apart: the baselines, those in focus, and those with the most runs on the Pareto fronts.

    Args:
        frame: a summary with a column ``variant``.
        focus: a sampler.
    """
    runs = frame.drop_duplicates("run_id")
    on_front = [
        pd.Series(equal_compute.on_front(part["forward_passes"], part["score"]), index=part.index)
        for _, part in runs.groupby("task", sort=False)
    ]
    counts = pd.concat(on_front).groupby(runs["variant"]).sum()
    first = [*frame.loc[frame["verdict"] == "", "variant"], *frame.loc[frame["sampler"] == focus, "variant"]]
    ranked = sorted(counts[counts > 0].index, key=lambda name: (-counts[name], name))
    return [*dict.fromkeys([*first, *ranked])][:COLOURS]


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


def variant(sampler: str, settings: str) -> str:
    """A sampler with its settings but those that set its budget, which is the x axis."""
    return f"{sampler} {without_budget(sampler, settings)}".strip()


def uncertainty_evolution(traces: dict[str, pd.DataFrame]) -> Figure:
    """Entropy, disagreement and remask ratio over the steps: mean and 95 % band, right against wrong answers.

    Args:
        traces: for each title (a row of panels), per-step statistics with columns key, step, score and those in
            ``EVOLUTION``; answers with score 1 count as right.
    """
    with paper_style():
        figure, axes = panels(len(traces), len(EVOLUTION), height=1.55)
        for row, (title, trace) in zip(axes, traces.items(), strict=True):
            for axis, (column, label) in zip(row, EVOLUTION.items(), strict=True):
                for name, colour, dash, part in (
                    ("right", "C0", "-", trace[trace["score"] == 1]),
                    ("wrong", "C1", "--", trace[trace["score"] < 1]),
                ):
                    if len(part):
                        band(axis, part, column, f"{name} (n = {part['key'].nunique()})", colour, dash)
                axis.set_ylabel(label)
                axis.set_ylim(bottom=0)
                axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
            row[0].set_title(title)
            row[0].legend()
        for axis in axes[-1]:
            axis.set_xlabel("step")
    return figure


def band(axis: Axes, trace: pd.DataFrame, column: str, label: str, colour: str, dash: str) -> None:
    """Mean of ``column`` over problems at each step, with its 95 % t interval where there are two or more.

    Records of one problem, or of problems that are not independent (column ``unit``), are averaged first.
    """
    unit = "unit" if "unit" in trace else "key"
    steps, estimates = [], []
    for step, values in trace.dropna(subset=[column]).groupby("step")[column]:
        steps.append(int(str(step)) + 1)
        estimates.append(mean_interval(values.groupby(trace.loc[values.index, unit]).mean().to_numpy()))
    axis.plot(steps, [e.value for e in estimates], dash, color=colour, label=label)
    low, high = np.array([(e.ci_low, e.ci_high) for e in estimates]).T
    axis.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)


def trajectory_maps(trajectories: dict[str, pd.DataFrame]) -> Figure:
    """Single decodings, position by step: the entropy of every token that stands, its commits (dots) and remaskings (crosses).

    White cells are masks.

    Args:
        trajectories: for each title the ``token_trace`` of one record.
    """
    largest = max(float(trace["entropy"].max()) for trace in trajectories.values())
    columns = min(2, len(trajectories))
    with paper_style():
        figure, axes = panels(-(-len(trajectories) // columns), columns, height=2.2)
        places = [axis for row in axes for axis in row]
        for axis, (title, trace) in zip(places, trajectories.items(), strict=False):
            positions = np.sort(trace["position"].unique())
            rows, steps = np.searchsorted(positions, trace["position"]), trace["step"].to_numpy(int)
            grid = np.full((len(positions), steps.max() + 1), np.nan)
            grid[rows, steps] = trace["entropy"]
            extent = (0.5, grid.shape[1] + 0.5, len(positions) - 0.5, -0.5)
            image = axis.imshow(grid, cmap="cividis", aspect="auto", vmin=0, vmax=max(largest, 1e-9), extent=extent)
            for event, marker, colour in (("fresh", ".", "C0"), ("remasked", "x", "C1")):
                there = trace[event].to_numpy(bool)
                axis.plot(
                    steps[there] + 1, rows[there], marker, color=colour, markersize=3, label=EVENTS[event], linestyle="none"
                )
            axis.set_title(title, fontsize=7)
            axis.set_xlabel("step")
            axis.grid(visible=False)
            axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
            axis.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        for axis in places[len(trajectories) :]:
            axis.set_axis_off()
        for row in axes:
            row[0].set_ylabel("position")
        figure.colorbar(image, ax=places, label="entropy (nats)", shrink=0.8)
        handles = legend_handles(axes)
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2)
    return figure


EVENTS = {"fresh": "committed", "remasked": "taken back"}


def signal_quality(frame: pd.DataFrame) -> Figure | None:
    """AUROC of every signal over the steps: how well it tells wrong tokens from right ones; a panel for each task and sampler.

    Args:
        frame: of ``uncertainty``.

    Returns:
        None where no tokens were judged at any step.
    """
    rows = frame[(frame["level"] == "token") & (frame["metric"] == "auroc") & (frame["step"] != "end")]
    rows = rows.assign(at=rows["step"].astype(int)).dropna(subset=["value"])
    if rows.empty:
        return None
    samplers, tasks, signals = (list(dict.fromkeys(rows[name])) for name in ("sampler", "task", "signal"))
    with paper_style():
        figure, axes = panels(len(samplers), len(tasks), height=1.75)
        for (sampler, task), part in rows.groupby(["sampler", "task"], sort=False):
            axis = axes[samplers.index(str(sampler))][tasks.index(str(task))]
            part = part[part["run_id"] == part["run_id"].iloc[0]]  # of several models the first
            for signal, line in part.groupby("signal", sort=False):
                number = signals.index(str(signal))
                colour, dash = f"C{number % COLOURS}", ("-", "--")[number // COLOURS % 2]
                axis.plot(line["at"], line["value"], dash, color=colour, label=str(signal), marker=".", markersize=3)
                axis.fill_between(line["at"], line["value_low"], line["value_high"], color=colour, alpha=0.1, linewidth=0)
            axis.axhline(0.5, color="0.4", linewidth=0.8, linestyle=":")
            axis.set(title=f"{task}: {sampler}", ylim=(0.3, 1.02))
            axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
        for row in axes:
            row[0].set_ylabel("AUROC")
        for axis in axes[-1]:
            axis.set_xlabel("step")
        handles = legend_handles(axes)
        figure.legend([handles[s] for s in signals], signals, loc="outside lower center", ncols=5 if len(tasks) > 1 else 2)
    return figure


MOST_ROWS = 40
"""Comparisons that a forest plot has room for."""


def forest(summary: pd.DataFrame, alpha: float = 0.05) -> Figure | None:
    """Each candidate's paired difference from its baseline: intervals alone (thick) and adjusted for all comparisons (thin).

    Filled where the adjusted test rejects; a row for each comparison, a panel for each task, the largest difference first.

    Args:
        summary: as ``summarize`` gives it.
        alpha: level of the tests.

    Returns:
        None where nothing was compared, or so much that no row could be read.
    """
    rows = summary[summary["delta"].notna()]
    tasks = list(dict.fromkeys(rows["task"]))
    most = int(rows["task"].value_counts().max()) if len(rows) else 0
    if not 0 < most <= MOST_ROWS:
        return None
    with paper_style():
        figure, axes = panels(len(tasks), 1, height=0.35 + 0.14 * most, width=TWO_COLUMNS)
        for axis, task in zip((row[0] for row in axes), tasks, strict=True):
            part = rows[rows["task"] == task].sort_values("delta", ascending=False, kind="stable")
            y = np.arange(len(part))
            for kind, width in (("adjusted", 0.7), ("ci", 2.2)):
                low, high = (100 * part[f"delta_{kind}_{end}"].clip(-1, 1) for end in ("low", "high"))
                axis.hlines(y, low, high, color="C0", linewidth=width, alpha=0.7)
            found = part["p_adjusted"].to_numpy(float) < alpha
            for marked, face in ((found, "C0"), (~found, "white")):
                axis.plot(100 * part["delta"][marked], y[marked], "o", color="C0", markerfacecolor=face, markersize=4, zorder=3)
            axis.axvline(0, color="0.4", linewidth=0.8, linestyle=":")
            names = [f"{name} {settings}".strip() for name, settings in zip(part["sampler"], part["settings"], strict=True)]
            axis.set_yticks(y, names, fontsize=6)
            axis.set(title=task, ylim=(len(part) - 0.5, -0.5))
            axis.grid(visible=False, axis="y")
        level = f"{100 * (1 - alpha):g} % intervals"
        axes[-1][0].set_xlabel(f"difference from the baseline (points); {level} alone (thick) and adjusted together (thin)")
    return figure


def flip_rates(frame: pd.DataFrame) -> Figure:
    """The share of answers that flip in each variant, with its interval; a panel for each task, a colour for each sampler.

    Args:
        frame: of ``robustness``.
    """
    tasks, samplers, variants = (list(dict.fromkeys(frame[name])) for name in ("task", "sampler", "variant"))
    names = [f"{sampler} {settings}" for sampler, settings in zip(frame["sampler"], frame["settings"], strict=True)]
    series = list(dict.fromkeys(names))[:COLOURS]
    with paper_style():
        figure, axes = panels(1, len(tasks), height=0.8 + 0.11 * len(variants) * (1 + len(series)))
        for axis, task in zip(axes[0], tasks, strict=True):
            for number, name in enumerate(series):
                part = frame[(frame["task"] == task) & (np.array(names) == name)]
                y = np.array([variants.index(text) for text in part["variant"]]) + 0.6 * (number + 0.5) / len(series) - 0.3
                x, low, high = (100 * part[column].to_numpy(float) for column in ("flips", "flips_low", "flips_high"))
                axis.hlines(y, low, high, color=f"C{number}", alpha=0.4)
                axis.plot(x, y, MARKERS[number], color=f"C{number}", label=name, markersize=3, clip_on=False, zorder=3)
            axis.set(title=task, xlabel="flips (%)", ylim=(len(variants) - 0.5, -0.5))
            axis.set_xlim(left=0)
            axis.set_yticks(range(len(variants)), [""] * len(variants))
        axes[0][0].set_yticks(range(len(variants)), [text.replace(" ", "\n") for text in variants], fontsize=5)
        handles = legend_handles(axes)
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(3, len(samplers)))
    return figure


LEAST_RANGE = 10.0
"""Points that the colours of a map span at least, so that they do not blow up what is chance."""


def response_maps(maps: dict[str, pd.DataFrame]) -> Figure:
    """Mean score by the levels of two hyper-parameters, one panel a sweep; to look for patterns, not to report them.

    Args:
        maps: for each title scores in 0..1, rows and columns named for the parameters.
    """
    columns = min(3, len(maps))
    rows = -(-len(maps) // columns)
    with paper_style():
        figure, axes = panels(rows, columns, height=2.1)
        places = [axis for row in axes for axis in row]
        for axis, (title, table) in zip(places, maps.items(), strict=False):
            scores = 100 * table.to_numpy(float)
            low, high = float(np.nanmin(scores)), float(np.nanmax(scores))
            low, high = min(low, (low + high - LEAST_RANGE) / 2), max(high, (low + high + LEAST_RANGE) / 2)
            axis.imshow(scores, cmap="cividis", aspect="auto", vmin=low, vmax=high)
            axis.set_xticks(range(len(table.columns)), [str(value) for value in table.columns])
            axis.set_yticks(range(len(table.index)), [str(value) for value in table.index])
            axis.set(title=title, xlabel=table.columns.name, ylabel=table.index.name)
            axis.grid(visible=False)
            for (i, j), score in np.ndenumerate(scores):
                dark = (score - low) / (high - low) < 0.6
                if not np.isnan(score):
                    axis.text(j, i, f"{score:.1f}", ha="center", va="center", color="white" if dark else "black")
        for axis in places[len(maps) :]:
            axis.set_axis_off()
        figure.suptitle("Exploratory: score (%) by two hyper-parameters; choose on dev, confirm on test")
    return figure


def legend_handles(axes: Sequence[Sequence[Axes]]) -> dict[str, Artist]:
    """What stands for each label, in any of the panels."""
    pairs = [zip(*axis.get_legend_handles_labels(), strict=True) for row in axes for axis in row]
    return {str(label): handle for found in pairs for handle, label in found}


def panels(rows: int, columns: int, *, height: float, width: float | None = None) -> tuple[Figure, list[list[Axes]]]:
    """A grid of axes two columns of a paper wide, ``height`` inches a row, free of pyplot's global state."""
    width = width or (TWO_COLUMNS if columns > 1 else ONE_COLUMN)
    figure = Figure(figsize=(width, height * rows + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, [list(row) for row in figure.subplots(rows, columns, squeeze=False)]


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write PNG, PDF and SVG, without dates, so that the same figure is the same file."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    with paper_style():
        for kind, metadata in UNDATED.items():
            paths.append(folder / f"{name}.{kind}")
            figure.savefig(paths[-1], metadata=metadata)
    return paths
