from __future__ import annotations

import inspect
import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.quick import QUICK
from tta_bench import cli, tasks
from tta_bench.commands.problems import task_of
from tta_bench.runner.settings import comparison
from tta_bench.runner.spec import RunSpec
from tta_bench.scorers import sandbox
from tta_bench.tasks import reasoning_gym
from tta_bench.tasks.base import SPLITS, problem_digest
from tta_bench.tasks.reasoning_gym import EVALUATES, NO_ANSWER, REFUSED, UNSTABLE, names

DOCS = Path(__file__).parents[2] / "docs" / "tasks.md"
DOZEN = (
    "arc_1d", "chain_sum", "countdown", "gcd", "leg_counting", "maze", "mini_sudoku", "number_sorting", "pool_matrix",
    "prime_factorization", "spell_backward", "syllogism",
)  # fmt: skip
DIGESTS = """
import json, random, sys
from tta_bench.tasks.base import problem_digest
from tta_bench.tasks.reasoning_gym import REFUSED, reasoning_gym
random.seed()
REFUSED.clear()
print(json.dumps({n: [problem_digest(p) for p in reasoning_gym(n).problems("test", int(sys.argv[1]))] for n in sys.argv[2:]}))
"""


def load(name: str = "chain_sum", **options: Any) -> reasoning_gym.ReasoningGym:
    task = tasks.load("reasoning_gym", name=name, **options)
    assert isinstance(task, reasoning_gym.ReasoningGym)
    return task


