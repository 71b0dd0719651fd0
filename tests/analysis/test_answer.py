"""What a report says in words: question, answer, methods, machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.analysis.folders import write_run
from tta_bench import catalog
from tta_bench.analysis.across_tasks import across_tasks
from tta_bench.analysis.answer import Answer, answer
from tta_bench.analysis.compare import compare, made
from tta_bench.analysis.describe import describer
from tta_bench.analysis.load import Run, Study, load_study
from tta_bench.analysis.page.machine import machines
from tta_bench.analysis.page.methods import WORKS, described, methods, works
from tta_bench.analysis.page.question import facts, question
from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.summary import summarize

PLAN = TestPlan(n_resamples=99, n_bootstrap=200)


def study_of(output: Path, tasks: tuple[str, ...], samplers: tuple[dict[str, Any], ...]) -> Study:
    """Candidates solve more of 20 problems the later they come; the baseline solves half."""
    for task in tasks:
        for i, sampler in enumerate(({"name": "low_confidence"}, *samplers)):
            scores = (np.arange(20) < 10 + 2 * i).astype(float)[:, None]
            write_run(output, sampler, scores, steps=4, task=task)
    return load_study(output)


def answered(study: Study, plan: TestPlan = PLAN) -> Answer:
    found = made(compare(study))
    means = across_tasks(found, plan)
    return answer(summarize(study, plan), found, [means] if means else [], describer(study), plan)


def test_one_comparison_is_told_with_its_interval(tmp_path: Path) -> None:
    study = study_of(tmp_path, ("toy",), ({"name": "tta"},))
    found = answered(study)
    row = summarize(study, PLAN).iloc[1]
    interval = f"[{100 * row['delta_ci_low']:.1f}, {100 * row['delta_ci_high']:.1f}]"
    assert found.headline == (
        f"tta (steps=4) scores 60.0 %, low_confidence 50.0 %: +10.0 points {interval}, {row['verdict']} "
        f"(adjusted p: {row['p_adjusted']:.3f})."
    )
    assert found.tasks == ()
    assert found.note == ""


def test_several_tasks_are_told_by_their_mean_and_one_by_one(tmp_path: Path) -> None:
    study = study_of(tmp_path, ("one", "two"), tuple({"name": "tta", "tta_k": k} for k in (3, 5, 7)))
    found = answered(study)
    mean = across_tasks(made(compare(study)), PLAN)
    assert mean
    row = mean.frame[mean.frame["settings"].str.contains("tta_k=5")].iloc[0]
    assert found.headline.startswith(
        "Over 2 tasks, tta (steps=4 tta_k=5) scores 70.0 %, low_confidence 50.0 %: +20.0 points "
        f"[{100 * row['delta_low']:.1f}, {100 * row['delta_high']:.1f}], {row['verdict']}"
    )
    assert [text.split(" scores")[0] for text in found.tasks] == [f"{task}: tta (steps=4 tta_k=5)" for task in ("one", "two")]
    assert "the middle one" in found.note
    assert len(found.all) == 2


def test_the_sampler_in_focus_is_what_the_answer_tells_of(tmp_path: Path) -> None:
    study = study_of(tmp_path, ("toy",), ({"name": "tta"}, {"name": "margin"}))
    assert answered(study).headline.startswith("tta ")
    focused = answered(study, TestPlan(n_resamples=99, n_bootstrap=200, focus="margin"))
    assert focused.headline.startswith("margin (steps=4) scores 70.0 %")
    assert "in focus" in focused.note


def test_candidates_that_differ_between_tasks_are_counted(tmp_path: Path) -> None:
    study_of(tmp_path, ("one",), ({"name": "tta"},))
    study = study_of(tmp_path, ("two",), ({"name": "margin"},))
    assert answered(study).headline.startswith("tta or margin, on 2 tasks: ")


def test_the_question_names_what_is_compared(tmp_path: Path) -> None:
    study = study_of(tmp_path, ("one", "two"), ({"name": "tta"}, {"name": "margin"}))
    assert question(study) == "Do margin and tta score better than low_confidence on one and two?"
    told = facts(study, summarize(study, PLAN), PLAN)
    assert told["problems"] == "20 a task, test split"
    assert told["budgets"] == "4 steps; 4 forward passes an answer"
    assert told["comparisons"].startswith("4, tested together at level 0.05")


def test_methods_cite_what_the_numbers_use_and_nothing_else(tmp_path: Path) -> None:
    summary = summarize(study_of(tmp_path, ("toy",), ({"name": "tta"},)), PLAN)
    text = methods(summary, PLAN)
    assert len(works(text)) == len(WORKS)  # scores of 0 and 1, one replicate: all of them
    graded = summary.assign(delta_tango_low=np.nan, p_mcnemar=np.nan, score_wilson_low=np.nan)
    cited = works(methods(graded, PLAN))
    assert len(cited) == len(WORKS) - 3
    assert not any("Tango" in work or "McNemar" in work or "Wilson" in work for work in cited)


@pytest.mark.parametrize("name", catalog.names("sampler"))
def test_every_sampler_is_described_as_its_docstring_has_it(name: str) -> None:
    found = catalog.entry("sampler", name)
    run = Run("r", {"sampler": {"name": name, "target": found.target}}, None)  # type: ignore[arg-type]
    rule, reference = described(run)
    docstring = " ".join((catalog.resolve(found.target).__doc__ or "").replace("``", "").split())
    assert rule
    assert rule in docstring
    assert reference in docstring
    assert bool(reference) == ("Reference:" in docstring)


def test_of_samplers_from_elsewhere_nothing_is_made_up() -> None:
    for target in ("mine.sampler", "tta_bench.sampling.presets.gone.gone", "tta_bench.sampling.presets.tta.gone"):
        run = Run("r", {"sampler": {"name": "x", "target": target}}, None)  # type: ignore[arg-type]
        assert described(run) == ("", "")


def test_machines_that_differ_are_counted(tmp_path: Path) -> None:
    study_of(tmp_path, ("toy",), ({"name": "tta"},))
    file = tmp_path / "runs" / "toy-tta-test-4-" / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["environments"][0] |= {"threads": 8, "git": {"commit": "0123456789abcdef", "dirty": True}}
    file.write_text(json.dumps(manifest))
    found = machines(load_study(tmp_path))
    assert found["threads"] == "2 (1 run); 8 (1 run)"
    assert found["commit"] == "0123456789ab, with changes"
    assert found["packages"] == "torch 2, transformers 5, tokenizers 0, numpy 2"
    assert found["Python"] == "3.11"
