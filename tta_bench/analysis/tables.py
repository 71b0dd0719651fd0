"""The summary as CSV, Markdown, LaTeX and on the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from rich.console import Console
from rich.markup import escape as escape_markup
from rich.table import Table

from tta_bench.analysis.describe import BLANK
from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.proportions import tango_limits

HEADINGS = ("task", "sampler", "settings", "score %", "delta [CI]", "p (adj.)", "verdict", "passes")
"""Of the tables meant for reading; summary.csv has every column."""

EQUAL = "equal passes"
"""One more heading where costs differ: the difference from the baseline at the candidate's own forward passes."""

STYLES = {
    "better": "green", "worse": "red", "equivalent": "cyan", "inconclusive": "dim", "incomplete": "yellow",
    "incomparable": "yellow", "": "",
}  # fmt: skip

REFUSED = ("incomplete", "incomparable")
"""Verdicts of comparisons that were not made."""

MARK = " †"
"""Behind the verdict of a comparison that was made although it should not be."""


def readable_rows(summary: pd.DataFrame) -> list[tuple[str, ...]]:
    """One tuple of texts, in the order of ``HEADINGS``, per row of the summary; scores in per cent, delta in points."""
    unequal = len(unequal_costs(summary)) > 0
    rows = [{str(key): value for key, value in row.items()} for row in summary.to_dict("records")]
    return [_readable(row) + ((_at_equal_passes(row),) if unequal else ()) for row in rows]


def headings(summary: pd.DataFrame) -> tuple[str, ...]:
    """Of ``readable_rows``."""
    return (*HEADINGS, EQUAL) if len(unequal_costs(summary)) else HEADINGS


def unequal_costs(summary: pd.DataFrame) -> pd.DataFrame:
    """The comparisons whose sides differ in forward passes."""
    compared = comparisons(summary)
    return compared[~np.isclose(compared["forward_passes"], compared["baseline_passes"])]


def _at_equal_passes(row: dict[str, Any]) -> str:
    delta = row["equal_passes_delta"]
    if math.isnan(delta):
        return ""
    far = "*" if str(row["equal_passes_baseline"]).startswith("nearest") else ""
    said = {"better": " better", "worse": " worse", "equivalent": " equiv."}.get(row["equal_passes_verdict"], "")
    return f"{100 * delta:+.1f}{far}{said}"


def _readable(row: dict[str, Any]) -> tuple[str, ...]:
    delta = "" if math.isnan(row["delta"]) else f"{100 * row['delta']:+.1f} "
    known = not math.isnan(row["score"])
    mark = MARK if row["caveat"] and row["verdict"] not in REFUSED else ""
    return (
        row["task"],
        row["sampler"],
        row["settings"],
        f"{100 * row['score']:.1f} {half_width(row['score_ci_low'], row['score_ci_high'])}" if known else "",
        delta and delta + interval(row["delta_ci_low"], row["delta_ci_high"]),
        p_text(row["p_adjusted"]),
        (row["verdict"] or "baseline") + mark,
        f"{row['forward_passes']:g}" if known else "",
    )


def half_width(low: float, high: float) -> str:
    """``±h`` in per cent, of an interval about its middle."""
    return "[n/a]" if math.isnan(low) else f"\N{PLUS-MINUS SIGN}{50 * (high - low):.1f}"


def interval(low: float, high: float) -> str:
    """``[low, high]`` in per cent."""
    return "[n/a]" if math.isnan(low) else f"[{100 * low:.1f}, {100 * high:.1f}]"


