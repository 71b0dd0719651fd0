"""Write the report of a study, and print what a reader wants to see first."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from tta_bench.analysis.compare import remedy
from tta_bench.analysis.load import Study
from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.report import write_report
from tta_bench.analysis.sparkline import print_evolution
from tta_bench.analysis.tables import print_table
from tta_bench.commands.machine import rows, tell
from tta_bench.commands.say import say
from tta_bench.runner.disk import storing

INCOMPLETE, UNTESTABLE = 1, 2


def print_report(study: Study, folder: Path, tests: TestPlan, console: Console, *, generated: bool = False) -> int:
    """Report on ``study`` into ``folder``.

    Args:
        study: runs that are compared.
        folder: of the report.
        tests: as fixed.
        console: to print on.
        generated: whether answers were what was asked for, and the report is but the end of it.

    Returns:
        The exit code: 2 if a report was asked for and nothing can be said of any comparison, 1 if one could not be made,
        else 0.
    """
    with storing(folder):
        written = write_report(study, folder, tests)
    console.print()
    print_table(written.summary, console, title=study.name, note=written.note)
    print_evolution(written.evolution, console)
    tell(
        study=study.name,
        answer=written.answer,
        summary=rows(written.summary),
        note=written.note,
        excluded=study.excluded,
        n_refused=written.n_refused,
        untestable=written.untestable,
        report=str(written.page),
        folder=str(folder),
    )
    for sentence in study.excluded:
        say(console, f"note: {sentence}", "yellow")
    more = ", ".join(section.name for section in written.sections)
    say(console, f"\nreport   {written.page}\ntables   {folder}/summary.csv, .md, .tex\n         tables/: {more or 'none'}")
    say(console, f"numbers  {folder}/claims.json\nfigures  {folder}/figures/")
    if written.untestable:
        print(f"tta-bench: {written.untestable}", file=sys.stderr)
        return 0 if generated else UNTESTABLE
    if not written.n_refused:
        return 0
    what_to_do = remedy(set(written.summary["verdict"]))
    print(f"tta-bench: {written.n_refused} comparison(s) were not made. {what_to_do}", file=sys.stderr)
    return INCOMPLETE
