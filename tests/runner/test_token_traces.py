"""What a run keeps of single tokens, and what they are judged by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from tests.runner.test_runs import read, stored
from tests.toy import ToyDenoiser
from tta_bench.models.checkpoint import ModelSettings
from tta_bench.rng import Noise
from tta_bench.runner import execute as execution
from tta_bench.runner.prompts import encode
from tta_bench.runner.settings import Comparison
from tta_bench.runner.store import UNJUDGED, RunFolder
from tta_bench.runner.study import model_source
from tta_bench.sampling.denoiser import Denoiser
from tta_bench.sampling.holdout import holdout_probability
from tta_bench.sampling.presets.random_remask import random_remask
from tta_bench.sampling.sampler import sample
from tta_bench.sampling.schedule import Blocks
from tta_bench.sampling.trace import instability
from tta_bench.tasks import load
from tta_bench.types import Canvas, Place

MODEL = model_source(ModelSettings("mini"), "cpu", "float32")


def traced(found: Comparison, **effort: Any) -> pd.DataFrame:
    """Do the candidate's run and read what it kept of single tokens."""
    spec = found.candidate
    settings = execution.Effort(**({"batch_size": 4, "token_traces": 3} | effort))
    execution.execute(
        spec, found.task, found.problems, found.replicates, output_dir=found.output_dir, model=MODEL, effort=settings
    )
    return RunFolder(found.output_dir / "runs" / spec.run_id).token_traces()


@pytest.mark.parametrize("task", ["sudoku", "json"])
def test_the_last_step_of_a_trace_is_the_answer(tmp_path: Path, task: str) -> None:
    found = read(tmp_path, f"task={task}")
    tokens = traced(found)
    answers = {record["key"]: record["tokens"] for record in stored(found)}
    assert set(tokens["key"]) == {f"{problem.id}/0" for problem in found.problems[:3]}
    for key, rows in tokens[tokens["step"] == 3].groupby("key"):
        problem = next(p for p in found.problems if f"{p.id}/0" == key)
        prompt = encode(problem, MODEL.get().tokenizer, MODEL.get().mask_id, None)
        places = [i for i, token in enumerate(prompt.ids) if token == MODEL.get().mask_id]
        assert rows["position"].tolist() == places
        assert rows["token"].tolist() == [answers[key][i - prompt.start] for i in places]


def test_signals_are_those_that_the_sampler_decides_by(tmp_path: Path) -> None:
    tokens = traced(read(tmp_path, "sampler.tta_k=3"))
    # Nothing was taken back before step 1 has decided, so that the change penalty is 0 there.
    first = tokens[tokens["step"] == 1]
    np.testing.assert_allclose(first["doubt"], first["entropy"] + 0.5 * first["disagreement"], rtol=1e-5)
    for _, rows in tokens[tokens["remaskable"]].groupby(["key", "step"]):
        taken, left = rows[rows["remasked"]], rows[~rows["remasked"]]
        assert len(taken)
        assert left.empty or taken["doubt"].min() >= left["doubt"].max()
    fresh = tokens[tokens["fresh"]]
    np.testing.assert_allclose(fresh["support"], fresh["confidence"])
    assert not (tokens["remasked"] & ~tokens["remaskable"]).any()
    assert not tokens[tokens["step"] == 3]["remaskable"].any()


def test_commit_confidence_stays_until_a_token_is_taken_back(tmp_path: Path) -> None:
    tokens = traced(read(tmp_path)).sort_values(["key", "position", "step"])
    for _, rows in tokens.groupby(["key", "position"]):
        for before, after in zip(rows.to_dict("records"), rows.to_dict("records")[1:], strict=False):
            assert after["fresh"] == before["remasked"]
            assert after["fresh"] or after["confidence"] == before["confidence"]


def test_a_sampler_without_a_score_has_none_and_votes_keep_no_tokens(tmp_path: Path) -> None:
    assert traced(read(tmp_path, "sampler=margin"))["doubt"].isna().all()
    assert traced(read(tmp_path, "sampler=self_consistency")).empty


def test_as_many_problems_as_asked_for_are_traced_whatever_the_batch(tmp_path: Path) -> None:
    key = ["key", "step", "position"]
    frames = [
        traced(read(tmp_path / str(size), "replicates=2"), batch_size=size).sort_values(key, ignore_index=True)
        for size in (1, 5)
    ]
    assert frames[0]["key"].nunique() == 6
    signals = ["entropy", "support", "confidence", "doubt"]
    pd.testing.assert_frame_equal(frames[0].drop(columns=signals), frames[1].drop(columns=signals))
    np.testing.assert_allclose(frames[0][signals], frames[1][signals], atol=1e-5)
    assert traced(read(tmp_path / "none"), token_traces=0).empty


def test_right_answers_are_right_token_by_token(tmp_path: Path) -> None:
    found = read(tmp_path, "task=json", "steps=16", "sampler=margin", "n_problems=12")
    tokens = traced(found, token_traces=12)
    scores = {record["key"]: record["score"] for record in stored(found)}
    last = tokens[(tokens["step"] == 15) & (tokens["gold"] != UNJUDGED)]
    wrong = (last["token"] != last["gold"]).groupby(last["key"]).any()
    assert {key: not any_wrong for key, any_wrong in wrong.items()} == {key: score == 1 for key, score in scores.items()}
    assert set(scores.values()) == {0.0, 1.0}


