from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.quick import QUICK
from tta_bench import catalog, cli, tasks
from tta_bench.runner.settings import comparison
from tta_bench.scorers.base import Choices
from tta_bench.tasks.base import HOLE
from tta_bench.tasks.dataset import Dataset

ROOT = Path(__file__).parents[2]
GSM8K = Path(__file__).parent / "data" / "gsm8k_rows.jsonl"
"""The first rows of the test split of GSM8K (Cobbe et al. 2021, MIT licence)."""


def written(folder: Path, *rows: dict[str, Any], name: str = "rows.jsonl") -> str:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder / name)


def numbered(folder: Path, n: int = 12) -> str:
    return written(
        folder, *({"prompt": f"{i} + 1 =", "target": str(i + 1), "name": f"n/{i}", "text": i // 2} for i in range(n))
    )


def test_rows_become_problems(tmp_path: Path) -> None:
    task = Dataset("t", path=numbered(tmp_path), scorer="numeric", gen_length=7)
    first, *rest = task.problems("test")
    assert (first.id, first.prompt, first.target, first.gen_length, first.cluster) == ("row-00000", "0 + 1 =", "1", 7, "")
    assert len(rest) == 11
    assert task.score(first, "It is 1.") == 1.0
    assert task.score(first, "2") == 0.0
    assert task.violations(first, "2?") == [0.0, 0.0]
    assert task.gold(first, "2") is None
    assert (task.name, task.version.startswith("1+numeric-")) == ("t", True)
    named = Dataset("t", path=numbered(tmp_path), id="name", cluster="text").problems("test")
    assert [(p.id, p.cluster) for p in named[:3]] == [("n-0", "0"), ("n-1", "0"), ("n-2", "1")]


def test_examples_come_first_and_are_no_problems(tmp_path: Path) -> None:
    task = Dataset("t", path=numbered(tmp_path), fewshot=2, instruction="Add.", example="{prompt}{target}", separator="\n")
    problems = task.problems("test")
    assert problems[0].prompt == "Add.\n0 + 1 =1\n1 + 1 =2\n2 + 1 ="
    assert [p.id for p in problems] == [f"row-{i:05d}" for i in range(2, 12)]
    (tmp_path / "hub").mkdir()
    for split, start in (("train", 0), ("test", 50)):
        written(tmp_path / "hub", *({"prompt": f"{start + i}", "target": "x"} for i in range(4)), name=f"{split}.jsonl")
    task = Dataset("t", path=str(tmp_path / "hub"), fewshot=1, splits={"train": "train", "dev": "train", "test": "test"})
    assert [p.prompt for p in task.problems("test", 2)] == ["0 x\n\n50", "0 x\n\n51"]
    assert [p.prompt for p in task.problems("dev")] == ["0 x\n\n1", "0 x\n\n2", "0 x\n\n3"]
    with pytest.raises(ValueError, match=r"task.fewshot=9: there are 4 rows"):
        Dataset("t", path=str(tmp_path / "hub"), fewshot=9).problems("test")


def test_examples_are_part_of_what_names_a_run(tmp_path: Path) -> None:
    task = Dataset("t", path=numbered(tmp_path), fewshot=1)
    other = Dataset("t", path=numbered(tmp_path), fewshot=1, example="{prompt}?")
    assert task.data("test") != other.data("test")
    # A row that is an example is no problem, wherever it stands.
    rows = [{"prompt": "a", "target": "b"}, {"prompt": "c", "target": "d"}, {"prompt": "a", "target": "b"}]
    assert [p.prompt for p in Dataset("t", path=written(tmp_path, *rows), fewshot=1).problems("test")] == ["a b\n\nc"]


def test_an_example_shows_what_the_scorer_takes(tmp_path: Path) -> None:
    """The index of MMLU's right answer is no letter."""
    rows = [{"question": f"{i}?", "choices": ["x", "y", "z", "w"], "answer": i % 4, "subject": "s"} for i in range(6)]
    for split in ("test", "auxiliary_train", "validation"):
        written(tmp_path, *rows[:: 1 if split == "test" else -1], name=f"{split}.jsonl")
    task = tasks.load("mmlu", path=tmp_path, fewshot=1, subset=None)
    problem = task.problems("test")[0]
    assert "5?\nA. x\nB. y\nC. z\nD. w\nAnswer: B\n\n" in problem.prompt
    assert task.score(problem, "A") == 1.0


def test_the_prompt_of_math500_asks_for_a_box(tmp_path: Path) -> None:
    row = {"problem": "1+1", "answer": "2", "unique_id": "a/1.json"}
    task = tasks.load("math500", path=written(tmp_path, row))
    (problem,) = task.problems("test")
    assert problem.prompt == "Problem: 1+1\nGive the final answer in \\boxed{}.\nSolution:"
    assert problem.id == "a-1.json"
    assert task.score(problem, r"so \boxed{2}") == 1.0


def test_problems_follow_their_file(tmp_path: Path) -> None:
    path = numbered(tmp_path)
    words = ["task=jsonl", f"task.path={path}", "n_problems=3"]
    before = comparison(cli.compose(words))
    assert before.problems[0].prompt == "0 + 1 ="
    written(tmp_path, *({"prompt": f"new {i}", "target": "x"} for i in range(5)))
    after = comparison(cli.compose(words))
    assert after.candidate.run_id != before.candidate.run_id
    assert after.problems[0].prompt == "new 0"


def test_dev_and_test_share_no_row_where_they_are_divided(tmp_path: Path) -> None:
    task = Dataset("t", path=numbered(tmp_path, 400), dev_share=0.25)
    dev, test = ({p.id for p in task.problems(split)} for split in ("dev", "test"))
    assert not dev & test
    assert len(dev | test) == 400
    assert 70 < len(dev) < 130
    whole = Dataset("t", path=numbered(tmp_path, 400))
    assert whole.problems("dev") == whole.problems("test")


def test_holes_in_a_template(tmp_path: Path) -> None:
    path = written(tmp_path, {"form": "a <mask><mask> c", "target": "a bb c"})
    (problem,) = Dataset("t", path=path, template="{form}").problems("test")
    assert problem.prompt == f"a {HOLE}{HOLE} c"
    assert problem.infill
    assert problem.gen_length == 0
    with pytest.raises(ValueError, match=r"its template holds no '\[M\]'"):
        Dataset("t", path=path, template="{form}", mask="[M]").problems("test")
    with pytest.raises(ValueError, match=r"task.fewshot=1: examples stand before prompts"):
        Dataset("t", path=path, template="{form}", fewshot=1)


def test_choices_are_lines_with_letters(tmp_path: Path) -> None:
    path = written(tmp_path, {"question": "Which?", "options": {"of": ["red", "blue"]}, "key": "B", "tests": ["x", "y"]})
    task = Dataset(
        "t", path=path, choices="options.of", prompt="{question}\n{choices}\n{tests}\nAnswer:", reference="{key}",
        scorer="multiple_choice", scorer_options={"gold": "letter"},
    )  # fmt: skip
    (problem,) = task.problems("test")
    assert problem.prompt == "Which?\nA. red\nB. blue\nx\ny\nAnswer:"
    assert task.score(problem, "The answer is (B).") == 1.0
    assert task.score(problem, "A") == 0.0


def test_the_endings_of_hellaswag_are_choices(tmp_path: Path) -> None:
    row = {"ctx": "He sits", "endings": ["down.", "up.", "in.", "by."], "label": "2", "activity_label": "Sitting"}
    task = tasks.load("hellaswag", path=written(tmp_path, row))
    (problem,) = task.problems("dev")
    assert problem.prompt == "He sits"
    assert task.judge.choices(problem.target, problem.facts) == Choices(("A", "B", "C", "D"), tuple(row["endings"]), 2)


def test_labels_of_choices_take_the_place_of_letters(tmp_path: Path) -> None:
    """As in some rows of ARC."""
    row = {"id": "x", "question": "Which?", "choices": {"text": ["red", "blue"], "label": ["1", "2"]}, "answerKey": "2"}
    task = tasks.load("arc_challenge", path=written(tmp_path, row))
    (problem,) = task.problems("test")
    assert problem.prompt == "Question: Which?\n1. red\n2. blue\nAnswer:"
    assert (task.score(problem, "2"), task.score(problem, "1")) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"title": "a b"}, "task.title='a b': must be letters, digits and _"),
        ({"prompt": "{question}"}, r"row 1: has no column 'question', which task.prompt asks for; it has prompt, target"),
        ({"reference": "{target.x}"}, "row 1: has no column 'target.x'"),
        ({"prompt": "{prompt"}, "task.prompt='{prompt': .* columns stand in braces, and a brace itself is doubled"),
        ({"id": "text"}, r"rows 1 and 2 have the same id '0' \(task.id=text\)"),
        ({"gen_length": 0}, "task.gen_length=0: must be at least 1"),
        ({"dev_share": 1.0}, "task.dev_share=1.0: must lie between 0 and 1"),
        ({"splits": {"validation": "x"}}, "must name what train, dev, test are called"),
        ({"splits": {"dev": "x"}}, "split=test: t has none; it has dev"),
        ({"scorer": "numerical"}, "unknown scorer 'numerical'; did you mean numeric"),
        ({"scorer": "numeric", "scorer_options": {"digits": 3}}, "digits"),
        ({"scorer": "numeric", "reference": "word"}, "t, row 1: cannot be scored"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Dataset(**({"title": "t", "path": numbered(tmp_path)} | options)).problems("test")


def test_more_problems_than_there_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "task=jsonl", f"task.path={numbered(tmp_path)}", f"output_dir={tmp_path}"]
    assert cli.main(words) == cli.BAD_INPUT
    assert "n_problems=100: jsonl has 12 problem(s) in dev; set n_problems to 1 .. 12" in capsys.readouterr().err


