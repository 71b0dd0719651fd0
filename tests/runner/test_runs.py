from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from tta_bench import catalog, cli
from tta_bench.models.checkpoint import ModelSettings
from tta_bench.runner import execute as execution
from tta_bench.runner.batch import decode_batch
from tta_bench.runner.prompts import batch_constraint, decode, encode
from tta_bench.runner.settings import Comparison, comparison
from tta_bench.runner.study import model_source
from tta_bench.tasks import HOLE, load


def read(tmp_path: Path, *overrides: str) -> Comparison:
    return comparison(cli.compose([f"output_dir={tmp_path}", "n_problems=6", "steps=4", *overrides]))


def do(found: Comparison, **options: Any) -> int:
    arguments: dict[str, Any] = {"output_dir": found.output_dir, "model": model_source(ModelSettings("mini"), "cpu", "float32")}
    effort = execution.Effort(options.pop("batch_size", 4), **{k: options.pop(k) for k in ("max_failures",) if k in options})
    return execution.execute(
        found.candidate, found.task, found.problems, found.replicates, effort=effort, **(arguments | options)
    )


def stored(found: Comparison) -> list[dict]:
    file = found.output_dir / "runs" / found.candidate.run_id / "records.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return sorted(({k: v for k, v in row.items() if k != "seconds"} for row in rows), key=lambda r: r["key"])


def test_equal_settings_are_one_run_however_they_are_written(tmp_path: Path) -> None:
    plain = read(tmp_path).candidate.run_id
    elsewhere = Path("tta_bench/models/mini").resolve()
    for same in (
        ["steps=4.0"], ["sampler.tta_k=5.0"], ["sampler.alpha_entropy=1"], ["sampler.remask_top_pct=0.10"], ["n_problems=9"],
        ["replicates=3"], ["batch_size=2"], [f"model.name_or_path={elsewhere}"],
    ):  # fmt: skip
        assert read(tmp_path, *same).candidate.run_id == plain, same
    for other in (
        ["steps=8"], ["seed=1"], ["sampler.tta_k=3"], ["task.holes=12"], ["split=test"], ["constraint=task"], ["dtype=float64"],
        ["eos_policy=stop"],
    ):  # fmt: skip
        assert read(tmp_path, *other).candidate.run_id != plain, other


def test_the_baseline_of_a_sweep_is_one_run(tmp_path: Path) -> None:
    sweep = [read(tmp_path, f"sampler.tta_k={k}", f"constraint={c}") for k in (3, 5) for c in ("task", "none")]
    assert len({found.baseline.run_id for found in sweep}) == 1
    assert len({found.candidate.run_id for found in sweep}) == 4


def test_a_second_visit_does_nothing_and_a_wider_one_only_the_rest(tmp_path: Path) -> None:
    assert do(read(tmp_path)) == 6
    assert do(read(tmp_path)) == 0
    assert do(read(tmp_path, "n_problems=8")) == 2
    assert do(read(tmp_path, "n_problems=8", "replicates=2")) == 8
    assert len(stored(read(tmp_path))) == 16


def test_a_killed_run_resumes_to_what_an_uninterrupted_one_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read(tmp_path / "whole")
    do(whole)
    broken = read(tmp_path / "broken")
    original, calls = execution.decode_batch, []

    def die_on_second(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(execution, "decode_batch", die_on_second)
    with pytest.raises(KeyboardInterrupt):
        do(broken)
    folder = broken.output_dir / "runs" / broken.candidate.run_id
    assert json.loads((folder / "manifest.json").read_text())["status"] == "interrupted"
    with (folder / "records.jsonl").open("a") as stream:
        stream.write('{"key": "dev-000')
    monkeypatch.undo()
    assert do(broken) == 2
    assert stored(broken) == stored(whole)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["status"], manifest["n_records"]) == ("done", 6)


