"""Whether two runs may be compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.analysis.test_report import make_run
from tta_bench.analysis.gate import rule
from tta_bench.analysis.load import FAILURE_COLUMNS, AnalysisError, Pair, Run, Study
from tta_bench.analysis.plan import Allowances, TestPlan
from tta_bench.analysis.summary import summarize
from tta_bench.analysis.tables import caption, readable_rows
from tta_bench.runner.store import RunFolder

ENVIRONMENT = {"code": "1", "packages": {"torch": "2", "transformers": "5"}, "device": "cpu", "dtype": "float32", "threads": 2}


def failing(run: Run, *problems: str, kind: str = "ModelOutputError") -> Run:
    """The run, with these problems failed instead of answered."""
    rows = [{"problem": p, "replicate": 0, "stage": "generate", "type": kind, "message": "", "traceback": ""} for p in problems]
    failures = pd.concat([run.failures, pd.DataFrame(rows, columns=FAILURE_COLUMNS)])
    return replace(run, records=run.records[~run.records["problem"].isin(problems)], failures=failures)


def measured(run: Run, data: str = "d", prompt: str = "p", **environment: object) -> Run:
    """The run as from disk: with an environment, and digests of its problems."""
    records = run.records.assign(data=data + run.records["problem"], prompt=prompt + run.records["problem"])
    return replace(run, records=records, manifest={"environments": [ENVIRONMENT | environment]})


@pytest.fixture
def pair() -> Pair:
    scores = np.arange(20) % 3 == 0
    base, other = make_run("base", {"name": "low_confidence"}, scores), make_run("new", {"name": "tta"}, ~scores)
    return Pair(measured(base), measured(other))


def test_a_complete_pair_is_compared_without_a_word(pair: Pair) -> None:
    for study in (Study("s", (pair,), 20, 1), Study("s", (pair,))):
        ruling = rule(pair, study)
        assert (len(ruling.problems), ruling.refused, ruling.caveat) == (20, "", "")


def test_a_missing_problem_is_counted_explained_and_refused(pair: Pair) -> None:
    candidate = failing(failing(pair.candidate, "p003", "p007"), "p011", kind="TimeLimitError")
    holed = Pair(pair.baseline, candidate)
    for study in (Study("s", (holed,), 20, 1), Study("s", (holed,))):
        ruling = rule(holed, study)
        assert (ruling.refused, ruling.problems) == ("incomplete", ())
        assert ruling.reasons == ("new: 3 of 20 problems missing (2 ModelOutputError, 1 TimeLimitError)",)
        allowed = rule(holed, replace(study, allow=Allowances(missing=True)))
        assert (len(allowed.problems), allowed.refused) == (17, "")
        assert "p003" not in allowed.problems
        assert "3 of 20 problems missing" in allowed.caveat


def test_other_problems_never_stand_in_for_missing_ones(pair: Pair) -> None:
    # 10 of 20 are asked for, one of the first ten failed: the eleventh must not take its place.
    holed = Pair(pair.baseline, failing(pair.candidate, "p003"))
    assert rule(holed, Study("s", (holed,), 10, 1)).refused == "incomplete"
    allowed = rule(holed, Study("s", (holed,), 10, 1, allow=Allowances(missing=True)))
    assert allowed.problems == tuple(f"p{i:03d}" for i in range(10) if i != 3)
    assert rule(holed, Study("s", (holed,), 3, 1)).refused == ""


def test_what_is_not_done_yet_is_told_apart_from_failures(pair: Pair) -> None:
    half = Pair(pair.baseline, replace(pair.candidate, records=pair.candidate.records.iloc[:12]))
    ruling = rule(half, Study("s", (half,), 20, 1))
    assert ruling.reasons == ("new: 8 of 20 problems missing (8 not done yet)",)
    both = Pair(*(replace(run, records=run.records.iloc[:12]) for run in (pair.baseline, pair.candidate)))
    assert len(rule(both, Study("s", (both,), 20, 1)).reasons) == 2
    # Also where nobody asked for a number: what one run has, the other should have.
    assert rule(half, Study("s", (half,))).reasons == ruling.reasons


def test_a_study_names_its_problems_whatever_their_order(pair: Pair) -> None:
    named = {"base": ("p010", "p002")}
    assert rule(pair, Study("s", (pair,), 2, 1, problems=named)).problems == ("p010", "p002")
    holed = Pair(pair.baseline, failing(pair.candidate, "p002", "p003"))
    ruling = rule(holed, Study("s", (holed,), 2, 1, problems=named))
    assert ruling.reasons == ("new: 1 of 2 problems missing (1 ModelOutputError)",)


def test_a_replicate_that_nobody_asked_for_makes_nothing_complete(pair: Pair) -> None:
    records = pair.candidate.records
    second = records.assign(replicate=1)
    odd = replace(pair.candidate, records=pd.concat([records[records["problem"] != "p004"], second]))
    assert rule(Pair(pair.baseline, odd), Study("s", (), 20, 1)).reasons == ("new: 1 of 20 problems missing (1 not done yet)",)


def test_runs_on_disk_that_do_not_tell_where_they_were_made_are_refused(pair: Pair, tmp_path: Path) -> None:
    silent = replace(pair.candidate, manifest={}, folder=RunFolder(tmp_path))
    assert "code: 1 / not recorded" in rule(Pair(pair.baseline, silent), Study("s", (), 20, 1)).reasons[0]


def test_one_sampler_in_two_versions_is_refused() -> None:
    runs = [
        measured(make_run(name, {"name": "tta", "target": "a.b"}, np.ones(20)), sampler_code=source)
        for name, source in (("one", "x"), ("two", "y"))
    ]
    assert rule(Pair(*runs), Study("s", (), 20, 1)).reasons == ("one and two differ in sampler_code: x / y",)
    other = measured(make_run("two", {"name": "random", "target": "a.c"}, np.ones(20)), sampler_code="y")
    assert rule(Pair(runs[0], other), Study("s", (), 20, 1)).refused == ""


def test_one_constraint_in_two_versions_is_refused() -> None:
    """Where both runs have it; whose constraints differ are compared, as samplers are."""

    def made(name: str, constraint: object, code: str) -> Run:
        run = measured(make_run(name, {"name": "tta", "target": name}, np.ones(20)), constraint_code=code)
        return replace(run, config=run.config | {"constraint": constraint})

    mine, other = ({"name": name, "target": f"m.{name}"} for name in ("mine", "other"))
    both = {"name": "combined", "parts": [{"weight": 2.0, "constraint": part} for part in ("task", mine)]}
    study = Study("s", (), 20, 1)
    for one in (mine, both):
        found = rule(Pair(made("a", one, "x"), made("b", one, "y")), study)
        assert found.reasons == ("a and b differ in constraint_code: x / y",)
    for one, two in ((mine, other), (mine, both), (mine, "none"), ("task", mine)):
        assert rule(Pair(made("a", one, "x"), made("b", two, "y")), study).refused == ""
    edited = made("a", mine, "x")
    places = [edited.manifest["environments"][0] | {"constraint_code": code} for code in "xy"]
    twice = replace(edited, manifest={"environments": places})
    (reason,) = rule(Pair(twice, made("b", "task", "z")), study).reasons
    assert "constraint_code: the constraint's source was changed between a run's records" in reason


def test_a_replicate_that_is_missing_counts_as_a_missing_problem(pair: Pair) -> None:
    runs = (pair.baseline, pair.candidate)
    twice = [replace(run, records=pd.concat([run.records, run.records.assign(replicate=1)])) for run in runs]
    short = Pair(twice[0], replace(twice[1], records=twice[1].records.iloc[:-1]))
    assert rule(Pair(*twice), Study("s", (), 20, 2)).refused == ""
    assert rule(short, Study("s", (), 20, 2)).reasons == ("new: 1 of 20 problems missing (1 not done yet)",)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"threads": 4}, "threads: 2 / 4"),
        ({"device": "cuda (H100)"}, "device: cpu / cuda (H100)"),
        ({"dtype": "bfloat16"}, "dtype: float32 / bfloat16"),
        ({"code": "2"}, "code: 1 / 2"),
        ({"data": "x"}, "problems: 20 of 20 are not the same or were not recorded"),
        ({"prompt": "x"}, "encoded prompts: 20 of 20 are not the same or were not recorded"),
    ],
)
def test_other_conditions_are_refused_with_what_differs(pair: Pair, change: dict[str, str], said: str) -> None:
    plain = make_run("new", {"name": "tta"}, pair.candidate.records["score"].to_numpy())
    other = Pair(pair.baseline, measured(plain, **change))
    ruling = rule(other, Study("s", (other,), 20, 1))
    assert ruling.refused == "incomparable"
    assert ruling.reasons == (f"base and new differ in {said}",)
    allowed = rule(other, Study("s", (other,), 20, 1, allow=Allowances(differences=True)))
    assert (len(allowed.problems), allowed.caveat) == (20, f"base and new differ in {said}")


def test_other_weights_are_refused(pair: Pair) -> None:
    config = {**pair.candidate.config, "model": {"name": "m", "fingerprint": "other"}}
    other = Pair(pair.baseline, replace(pair.candidate, config=config))
    assert "model.fingerprint differs: other, was absent" in rule(other, Study("s", (other,), 20, 1)).reasons[0]


def test_the_table_leaves_refused_comparisons_empty_and_marks_allowed_ones(pair: Pair) -> None:
    third = measured(make_run("third", {"name": "random"}, pair.baseline.records["score"].to_numpy() > 2), threads=4)
    holed = failing(pair.candidate, "p001")
    study = Study("s", (pair, Pair(pair.baseline, third), Pair(pair.baseline, replace(holed, run_id="holed"))), 20, 1)
    summary = summarize(study, TestPlan(n_resamples=99)).set_index("run_id")
    assert summary["verdict"].to_dict() == {"base": "", "new": "inconclusive", "third": "incomparable", "holed": "incomplete"}
    assert summary.loc["third", ["delta", "p_value", "score"]].isna().all()
    assert summary.loc["holed", "n_problems"] == 19
    alone = summarize(Study("s", (pair,), 20, 1), TestPlan(n_resamples=99)).set_index("run_id")
    pd.testing.assert_series_equal(summary.loc["new"], alone.loc["new"])  # refused ones are not in the adjustment
    note = caption(summary.reset_index(), TestPlan())
    assert "NOT COMPARED: base and third differ in threads: 2 / 4." in note
    assert "NOT COMPARED: holed: 1 of 20 problems missing (1 ModelOutputError)." in note
    allowed = summarize(replace(study, allow=Allowances(missing=True, differences=True)), TestPlan(n_resamples=99))
    assert "\N{DAGGER} Compared by way of exception: base and third differ in threads: 2 / 4." in caption(allowed, TestPlan())
    marks = {row[1]: "\N{DAGGER}" in row[6] for row in readable_rows(allowed)}
    assert marks == {"low_confidence": False, "tta": True, "random": True}


def test_a_baseline_with_holes_leaves_all_its_candidates_out(pair: Pair) -> None:
    holed = Pair(failing(pair.baseline, "p001"), pair.candidate)
    complete = Pair(replace(pair.baseline, run_id="second"), pair.candidate)
    summary = summarize(Study("s", (holed, complete), 20, 1), TestPlan(n_resamples=99))
    assert summary["verdict"].tolist() == ["incomplete", "incomplete", "", "inconclusive"]
    with pytest.raises(AnalysisError, match=r"no comparison is possible\n  base: 1 of 20 .*\n.*analysis.allow_missing=true"):
        summarize(Study("s", (holed,), 20, 1), TestPlan())
