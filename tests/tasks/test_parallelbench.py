from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.quick import QUICK
from tta_bench import cli, tasks
from tta_bench.scorers import scorer
from tta_bench.tasks.parallelbench import ParallelBench

LINE = ["Ada Moss", "Ben Pike", "Cleo Reed"]
LISTED = '["Ada Moss", "Ben Pike", "Cleo Reed"]'
SOLVED = {"input": {"context": '["Uma Vale", "Wim York"]'}, "answer": '["Uma Vale", "Wim York"]'}
ROW = {
    "input": {"context": LISTED, "icl_examples": [SOLVED]},
    "answer": LISTED,
    "output_format": '["[MASK]", "[MASK]", "[MASK]"]',
    "metadata": {"length": 3},
}
COPY = {
    "prompt": "Copy this line:\n\n{context}\n\nOnly the list.",
    "metric": "list_match_score",
    "num_samples": 2,
    "type": "copy",
}
SQUARE = {"symbols": ["7", "q"], "example": "q,7\n7,q"}
GRID = "1234\n3412\n2143\n4321"


def generated(
    folder: Path, *rows: dict[str, Any], settings: dict[str, Any] | None = None, name: str = "waiting_line/copy"
) -> Path:
    """Files as the benchmark's generator writes them."""
    file = folder / "test" / f"{name}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (file.parent / "task_config.yaml").write_text(yaml.dump({name: settings or COPY}))
    return file


def test_a_generated_file_becomes_problems(tmp_path: Path) -> None:
    (problem,) = tasks.load("parallelbench", path=generated(tmp_path, ROW), title="copy").problems("test")
    assert problem.prompt == (
        'Copy this line:\n\n["Uma Vale", "Wim York"]\n\nOnly the list.\n\n["Uma Vale", "Wim York"]\n\n'
        f"Copy this line:\n\n{LISTED}\n\nOnly the list."
    )
    assert (problem.target, problem.gen_length, problem.facts["metric"]) == (LISTED, 32, "list_match_score")


def test_rows_of_a_hub_are_the_same_problems(tmp_path: Path) -> None:
    coded = {key: json.dumps(ROW[key]) for key in ("input", "metadata")}
    row = {
        **coded,
        "answer": LISTED,
        "output_format": None,
        "task_name": "waiting_line/copy",
        **{k: COPY[k] for k in ("prompt", "metric")},
    }
    (tmp_path / "hub.jsonl").write_text(json.dumps(row))
    own = tasks.load("parallelbench", path=generated(tmp_path, ROW))
    from_hub = tasks.load("parallelbench", path=tmp_path / "hub.jsonl")
    assert isinstance(own, ParallelBench)
    assert isinstance(from_hub, ParallelBench)
    assert own.problems("test") == from_hub.problems("test")
    assert own.data("test") == from_hub.data("test")


def test_a_folder_holds_several_parts(tmp_path: Path) -> None:
    generated(tmp_path, ROW)
    generated(
        tmp_path, {**ROW, "answer": SQUARE}, settings={"prompt": "{context}", "metric": "latin_square_score"}, name="puzzles/ls"
    )
    assert [p.facts["metric"] for p in tasks.load("parallelbench", path=tmp_path).problems("test")] == [
        "latin_square_score",
        "list_match_score",
    ]
    (only,) = tasks.load("parallelbench", path=tmp_path, subset="ls").problems("test")
    assert only.target == "q,7\n7,q"


