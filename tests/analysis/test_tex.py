"""LaTeX tables and the paper kit: they are well-formed, and compile where a TeX is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pylatexenc.latexwalker import LatexWalker, LatexWalkerParseError

from tests.analysis.folders import write_run
from tests.analysis.test_report import make_run
from tta_bench import cli
from tta_bench.analysis.best import best_of_blocks
from tta_bench.analysis.compare import compare, made
from tta_bench.analysis.load import AnalysisError, Pair, Study
from tta_bench.analysis.paper import read_summary, write_paper
from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.summary import COLUMNS, summarize
from tta_bench.analysis.tables import BOLD, LONGEST, caption, escape, latex, markdown, marks, plain_latex

PLAN = TestPlan(n_resamples=999, n_bootstrap=200)
HOSTILE = "a_b %\\{c}<d> ^~#$&| \N{NOT EQUAL TO} \N{BLACK HEART SUIT} \N{HEBREW LETTER ALEF} \"x\" 'y' `z`\ttab"


def study(*rights: int, n: int = 60, steps: int = 8) -> Study:
    """Samplers s0 (the baseline), s1, ... that answer the first so many problems right."""
    runs = [make_run(f"r{i}", {"name": f"s{i}"}, np.arange(n) < k, steps=steps) for i, k in enumerate(rights)]
    return Study("x", tuple(Pair(runs[0], run) for run in runs[1:]), n, 1)


def compiled(source: str, folder: Path) -> None:
    """Check with a parser, and with TeX where there is one."""
    LatexWalker(source, tolerant_parsing=False).get_latex_nodes()
    if shutil.which("pdflatex"):
        (folder / "x.tex").write_text(source)
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "x.tex"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout[-2000:]
        assert (folder / "x.pdf").is_file()


def document(*tables: str) -> str:
    packages = r"\usepackage{array,booktabs,graphicx,longtable}"
    return "\n".join([r"\documentclass{article}", packages, r"\begin{document}", *tables, r"\end{document}"])


def test_tables_short_and_long_with_any_text_compile(tmp_path: Path) -> None:
    summary = summarize(study(20, 40, 10), PLAN).assign(settings=HOSTILE)
    many = pd.concat([summary] * 12, ignore_index=True)
    assert len(many) > LONGEST
    plain = pd.DataFrame({"what": [HOSTILE, "x"], "value": [0.123456789, np.nan], "n": [1, 2], "nothing": [None, None]})
    tables = [
        latex(summary, caption(summary, PLAN) + HOSTILE),
        latex(many, HOSTILE * 300),  # no caption may be too long for TeX
        plain_latex(plain, HOSTILE, "tab:a"),
        plain_latex(pd.concat([plain] * 20), HOSTILE, "tab:b"),
    ]
    assert r"\begin{longtable}" not in tables[0] + tables[2]
    assert r"\begin{longtable}" in tables[1]
    assert r"\begin{longtable}" in tables[3]
    assert "nothing" not in tables[2]
    assert "0.1235" in tables[2]
    compiled(document(*tables), tmp_path)


def test_the_parser_finds_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(LatexWalkerParseError):
        compiled(document(r"\begin{tabular}{l} a \\"), tmp_path)


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex here (Debian: texlive-latex-recommended)")
def test_tex_finds_what_the_parser_does_not(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="Missing"):
        compiled(document("a_b"), tmp_path)


def test_every_character_is_escaped_or_told() -> None:
    assert escape("a^b|c>d") == r"a\textasciicircum{}b\textbar{}c$>$d"
    assert escape("\N{BLACK HEART SUIT}") == r"\texttt{U+2665}"
    assert escape("x\n\ty") == "x  y"


def test_stars_stand_for_adjusted_p_values_and_are_explained() -> None:
    assert [marks(p, 0.05) for p in (0.0004, 0.004, 0.04, 0.05, float("nan"))] == ["***", "**", "*", "", ""]
    summary = summarize(study(20, 40, 21), PLAN)
    table = latex(summary, "x")
    better = next(line for line in table.splitlines() if line.startswith("toy & s1"))
    assert f"$^{{{marks(summary['p_adjusted'][1], 0.05)}}}$" in better
    assert "$^{" not in next(line for line in table.splitlines() if line.startswith("toy & s2"))
    assert "Adjusted p: {*} below 0.05" in table
    assert "Adjusted p" not in latex(summarize(study(20, 21), PLAN), "x")


def test_only_what_is_significantly_best_is_bold() -> None:
    clear = summarize(study(20, 40, 21), PLAN)
    assert clear["p_best"].notna().tolist() == [False, True, False]
    assert clear["p_best"][1] < 0.05
    assert r"\textbf{66.7" in latex(clear, "x")
    assert "**66.7" in markdown(clear, "x")
    assert BOLD in markdown(clear, "x")
    close = summarize(study(20, 40, 39), PLAN)  # better than the baseline by far, but not than the other
    assert close["verdict"].tolist() == ["", "better", "better"]
    assert r"\textbf" not in latex(close, "x")
    assert BOLD not in markdown(close, "x")
    tied = summarize(study(20, 40, 40), PLAN)
    assert tied["p_best"].max() == 1
    base = summarize(study(50, 20, 21), PLAN)  # the best may be the baseline
    assert base["p_best"].notna().tolist() == [True, False, False]


def test_the_best_p_is_the_largest_against_the_others_times_their_number() -> None:
    one = study(20, 40, 30, 28)
    (p,) = best_of_blocks(made(compare(one)), PLAN).values()
    pairs = [
        Pair(one.pairs[0].candidate, run) for run in (one.pairs[0].baseline, one.pairs[1].candidate, one.pairs[2].candidate)
    ]
    alone = [summarize(Study("x", (pair,), 60, 1), PLAN)["p_value"][1] for pair in pairs]
    assert p == pytest.approx(3 * max(alone), rel=0.3)


def test_rarely_is_a_run_best_where_all_are_equal() -> None:
    """k equal runs: some run is called significantly best in at most alpha of the studies."""
    rng = np.random.default_rng(3)
    plan, found = TestPlan(n_resamples=199), 0
    for _ in range(150):
        scores = rng.random((40, 4)) < 0.5
        runs = [make_run(f"r{i}", {"name": f"s{i}"}, scores[:, i]) for i in range(4)]
        one = Study("x", tuple(Pair(runs[0], run) for run in runs[1:]), 40, 1)
        found += min(best_of_blocks(made(compare(one)), plan).values()) < 0.05
    assert found / 150 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 150)


def studies(folder: Path) -> Path:
    """Two studies with reports as a repository has them, and one of measurements; the runs lie in outputs."""
    scores = (np.arange(40) < 20).astype(float)[:, None]
    for name, values in (("low_confidence", scores), ("tta", scores[::-1])):
        write_run(folder / "outputs", {"name": name}, values)
    from tta_bench.analysis.load import load_study
    from tta_bench.analysis.report import write_report

    for name in ("one", "two"):
        report = folder / "experiments" / name / "report"
        found = load_study(folder / "outputs")
        write_report(found, report, PLAN)
        told = {
            "name": name, "runs": "../../../outputs/runs", "n_problems": 40, "replicates": 1,
            "pairs": [[pair.baseline.run_id, pair.candidate.run_id] for pair in found.pairs],
            "tests": {"n_resamples": 999, "n_bootstrap": 200},
        }  # fmt: skip
        (report / "study.json").write_text(json.dumps(told))
        (report.parent / "README.md").write_text(f"# {name}: is `a_b` better?\n\nText.\n")
    (folder / "experiments" / "speed").mkdir()
    pd.DataFrame({"what": ["tta"], "ms": [1.5]}).to_csv(folder / "experiments" / "speed" / "table.csv", index=False)
    return folder / "experiments"


@pytest.mark.figures
def test_the_paper_kit_is_the_same_from_runs_and_from_committed_tables(tmp_path: Path) -> None:
    place = studies(tmp_path)
    first = write_paper(place, tmp_path / "a")
    assert [(part.name, part.source) for part in first] == [("one", "records"), ("speed", "tables"), ("two", "records")]
    shutil.rmtree(tmp_path / "outputs")
    second = write_paper(place, tmp_path / "b")
    assert [part.source for part in second] == ["tables"] * 3
    files = sorted(file.relative_to(tmp_path / "b") for file in (tmp_path / "b").rglob("*") if file.is_file())
    same = [file for file in files if file.suffix in (".svg", ".pdf", ".csv", ".md") or file.name == "paper_table.tex"]
    assert {file.suffix for file in same} == {".svg", ".pdf", ".csv", ".md", ".tex"}
    for file in same:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file
    text = (tmp_path / "b" / "paper.tex").read_text()
    assert r"\section{one: is a\_b better?}" in text
    claims = json.loads((tmp_path / "b" / "claims.json").read_text())
    assert claims["studies"]["one"]["claims"]
    for line in text.splitlines():
        for command in (r"\input{", "keepaspectratio]{"):
            if command in line:
                assert (tmp_path / "b" / line.partition(command)[2].rstrip("}")).is_file()
    LatexWalker(text, tolerant_parsing=False).get_latex_nodes()
    if shutil.which("pdflatex"):
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
        done = subprocess.run(command, cwd=tmp_path / "b", capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout[-2000:]


def test_the_command_builds_the_kit_and_says_from_what(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = studies(tmp_path)
    assert cli.main(["analyze", str(place), "paper=true", f"output_dir={tmp_path / 'out'}"]) == 0
    out = capsys.readouterr().out
    assert "one: 1 table(s)" in out
    assert "from its runs" in out
    assert (tmp_path / "out" / "paper" / "paper.tex").is_file()
    assert cli.main(["analyze", str(tmp_path / "out"), "paper=true"]) == 2
    assert "name the folder of the studies" in capsys.readouterr().err


def test_a_summary_of_an_older_version_is_refused_by_name(tmp_path: Path) -> None:
    summary = summarize(study(20, 40), PLAN)
    summary.to_csv(tmp_path / "summary.csv", index=False)
    back = read_summary(tmp_path / "summary.csv")
    assert list(back) == list(COLUMNS)
    assert latex(back, "x") == latex(summary, "x")
    summary.drop(columns=["p_best", "n_cut"]).to_csv(tmp_path / "old.csv", index=False)
    with pytest.raises(AnalysisError, match=r"without p_best, n_cut;"):
        read_summary(tmp_path / "old.csv")
