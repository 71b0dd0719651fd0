from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.analysis.folders import write_run
from tta_bench.analysis.answer import sentences
from tta_bench.analysis.load import AnalysisError, Pair, Run, Study, alike, load_study
from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.report import write_report
from tta_bench.analysis.summary import COLUMNS, summarize
from tta_bench.analysis.tables import escape, latex


def make_run(name: str, sampler: dict, scores: np.ndarray, *, steps: int = 4, task: str = "toy") -> Run:
    records = [
        {"key": f"p{i:03d}/0", "problem": f"p{i:03d}", "replicate": 0, "text": "x", "score": float(s), "forward_passes": steps,
         "nfe": steps, "seconds": 0.1}
        for i, s in enumerate(scores)
    ]  # fmt: skip
    config = {"model": {"name": "m"}, "task": {"name": task}, "sampler": sampler, "steps": steps}
    return Run(name, config, pd.DataFrame(records))


@pytest.fixture
def study() -> Study:
    rng = np.random.default_rng(0)
    base = rng.random(60) < 0.4
    runs = {k: make_run(f"tta{k}", {"name": "tta", "tta_k": k}, base | (rng.random(60) < 0.3)) for k in (3, 5)}
    baseline = make_run("base", {"name": "low_confidence"}, base)
    return Study("demo", tuple(Pair(baseline, run) for run in runs.values()), 60, 1)


def test_summary_has_the_columns_and_the_right_numbers(study: Study) -> None:
    summary = summarize(study, TestPlan())
    assert tuple(summary.columns) == COLUMNS
    assert summary["sampler"].tolist() == ["low_confidence", "tta", "tta"]
    assert summary["settings"].tolist() == ["steps=4", "steps=4 tta_k=3", "steps=4 tta_k=5"]
    scores = [pair.candidate.records["score"].mean() - pair.baseline.records["score"].mean() for pair in study.pairs]
    assert summary["delta"].tolist()[1:] == pytest.approx(scores)
    assert (summary["p_adjusted"] >= summary["p_value"])[1:].all()
    assert summary["verdict"].tolist() == ["", "better", "better"]
    assert summary.loc[0, ["delta", "p_value", "p_adjusted", "mde"]].isna().all()


@pytest.mark.figures
def test_report_is_written_and_is_the_same_twice(study: Study, tmp_path: Path) -> None:
    first, second = write_report(study, tmp_path / "a", TestPlan()), write_report(study, tmp_path / "b", TestPlan())
    names = {"summary.csv", "summary.md", "summary.tex", "report.html", "accuracy_versus_passes.svg"}
    assert names <= {file.name for file in first.files}
    for one, other in zip(first.files, second.files, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name


def test_report_escapes_names_and_needs_no_network(study: Study, tmp_path: Path) -> None:
    hostile = Study("<script>alert(1)</script>", study.pairs, 60, 1)
    page = write_report(hostile, tmp_path, TestPlan()).page.read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert 'src="http' not in page
    assert "<link" not in page


def test_latex_is_escaped_and_balanced(study: Study) -> None:
    table = latex(summarize(study, TestPlan()), "50 % of +-2 points")
    assert escape("a_b%\\{c}<d") == r"a\_b\%\textbackslash{}\{c\}$<$d"
    assert table.count(r"\begin{") == table.count(r"\end{") == 3
    rows = [line for line in table.splitlines() if line.endswith(r"\\")]
    assert {line.replace(r"\&", "").count("&") for line in rows} == {7}
    assert r"50 \% of $\pm$2 points" in table


def test_a_sampler_without_steps_shows_none_and_is_paired(study: Study, tmp_path: Path) -> None:
    baseline = study.pairs[0].baseline
    free = make_run("free", {"name": "threshold"}, baseline.records["score"].to_numpy())
    free = Run("free", {**free.config, "steps": None}, free.records)
    assert alike(free, baseline)
    assert not alike(Run("x", {**free.config, "task": {"name": "other"}}, free.records), baseline)
    report = write_report(Study("s", (Pair(baseline, free),), 60, 1), tmp_path, TestPlan())
    assert report.summary["settings"].tolist() == ["steps=4", ""]


def test_many_samplers_are_told_by_verdict() -> None:
    rows = [("t", "a", 0.1, "better"), ("t", "b", 0.3, "better"), ("t", "c", -0.2, "worse"), ("t", "d", 0.0, "equivalent")]
    few = pd.DataFrame([*rows, ("t", "base", 0.0, "")], columns=["task", "sampler", "delta", "verdict"])
    few = few.assign(baseline_passes=8.0, forward_passes=[8.0, 8, 8, 20, 8])
    assert sentences(few)[0] == "t: a against its baseline, +10.0 points in 1 comparison(s): 1 better."
    assert sentences(few)[3].startswith("t: d against its baseline at 2.5 times the passes, +0.0 points")
    many = pd.DataFrame([*rows, ("t", "e", 0.01, "inconclusive")], columns=["task", "sampler", "delta", "verdict"])
    assert sentences(many) == [
        "t: better than the baseline: b (+30.0), a (+10.0).",
        "t: equivalent: d (+0.0).",
        "t: inconclusive: e (+1.0).",
        "t: worse than the baseline: c (-20.0).",
    ]


def test_an_empty_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match="holds neither"):
        load_study(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(AnalysisError, match="no candidate"):
        load_study(tmp_path)


def test_the_analysis_needs_no_torch() -> None:
    code = (
        "import sys, tta_bench.analysis.report, tta_bench.analysis.figures, tta_bench.tasks\n"
        "assert not {'torch', 'transformers'} & set(sys.modules), 'torch was loaded'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_report_shows_what_was_asked_answered_and_expected(tmp_path: Path) -> None:
    for name, text in (("low_confidence", "<b>4</b>"), ("tta", "")):
        write_run(tmp_path, {"name": name}, np.array([[1.0], [0.0], [1.0]]), steps=4, text=text)
    asked = (
        {"problem": "test-000001", "data": f"{1:016x}", "prompt": "2 + 2 <", "target": "4"},
        {"problem": "test-000009", "data": f"{9:016x}", "prompt": "x", "target": "y"},
    )
    study = replace(load_study(tmp_path), examples={"toy": asked, "other": asked})
    page = write_report(study, tmp_path / "report", TestPlan(n_resamples=99, n_bootstrap=200)).page.read_text()
    assert "<h2>Examples</h2>" in page
    assert "<pre>2 + 2 &lt;</pre>" in page
    assert "<pre>&lt;b&gt;4&lt;/b&gt;</pre>" in page
    assert "<pre>(nothing)</pre>" in page
    assert "test-000009" not in page  # nobody answered it
