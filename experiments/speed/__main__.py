"""Measure what decoding costs, ours against the loops as one writes them down, and where the time goes."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.speed.sections import QUICK, SECTIONS, Job, Row

HERE = Path(__file__).parent


def holds(line: Mapping[Any, Any]) -> str:
    """Whether a line keeps its limit; empty where it has none."""
    if line.get("rule") not in ("<=", ">="):
        return ""
    value, limit = line["value"], line["limit"]
    return "yes" if (value <= limit if line["rule"] == "<=" else value >= limit) else "NO"


def table(frame: pd.DataFrame) -> str:
    """The lines as Markdown."""
    lines = ["| | model | what | value [range] | against | limit | holds | seconds |", "|---|---|---|---|---|---|---|---|"]
    for line in frame.astype(object).where(frame.notna(), None).to_dict("records"):
        value = f"{line['value']:.3g} {line['unit']}"
        if line.get("low") is not None:
            value += f" [{line['low']:.3g}, {line['high']:.3g}]"
        if line.get("sampler") is not None:
            value += f" (sampler {line['sampler']:.3f}, bookkeeping {line['bookkeeping']:.3f})"
        if line.get("megabytes") is not None:
            value += f", {line['megabytes']:.0f} MB"
        limit = f"{line['rule']} {line['limit']:g}" if holds(line) else ""
        seconds = "" if line.get("seconds") is None else f"{line['seconds']:.4g}"
        cells = (
            line["section"],
            line["model"] or "",
            line["what"],
            value,
            line.get("against") or "",
            limit,
            holds(line),
            seconds,
        )
        lines.append(f"| {' | '.join(str(cell) for cell in cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the table and save it, and its numbers, beside this file or where it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=SECTIONS, default=list(SECTIONS), help="sections of the table")
    parser.add_argument("--quick", action="store_true", help="short sequences, one round: whether it runs, not how fast")
    parser.add_argument("--folder", type=Path, default=HERE, help="where table.md and table.csv go")
    arguments = parser.parse_args()
    job = QUICK if arguments.quick else Job()
    rows: list[Row] = []
    for name in arguments.only:
        for line in SECTIONS[name](job):
            rows.append(line)
            print(line["section"], line["model"], line["what"], f"{line['value']:.3g} {line['unit']}", holds(line), flush=True)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(arguments.folder / "table.csv", index=False, float_format="%.6g")
    text = table(pd.read_csv(arguments.folder / "table.csv"))  # of the numbers as they are saved
    (arguments.folder / "table.md").write_text(text)
    print("\n" + text)


if __name__ == "__main__":
    main()
