"""report.html: one self-contained page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from tta_bench.analysis.examples import Example
from tta_bench.analysis.load import Study
from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.section import Section, readable
from tta_bench.analysis.tables import headings, readable_rows


def render(
    study: Study,
    plan: TestPlan,
    summary: pd.DataFrame,
    sections: Sequence[Section],
    note: str,
    answer: tuple[str, ...],
    pictures: list[Path],
    shown: Sequence[Example] = (),
) -> str:
    """report.html; pictures are embedded as SVG and every text is escaped."""
    environment = Environment(loader=PackageLoader("tta_bench.analysis", "."), autoescape=True, undefined=StrictUndefined)
    runs = {run.run_id: run for pair in study.pairs for run in (pair.baseline, pair.candidate)}
    return environment.get_template("report.html.j2").render(
        name=study.name,
        level=f"{100 * (1 - 2 * plan.alpha):g} %",
        headings=headings(summary),
        rows=readable_rows(summary),
        note=note,
        answer=answer,
        sections=[(section, *readable(section)) for section in sections],
        excluded=study.excluded,
        examples=shown,
        pictures={p.stem.replace("_", " "): p.read_text().partition("<svg")[2] for p in pictures},
        runs={run_id: json.dumps(run.config, indent=1) for run_id, run in runs.items()},
    )
