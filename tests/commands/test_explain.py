from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from tests.commands.runs import ENVIRONMENT, Answer, make_run
from tta_bench import cli
from tta_bench.commands.side_by_side import Passage, differing, print_passages
from tta_bench.tasks.base import Problem
from tta_bench.tasks.json_record import JsonRecord

Explain = Callable[..., str]
"""Of words: what is said."""


@pytest.fixture
def explain(tmp_path: Path, capsys: pytest.CaptureFixture) -> Explain:
    def explained(*words: str) -> str:
        assert cli.main(["explain", *words, str(tmp_path)]) == 0
        return capsys.readouterr().out

    return explained


def solves(*numbers: int) -> Answer:
    return lambda problem, number, _: problem.target if number in numbers else "{}"


def test_the_table_counts_what_both_one_or_none_solved(tmp_path: Path, explain: Explain) -> None:
    make_run(tmp_path, "a", solves(0, 1, 2, 3, 4), n_problems=12, sampler="random")
    make_run(tmp_path, "b", solves(0, 1, 5, 6, 7, 8, 9, 10), n_problems=12, sampler_tta_k=3)
    text = explain("a", "b")
    rows = [line.split() for line in text.splitlines()]
    assert ["A", "solved", "2", "3"] in rows
    assert ["A", "did", "not", "6", "1"] in rows
    assert "B - A: +25.0 points" in text
    # 2 x (1 + 9 + 36 + 84) / 2^9: the exact test of McNemar on 3 against 6.
    assert "p = 0.508" in text
    assert "missing: none" in text
    assert "sampler.tta_k differs: 3, was absent" in text
    assert "sampler.name differs: tta, was random" in text
    assert text.index("only B solved: 6") < text.index("dev-00005") < text.index("only A solved: 3") < text.index("dev-00002")


def test_problems_that_a_run_lacks_are_left_out_and_counted(tmp_path: Path, explain: Explain) -> None:
    make_run(tmp_path, "a", n_problems=5)
    make_run(tmp_path, "b", lambda p, i, _: ValueError("x") if i < 2 else p.target, n_problems=4, seed=1)
    text = explain("a", "b")
    assert "2 problems have a score in both runs; missing: 0 in A and 3 in B." in text
    assert "seed differs: 1, was 0" in text
    assert "only A solved: 0" in text


def test_runs_without_a_common_problem_say_so(tmp_path: Path, explain: Explain) -> None:
    make_run(tmp_path, "a", n_problems=2)
    make_run(tmp_path, "b", lambda *_: ValueError("x"), n_problems=2)
    assert "none has a score in both runs; missing: 0 in A and 2 in B" in explain("a", "b")


def test_replicates_are_averaged_and_the_answer_shown_is_a_typical_one(tmp_path: Path, explain: Explain) -> None:
    make_run(tmp_path, "a", lambda p, _, r: p.target if r else "{}", n_problems=1, replicates=3)
    make_run(tmp_path, "b", lambda p, _, r: p.target if r == 2 else f"[{r}]", n_problems=1, replicates=3)
    text = explain("a", "b")
    assert "dev-00000  (mean score: A 0.67, B 0.33)" in text
    target = JsonRecord().problems("dev", 1)[0].target
    assert f"A        {target}" in text
    assert "B        [0]" in text


def test_environments_are_compared(tmp_path: Path, explain: Explain) -> None:
    make_run(tmp_path, "a")
    make_run(tmp_path, "b", manifest={"environments": [ENVIRONMENT | {"threads": 8}]})
    make_run(tmp_path, "c", manifest={"environments": []})
    assert "threads: 2 / 8" in explain("a", "b")
    assert "those of B were not recorded" in explain("a", "c")
    make_run(tmp_path, "d")
    text = explain("a", "d")
    assert "the same in all that counts (code, task_code, torch" in text
    assert "  the same\n" in text  # nor do the settings differ


def test_ten_are_shown_unless_all_are_asked_for(tmp_path: Path, explain: Explain) -> None:
    make_run(tmp_path, "a", n_problems=12)
    make_run(tmp_path, "b", solves(), n_problems=12, seed=1)
    some, whole = explain("a", "b"), explain("a", "b", "--all")
    assert explain("--all", "a", "b") == whole
    assert "only A solved: 12; the first 10, --all shows all" in some
    assert [text.count("\n  dev-") for text in (some, whole)] == [10, 12]


