from __future__ import annotations

import itertools
import json
import random

import pytest

from tta_bench import catalog, tasks
from tta_bench.tasks.base import HOLE, SPLITS, GeneratedTask, split_of
from tta_bench.tasks.sudoku import HEADER, UNITS, body, solved_grid

NAMES = [name for name in catalog.names("task") if "path" not in catalog.parameters("task", name) and name != "reasoning_gym"]


@pytest.mark.parametrize("name", NAMES)
def test_targets_are_right_and_break_no_rule(name: str) -> None:
    task = tasks.load(name)
    for problem in task.problems("dev", 60):
        assert task.score(problem, problem.target) == 1.0
        violations = task.violations(problem, problem.target)
        assert violations == [0.0] * len(problem.target)


@pytest.mark.parametrize("name", NAMES)
def test_a_changed_character_is_scored_0_unless_it_is_another_right_answer(name: str) -> None:
    task, rng = tasks.load(name), random.Random(0)
    wrong = 0
    for problem in task.problems("dev", 40):
        place = rng.randrange(len(problem.target) - 10, len(problem.target)) if len(problem.target) > 10 else 0
        text = problem.target[:place] + "~" + problem.target[place + 1 :]
        wrong += task.score(problem, text) == 0.0
        assert task.score(problem, "") == 0.0
        assert len(task.violations(problem, text)) == len(text)
    assert wrong == 40


@pytest.mark.parametrize("name", NAMES)
def test_splits_are_disjoint_and_stable(name: str) -> None:
    task = tasks.load(name)
    prompts = {split: {p.prompt for p in task.problems(split, 150)} for split in SPLITS}
    for one, other in itertools.combinations(SPLITS, 2):
        assert not prompts[one] & prompts[other]
    assert task.problems("test", 20) == tasks.load(name).problems("test", 30)[:20]
    assert len({p.id for p in task.problems("test", 100)}) == 100


@pytest.mark.parametrize("name", NAMES)
def test_splits_follow_the_key_not_the_draw(name: str) -> None:
    task = tasks.load(name)
    assert isinstance(task, GeneratedTask)
    rng = random.Random(3)
    keys = [task.draw(rng)[0] for _ in range(400)]
    shares = [sum(split_of(key) == split for key in keys) / 400 for split in SPLITS]
    assert shares == pytest.approx([0.7, 0.1, 0.2], abs=0.09)


@pytest.mark.parametrize(
    ("name", "options", "prompt"),
    [
        ("arithmetic", {"digits": (8, 8)}, "94470943+62864276="),
        ("json", {"word_length": (3, 6)}, "json vip=yes, name=zwesqy, age=5147:"),
        ("listops", {"length": (8, 8)}, "sort plgkurmq="),
        ("sudoku", {"holes": 24}, "sudoku\n3▢▢5▢▢\n▢▢62▢▢\n▢▢▢▢▢▢\n4▢▢▢▢▢\n5▢364▢\n6▢4▢5▢"),
    ],
)
def test_problems_do_not_change_from_release_to_release(name: str, options: dict, prompt: str) -> None:
    assert tasks.load(name, **options).problems("test", 1)[0].prompt == prompt


def test_every_sudoku_grid_keeps_the_rules() -> None:
    rng = random.Random(0)
    for _ in range(200):
        grid = solved_grid(rng)
        assert all(sorted(grid[i] for i in unit) == list("123456") for unit in UNITS)


def test_sudoku_accepts_another_completion_but_no_other_givens() -> None:
    task = tasks.load("sudoku", holes=36)
    problem = task.problems("dev", 1)[0]
    other = HEADER + "\n".join(["123456", "456123", "231564", "564231", "312645", "645312"])
    assert task.score(problem, other) == 1.0
    given = tasks.load("sudoku", holes=1).problems("dev", 1)[0]
    assert task.score(given, other) == 0.0
    assert given.prompt.count(HOLE) == 1


def test_sudoku_blames_every_cell_of_a_clash() -> None:
    task = tasks.load("sudoku")
    problem = task.problems("dev", 1)[0]
    cells = list(body(problem.target))
    cells[1] = cells[0]
    text = HEADER + "\n".join("".join(cells[i : i + 6]) for i in range(0, 36, 6))
    blamed = [v for v, c in zip(task.violations(problem, text), text, strict=True) if c != "\n"][len(HEADER) - 1 :]
    assert blamed[0] >= 2  # row and box
    assert blamed[1] >= 3  # and its new column
    assert sum(v > 0 for v in blamed) >= 3


def test_shuffle_wants_a_permutation_other_than_the_given_order() -> None:
    task = tasks.load("listops", operations=["shuffle"])
    problem = task.problems("dev", 1)[0]
    letters = str(problem.facts["letters"])
    assert task.score(problem, letters[::-1]) == 1.0
    assert task.score(problem, letters) == 0.0
    assert task.score(problem, letters[0] + letters[:-1]) == 0.0


def test_json_is_compared_as_data_with_its_types() -> None:
    task = tasks.load("json")
    problem = task.problems("dev", 1)[0]
    record = dict(problem.facts["record"])
    assert task.score(problem, json.dumps(dict(reversed(record.items())), indent=1)) == 1.0
    flag = next(k for k, v in record.items() if isinstance(v, bool))
    assert task.score(problem, json.dumps(record | {flag: int(record[flag])})) == 0.0
    assert task.violations(problem, problem.target[:-1])[-1] == 1.0


@pytest.mark.parametrize("name", NAMES)
def test_constraints_never_see_the_answer(name: str) -> None:
    task = tasks.load(name)
    for problem in task.problems("dev", 10):
        blind = type(problem)(problem.id, problem.prompt, "", problem.gen_length, problem.facts)
        assert task.violations(blind, problem.target[::-1]) == task.violations(problem, problem.target[::-1])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("sudok", {}, "did you mean sudoku"),
        ("sudoku", {"holes": 0}, "task.holes=0"),
        ("sudoku", {"hole": 3}, "did you mean holes"),
        ("listops", {"length": (9, 3)}, "task.length"),
        ("listops", {"operations": ["sorted"]}, "task.operations"),
        ("arithmetic", {"digits": (0, 3)}, "task.digits"),
    ],
)
def test_bad_options_are_named(name: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tasks.load(name, **options)


def test_too_few_problems_are_an_error_not_an_endless_search() -> None:
    with pytest.raises(ValueError, match=r"only \d+ different problems in dev"):
        tasks.load("arithmetic", digits=(1, 1)).problems("dev", 100)


def test_bad_splits_and_sizes_are_named() -> None:
    with pytest.raises(ValueError, match="split='val'"):
        tasks.load("sudoku").problems("val", 1)
    with pytest.raises(ValueError, match="n_problems=0"):
        tasks.load("sudoku").problems("dev", 0)
