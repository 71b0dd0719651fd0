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


def write_tables(summary: pd.DataFrame, folder: Path, *, note: str, alpha: float) -> list[Path]:
    """summary.csv (every column), summary.md and summary.tex (what is read) in ``folder``."""
    paths = [folder / f"summary.{kind}" for kind in ("csv", "md", "tex")]
    summary.to_csv(paths[0], index=False, float_format="%.6g", lineterminator="\n")
    paths[1].write_text(markdown(summary, note, alpha))
    paths[2].write_text(latex(summary, note, alpha))
    return paths


SCORE, DELTA = HEADINGS.index("score %"), HEADINGS.index("delta [CI]")

BOLD = "Bold: significantly better than every other of its baseline's block (sign-flip tests, Bonferroni for their number)."
"""Explains what is bold, where something is."""


def significantly_best(summary: pd.DataFrame, alpha: float) -> list[bool]:
    """Of each row whether its score may be bold."""
    return [bool(p < alpha) for p in summary["p_best"]]


def markdown(summary: pd.DataFrame, note: str, alpha: float = 0.05) -> str:
    """A Markdown table with its note."""
    names, bold = headings(summary), significantly_best(summary, alpha)
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row, best in zip(readable_rows(summary), bold, strict=True):
        cells = [cell.replace("|", "\\|") for cell in row]
        cells[SCORE] = f"**{cells[SCORE]}**" if best else cells[SCORE]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + f"\n\n{note}{' ' + BOLD if any(bold) else ''}\n"


LONGEST = 28
"""Rows of a LaTeX table that fit on a page; more are broken across pages."""


def latex(summary: pd.DataFrame, note: str, alpha: float = 0.05, label: str = "tab:summary") -> str:
    """A booktabs table; needs \\usepackage{booktabs,graphicx}, and {longtable} where it has more than ``LONGEST`` rows.

    Stars behind a difference stand for its adjusted p-value; the best score of a block is bold where it is significantly so.

    Args:
        summary: as ``summarize`` gives it.
        note: what a reader must know; it stands below the table.
        alpha: level of the tests.
        label: to refer to the table.
    """
    rows, bold = readable_rows(summary), significantly_best(summary, alpha)
    body: list[str] = []
    starred = False
    for i, row in enumerate(rows):
        if i and rows[i - 1][0] != row[0]:
            body.append(r"\midrule")
        cells = [escape(cell) for cell in row]
        if bold[i]:
            cells[SCORE] = rf"\textbf{{{cells[SCORE]}}}"
        stars = marks(summary["p_adjusted"].iloc[i], alpha)
        if stars:
            cells[DELTA], starred = f"{cells[DELTA]}$^{{{stars}}}$", True
        body.append(" & ".join(cells) + r" \\")
    names = headings(summary)
    told = [CAPTION, *([BOLD] if any(bold) else []), *([stars_explained(alpha)] if starred else [])]
    columns = f"lllllllr{'l' * (len(names) - len(HEADINGS))}"
    head = " & ".join(escape(heading) for heading in names) + r" \\"
    title = rf"\caption{{{escape(' '.join(told))}}}\label{{{label}}}"
    make = broken if len(rows) > LONGEST else floating
    return "\n".join(make(columns, head, body, title, escape(note)))


CAPTION = "Scores, and paired differences from the baseline above."
"""Of the LaTeX table; the note stands below it, as TeX breaks no caption of any length."""


def floating(columns: str, head: str, body: Sequence[str], title: str, note: str) -> list[str]:
    """The lines of a table on one page, shrunk where it is wider than the text."""
    return [
        r"\begin{table}",
        r"\centering\small",
        title,
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        head,
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}}",
        *([r"\par\smallskip", rf"\begin{{minipage}}{{\linewidth}}\footnotesize {note}\end{{minipage}}"] if note else []),
        r"\end{table}",
        "",
    ]


def broken(columns: str, head: str, body: Sequence[str], title: str, note: str) -> list[str]:
    """The lines of a table that goes on on the next page, with its head there too."""
    return [
        r"{\small",
        rf"\begin{{longtable}}{{{columns}}}",
        title + r" \\",
        r"\toprule",
        head,
        r"\midrule",
        r"\endfirsthead",
        r"\toprule",
        head,
        r"\midrule",
        r"\endhead",
        *body,
        r"\bottomrule",
        r"\end{longtable}}",
        *([rf"{{\footnotesize\noindent {note}\par}}"] if note else []),
        "",
    ]


def plain_latex(frame: pd.DataFrame, title: str, label: str) -> str:
    """A frame as a booktabs table; needs {booktabs,graphicx}, and {array,longtable} if it has more than ``LONGEST`` rows.

    Columns without a value are left out; numbers have four digits. In a long table texts are broken into lines.
    """
    shown = frame.dropna(axis="columns", how="all")
    body = [" & ".join(escape(plain_cell(value)) for value in row) + r" \\" for row in shown.itertuples(index=False)]
    head = " & ".join(escape(str(name).replace("_", " ")) for name in shown) + r" \\"
    told = rf"\caption{{{escape(title)}}}\label{{{label}}}"
    if len(body) > LONGEST:
        columns = "".join(plain_column(shown[name]) for name in shown)
        return "\n".join([r"{\scriptsize", *broken(columns, head, body, told, "")[1:]])
    columns = "".join("r" if pd.api.types.is_numeric_dtype(shown[name]) else "l" for name in shown)
    return "\n".join(floating(columns, head, body, told, ""))


def plain_column(values: pd.Series) -> str:
    """The kind of a column of a long table: numbers to the right, texts up to a tenth of the page wide."""
    if pd.api.types.is_numeric_dtype(values):
        return "r"
    longest = max(len(plain_cell(value)) for value in values)
    return "l" if longest <= 14 else r">{\raggedright\arraybackslash}p{0.105\linewidth}"


def plain_cell(value: object) -> str:
    """A value in a few digits; nothing where there is none."""
    if value is None or value != value:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def marks(p: float, alpha: float) -> str:
    """Stars for a p-value below the level, more for smaller ones."""
    if math.isnan(p) or p >= alpha:
        return ""
    return "***" if p < 0.001 else "**" if p < 0.01 else "*"


def stars_explained(alpha: float) -> str:
    """What the stars mean."""
    return f"Adjusted p: * below {alpha:g}, ** below 0.01, *** below 0.001."


def escape(text: str) -> str:
    """Text for LaTeX with any engine: what pdfTeX's fonts lack is told by its code point."""
    return "".join(escaped(character) for character in text.replace("+-", "\N{PLUS-MINUS SIGN}"))


SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "<": "$<$", ">": "$>$", "|": r"\textbar{}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", BLANK: r"\textvisiblespace{}", MARK.strip(): r"$\dagger$",
    "[": "{[}", "]": "{]}", "*": "{*}",
    "\N{PLUS-MINUS SIGN}": r"$\pm$", "\N{MULTIPLICATION SIGN}": r"$\times$", "\N{NOT EQUAL TO}": r"$\neq$",
    "\N{LESS-THAN OR EQUAL TO}": r"$\leq$", "\N{GREATER-THAN OR EQUAL TO}": r"$\geq$",
} | {character: "\\" + character for character in "&%$#_"}  # fmt: skip
"""Characters that mean something to LaTeX, or that its fonts have under a name only."""


def escaped(character: str) -> str:
    """One character."""
    if character in SPECIAL:
        return SPECIAL[character]
    if " " <= character <= "~":
        return character
    return " " if character.isspace() else rf"\texttt{{U+{ord(character):04X}}}"