def test_a_run_is_named_by_its_rows_not_by_where_they_lie(tmp_path: Path) -> None:
    def run_id(path: str, *words: str) -> str:
        return comparison(cli.compose(["task=jsonl", f"task.path={path}", "n_problems=3", *words])).candidate.run_id

    (tmp_path / "b").mkdir()
    one = run_id(numbered(tmp_path))
    assert one == run_id(numbered(tmp_path / "b"))
    assert one != run_id(numbered(tmp_path, 13))
    assert one != run_id(numbered(tmp_path, 12), "task.gen_length=9")


@pytest.mark.parametrize("name", [n for n in catalog.names("task") if "path" in catalog.parameters("task", n)])
def test_every_data_set_of_a_hub_says_what_it_needs(name: str) -> None:
    task = tasks.load(name)
    assert isinstance(task, Dataset)
    assert (task.hub is None) == (name in ("jsonl", "parallelbench"))
    assert task.title == name
    assert task.named_splits["dev"] != task.named_splits.get("test") or task.hub in (
        None,
        "HuggingFaceH4/MATH-500",
        "openai/openai_humaneval",
    )


def test_gsm8k_from_a_file() -> None:
    task = tasks.load("gsm8k", path=GSM8K)
    problems = task.problems("test")
    assert len(problems) == 12
    assert problems[0].prompt.startswith("Question: Janet\u2019s ducks lay 16 eggs per day.")
    assert problems[0].prompt.endswith("\nAnswer:")
    for problem in problems:
        assert task.score(problem, problem.target) == 1.0
        assert task.score(problem, problem.target + "1") == 0.0
    with pytest.raises(ValueError, match="path=x: task sudoku generates its problems"):
        tasks.load("sudoku", path="x")


