"""The summary as CSV, Markdown, LaTeX and on the terminal."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from tta_bench.analysis.summary import TestPlan

HEADINGS = ("task", "sampler", "settings", "score % [95 % CI]", "delta [95 % CI]", "p (adj.)", "verdict", "passes")
"""Of the tables meant for reading; summary.csv has every column."""

STYLES = {"better": "green", "worse": "red", "equivalent": "cyan", "inconclusive": "dim", "": ""}


def readable_rows(summary: pd.DataFrame) -> list[tuple[str, ...]]:
    """One tuple of texts, in the order of ``HEADINGS``, per row of the summary; scores in per cent, delta in points."""
    return [_readable({str(key): value for key, value in row.items()}) for row in summary.to_dict("records")]


def _readable(row: dict[str, Any]) -> tuple[str, ...]:
    delta = "" if math.isnan(row["delta"]) else f"{100 * row['delta']:+.1f} "
    return (
        row["task"],
        row["sampler"],
        row["settings"],
        f"{100 * row['score']:.1f} {interval(row['score_ci_low'], row['score_ci_high'])}",
        delta and delta + interval(row["delta_ci_low"], row["delta_ci_high"]),
        p_text(row["p_adjusted"]),
        row["verdict"] or "baseline",
        f"{row['forward_passes']:g}",
    )


def interval(low: float, high: float) -> str:
    """``[low, high]`` in per cent."""
    return "[n/a]" if math.isnan(low) else f"[{100 * low:.1f}, {100 * high:.1f}]"


def p_text(p: float) -> str:
    """A p-value with the digits that mean something."""
    return "" if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def caption(summary: pd.DataFrame, plan: TestPlan) -> str:
    """What a reader must know to read the table."""
    compared = summary[summary["verdict"] != ""]
    mde = f"{100 * compared['mde'].min():.1f} to {100 * compared['mde'].max():.1f}" if len(compared) else "n/a"
    sizes = sorted(set(summary["n_problems"]))
    replicates = sorted(set(summary["replicates"]))
    return (
        f"n = {', '.join(map(str, sizes))} problems, {', '.join(map(str, replicates))} replicate(s). Score: exact, per cent, "
        "with 95 % t interval. Delta: candidate minus baseline on the same problems, percentage points. p: sign-flip "
        f"permutation, adjusted by max-T over {len(compared)} comparison(s). Verdict at level {plan.alpha:g}: equivalent means "
        f"that the 90 % interval lies within +-{100 * plan.margin:g} points. Passes: model evaluations per answer. "
        f"Minimum detectable effect (80 % power): {mde} points."
    )


def print_table(summary: pd.DataFrame, console: Console, *, title: str, note: str) -> None:
    """The readable table on a terminal, in at most 120 columns."""
    table = Table(title=title, title_justify="left", caption=note, caption_justify="left", box=None, pad_edge=False)
    for heading in HEADINGS:
        table.add_column(heading, justify="right" if heading == "passes" else "left", no_wrap=heading != "settings")
    previous = None
    for row in readable_rows(summary):
        if previous not in (None, row[0]):
            table.add_section()
            table.add_row()
        table.add_row(*row, style="bold" if row[6] == "baseline" else STYLES.get(row[6], ""))
        previous = row[0]
    console.print(table)


def write_tables(summary: pd.DataFrame, folder: Path, *, note: str) -> list[Path]:
    """summary.csv (every column), summary.md and summary.tex (what is read) in ``folder``."""
    paths = [folder / f"summary.{kind}" for kind in ("csv", "md", "tex")]
    summary.to_csv(paths[0], index=False, float_format="%.6g", lineterminator="\n")
    paths[1].write_text(markdown(summary, note))
    paths[2].write_text(latex(summary, note))
    return paths


def markdown(summary: pd.DataFrame, note: str) -> str:
    """A Markdown table with its note."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in readable_rows(summary)]
    return "\n".join(lines) + f"\n\n{note}\n"


def latex(summary: pd.DataFrame, note: str) -> str:
    """A booktabs table; needs only \\usepackage{booktabs}."""
    rows = readable_rows(summary)
    body: list[str] = []
    for previous, row in zip([None, *rows], rows, strict=False):
        if previous and previous[0] != row[0]:
            body.append(r"\midrule")
        body.append(" & ".join(escape(cell) for cell in row) + r" \\")
    head = " & ".join(escape(heading) for heading in HEADINGS) + r" \\"
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering\small",
            r"\begin{tabular}{lllllllr}",
            r"\toprule",
            head,
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            rf"\caption{{{escape(note)}}}",
            r"\end{table}",
            "",
        ]
    )


def escape(text: str) -> str:
    """Text for LaTeX."""
    special = {"\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "<": "$<$", "~": r"\textasciitilde{}"}
    special |= {character: "\\" + character for character in "&%$#_"}
    return "".join(special.get(character, character) for character in text).replace("+-", r"$\pm$")
