"""Write the report of a study, and print what a reader wants to see first."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from tta_bench.analysis.compare import remedy
from tta_bench.analysis.load import Study
from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.report import write_report
from tta_bench.analysis.tables import print_table
from tta_bench.commands.say import say
from tta_bench.runner.disk import storing

INCOMPLETE = 1


def print_report(study: Study, folder: Path, tests: TestPlan, console: Console) -> int:
    """Report on ``study`` into ``folder``; the exit code is 1 if a comparison that was asked for could not be made."""
    with storing(folder):
        written = write_report(study, folder, tests)
    console.print()
    print_table(written.summary, console, title=study.name, note=written.note)
    for sentence in study.excluded:
        say(console, f"note: {sentence}", "yellow")
    say(console, f"\nreport   {written.page}\ntables   {folder}/summary.csv, .md, .tex\nfigures  {folder}/figures/")
    if not written.n_refused:
        return 0
    what_to_do = remedy(set(written.summary["verdict"]))
    print(f"tta-bench: {written.n_refused} comparison(s) were not made. {what_to_do}", file=sys.stderr)
    return INCOMPLETE