def test_answers_stand_beside_each_other_and_what_differs_is_marked(tmp_path: Path, explain: Explain) -> None:
    def swapped(problem: Problem, _number: int, _replicate: int) -> str:
        head, first, *rest = problem.target.split("\n")
        return "\n".join([head, first[1] + first[0] + first[2:], *rest])

    make_run(tmp_path, "a", task="sudoku", n_problems=1)
    make_run(tmp_path, "b", swapped, task="sudoku", n_problems=1, seed=1)
    lines = explain("a", "b").splitlines()
    start = lines.index("  dev-00000")
    assert lines[start + 1].split() == ["prompt", "target", "A", "B"]
    assert lines[start + 2].split() == ["sudoku"] * 4
    _, target, a, b = lines[start + 3].split()
    assert (a, b) == (target, target[1] + target[0] + target[2:])
    assert lines[start + 4] == f"{'':20}^^{'':7}^^"
    assert "^" not in "".join(lines[start + 5 : start + 10])
    assert len(lines[start + 5].split()) == 4


def test_runs_of_different_problems_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    make_run(tmp_path, "a")
    make_run(tmp_path, "b", split="test")
    make_run(tmp_path, "c", task="sudoku")
    for other, message in (("b", "split differs: test, was dev"), ("c", "(task sudoku, was json)")):
        assert cli.main(["explain", "a", other, str(tmp_path)]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("side", ["a", "b"])
def test_a_problem_that_is_not_the_recorded_one_is_refused(side: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    make_run(tmp_path, "a")
    make_run(tmp_path, "b", seed=1)
    file = tmp_path / "runs" / side / "records.jsonl"
    records = [json.loads(line) for line in file.read_text().splitlines()]
    records[1]["data"] = "0" * 16
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert cli.main(["explain", "a", "b", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert f"{side}: task json has another problem under the name of its record dev-00001/0" in said


def test_runs_of_version_1_are_explained(tmp_path: Path, explain: Explain) -> None:
    shutil.copytree(Path(__file__).parents[1] / "runner" / "data" / "version_1" / "runs", tmp_path / "runs")
    assert "5 problems have a score in both runs" in explain("json-low", "json-tta")


def test_texts_of_equal_length_differ_place_by_place_others_as_aligned() -> None:
    assert differing("abcd", "axcy") == (frozenset({1, 3}), frozenset({1, 3}))
    assert differing("abcdef", "abXcdef") == (frozenset(), frozenset({2}))
    assert differing("abcdef", "") == (frozenset(range(6)), frozenset())


def printed(passages: list[Passage], width: int = 40, **options: object) -> list[str]:
    console = Console(file=StringIO(), width=width, **options)  # type: ignore[arg-type]
    print_passages(passages, console, indent=0)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_a_terminal_shows_marks_by_style() -> None:
    lines = printed([Passage("A", "abc", frozenset({1}))], force_terminal=True, color_system="standard", no_color=False)
    assert len(lines) == 1
    assert "a\x1b[1;4mb\x1b[0mc" in lines[0]


def test_long_lines_are_folded_with_their_marks() -> None:
    text = "x" * 30 + "y"
    lines = printed([Passage("A", text, frozenset({30})), Passage("long", "")], width=30)
    assert lines == ["A      " + "x" * 23, "       " + "x" * 7 + "y", "       " + " " * 7 + "^", "long   (empty)"]


def test_texts_of_several_lines_that_do_not_fit_beside_each_other_stand_below_each_other() -> None:
    passages = [Passage("A", "1\n2"), Passage("B", "3\n4")]
    assert printed(passages, width=10) == ["A   B", "1   3", "2   4"]
    assert printed(passages, width=4) == ["A   1", "    2", "B   3", "    4"]


def test_control_characters_are_not_sent_to_the_terminal() -> None:
    assert printed([Passage("A", "a\x1b[31mb\tc", frozenset({1}))]) == ["A   a�[31mb�c", "     ^"]


def test_wide_characters_keep_marks_in_place() -> None:
    assert printed([Passage("A", "漢字x", frozenset({1, 2}))]) == ["A   漢字x", "      ^^^"]
