"""The paper kit: the tables and figures of every study below a folder, rebuilt into one, with a paper.tex that holds them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pandas as pd

from tta_bench.analysis import drawings, figures
from tta_bench.analysis.claims import code_version
from tta_bench.analysis.load import AnalysisError, load_study
from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.report import write_report
from tta_bench.analysis.summary import COLUMNS, TEXT_COLUMNS
from tta_bench.analysis.tables import caption, escape, latex, plain_latex, write_tables

PAPER_VERSION = 1
"""Of the form of the combined claims.json."""


@dataclass(frozen=True)
class Part:
    """A study of the paper.

    Attributes:
        name: of its folder.
        title: what it asks.
        source: ``records``, where its runs are on disk and were analysed again, or ``tables``, where it was drawn again from
            the tables of its report.
        tables: LaTeX files, relative to the paper's folder.
        pictures: (file, caption) of its figures, relative to the paper's folder.
        claims: the numbers of its report; None where that has no claims.json.
    """

    name: str
    title: str
    source: str
    tables: tuple[str, ...]
    pictures: tuple[tuple[str, str], ...]
    claims: Mapping[str, Any] | None


def write_paper(studies: Path, folder: Path) -> list[Part]:
    """Rebuild every table and figure of the studies below ``studies`` into ``folder``.

    A study is a folder with ``report/study.json``. Where its runs are on disk they are analysed again, as they were planned;
    elsewhere its tables and figures are made again from ``summary.csv``, ``tables/`` and ``figures/*.csv`` of the report. A
    folder with ``table*.csv`` has measurements of another kind, each of which becomes a table.

    Returns:
        the studies, in order of their names. ``folder`` holds one folder for each, claims.json and paper.tex.

    Raises:
        AnalysisError: there is no study.
    """
    places = sorted(path for path in studies.glob("*") if (path / "report" / "study.json").is_file() or measurements(path))
    if not places:
        raise AnalysisError(f"{studies}: holds no folder with report/study.json or table.csv; name the folder of the studies")
    folder.mkdir(parents=True, exist_ok=True)
    parts = [rebuilt(place, folder) if (place / "report").is_dir() else measured(place, folder) for place in places]
    claims = {part.name: part.claims for part in parts}
    told = {"version": PAPER_VERSION, "code_version": code_version(), "studies": claims}
    (folder / "claims.json").write_bytes(orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE))
    (folder / "paper.tex").write_text(document(parts))
    return parts


def measurements(place: Path) -> list[Path]:
    """Tables of measurements that lie beside a README."""
    return sorted(place.glob("table*.csv"))


def rebuilt(place: Path, folder: Path) -> Part:
    """One study, made again in a folder of its own."""
    report, target = place / "report", folder / place.name
    if runs_are_there(report):
        study = load_study(report)
        write_report(study, target, study.plan or TestPlan())
        source = "records"
    else:
        from_tables(report, target)
        source = "tables"
    names = [name for name in figures.FIGURES if (target / "figures" / f"{name}.pdf").is_file()]
    pictures = tuple((f"{place.name}/figures/{name}.pdf", figures.FIGURES[name].caption) for name in names)
    table = f"{place.name}/paper_table.tex"
    plan = plan_of(report)
    summary = read_summary(target / "summary.csv")
    (folder / table).write_text(latex(summary, caption(summary, plan), plan.alpha, f"tab:{place.name}"))
    file = target / "claims.json"
    claims = json.loads(file.read_text()) if file.is_file() else None
    return Part(place.name, title_of(place), source, (table,), pictures, claims)


def runs_are_there(report: Path) -> bool:
    """Whether all runs of a report's study are on disk."""
    told = json.loads((report / "study.json").read_text())
    return all((report / told["runs"] / run_id / "config.yaml").is_file() for pair in told["pairs"] for run_id in pair)


def plan_of(report: Path) -> TestPlan:
    """The plan of the tests of a report's study."""
    return TestPlan(**json.loads((report / "study.json").read_text())["tests"])


def from_tables(report: Path, target: Path) -> None:
    """Make a report's tables and figures again from its CSV files.

    Raises:
        AnalysisError: the report lacks its summary.
    """
    if not (report / "summary.csv").is_file():
        raise AnalysisError(f"{report}: has neither its runs on disk nor summary.csv; run the study again")
    target.mkdir(parents=True, exist_ok=True)
    plan = plan_of(report)
    summary = read_summary(report / "summary.csv")
    write_tables(summary, target, note=caption(summary, plan), alpha=plan.alpha)
    shutil.copytree(report / "tables", target / "tables", dirs_exist_ok=True)
    for name in ("claims.json", "study.json"):
        if (report / name).is_file():
            shutil.copy(report / name, target / name)
    files = {name: report / "figures" / f"{name}.csv" for name in figures.FIGURES}
    drawings.draw({name: drawings.read(file) for name, file in files.items() if file.is_file()}, target / "figures")


def read_summary(file: Path) -> pd.DataFrame:
    """A summary from its CSV file; empty texts are texts.

    Raises:
        AnalysisError: an older version wrote it, and left out columns.
    """
    frame = pd.read_csv(file, keep_default_na=False, na_values=[""])
    lacking = [name for name in COLUMNS if name not in frame]
    if lacking:
        raise AnalysisError(
            f"{file}: an older version wrote it, without {', '.join(lacking)}; run the study again, or tta-bench analyze where "
            "its runs are"
        )
    return frame.assign(**{name: frame[name].astype(object).fillna("").astype(str) for name in TEXT_COLUMNS})


def measured(place: Path, folder: Path) -> Part:
    """Tables of measurements."""
    (folder / place.name).mkdir(parents=True, exist_ok=True)
    tables = []
    for file in measurements(place):
        frame = pd.read_csv(file, keep_default_na=False, na_values=[""])
        tables.append(f"{place.name}/{file.stem}.tex")
        (folder / tables[-1]).write_text(
            plain_latex(frame, f"{title_of(place)} ({file.name})", f"tab:{place.name}_{file.stem}")
        )
    return Part(place.name, title_of(place), "tables", tuple(tables), (), None)


def title_of(place: Path) -> str:
    """The first heading of a study's README, or its name."""
    readme = place / "README.md"
    lines = readme.read_text().splitlines() if readme.is_file() else []
    headings = [line.removeprefix("# ").replace("`", "") for line in lines if line.startswith("# ")]
    return headings[0] if headings else place.name


def document(parts: Sequence[Part]) -> str:
    """A LaTeX document with all tables and figures, to take from what is needed."""
    lines = [
        r"\documentclass[10pt,a4paper,landscape]{article}",
        r"\usepackage[margin=18mm]{geometry}",
        r"\usepackage{array,booktabs,graphicx,longtable}",
        r"\setlength{\tabcolsep}{4pt}",
        r"\title{tta\_bench: tables and figures}",
        rf"\author{{made by tta\_bench {escape(code_version())}}}",
        r"\date{}",
        r"\begin{document}",
        r"\maketitle",
        r"\noindent Every number is in \texttt{claims.json}, with the runs, problems and test that it rests on.",
        r"\tableofcontents",
    ]
    for part in parts:
        lines += [r"\clearpage", rf"\section{{{escape(part.title)}}}", f"% {part.name}: made again from {part.source}"]
        lines += [rf"\input{{{table}}}" for table in part.tables]
        for file, told in part.pictures:
            label = f"fig:{part.name}_{Path(file).stem}"
            lines += [
                r"\begin{figure}[p]",
                r"\centering",
                rf"\includegraphics[width=0.8\linewidth,height=0.8\textheight,keepaspectratio]{{{file}}}",
                rf"\caption{{{escape(told)}}}\label{{{label}}}",
                r"\end{figure}",
            ]
    return "\n".join([*lines, r"\end{document}", ""])
