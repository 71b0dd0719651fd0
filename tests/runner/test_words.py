"""The words that a run keeps beside its token traces."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tests.runner.test_runs import read
from tests.runner.test_token_traces import MODEL, traced
from tta_bench.runner.disk import StoreError
from tta_bench.runner.settings import Comparison
from tta_bench.runner.store import NO_WORDS, UNJUDGED, RunFolder


def folder(found: Comparison) -> RunFolder:
    return RunFolder(found.output_dir / "runs" / found.candidate.run_id)


def written(run: RunFolder) -> dict[str, tuple[int, int]]:
    """By file what changes when it is written to or replaced."""
    return {file.name: (file.stat().st_ino, file.stat().st_mtime_ns) for file in run.path.rglob("*") if file.is_file()}


@pytest.mark.parametrize("task", ["sudoku", "json"])
def test_every_token_of_a_trace_has_its_text_and_every_problem_its_prompt(tmp_path: Path, task: str) -> None:
    found = read(tmp_path, f"task={task}")
    tokens, words = traced(found), folder(found).words()
    tokenizer = MODEL.get().tokenizer
    ids = {*tokens["token"], *tokens["gold"]} - {UNJUDGED}
    assert words["tokens"] == {str(i): tokenizer.decode([i]) for i in ids}
    shown = found.problems[:3]
    assert words["problems"] == {p.id: {"prompt": p.prompt, "target": p.target} for p in shown}
    if task == "json":
        assert tokenizer.eos_token in words["tokens"].values()  # special tokens are visible


def test_prompts_are_told_as_they_were_put(tmp_path: Path) -> None:
    found = read(tmp_path, "task=json", "prompt_form='Q: {prompt}'")
    traced(found)
    assert {told["prompt"][:3] for told in folder(found).words()["problems"].values()} == {"Q: "}


def test_a_resumed_run_adds_words_and_a_finished_one_writes_nothing(tmp_path: Path) -> None:
    first, more = read(tmp_path, "task=json"), read(tmp_path, "task=json", "n_problems=8")
    traced(first, token_traces=2)
    before = folder(first).words()
    traced(more, token_traces=8)
    after = folder(more).words()
    untraced = {problem.id for problem in first.problems[2:]}  # they were done before they were to be traced
    assert set(after["problems"]) == {problem.id for problem in more.problems} - untraced
    assert before["tokens"].items() < after["tokens"].items()
    files = written(folder(more))
    assert "words.json" in files
    traced(more, token_traces=8)
    assert written(folder(more)) == files


def test_a_run_without_traces_has_no_words(tmp_path: Path) -> None:
    found = read(tmp_path)
    traced(found, token_traces=0)
    assert folder(found).words() == NO_WORDS
    assert not (folder(found).path / "words.json").exists()


def test_broken_words_are_named(tmp_path: Path) -> None:
    (tmp_path / "words.json").write_text("{")
    with pytest.raises(StoreError, match=r"words\.json: cannot be read"):
        RunFolder(tmp_path).words()


def test_freezes_are_traced_and_not_made_up_for_older_traces(tmp_path: Path) -> None:
    found = read(tmp_path, "sampler.freeze_threshold=1", "sampler.freeze_window=1")
    tokens = traced(found)
    assert set(tokens["frozen"]) == {0.0, 1.0}
    assert not (tokens["remasked"] & (tokens["frozen"] == 1)).any()
    for file in (folder(found).path / "traces").glob("*.parquet"):
        pd.read_parquet(file).drop(columns="token.frozen").to_parquet(file)
    assert folder(found).token_traces()["frozen"].isna().all()
