"""report.html: one self-contained page."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tta_bench.analysis.answer import Answer
from tta_bench.analysis.figures import FIGURES
from tta_bench.analysis.load import Study
from tta_bench.analysis.page.examples import Example
from tta_bench.analysis.page.machine import machines
from tta_bench.analysis.page.methods import methods, samplers, works
from tta_bench.analysis.page.question import facts, question
from tta_bench.analysis.page.replay import Replay
from tta_bench.analysis.page.visible import visible
from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.section import Section, readable
from tta_bench.analysis.tables import comparisons, headings, readable_rows, warnings

CONTENTS = {
    "table": "Table",
    "figures": "Figures",
    "replay": "Denoising replay",
    "tables": "More tables",
    "examples": "Examples",
    "methods": "Methods",
    "notes": "Exclusions and warnings",
    "environment": "Environment",
    "runs": "Runs",
}
"""Sections of the page behind the answer, by their anchors."""


def render(
    study: Study,
    plan: TestPlan,
    summary: pd.DataFrame,
    sections: Sequence[Section],
    note: str,
    answer: Answer,
    pictures: Sequence[Path],
    examples: Sequence[Example],
    replay: Replay,
) -> str:
    """report.html; pictures are embedded as SVG, every text is escaped, and texts of models hide nothing (``visible``).

    What is in it and not a character (lone surrogates, of names) is written as its code.
    """
    environment = Environment(loader=PackageLoader("tta_bench.analysis.page", "."), autoescape=True, undefined=StrictUndefined)
    environment.filters["visible"] = visible
    runs = {run.run_id: run for pair in study.pairs for run in (pair.baseline, pair.candidate)}
    warned, used = [text for text in warnings(summary) if text.startswith(LOUD)], methods(summary, plan)
    lacking = {"tables": not sections, "examples": not examples}
    return environment.get_template("report.html.j2").render(
        css=source("report.css"),
        script=source("replay.js"),
        name=study.name,
        question=question(study),
        facts=facts(study, summary, plan),
        answer=answer,
        contents=[item for item in CONTENTS.items() if not lacking.get(item[0])],
        headings=headings(summary),
        rows=readable_rows(summary),
        n_comparisons=len(comparisons(summary)),
        note=without(note, warned),
        pictures=[(p.stem.replace("_", " "), FIGURES[p.stem].caption, picture(p.read_text())) for p in pictures],
        replay=replay,
        sections=[(section, *readable(section)) for section in sections],
        examples=examples,
        methods=used,
        samplers=samplers(study),
        works=works(used),
        excluded=study.excluded,
        warnings=warned,
        machines=machines(study),
        runs={run_id: json.dumps(run.config, indent=1) for run_id, run in runs.items()},
    )


LOUD = ("Warning", "NOT COMPARED")
"""Begin the warnings that have a section of their own; the others belong to the table."""

ENLARGED = 1.4
"""How much larger than on paper figures are, where the screen is wide enough."""


def without(note: str, sentences: Sequence[str]) -> str:
    """A note without some of its sentences."""
    for sentence in sentences:
        note = note.replace(sentence, "")
    return " ".join(note.split())


def picture(text: str) -> Markup:
    """A figure's SVG as an element, as wide as the page allows but no smaller than on paper."""
    element = "<svg" + text.partition("<svg")[2]
    return Markup(
        re.sub(
            r'width="([\d.]+)pt" height="[\d.]+pt"',
            lambda size: f'style="width:{ENLARGED * float(size[1]):.0f}pt;min-width:{float(size[1]):.0f}pt"',
            element,
            count=1,
        )
    )


def source(name: str) -> Markup:
    """A file of this package that belongs to the page, to be put into it as it is."""
    return Markup((files("tta_bench.analysis.page") / name).read_text())
