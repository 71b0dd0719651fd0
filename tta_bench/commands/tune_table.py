"""What a search found, as tables: every trial, and the front that no other setting beats in both score and passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tta_bench.analysis.equal_compute import on_front
from tta_bench.analysis.load import Run, load_run
from tta_bench.analysis.stats import mean_interval, paired_differences
from tta_bench.analysis.tables import half_width, interval
from tta_bench.commands.say import say
from tta_bench.runner.disk import storing, write_atomically
from tta_bench.runner.select import dev_means
from tta_bench.runner.settings import Comparison
from tta_bench.runner.spec import RunSpec
from tta_bench.tuning.search import Trial

COLUMNS = (
    "trial", "state", "on_front", "settings", "n_problems", "replicates", "score", "score_ci_low", "score_ci_high", "delta",
    "delta_ci_low", "delta_ci_high", "forward_passes", "run_id", "failure",
)  # fmt: skip
"""Of trials.csv and pareto.csv."""

BASELINE = "baseline"
"""The state of the row that is no trial."""


def table_of(trials: Sequence[Trial], first: Comparison) -> pd.DataFrame:
    """A row for the baseline and for every trial, see ``COLUMNS``; differences are from the baseline, problem by problem.

    Args:
        trials: what was tried.
        first: compares the baseline with any of them, on dev.
    """
    problems = [problem.id for problem in first.problems]

    def loaded(run_id: str) -> Run:
        return load_run(first.output_dir / "runs" / run_id)

    def scores(run: Run) -> np.ndarray:
        return run.values("score", problems, first.replicates)

    baseline = loaded(first.baseline.run_id)
    base, clusters = scores(baseline), baseline.clusters(problems)
    cost = dev_means(first.baseline, first, allow_missing=False)[1]
    size = {"n_problems": first.n_problems, "replicates": first.replicates}
    rows: list[dict[str, Any]] = [
        {"trial": None, "state": BASELINE, "settings": named(first.baseline), "run_id": first.baseline.run_id, **size}
        | {"forward_passes": cost}
        | estimated("score", base, clusters)
    ]
    for trial in trials:
        row = {"trial": trial.number, "settings": " ".join(trial.words), **size, **asdict(trial)}
        if trial.state == "done":
            run = loaded(trial.run_id)
            mine = scores(run)
            row |= estimated("score", mine, run.clusters(problems))
            row |= estimated("delta", paired_differences(base, mine), clusters)
        rows.append(row)
    table = pd.DataFrame(rows).reindex(columns=list(COLUMNS))
    done = (table["state"] == "done").to_numpy()
    table["on_front"] = False
    table.loc[done, "on_front"] = on_front(table.loc[done, "forward_passes"], table.loc[done, "score"].round(12))
    table["trial"] = table["trial"].astype("Int64")
    return table


def estimated(name: str, values: np.ndarray, clusters: np.ndarray | None) -> dict[str, float]:
    """Mean over problems and its interval, as columns; ``clusters`` as ``Run.clusters`` has them."""
    found = mean_interval(values, clusters=clusters)
    return {name: found.value, f"{name}_ci_low": found.ci_low, f"{name}_ci_high": found.ci_high}


def front_of(found: pd.DataFrame) -> pd.DataFrame:
    """The rows on the front, by forward passes; of equal ones the first that was tried."""
    rows = found[found["on_front"]].sort_values(["forward_passes", "trial"])
    return rows.drop_duplicates(["forward_passes", "score"])


def write_tables(found: pd.DataFrame, folder: Path) -> None:
    """trials.csv and pareto.csv."""
    with storing(folder):
        for name, rows in (("trials", found), ("pareto", front_of(found))):
            text = rows.to_csv(index=False, float_format="%.6g", lineterminator="\n")
            write_atomically(folder / f"{name}.csv", text.encode())


def print_front(found: pd.DataFrame, first: Comparison, cap: float, folder: Path, console: Console) -> None:
    """The Pareto front, the baseline above it."""
    rows, done = front_of(found), int((found["state"] == "done").sum())
    table = Table(box=None, pad_edge=False, title="Pareto front of score and forward passes on dev", title_justify="left")
    for heading in ("trial", "setting", "score %", "delta [CI]", "passes"):
        table.add_column(heading, justify="right" if heading == "passes" else "left", overflow="fold")
    for row in [found.iloc[0].to_dict(), *rows.to_dict("records")]:
        base = row["state"] == BASELINE
        table.add_row(
            BASELINE if base else str(row["trial"]),
            escape(str(row["settings"])),
            f"{100 * row['score']:.1f} {half_width(row['score_ci_low'], row['score_ci_high'])}",
            "" if base else f"{100 * row['delta']:+.1f} {interval(row['delta_ci_low'], row['delta_ci_high'])}",
            f"{row['forward_passes']:.4g}{' ' if base or row['forward_passes'] <= cap + 1e-9 else '*'}",
            style="bold" if base else "",
        )
    console.print()
    console.print(table)
    above = f" *: above max_passes, {cap:.4g}." if (rows["forward_passes"] > cap + 1e-9).any() else ""
    say(
        console,
        f"{done} settings tried on {first.n_problems} problems. Each interval is of that setting by itself: what is best "
        f"of many looks better than it is.{above}",
    )
    say(console, f"tables   {folder}/trials.csv, pareto.csv\nall of it, with tests: tta-bench analyze {folder}")


def named(spec: RunSpec) -> str:
    """A sampler with its steps."""
    return spec.sampler.name + (f", {spec.steps} steps" if spec.steps else "")
