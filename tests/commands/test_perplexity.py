"""``tta-bench perplexity``: recorded answers judged by the embedded model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

import tta_bench
from tests.commands.runs import make_run
from tta_bench import cli
from tta_bench.analysis.compare import compare, made
from tta_bench.analysis.describe import describer
from tta_bench.analysis.load import load_study
from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.texts import text_table
from tta_bench.runner import perplexity
from tta_bench.runner.store import RunFolder
from tta_bench.tasks.base import Problem


def judged(run: RunFolder) -> RunFolder:
    (path,) = (run.path / "perplexity").iterdir()
    return RunFolder(path)


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Positions scored in each evaluation."""
    asked: list[int] = []
    real = perplexity.pseudo_log_likelihood

    def counted(*arguments: Any, **options: Any) -> Any:
        asked.append(len(options["positions"]))
        return real(*arguments, **options)

    monkeypatch.setattr(perplexity, "pseudo_log_likelihood", counted)
    return asked


def mixed(problem: Problem, number: int, _: int) -> str | Exception:
    """Right, wrong, nothing, an error."""
    return [problem.target, "0" + problem.target[1:], "", RuntimeError("no")][number]


def test_answers_are_judged_once_given_their_prompt_and_end(
    tmp_path: Path, capsys: pytest.CaptureFixture, count: list[int], mini: tuple
) -> None:
    run = make_run(tmp_path, "sums", mixed, task="arithmetic", replicates=2, manifest={"end_ids": [2]})
    assert cli.main(["perplexity", "sums", str(tmp_path), "model=mini"]) == 0
    said = judged(run).records()
    assert len(said) == 6  # three answers, twice; what failed has none
    assert len(count) == 2  # the second replicate is the first again, and an empty answer needs no model
    model, words = mini
    problem = tta_bench.tasks.load("arithmetic").problems("dev", 1)[0]
    prompt, answer = words.encode(problem.prompt), words.encode(problem.target)
    ids = torch.tensor([*prompt, *answer, words.eos_token_id])
    places = range(len(prompt), len(prompt) + len(answer))
    expected = tta_bench.pseudo_log_likelihood(model, ids, start=len(prompt), positions=places)
    record = said[f"{problem.id}/0"]
    assert record["log_probability"] == pytest.approx(expected.value, rel=1e-4)
    assert (record["n_tokens"], record["forward_passes"], record["ended"]) == (len(answer), len(answer), True)
    assert said[f"{problem.id}/1"]["log_probability"] == record["log_probability"]
    out = capsys.readouterr().out
    assert "sums: pseudo-perplexity" in out
    assert "by mini, 4 answers to 2 problems; 2 empty" in out
    assert cli.main(["perplexity", "sums", str(tmp_path), "model=mini"]) == 0
    assert len(count) == 2
    assert len(list(judged(run).lines())) == 6
    assert judged(run).manifest()["status"] == "done"


def test_the_same_answer_of_another_run_is_not_evaluated_again(tmp_path: Path, count: list[int]) -> None:
    for name in ("a", "b"):
        make_run(tmp_path, name, task="arithmetic", n_problems=2)
    assert cli.main(["perplexity", "a", "b", str(tmp_path), "model=mini"]) == 0
    assert len(count) == 2
    records = [list(judged(RunFolder(tmp_path / "runs" / name)).records().values()) for name in ("a", "b")]
    assert [r["log_probability"] for r in records[0]] == [r["log_probability"] for r in records[1]]
    assert sum(r["forward_passes"] for r in records[1]) == 0


def test_a_template_is_judged_at_its_holes(tmp_path: Path, count: list[int]) -> None:
    run = make_run(tmp_path, "grids", task="sudoku", n_problems=1, manifest={"end_ids": [2]})
    problem = tta_bench.tasks.load("sudoku").problems("dev", 1)[0]
    assert cli.main(["perplexity", "grids", str(tmp_path), "model=mini"]) == 0
    assert count == [problem.prompt.count(tta_bench.tasks.HOLE)]
    (record,) = judged(run).records().values()
    assert record["ended"] is False
    assert math.exp(-record["log_probability"] / record["n_tokens"]) < 1.5  # the right solution is likely


def test_what_fits_no_template_is_an_error_and_tried_again(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = make_run(tmp_path, "grids", lambda *_: "1234", task="sudoku", n_problems=2)
    for _ in range(2):
        assert cli.main(["perplexity", "grids", str(tmp_path), "model=mini"]) == 1
    assert "2 not evaluated" in capsys.readouterr().out
    assert len(list(judged(run).lines())) == 4
    assert judged(run).manifest()["status"] == "incomplete"
    assert "template" in next(judged(run).lines())["error"]["message"]
    assert cli.main(["perplexity", "grids", str(tmp_path), "model=mini", "max_failures=0"]) == 1
    assert "more than max_failures=0" in capsys.readouterr().err


def test_the_model_that_answered_judges_itself(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["task=arithmetic", "baseline=random", "sampler=low_confidence", "n_problems=2", "steps=2"]
    assert cli.main(["run", *words, f"output_dir={tmp_path}"]) == 0
    assert cli.main(["perplexity", "arithmetic-low", "arithmetic-random", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("by mini (which judges its own answers)") == 2
    study = load_study(tmp_path / "reports" / "default")
    section = text_table(made(compare(study)), study, describer(study), TestPlan())
    assert section
    assert (section.frame["pseudo_perplexity_mini"] >= 1).all()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "perplexity: names no run"),
        (["sums"], "model mini: its weights are not those that answered"),
        (["sums", "model=mni"], "unknown model 'mni'; did you mean mini"),
        (["nothing", "model=mini"], "run 'nothing': no run in"),
        (["sums", "model=mini", "batch_size=0"], "batch_size=0: must be a whole number"),
        (["sums", "model=mini", "steps=3"], "unknown key 'steps'"),
        (["sums", "model.name_or_path=/nowhere"], "model=/nowhere: must be 'mini'"),
    ],
)
def test_bad_input_is_refused(words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    run = make_run(tmp_path, "sums", task="arithmetic", n_problems=1)
    names = [word for word in words if "=" not in word]
    assert cli.main(["perplexity", *names, str(tmp_path), *(word for word in words if "=" in word)]) == 2
    assert said in capsys.readouterr().err
    assert not (run.path / "perplexity").exists()
