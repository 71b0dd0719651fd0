"""``tta-bench analyze paper=true``: every study's tables and figures in one folder."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from tta_bench.analysis.paper import write_paper
from tta_bench.commands.say import say
from tta_bench.runner.disk import storing

SOURCES = {"records": "from its runs", "tables": "from its committed tables"}


def print_paper(studies: Path, folder: Path, console: Console) -> int:
    """Rebuild the studies below ``studies`` into ``folder``; returns the exit code."""
    with storing(folder):
        parts = write_paper(studies, folder)
    for part in parts:
        say(console, f"{part.name}: {len(part.tables)} table(s) and {len(part.pictures)} figure(s), {SOURCES[part.source]}")
    say(console, f"\nnumbers  {folder}/claims.json\npaper    {folder}/paper.tex (pdflatex in that folder, three times)")
    return 0
