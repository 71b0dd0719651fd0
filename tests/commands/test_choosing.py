"""``tta-bench likelihood`` from the command line, with the embedded model."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tta_bench import cli
from tta_bench.runner import likelihood
from tta_bench.runner.store import RunFolder

FEW = ("mc_num=8", "join=''", "end=true")


def sums(n: int, letters: bool = False) -> list[dict[str, Any]]:
    """Sums with four results, of which one is right."""
    source, rows = random.Random(7), []
    for number in range(n):
        a, b = source.randrange(10**5, 10**6), source.randrange(10**5, 10**6)
        wrong = [f"{a + b + d:07d}" for d in (10, 1000, 100_000)]
        endings = [*wrong[: number % 4], f"{a + b:07d}", *wrong[number % 4 :]]
        rows.append({"ctx": f"{a}+{b}=", "endings": endings, "label": "ABCD"[number % 4] if letters else str(number % 4)})
    return rows


def written(file: Path, rows: list[dict[str, Any]]) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"task.path={file}"


def choose(output: Path, *words: str) -> int:
    return cli.main(["likelihood", "task=hellaswag", *FEW, f"output_dir={output}", *words])


def only(output: Path) -> RunFolder:
    (path,) = (output / "likelihood").iterdir()
    return RunFolder(path)


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys of the problems that a model was asked about."""
    asked: list[str] = []
    real = likelihood.choice_bounds

    def counted(*arguments: Any, **options: Any) -> Any:
        asked.append(options["key"])
        return real(*arguments, **options)

    monkeypatch.setattr(likelihood, "choice_bounds", counted)
    return asked


def test_it_resumes_and_more_problems_change_nothing(tmp_path: Path, capsys: pytest.CaptureFixture, count: list[str]) -> None:
    path = written(tmp_path / "sums.jsonl", sums(6))
    assert choose(tmp_path, path, "n_problems=2") == 0
    before = (only(tmp_path).path / "records.jsonl").read_bytes()
    assert choose(tmp_path, path, "n_problems=6", "batch_size=3") == 0
    assert count == [f"row-{i:05d}" for i in range(6)]
    folder = only(tmp_path)
    assert (folder.path / "records.jsonl").read_bytes().startswith(before)
    assert choose(tmp_path, path, "n_problems=6") == 0
    assert len(count) == 6
    manifest = folder.manifest()
    assert (manifest["status"], manifest["n_records"], manifest["n_errors"]) == ("done", 6, 0)
    assert manifest["run_id"] == folder.path.name
    record = folder.records()["row-00001/0"]
    assert record["right"] == 1
    assert record["n_tokens"] == [8] * 4
    assert record["n_bytes"] == [7] * 4
    assert [sum(groups) / 8 for groups in record["groups"]] == pytest.approx(record["log_likelihood"])
    assert all(error > 0 for error in record["standard_error"])
    summary = pd.read_csv(folder.path / "summary.csv")
    assert summary["rule"].tolist() == ["none", "tokens", "bytes"]
    assert (summary["accuracy"] > 0.5).all()  # the model has learnt to add
    said = capsys.readouterr().out
    assert "acc_norm" in said
    assert "6 problem(s) (Wilson's score interval)" in said
    assert "a blind choice has 25.0 %" in said


def test_the_order_of_rows_changes_no_problem(tmp_path: Path) -> None:
    rows = [row | {"name": f"n{i}"} for i, row in enumerate(sums(3))]
    for place, given in (("a", rows), ("b", rows[::-1])):
        path = written(tmp_path / f"{place}.jsonl", given)
        assert choose(tmp_path / place, path, "task.id=name", "n_problems=3") == 0
    first, second = (only(tmp_path / place).records() for place in ("a", "b"))
    for key, record in first.items():
        assert record["groups"] == second[key]["groups"]