def test_a_sampler_that_does_not_use_the_steps_is_one_run_whatever_their_number(tmp_path: Path) -> None:
    runs = {read(tmp_path, "sampler=threshold", f"steps={n}").candidate.run_id for n in (4, 8)}
    assert len(runs) == 1
    # Nor need they fit its blocks, only those of the baseline.
    with pytest.raises(ValueError, match="steps=5: must be divisible"):
        read(tmp_path, "sampler=threshold", "steps=5", "block_length=8")
    assert read(tmp_path, "sampler=threshold", "sampler@baseline=wino", "steps=5", "block_length=8").candidate.steps is None


def test_records_tell_what_each_answer_cost(tmp_path: Path) -> None:
    found = read(tmp_path, "sampler=threshold", "task=json")
    do(found, batch_size=6)
    passes = [record["forward_passes"] for record in stored(found)]
    assert len(set(passes)) > 1
    trace = pd.concat(map(pd.read_parquet, (found.output_dir / "runs" / found.candidate.run_id / "traces").glob("*.parquet")))
    assert trace.groupby("key")["step"].count().tolist() == passes


def test_votes_count_answers_as_the_task_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = read(tmp_path, "sampler=self_consistency", "sampler.samples=3", "task=json")
    asked: list[tuple[str, str]] = []
    answer = type(found.task).answer
    monkeypatch.setattr(
        type(found.task), "answer", lambda self, problem, text: asked.append((problem.id, text)) or answer(self, problem, text)
    )
    do(found)
    records = stored(found)
    assert len(asked) == 18
    for record in records:
        votes = [text for problem, text in asked if problem == record["problem"]]
        assert votes.count(record["text"]) == max(map(votes.count, votes))
        assert (record["forward_passes"], record["nfe"]) == (12, 12)