def p_text(p: float) -> str:
    """A p-value with the digits that mean something."""
    return "" if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def caption(summary: pd.DataFrame, plan: TestPlan) -> str:
    """What a reader must know to read the table, warnings included."""
    compared = comparisons(summary)
    told = summary[summary["score"].notna()]
    mde = compared["mde"].dropna()
    return " ".join(
        [
            f"n = {listed(told['n_problems'])} problems, {listed(told['replicates'])} replicate(s). "
            f"Score: exact, per cent, {100 * (1 - plan.alpha):g} % t interval. Delta: candidate minus the baseline above "
            "it, on the same problems, percentage points. p: sign-flip permutation, adjusted by max-T over "
            f"{len(compared)} comparison(s). Verdict at level {plan.alpha:g}: equivalent means that the "
            f"{100 * (1 - 2 * plan.alpha):g} % interval lies within +-{100 * plan.margin:g} points (a score interval where "
            "problems are right or wrong), unadjusted. "
            "Passes: model evaluations per answer.",
            "Minimum detectable effect (80 % power, one comparison by itself): "
            f"{100 * mde.min():.1f} to {100 * mde.max():.1f} points."
            if len(mde)
            else "",
            *warnings(summary),
        ]
    ).strip()


def listed(values: pd.Series) -> str:
    """The different values, in order."""
    return ", ".join(f"{value:g}" for value in sorted(set(values)))


def warnings(summary: pd.DataFrame) -> list[str]:
    """Sentences on what makes the numbers weaker than they look."""
    compared = comparisons(summary)
    found = []
    unequal = unequal_costs(summary)
    cached = bool(summary["settings"].str.contains("cache=").any())
    if len(unequal):
        far = int(unequal["equal_passes_baseline"].astype(str).str.startswith("nearest").sum())
        found.append(
            f"Costs differ in {len(unequal)} comparison(s). Equal passes: against the baseline at the candidate's own passes, "
            "between measured budgets interpolated in log2(passes)"
            + (f" (*: {far} at the nearest budget, as the baseline was not measured that far; not tested)." if far else ".")
        )
    else:
        found.append("Forward passes match in every comparison." if cached else "Costs match in every comparison.")
    if cached:
        found.append(
            "With cache=prefix or cache=dual a pass may evaluate a part of the sequence only, and costs less than another; "
            "equal passes and Pareto fronts count passes all the same. evaluated_positions in summary.csv has what went "
            "through the network."
        )
    again = int(compared["run_id"].duplicated().sum())
    if again:
        found.append(
            f"In {again} comparison(s) a run stands beside a further baseline: its sampler does not use what these differ in."
        )
    same = compared[compared["delta_ci_high"] - compared["delta_ci_low"] == 0]
    if len(same):
        possible = 100 * tango_limits(0, 0, int(same["n_problems"].min()), 0.9)[1]
        found.append(
            f"Warning: in {len(same)} comparison(s) every problem has the same difference, mostly 0: no interval can be "
            f"estimated. Equivalent then means these problems; on others, up to {possible:.1f} points are possible."
        )
    if summary.loc[summary["score"].notna(), "n_problems"].min() < 100:
        found.append(
            "Warning: with fewer than 100 problems t intervals are rough; trust the permutation p-values more"
            + small_n(compared)
        )
    found += told_cut(summary)
    extreme = int(summary["score"].isin([0.0, 1.0]).sum())
    if extreme:
        found.append(f"Warning: {extreme} score(s) are 0 or 100 %, where the t interval has no width.")
    marked = compared.loc[compared["caveat"] != "", "caveat"]
    found += [f"{MARK.strip()} Compared by way of exception: {caveat}." for caveat in dict.fromkeys(marked)]
    refused = summary[summary["verdict"].isin(REFUSED) & (summary["caveat"] != "")]
    found += [f"NOT COMPARED: {why}." for why in dict.fromkeys(refused["caveat"])]
    return found


def told_cut(summary: pd.DataFrame) -> list[str]:
    """What the model had no room for."""
    found = []
    for column, what in (
        (
            "n_cut",
            "prompts whose beginning was cut, as they did not fit the model's context (long_prompts=refuse makes them errors)",
        ),
        ("n_short", "answers with fewer positions than the task asks for, half of the model's context (gen_length sets them)"),
    ):
        counts = summary[summary[column] > 0].groupby("task", sort=False)[[column, "n_problems"]].max().astype(int)
        parts = [f"{task}: {row[column]} of {row['n_problems']}" for task, row in counts.iterrows()]
        found += [f"Warning: {what}: {', '.join(parts)}."] if parts else []
    return found