def test_a_torn_line_is_done_again(tmp_path: Path, count: list[str]) -> None:
    path = written(tmp_path / "sums.jsonl", sums(2))
    assert choose(tmp_path, path, "n_problems=2") == 0
    file = only(tmp_path).path / "records.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole[:-40])
    assert choose(tmp_path, path, "n_problems=2") == 0
    assert count == ["row-00000", "row-00001", "row-00001"]
    kept = [json.loads(line) | {"seconds": 0} for text in (whole, file.read_bytes()) for line in text.splitlines()]
    assert kept[:2] == kept[2:]


def test_an_interrupt_loses_nothing_that_was_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    path, real = written(tmp_path / "sums.jsonl", sums(3)), likelihood.choice_bounds

    def interrupted(*arguments: Any, **options: Any) -> Any:
        if options["key"] == "row-00001":
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(likelihood, "choice_bounds", interrupted)
    assert choose(tmp_path, path, "n_problems=3") == 130
    assert "Go on with: tta-bench likelihood" in capsys.readouterr().err
    assert list(only(tmp_path).records()) == ["row-00000/0"]
    assert only(tmp_path).manifest()["status"] == "interrupted"
    monkeypatch.setattr(likelihood, "choice_bounds", real)
    assert choose(tmp_path, path, "n_problems=3") == 0
    assert len(list(only(tmp_path).lines())) == 3
    assert only(tmp_path).manifest()["status"] == "done"