@pytest.mark.parametrize(
    ("metric", "answer", "right", "wrong"),
    [
        (
            "list_match_score",
            LISTED,
            [LISTED, "Sure: [Ada Moss, Ben Pike,Cleo Reed] ok", "Ada Moss, Ben Pike, Cleo Reed"],
            [
                "",
                "[]",
                '["Ada Moss", "Cleo Reed", "Ben Pike"]',
                '["Ada Moss", "Ben Pike"]',
                "x " + LISTED.replace("Reed", "Read"),
            ],
        ),
        (
            "list_shuffle_score",
            {"input": LINE, "example": '["Ben Pike", "Ada Moss", "Cleo Reed"]'},
            ['["Cleo Reed", "Ben Pike", "Ada Moss"]'],
            ["", LISTED, '["Cleo Reed", "Ben Pike", "Ben Pike"]', '["Cleo Reed", "Ben Pike"]'],
        ),
        (
            "list_random_insert_score",
            {"input": LINE, "word": "Dov Hale", "example": LISTED.replace("]", ', "Dov Hale"]')},
            ['["Dov Hale", "Ada Moss", "Ben Pike", "Cleo Reed"]', '["Ada Moss", "Dov Hale", "Ben Pike", "Cleo Reed"]'],
            [
                "",
                LISTED,
                '["Ada Moss", "Dov Hale", "Cleo Reed"]',
                '["Dov Hale", "Dov Hale", "Ada Moss", "Ben Pike", "Cleo Reed"]',
            ],
        ),
        (
            "list_random_remove_score",
            {"input": LINE, "example": '["Ada Moss", "Ben Pike"]'},
            ['["Ben Pike", "Cleo Reed"]', '["Ada Moss", "Cleo Reed"]'],
            ["", LISTED, '["Ada Moss"]', '["Cleo Reed", "Ada Moss"]', '["Ada Moss", "Ben Pile"]'],
        ),
        (
            "list_random_replace_score",
            {"input": LINE, "word": "Dov Hale", "example": '["Dov Hale", "Ben Pike", "Cleo Reed"]'},
            ['["Ada Moss", "Ben Pike", "Dov Hale"]', '["Ada Moss", "Dov Hale", "Cleo Reed"]'],
            ["", LISTED, '["Dov Hale", "Dov Hale", "Cleo Reed"]', '["Ben Pike", "Dov Hale", "Cleo Reed"]', '["Dov Hale"]'],
        ),
        (
            "latin_square_score",
            SQUARE,
            ["q,7\n7,q", "Here:\n7, q\n\nq, 7\nq,7"],
            ["", "q,7\nq,7", "q,7", "q,7,q\n7,q,7", "q7\n7q"],
        ),
        (
            "sudoku_score",
            GRID,
            [GRID, "Solution:\n" + GRID.replace("", " "), GRID.replace("\n", "\n\n")],
            ["", GRID.replace("4321", "4312"), GRID + "\n1234", GRID[:-5], "a" + GRID],
        ),
        ("inclusion", {"words": ["lamp", "river"]}, ["A lamp by the river."], ["", "A lamp.", "RIVER lamp"]),
    ],
)
def test_each_metric_accepts_what_is_right_and_nothing_else(
    metric: str, answer: Any, right: list[str], wrong: list[str]
) -> None:
    it, facts = scorer("parallelbench"), {"metric": metric, "answer": answer}
    it.check(right[0], facts)
    assert [text for text in right if it.score("", text, facts) != 1.0] == []
    assert [text for text in wrong if it.score("", text, facts) != 0.0] == []
    assert it.answer(right[0], facts) is not None


def test_strict_asks_for_the_form() -> None:
    loose, strict = scorer("parallelbench"), scorer("parallelbench", strict=True)
    for metric, answer, exact, near in (
        ("list_match_score", LISTED, LISTED, LISTED.replace('"', "")),
        ("list_match_score", LISTED, "so " + LISTED, LISTED[:-1]),
        ("sudoku_score", GRID, GRID, "Solution:\n" + GRID),
    ):
        facts = {"metric": metric, "answer": answer}
        assert [it.score("", text, facts) for it in (loose, strict) for text in (exact, near)] == [1.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("row", "settings", "said"),
    [
        ({"prompt": "x"}, COPY, "row 1: has no 'input'"),
        (ROW, {"prompt": "{context}"}, "row 1: has no 'metric'; .* task_config.yaml"),
        (ROW, {**COPY, "prompt": "{contents}"}, "row 1: has no column 'contents', which prompt asks for"),
        ({**ROW, "input": "text"}, COPY, "row 1: input='text': must be an object"),
        ({**ROW, "input": {"context": "", "icl_examples": ["x"]}}, COPY, "row 1: icl_examples holds 'x'"),
        (
            ROW,
            {**COPY, "metric": "grammar_score"},
            r"row 1: cannot be scored: facts\['metric'\]='grammar_score': must be one of",
        ),
        (ROW, {**COPY, "metric": "list_shuffle_score"}, r"cannot be scored: facts\['answer'\]=.*must be an object with input"),
        (
            {**ROW, "answer": SQUARE | {"example": "q,7"}},
            {**COPY, "metric": "latin_square_score"},
            "is not right by latin_square",
        ),
    ],
)
def test_mistakes_are_named(tmp_path: Path, row: dict[str, Any], settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        tasks.load("parallelbench", path=generated(tmp_path, row, settings=settings)).problems("test")


def test_settings_that_are_no_yaml_are_named(tmp_path: Path) -> None:
    file = generated(tmp_path, ROW)
    (file.parent / "task_config.yaml").write_text("a: [")
    with pytest.raises(ValueError, match=r"task_config\.yaml: cannot be read as YAML"):
        tasks.load("parallelbench", path=file).problems("test")


def test_a_run_from_the_command_line(tmp_path: Path) -> None:
    file = generated(tmp_path, ROW, {**ROW, "input": {"context": LISTED}})
    words = [
        "task=parallelbench",
        f"task.path={file}",
        "task.title=line_copy",
        "n_problems=2",
        "steps=2",
        f"output_dir={tmp_path}",
    ]
    assert cli.main(["run", *words, *QUICK]) == 0
    (run,) = (tmp_path / "runs").glob("line_copy-tta-*")
    assert cli.main(["score", run.name, str(tmp_path)]) == 0