def test_a_probe_changes_no_record_and_is_the_hidden_probability(tmp_path: Path) -> None:
    plain, probed = read(tmp_path / "plain"), read(tmp_path / "probed")
    without, tokens = traced(plain), traced(probed, probe_folds=2)
    assert stored(plain) == stored(probed)
    assert "holdout" not in without
    assert tokens["holdout"].between(0, 1).all()
    # Hidden, a token is less certain than what the model repeats because it sees it.
    standing = tokens[~tokens["fresh"]]
    assert standing["holdout"].mean() < standing["support"].mean()
    shadowed = traced(read(tmp_path / "shadowed"), probe_shadow=True)
    assert stored(plain) == stored(read(tmp_path / "shadowed"))
    assert "holdout" not in shadowed
    assert shadowed["shadow"].between(0, 1).all()
    assert shadowed.loc[~shadowed["fresh"], "shadow"].mean() < standing["support"].mean()
    with pytest.raises(ValueError, match="probe_folds=1"):
        execution.Effort(probe_folds=1)


def test_visits_that_kept_different_signals_are_read_together(tmp_path: Path) -> None:
    first = read(tmp_path)
    traced(first, token_traces=2)
    tokens = traced(read(tmp_path, "n_problems=8"), token_traces=8, probe_shadow=True)
    asked = tokens.groupby("key")["shadow"].agg(lambda values: values.notna().all())
    assert asked.to_dict() == {
        f"{p.id}/0": i >= 6 for i, p in enumerate(read(tmp_path, "n_problems=8").problems) if i < 2 or i >= 6
    }
    assert tokens["instability"].notna().all()


def test_instability_counts_the_changes_of_a_prediction() -> None:
    model, mask = ToyDenoiser().eval(), 96
    tokens = torch.full((2, 6), mask)
    generation = sample(
        Denoiser(model), random_remask(), Blocks(5, None), tokens, tokens == mask,
        mask_id=mask, noise=Noise(0, ("a", "b")),
    )  # fmt: skip
    predicted = [info.prediction.tokens for info in generation.steps]
    found = instability(generation.steps)
    assert len(found) == 5
    assert not found[0].any()
    for i in range(1, 5):
        by_hand = sum((predicted[j] != predicted[j - 1]).float() for j in range(1, i + 1)) / i
        torch.testing.assert_close(found[i], by_hand)
    assert found[-1].any()
    assert instability([]) == []


def test_holdout_probabilities_by_brute_force() -> None:
    model, mask = ToyDenoiser().eval(), 96
    tokens = torch.randint(0, 90, (2, 7), generator=torch.Generator().manual_seed(0))
    tokens[0, 4] = tokens[1, 5] = mask
    editable = torch.tensor([[False, False, *[True] * 5]] * 2)
    none = torch.zeros(2, dtype=torch.int64)
    canvas = Canvas(tokens, editable, 0, 1, mask, Place(none, none + 5, none, none + 1, none.bool()))
    with torch.no_grad():
        found = holdout_probability(Denoiser(model), canvas, 2)
        for row in range(2):
            committed = [i for i in range(2, 7) if tokens[row, i] != mask]
            for fold in (0, 1):
                hidden = tokens[row : row + 1].clone()
                places = committed[fold::2]
                hidden[0, places] = mask
                p = model(hidden).logits[0].double().masked_fill(torch.arange(97) == mask, -torch.inf).softmax(-1)
                for i in places:
                    assert float(found[row, i]) == pytest.approx(float(p[i, tokens[row, i]]), abs=1e-6)
            assert (found[row] == 0).tolist() == [i not in committed for i in range(7)]
    with pytest.raises(ValueError, match="folds=1"):
        holdout_probability(Denoiser(model), canvas, 1)


def test_a_sudoku_is_judged_by_its_nearest_solution() -> None:
    task = load("sudoku")
    several = 0
    for problem in task.problems("dev", 12):
        assert task.gold(problem, problem.target) == problem.target
        cells = list(problem.target)
        hole = problem.prompt.index("▢")
        cells[hole] = "1" if cells[hole] != "1" else "2"
        near = task.gold(problem, "".join(cells))
        assert near is not None
        assert task.score(problem, near) == 1
        different = sum(a != b for a, b in zip(near, cells, strict=True))
        assert different == 1
        several += near != problem.target
    empty = load("sudoku", holes=36).problems("dev", 1)[0]
    assert task.gold(empty, empty.target) is None  # too many solutions to look at all


def test_the_members_of_a_json_may_come_in_any_order() -> None:
    task = load("json")
    problem = task.problems("dev", 1)[0]
    turned = ",".join(reversed(problem.target.strip("{}").split(",")))
    right = "{" + turned + "}"
    assert task.score(problem, right) == 1
    assert task.gold(problem, right) == right
    assert task.gold(problem, right[:-2] + "x}") == right
    assert task.gold(problem, problem.target.replace(" ", "") + "}") == problem.target


def test_lists_in_any_order_are_not_judged() -> None:
    task = load("listops")
    for problem in task.problems("dev", 12):
        shuffled = problem.facts["operation"] == "shuffle"
        assert task.gold(problem, "x") == (None if shuffled else problem.target)
    assert load("arithmetic").gold(problem, "0") == problem.target