def small_n(compared: pd.DataFrame) -> str:
    """How far score intervals for proportions, where there are any, lie from the t intervals."""
    ends = [
        (compared[f"delta_ci_{end}"] - compared[f"delta_tango_{end}"]).abs().max() for end in ("low", "high")
    ]  # NaN where scores are not 0 or 1
    worst = float(np.nanmax(ends)) if not np.isnan(ends).all() else math.nan
    if math.isnan(worst):
        return "."
    return f", or the score intervals in summary.csv (delta_tango), from which they differ by up to {100 * worst:.1f} points."


def comparisons(summary: pd.DataFrame) -> pd.DataFrame:
    """The rows of comparisons that were made."""
    return summary[~summary["verdict"].isin(["", *REFUSED])]


def print_table(summary: pd.DataFrame, console: Console, *, title: str, note: str) -> None:
    """The readable table on a terminal; where that is too narrow, settings are folded, then every cell, but none is cut."""
    names, rows = headings(summary), readable_rows(summary)
    widths = {name: max(len(name), *(len(row[i]) for row in rows)) for i, name in enumerate(names)}
    needed = sum(widths.values()) - widths["settings"] + LEAST_SETTINGS + 2 * (len(names) - 1)
    folded = ("settings",) if needed <= console.width else names
    console.print(terminal_table(summary, folded, title=title, note=note))


def terminal_table(summary: pd.DataFrame, folded: Sequence[str], *, title: str, note: str) -> Table:
    """The readable table, in which cells of the columns ``folded`` may take several lines."""
    # Escaped: names and messages in brackets are no markup.
    table = Table(title=escape_markup(title), caption=escape_markup(note), box=None, pad_edge=False)
    table.title_justify = table.caption_justify = "left"
    for heading in headings(summary):
        justify: Literal["left", "right"] = "right" if heading == "passes" else "left"
        least = LEAST_SETTINGS if [*folded] == [heading] else None
        table.add_column(heading, justify=justify, no_wrap=heading not in folded, overflow="fold", min_width=least)
    previous = None
    for row in readable_rows(summary):
        if previous not in (None, row[0]):
            table.add_section()
            table.add_row()
        table.add_row(*map(escape_markup, row), style="bold" if row[6] == "baseline" else STYLES[row[6].removesuffix(MARK)])
        previous = row[0]
    return table


LEAST_SETTINGS = 12
"""Columns of a terminal that settings get at least where they alone are folded."""


def write_tables(summary: pd.DataFrame, folder: Path, *, note: str) -> list[Path]:
    """summary.csv (every column), summary.md and summary.tex (what is read) in ``folder``."""
    paths = [folder / f"summary.{kind}" for kind in ("csv", "md", "tex")]
    summary.to_csv(paths[0], index=False, float_format="%.6g", lineterminator="\n")
    paths[1].write_text(markdown(summary, note))
    paths[2].write_text(latex(summary, note))
    return paths


def markdown(summary: pd.DataFrame, note: str) -> str:
    """A Markdown table with its note."""
    names = headings(summary)
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
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
    names = headings(summary)
    head = " & ".join(escape(heading) for heading in names) + r" \\"
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering\small",
            rf"\begin{{tabular}}{{lllllllr{'l' * (len(names) - len(HEADINGS))}}}",
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
    special = {
        "\\": r"\textbackslash{}",
        "{": r"\{",
        "}": r"\}",
        "<": "$<$",
        "~": r"\textasciitilde{}",
        BLANK: r"\textvisiblespace{}",
    }
    special |= {MARK.strip(): r"$\dagger$", "\N{PLUS-MINUS SIGN}": r"$\pm$"}
    special |= {character: "\\" + character for character in "&%$#_"}
    return "".join(special.get(character, character) for character in text).replace("+-", r"$\pm$")