@pytest.mark.parametrize("sampler", sorted(catalog.names("sampler")))
def test_replicates_that_must_be_equal_are_not_decoded_again(
    tmp_path: Path, sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(
        execution,
        "decode_batch",
        lambda spec, task, batch, *rest: asked.extend(item.key for item in batch) or decode_batch(spec, task, batch, *rest),
    )
    wanted = ("task=listops", f"sampler={sampler}", "sampler@baseline=margin" if sampler == "low_confidence" else "steps=4")
    assert do(read(tmp_path, *wanted)) == 6
    once = stored(read(tmp_path, *wanted))
    assert do(read(tmp_path, *wanted, "replicates=3")) == 12
    drew, records = once[0]["drew"], stored(read(tmp_path, *wanted, "replicates=3"))
    assert [record["replicate"] for record in records] == 6 * [0, 1, 2]
    assert len(asked) == (18 if drew else 6)
    if drew:
        assert len({tuple(map(str, r["tokens"])) for r in records}) > 6 or sampler in (
            "tta",
            "random_remask",
            "self_consistency",
        )
        return
    for record in records:
        first = next(r for r in once if r["problem"] == record["problem"])
        other = {"key", "replicate", "copy_of"}
        assert {k: v for k, v in record.items() if k not in other} == {k: v for k, v in first.items() if k not in other}
        assert record.get("copy_of") == (first["key"] if record["replicate"] else None)
    assert do(read(tmp_path, *wanted, "replicates=3")) == 0
    # What was copied is what would have been decoded.
    again = read(tmp_path / "alone", *wanted, "replicates=3")
    monkeypatch.setattr(execution, "nothing_random", lambda _: False)
    do(again)
    told = [{k: v for k, v in r.items() if k != "copy_of"} for r in records]
    assert stored(again) == told
    assert len(asked) == 24


def decoded(folder: Path, size: int, *overrides: str) -> list[dict]:
    found = read(folder / f"{size}", *overrides)
    do(found, batch_size=size)
    return stored(found)


@pytest.mark.parametrize(
    "overrides",
    [
        ["task=sudoku"],
        ["task=json"],
        ["task=json", "constraint=task"],
        ["task=json", "sampler=threshold", "cfg_scale=0.5"],
        ["task=sudoku", "sampler=wino"],
        ["task=json", "sampler=self_consistency", "eos_policy=stop"],
    ],
    ids=" ".join,
)
def test_batch_size_changes_nothing(tmp_path: Path, overrides: list[str]) -> None:
    alone, few, all_at_once = (decoded(tmp_path, size, *overrides) for size in (1, 3, 64))
    assert alone == few == all_at_once


@pytest.mark.slow
@pytest.mark.parametrize("task", ["sudoku", "json"])
@pytest.mark.parametrize("sampler", catalog.names("sampler"))
def test_batch_size_and_order_change_nothing_for_any_sampler(
    tmp_path: Path, sampler: str, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A baseline that differs from every sampler under test.
    overrides = [f"task={task}", f"sampler={sampler}", "sampler@baseline=random", "baseline.temperature=0.123", "n_problems=24"]
    results = [decoded(tmp_path, size, *overrides) for size in (1, 3, 8, 64)]
    in_order = execution.batches
    monkeypatch.setattr(execution, "batches", lambda items, size: in_order(random.Random(0).sample(items, len(items)), size))
    results.append(decoded(tmp_path / "shuffled", 5, *overrides))
    assert all(result == results[0] for result in results)


def test_prompts_of_different_length_share_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    decode_batch = execution.decode_batch
    monkeypatch.setattr(execution, "decode_batch", lambda *a: sizes.append(len(a[2])) or decode_batch(*a))
    found = read(tmp_path, "task=json", "n_problems=12")
    assert len({len(p.prompt) for p in found.problems}) > 3
    do(found, batch_size=5)
    assert sizes == [5, 5, 2]


def test_traces_have_a_row_for_every_step_of_every_record(tmp_path: Path) -> None:
    found = read(tmp_path)
    do(found)
    trace = pd.concat(map(pd.read_parquet, (found.output_dir / "runs" / found.candidate.run_id / "traces").glob("*.parquet")))
    assert sorted(trace.groupby("key")["step"].apply(list)) == [[0, 1, 2, 3]] * 6
    assert (trace["remask_ratio"] > 0).any()
    assert trace.groupby("key")["remask_ratio"].last().eq(0).all()


def test_prompts_keep_their_holes_and_answers_end_at_the_end_token(mini: tuple) -> None:
    _, tokenizer = mini
    sudoku = load("sudoku").problems("dev", 1)[0]
    prompt = encode(sudoku, tokenizer, 1, None)
    assert prompt.start == 0
    assert tokenizer.decode(prompt.ids).replace(tokenizer.mask_token, HOLE) == sudoku.prompt
    appended = load("arithmetic").problems("dev", 1)[0]
    prompt = encode(appended, tokenizer, 1, 5)
    assert prompt.ids[prompt.start :] == (1,) * 5
    ids = [*prompt.ids[: prompt.start], *tokenizer.encode("12"), tokenizer.eos_token_id, *tokenizer.encode("3"), 0]
    assert decode(ids, prompt, tokenizer) == "12"


def test_violations_of_characters_reach_their_tokens(mini: tuple) -> None:
    _, tokenizer = mini
    task = load("listops", operations=["sort"])
    problem = task.problems("dev", 1)[0]
    prompt = encode(problem, tokenizer, 1, None)
    wrong = problem.target[1] + problem.target[0] + problem.target[2:]
    ids = [*prompt.ids[: prompt.start], *tokenizer.encode(wrong)]
    ids += [0] * (len(prompt.ids) - len(ids))
    scores = batch_constraint(task, [problem], [prompt], tokenizer, [0])(torch.tensor([ids]))[0]
    assert scores[prompt.start : prompt.start + 2].tolist() == [1.0, 1.0]
    assert scores.sum() == 2.0


def test_settings_that_do_not_fit_the_problems_are_refused(tmp_path: Path) -> None:
    for overrides, message in (
        (["gen_length=8"], "fills holes"),
        (["block_length=4", "steps=4"], "multiple of 6"),
        (["task=json", "gen_length=0"], "gen_length=0"),
    ):
        with pytest.raises(ValueError, match=message):
            read(tmp_path, *overrides)


def test_a_spec_checks_itself(tmp_path: Path) -> None:
    spec = read(tmp_path).candidate
    for change, message in (({"split": "x"}, "split=x"), ({"seed": -1}, "seed=-1")):
        with pytest.raises(ValueError, match=message):
            replace(spec, **change)