def test_two_results_compared(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = written(tmp_path / "sums.jsonl", sums(5))
    assert choose(tmp_path, path, "n_problems=5") == 0
    assert choose(tmp_path, path, "n_problems=4", "join=' '", "mc_num=2") == 0
    capsys.readouterr()
    compare = ["likelihood", "--compare", "hellaswag-mc8", "hellaswag-mc2"]
    assert cli.main([*compare, str(tmp_path), "normalise=none"]) == 0
    said = capsys.readouterr().out
    assert "mc_num differs: 2, was 8" in said
    assert "1 problem(s) that only one of them has" in said
    assert "4 problems; McNemar's exact test, Tango's score interval." in said
    assert "acc_norm" not in said
    for words, told in (
        ([*compare[:3], "hellaswag-mc8", str(tmp_path)], "are the same"),
        ([*compare[:3], "hellaswag-mc7", str(tmp_path)], "no run in .*likelihood begins so"),
        ([*compare, str(tmp_path), "normalise=x"], "normalise=x: must be one of"),
        (compare[:3], "takes 2 run"),
        ([*compare, str(tmp_path / "none")], "holds no likelihood/ folder"),
    ):
        assert cli.main(words) == 2
        assert re.search(told, capsys.readouterr().err)


def test_letters_take_one_pass_each(tmp_path: Path) -> None:
    rows = [
        {"question": row["ctx"], "choices": row["endings"], "answer": int(row["label"]), "subject": "sums"} for row in sums(2)
    ]
    path = written(tmp_path / "mmlu.jsonl", rows)
    words = ["likelihood", "task=mmlu", path, "continuation=letter", "n_problems=2", "join=''", f"output_dir={tmp_path}"]
    assert cli.main(words) == 0
    for record in only(tmp_path).records().values():
        assert record["forward_passes"] == 4
        assert record["standard_error"] == [0.0] * 4
        assert record["n_tokens"] == [1] * 4


def test_labels_and_rows_of_ones_own(tmp_path: Path) -> None:
    row = {"id": "x", "question": "2+2=", "choices": {"text": ["4", "5"], "label": ["1", "2"]}, "answerKey": "1"}
    path = written(tmp_path / "arc.jsonl", [row])
    assert cli.main(["likelihood", "task=arc_challenge", path, "n_problems=1", "mc_num=1", f"output_dir={tmp_path}"]) == 0
    (record,) = only(tmp_path).records().values()
    assert (record["labels"], record["right"]) == (["1", "2"], 0)
    own = written(tmp_path / "own.jsonl", [{"prompt": "2+2=", "options": ["5", "4"], "target": "4"}])
    options = ["task.choices=options", "task.scorer=multiple_choice", "task.scorer_options={gold: text}", "n_problems=1"]
    assert cli.main(["likelihood", "task=jsonl", own, *options, "mc_num=1", f"output_dir={tmp_path / 'own'}"]) == 0
    (record,) = only(tmp_path / "own").records().values()
    assert record["right"] == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["task=sudoku"], "task=sudoku: its problems have no choices; take hellaswag"),
        (["task=jsonl", "task.scorer=multiple_choice", "task.path={plain}"], "row-00000: the row has no column 'choices'"),
        (["task.path={empty}"], "problem row-00000: its choice B is empty"),
        (["task.path={single}"], "problem row-00000: has a single choice"),
        (["task.path=nowhere.jsonl"], "task.path=nowhere.jsonl: is neither a file nor a folder"),
        (["task.path={good}", "mc_num=0"], "mc_num=0: must be a whole number, at least 1"),
        (["task.path={good}", "continuation=both"], "continuation=both: must be text or letter"),
        (["task.path={good}", "normalise=x"], "normalise=x: must be one of none, tokens, bytes"),
        (["task.path={good}", "long_prompts=x"], "long_prompts=x: must be truncate or refuse"),
        (["task.path={good}", "split=test"], "split=test: hellaswag has none"),
        (["task.path={good}", "steps=4"], "unknown key 'steps'"),
        (["task.path={good}", "task=hellswag"], "unknown task 'hellswag'; did you mean hellaswag"),
        (["task.path={good}", "model.name_or_path=/nowhere"], "model=/nowhere: must be 'mini'"),
        (["task.path={good}", "word"], "unknown word 'word'"),
    ],
)
def test_bad_input_is_refused(words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    rows = {
        "good": {"ctx": "1+1=", "endings": ["1", "2"], "label": "1"},
        "empty": {"ctx": "1+1=", "endings": ["1", " "], "label": "0"},
        "single": {"ctx": "1+1=", "endings": ["1"], "label": "0"},
        "plain": {"prompt": "1+1=", "target": "A"},
    }
    for name, row in rows.items():
        written(tmp_path / f"{name}.jsonl", [row])
    places = {name: tmp_path / f"{name}.jsonl" for name in rows}
    given = [word.format(**places) if word.startswith("task.path") else word for word in words]
    assert cli.main(["likelihood", "task=hellaswag", "n_problems=1", f"output_dir={tmp_path}", *given]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "likelihood").exists()


def test_long_prompts_are_cut_or_errors(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = written(tmp_path / "long.jsonl", [{"ctx": 300 * "1", "endings": ["1", "22"], "label": "0"}])
    assert choose(tmp_path, path, "n_problems=1") == 0
    (record,) = only(tmp_path).records().values()
    assert record["cut"] == 300 + 3 - 256
    assert "1 prompt(s) were too long" in capsys.readouterr().out
    assert choose(tmp_path / "refused", path, "n_problems=1", "long_prompts=refuse") == 1
    assert "long_prompts=truncate" in capsys.readouterr().err
    assert only(tmp_path / "refused").manifest()["status"] == "incomplete"
    whole = written(tmp_path / "whole.jsonl", [{"ctx": "1", "endings": ["1", 255 * "2"], "label": "0"}])
    assert choose(tmp_path / "whole", whole, "n_problems=1", "max_failures=0") == 1
    said = capsys.readouterr().err
    assert "its longest choice has 256 tokens" in said
    assert "max_failures=0" in said
    assert only(tmp_path / "whole").manifest()["status"] == "failed"


def test_memory_that_runs_out_halves_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, sizes = likelihood.choice_bounds, []

    def scarce(*arguments: Any, **options: Any) -> Any:
        sizes.append(options["batch_size"])
        if options["batch_size"] > 4:
            raise RuntimeError("CUDA out of memory")
        return real(*arguments, **options)

    monkeypatch.setattr(likelihood, "choice_bounds", scarce)
    assert choose(tmp_path, written(tmp_path / "sums.jsonl", sums(2)), "n_problems=2") == 0
    assert sizes == [16, 8, 4, 4]