def in_another_process(seed: int, n: int, *datasets: str) -> dict[str, list[str]]:
    """Digests of the first problems, made where hashes of texts have another seed."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", DIGESTS, str(n), *datasets],
        env={**os.environ, "PYTHONHASHSEED": str(seed)},
        stdout=subprocess.PIPE,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])  # codeio runs programs that print


def spec(*words: str) -> RunSpec:
    return comparison(cli.compose(["task=reasoning_gym", "n_problems=2", *words])).candidate


def accepts_its_own_answers_only(name: str) -> None:
    task = load(name)
    problems = task.problems("test", 8)
    for problem in problems:
        assert task.score(problem, problem.target) == 1.0
        assert task.score(problem, f"<answer>1</answer> no: <answer> {problem.target}\n</answer>.") == 1.0
        assert 0 <= max(task.score(problem, text) for text in ("", " ", "unknowable")) < 1.0
    other = next((p.target for p in problems if p.target != problems[0].target), "another")
    strange = () if name in EVALUATES else ("\ud800", "{}")  # for these the sandbox takes seconds
    assert max(task.score(problems[0], text) for text in (other, *strange)) < 1.0


@pytest.mark.parametrize("name", DOZEN)
def test_a_verifier_accepts_its_own_answer_and_no_other(name: str) -> None:
    accepts_its_own_answers_only(name)


def test_another_process_has_the_same_problems() -> None:
    assert in_another_process(7, 6, *DOZEN) == {n: [problem_digest(p) for p in load(n).problems("test", 6)] for n in DOZEN}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")  # arc_agi
@pytest.mark.parametrize("name", sorted({*names()} - {*DOZEN}))
def test_every_verifier_accepts_its_own_answer_and_no_other(name: str) -> None:
    accepts_its_own_answers_only(name)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_every_data_set_has_the_same_problems_in_every_process() -> None:
    one, other = (in_another_process(seed, 20, *names()) for seed in (1, 2))
    assert [name for name in names() if one[name] != other[name]] == []


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", sorted(REFUSED.keys() - {"composite"}))
def test_what_is_refused_is_still_so(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reason = REFUSED[name]
    monkeypatch.setattr(reasoning_gym, "REFUSED", {})
    if reason == UNSTABLE:
        n = 4 if name == "knight_swap" else 60  # a second each
        assert in_another_process(1, n, name) != in_another_process(2, n, name)
        return
    entries = [reasoning_gym.entry(name, "{}", number) for number in range(30)]
    if reason == NO_ANSWER:
        assert {entry["answer"] for entry in entries} == {None}
        return
    dataset = reasoning_gym.block(name, "{}", 0)
    wrong = "unknowable" if name == "game_of_life_halting" else "(1+2+3)*4"
    assert max(dataset.score_answer(wrong, entry) for entry in entries if entry["answer"] != wrong) == 1.0


@pytest.mark.parametrize("name", names())
def test_no_other_verifier_evaluates_answers(name: str) -> None:
    from reasoning_gym.factory import DATASETS

    source = inspect.getsource(DATASETS[name][0].score_answer)
    evaluates = re.search(r"\b(eval|exec|parse_expr|sympify)\((?!entry\b)", source) is not None
    assert evaluates == (name in EVALUATES)


def test_what_is_refused_and_evaluated_is_told() -> None:
    text = DOCS.read_text()
    assert [name for name in (*REFUSED, *EVALUATES) if f"`{name}`" not in text] == []


def test_hostile_answers_are_evaluated_in_a_sandbox(tmp_path: Path) -> None:
    task = load("string_insertion")
    (problem,) = task.problems("test", 1)
    characters = list(problem.target)  # for a list of these the library has partial credit
    seen = f"__import__('os').path.exists({str(tmp_path)!r})"
    assert eval(seen)
    assert task.score(problem, f"None if {seen} else {characters}") == 0.1


def test_without_a_sandbox_nothing_is_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(_: object) -> None:
        raise sandbox.SandboxError("programs cannot be kept from files here")

    monkeypatch.setattr(sandbox, "require", lacking)
    with pytest.raises(
        ValueError, match=r"task\.name=countdown: its verifier evaluates answers as Python, and programs cannot"
    ):
        load("countdown").problems("test", 1)
    assert load("gcd").problems("test", 1)


@pytest.mark.parametrize(
    ("text", "harmless"),
    [
        ("(1 + 2)*30/4 - 5.5", True), ("A B_ C\n12", True), ("", True),
        ("2**3", False), ("9* *9", False), ("1234567890 + 1", False), ("f(1)", False), ("[1, 2]", False), ("(1,)*9", False),
        ("a.b", False), ("'a'", False), ("x + 1", False), ("1;2", False),
    ],
)  # fmt: skip
def test_what_is_harmless(text: str, *, harmless: bool) -> None:
    assert (reasoning_gym.HARMLESS.fullmatch(text) is not None) == harmless


@pytest.mark.parametrize("name", ["chain_sum", "gcd", "leg_counting"])
def test_splits_are_disjoint_and_stable(name: str) -> None:
    task = load(name)
    prompts = {split: [p.prompt for p in task.problems(split, 40)] for split in SPLITS}
    for one, other in itertools.combinations(SPLITS, 2):
        assert not {*prompts[one]} & {*prompts[other]}
    assert all(len({*found}) == 40 for found in prompts.values())
    assert task.problems("dev", 10) == task.problems("dev", 30)[:10]


def test_problems_do_not_change_from_release_to_release() -> None:
    (problem,) = load("gcd").problems("test", 1)
    assert (problem.id, problem.facts) == ("test-00000", {"number": 2})
    assert problem.prompt.startswith("Find the Greatest Common Divisor (GCD) of these numbers: 856, 174.")


def test_options_and_instruction_are_the_librarys() -> None:
    plain, told = (
        load(options={"min_terms": 2, "max_terms": 2}),
        load(options={"min_terms": 2, "max_terms": 2}, instruction="direct"),
    )
    one, other = plain.problems("dev", 1)[0], told.problems("dev", 1)[0]
    assert len(re.findall("[0-9]+", one.prompt)) == 2
    assert other.prompt.endswith(f"\n\n{one.prompt}")
    assert "<answer>" in other.prompt
    assert load(instruction="Be brief.").problems("dev", 1)[0].prompt.startswith("Be brief.\n\n")
    assert load(gen_length=7).problems("dev", 1)[0].gen_length == 7


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": "chain_sums"}, "unknown task.name 'chain_sums'; did you mean chain_sum.* All: python -m"),
        ({"name": "rush_hour"}, "task.name=rush_hour: cannot be used, its entries tell no answer"),
        ({"options": {"min_term": 3}}, "unknown option of chain_sum 'min_term'; did you mean min_terms"),
        ({"options": {"seed": 3}}, "task.options.seed: is set here"),
        (
            {"options": {"min_terms": 9}},
            r"task.options=\{'min_terms': 9\}: reasoning-gym refuses them for chain_sum \(Assertion",
        ),
        ({"options": {"min_terms": "x"}}, r"task.options=\{'min_terms': 'x'\}: reasoning-gym refuses them"),
        ({"gen_length": 0}, "task.gen_length=0: must be at least 1"),
    ],
)
def test_mistakes_are_named(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        load(**options)


def test_too_many_problems_are_refused() -> None:
    with pytest.raises(ValueError, match="n_problems=1001: task gym_gcd has 1000 problems in a split"):
        load("gcd").problems("test", 1001)
    few = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}
    with pytest.raises(ValueError, match=r"task gym_chain_sum has only \d\d different problems in dev"):
        load(options=few).problems("dev", 200)
    with pytest.raises(ValueError, match="split='val'"):
        load().problems("val", 1)


def test_without_the_library_the_command_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reasoning_gym, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"python -m pip install 'tta_bench\[reasoning-gym\]'"):
        load()


def test_the_options_of_a_run_make_its_task_again() -> None:
    made = spec("task.name=leg_counting", "task.options={max_animals: 4}")
    node = made.config()["task"]
    assert (node["name"], node["parameters"]["name"]) == ("gym_leg_counting", "leg_counting")
    assert task_of(made.config()) == load("leg_counting", options={"max_animals": 4})
    assert made.run_id != spec("task.name=leg_counting").run_id


def test_another_version_of_the_library_is_another_run(monkeypatch: pytest.MonkeyPatch) -> None:
    made = spec()
    monkeypatch.setattr(reasoning_gym, "version_of", lambda _: "9.9")
    assert spec().run_id != made.run_id
    with pytest.raises(ValueError, match=r"made with version 1\+[0-9.]+, the present one is 1\+9\.9"):
        task_of(made.config())


def test_a_run_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "task=reasoning_gym",
        "task.name=gcd",
        "n_problems=3",
        "steps=2",
        "gen_length=16",
        f"output_dir={tmp_path}",
        *QUICK,
    ]
    assert cli.main(["run", *words]) == 0
    runs = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert [name.rpartition("-")[0] for name in runs] == ["gym_gcd-low_confidence", "gym_gcd-tta"]
    assert cli.main(["score", runs[0], str(tmp_path)]) == 0
    assert cli.main(["explain", *runs, str(tmp_path)]) == 0
    assert "task.parameters" not in capsys.readouterr().out