def test_gsm8k_runs_end_to_end_and_the_report_shows_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["task=gsm8k", f"task.path={GSM8K}", "n_problems=8", "model=mini", "steps=2", f"output_dir={tmp_path}", *QUICK]
    assert cli.main(["run", *words]) == 0
    assert "gsm8k: 7 of 8" in " ".join(capsys.readouterr().out.split())  # prompts that mini has no room for
    page = (tmp_path / "reports" / "default" / "report.html").read_text()
    assert "Janet\u2019s ducks lay 16 eggs per day." in page
    assert "#### 18" in page
    assert page.count("<dt>low_confidence steps=2 <span") == 3
    assert cli.main(["score", next((tmp_path / "runs").glob("gsm8k-tta*")).name, str(tmp_path)]) == 0  # reads the rows again


def test_the_task_of_the_documentation_is_short_and_works(tmp_path: Path) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "tasks.md").read_text(), flags=re.DOTALL)
    assert len(text.splitlines()) < 15
    rows = [{"riddle": f"What is {i}?", "answer": f"Thing {i}"} for i in range(40)]
    task = catalog.entry_of("task", yaml.safe_load(text) | {"path": written(tmp_path, *rows)}).build()
    problems = task.problems("test")
    assert problems[0].prompt.startswith(
        "Riddle: What is 0?\nAnswer: Thing 0\n\nRiddle: What is 1?\nAnswer: Thing 1\n\nRiddle: "
    )
    assert task.score(problems[0], problems[0].target.lower()) == 1.0
    assert len(problems) + len(task.problems("dev")) == 38
