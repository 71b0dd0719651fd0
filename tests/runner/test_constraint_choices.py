"""Constraints as choices of the configuration: what they are called, what they do to answers, and what is refused."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from tests.quick import QUICK
from tests.runner.test_runs import do, read, stored
from tta_bench import catalog, cli
from tta_bench.runner import environment
from tta_bench.runner.constraint import NotLoaded, TokenizerNeededError, constraint_of
from tta_bench.runner.difference import changes, constraint_targets, constraint_text, flat
from tta_bench.runner.prompts import Manner, encode, reading
from tta_bench.runner.settings import comparison
from tta_bench.tasks.base import HOLE, Problem

HERE = ("device=cpu", "dtype=float32")
RULES = ("sampler=tta_rules", "sampler@baseline=entropy_bound", "sampler.entropy_bound=1000.0", *HERE)
"""Fills in one step what breaks no rule, so that rules decide."""


RECORD = r'\{"[a-z]+":("[a-z]+"|\d+|true|false)(,"[a-z]+":("[a-z]+"|\d+|true|false)){2}\}'


@dataclass(frozen=True)
class Case:
    """What one types, and whether an answer breaks it, told without the constraint."""

    words: tuple[str, ...]
    breaks: Callable[[str], bool]


def no_object(text: str) -> bool:
    try:
        return not isinstance(json.loads(text), dict)
    except ValueError:
        return True


def conflicting(text: str) -> bool:
    grid = text.removeprefix("sudoku\n").split("\n")
    boxes = ["".join(grid[y + i][x : x + 3] for i in range(2)) for y in (0, 2, 4) for x in (0, 3)]
    return any(len(set(unit)) < 6 for unit in (*grid, *map("".join, zip(*grid, strict=True)), *boxes))


CASES = {
    "task": Case(("constraint=task", "task=sudoku"), conflicting),
    "sudoku_units": Case(("constraint=sudoku_units", "task=sudoku"), conflicting),
    "json_format": Case(("constraint=json_format", "constraint.root=object", "task=json"), no_object),
    "math_expression": Case(("constraint=math_expression", "task=arithmetic"), lambda _: False),
    "no_repeat_ngrams": Case(
        ("constraint=no_repeat_ngrams", "constraint.n=1", "task=arithmetic"), lambda text: len(set(text)) < len(text)
    ),
    "forbidden_tokens": Case(
        ("constraint=forbidden_tokens", 'constraint.texts=["7","3"]', "task=arithmetic"),
        lambda text: bool(set(text) & set("73")),
    ),
    "regex": Case(
        ("constraint=regex", f"constraint.pattern='{RECORD}'", "task=json"), lambda text: not re.fullmatch(RECORD, text)
    ),
    "combined": Case(
        (
            "constraint=combined",
            "constraint.parts=[no_repeat_ngrams,{constraint:json_format,root:object},{constraint:regex,pattern:'[^e]*'}]",
            "constraint.weights=[0,0.5,1]",
            "task=json",
        ),
        lambda text: no_object(text) or "e" in text,
    ),
}


def node(*words: str) -> Any:
    return cli.compose(list(words))["constraint"]


def test_ids_of_runs_are_those_from_before_constraints_were_choices(tmp_path: Path) -> None:
    for words, expected in (
        (["constraint=task"], ["sudoku-low_confidence-5fcc7a0be46f", "sudoku-tta-7b113c9f6ef3"]),
        (["constraint=none"], ["sudoku-low_confidence-5fcc7a0be46f", "sudoku-tta-9bd4fc9a7e36"]),
        (
            ["sampler=tta_rules", "sampler@baseline=entropy_bound", "constraint=task", "task=json"],
            ["json-entropy_bound-6a5987e63044", "json-tta_rules-b541f7c6b6f8"],
        ),
    ):
        found = read(tmp_path, "steps=8", *HERE, *words)
        assert [spec.run_id for spec in found.runs] == expected
        chosen = next(word for word in words if word.startswith("constraint=")).removeprefix("constraint=")
        assert [spec.config()["constraint"] for spec in found.runs] == ["none", chosen]


def test_a_study_may_still_set_the_tasks_rules_as_a_value(tmp_path: Path) -> None:
    plain = cli.compose(["constraint=none", f"output_dir={tmp_path}"])
    assert (
        comparison(plain | {"constraint": "task"}).candidate.run_id
        == read(tmp_path, "steps=8", "constraint=task").candidate.run_id
    )
    with pytest.raises(cli.ConfigurationError, match=r"constraint=json_format: .* sets constraint: task, which wins"):
        cli.check_constraint(["constraint=json_format"], "task")


def test_one_constraint_is_one_run_however_it_is_written() -> None:
    def same(*ways: Any) -> None:
        assert len({repr(constraint_of(way).config()) for way in ways}) == 1

    same("none", node(), {"constraint": "combined", "parts": ["task"], "weights": [0]})
    same("task", {"constraint": "combined", "parts": ["task", "json_format"], "weights": [1, 0.0]})
    same(
        node("constraint=no_repeat_ngrams", "constraint.n=3.0"), "no_repeat_ngrams",
        {"constraint": "no_repeat_ngrams", "n": 3, "ignore": []}, {"constraint": "combined", "parts": ["no_repeat_ngrams"]},
    )  # fmt: skip
    nested = {"constraint": "combined", "parts": ["task", "json_format"], "weights": [1, 0.5]}
    same(
        {"constraint": "combined", "parts": [nested, "none"], "weights": [2, 1]},
        {"constraint": "combined", "parts": ["task", "json_format"], "weights": [2.0, 1]},
    )
    texts = [constraint_text(constraint_of(way).config()) for way in ("task", "json_format", nested)]
    assert texts == ["task", "json_format(root=any)", "task+0.5*json_format(root=any)"]


def test_every_entry_is_tried_here() -> None:
    assert {*CASES, "none"} == set(catalog.names("constraint"))


PROBLEMS = {"task=sudoku": 3, "task=arithmetic": 4, "task=json": 7}
"""The first of each task: as few as differ with a constraint."""


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[dict]]:
    """Of ``task=...``: the records made without a constraint, once."""

    @cache
    def records(task: str) -> list[dict]:
        blind = read(tmp_path_factory.mktemp("without"), *RULES, task, f"n_problems={PROBLEMS[task]}")
        do(blind)
        return stored(blind)

    return records


@pytest.mark.parametrize("name", CASES)
def test_records_tell_which_answers_break_the_constraint(
    name: str, tmp_path: Path, without: Callable[[str], list[dict]]
) -> None:
    case = CASES[name]
    n = PROBLEMS[case.words[-1]]
    found = read(tmp_path, *RULES, *case.words, f"n_problems={n}")
    assert do(found) == n
    saved = yaml.safe_load((found.output_dir / "runs" / found.candidate.run_id / "config.yaml").read_text())["constraint"]
    assert saved == found.candidate.constraint.config() != "none"
    records = stored(found)
    assert [record["violations"] > 0 for record in records] == [case.breaks(record["text"]) for record in records]
    blind = without(case.words[-1])
    assert all("violations" not in record for record in blind)
    broken = [sum(case.breaks(record["text"]) for record in side) for side in (records, blind)]
    assert broken[0] <= broken[1]
    # Answers of arithmetic are numbers: there is nothing to mark.
    assert (name == "math_expression") == ([r["text"] for r in records] == [r["text"] for r in blind])


@pytest.mark.parametrize("name", ["no_repeat_ngrams", "json_format", "combined"])
def test_padding_changes_nothing(name: str, tmp_path: Path) -> None:
    """Prompts of different length, padded to one, and each by itself."""
    own = [word for word in CASES[name].words if not word.startswith(("task=", "constraint.n="))]
    words = (*RULES, *own, "task=json", "n_problems=5")
    together, alone = read(tmp_path / "a", *words), read(tmp_path / "b", *words)
    assert len({len(problem.prompt) for problem in together.problems}) > 1
    assert do(together, batch_size=5) == do(alone, batch_size=1) == 5
    assert stored(together) == stored(alone)


def test_rows_are_read_from_where_their_answers_begin(mini: tuple) -> None:
    _, tokenizer = mini
    mask, end = tokenizer.mask_token_id, tokenizer.eos_token_id
    prompts = [encode(Problem(text, text, "", 3), tokenizer, mask, None) for text in ("ab", "abcd")]
    assert reading(prompts, tokenizer, mask, [2, 0]) == {
        "tokenizer": tokenizer, "start": [4, 4], "end_ids": (end,), "mask_ids": (mask,),
    }  # fmt: skip
    hole = encode(Problem("fill", f"a{HOLE}c", "abc", 0), tokenizer, mask, None, Manner(end_ids=(end,)))
    assert reading([hole], tokenizer, mask, [3]) | {"tokenizer": None} == {
        "tokenizer": None, "start": [3], "end_ids": (), "mask_ids": (mask,),
    }  # fmt: skip
    with pytest.raises(ValueError, match="cannot read both at once"):
        reading([prompts[0], hole], tokenizer, mask, [0, 0])


REFUSED = [
    (["constraint=json_formt"], "unknown constraint 'json_formt'; did you mean json_format?"),
    (["constraint=json_format", "constraint.rot=object"], "constraint json_format has no parameter 'rot'; did you mean root?"),
    (["constraint.root=object"], "constraint none has no parameter 'root'; it belongs to json_format"),
    (["constraint=task", "constraint.what=1"], "constraint task has no parameter 'what'; known: none"),
    (["constraint=regex"], "constraint.pattern is missing and has no default; give constraint.pattern="),
    (["constraint=no_repeat_ngrams", "constraint.n=many"], "constraint.n='many'"),
    (["constraint=no_repeat_ngrams", "constraint.start=3"], "constraint no_repeat_ngrams has no parameter 'start'"),
    (["constraint=combined", "constraint.parts=[task,json]"], "unknown constraint 'json'; did you mean json_format"),
    (["-m", "constraint=regex", "constraint.pattern='a','('"], "pattern='(': is no regular expression"),
]


@pytest.mark.parametrize(("words", "message"), REFUSED, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_bad_constraints_are_refused_before_a_model_is_loaded(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("tta_bench.runner.study.load", lambda *_: pytest.fail("a model was loaded"))
    assert cli.main(["run", *words, f"output_dir={tmp_path}"]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"constraint": "json_format", "root": "list"}, "root='list': must be one of any, object, array"),
        ({"constraint": "regex", "pattern": "[0-9"}, "pattern='[0-9': is no regular expression (unterminated"),
        ({"constraint": "no_repeat_ngrams", "n": 0}, "n=0: must be a whole number of tokens, at least 1"),
        ("forbidden_tokens", "forbids nothing; name at least one token id, or a token by its text (texts)"),
        ({"constraint": "forbidden_tokens", "ids": [2], "weight": -1}, "weight=-1.0: must be a finite number"),
        ({"constraint": "sudoku_units", "side": 4}, "side=4, box=(2, 3): must be 1 to 9 cells, and boxes of as many"),
        ("combined", "constraint.parts=[]: names nothing to combine"),
        ({"constraint": "combined", "parts": [3]}, "constraint=3: must be a name, or a mapping of one (constraint)"),
        ({"constraint": "combined", "parts": [{"root": "any"}]}, "{'root': 'any'}: names no constraint; add one, as"),
        ({"constraint": "combined", "parts": [{"constraint": "task", "n": 1}]}, "task has no parameters, but n is given"),
        ({"constraint": "combined", "parts": ["task"], "weights": [1, 2]}, "has 2 weights for 1 parts; give one for"),
        ({"constraint": "combined", "parts": ["task"], "weights": [-1]}, "constraint.weights[0]=-1.0: must be a"),
    ],
)
def test_values_are_checked_without_a_tokenizer(chosen: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        constraint_of(chosen).check()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ab", "texts='ab': is 2 tokens of this model ('a', 'b'), and must be one"),
        ("\u00e9", "this model has no such token (it reads as '<|unk|>'); name another, or an id"),
    ],
)
def test_texts_that_are_no_token_are_refused_before_anything_is_generated(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    words = ["run", "constraint=forbidden_tokens", f'constraint.texts=["{text}"]', f"output_dir={tmp_path}", "n_problems=2"]
    with pytest.raises(SystemExit, match="2"):  # as Hydra would go on otherwise
        cli.main([*words, "sampler=tta_rules"])
    assert message in capsys.readouterr().err
    assert not list((tmp_path / "runs").glob("*tta_rules*/records.jsonl"))


def test_what_is_fixed_fits_what_a_sweep_chooses() -> None:
    words = ["constraint=combined,combined", "constraint.parts=[task,{constraint:forbidden_tokens,ids:[2,3]}]"]
    assert cli.deferred(words) == [words[0], "constraint.parts=choice([task,{constraint:forbidden_tokens,ids:[2,3]}])"]
    swept = ["constraint=combined,combined", "constraint.weights=[1,0],[0,1]"]
    assert cli.deferred(swept) == swept


def test_a_sweep_is_told_apart_in_the_report_and_explained(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = [f"output_dir={tmp_path}", "n_problems=3", "task=json", *QUICK, *RULES[:1], *RULES[2:]]
    assert cli.main(["run", "-m", "constraint=none,task,json_format", "baseline=entropy_bound", *words]) == 0
    report = tmp_path / "reports" / "default"
    summary = pd.read_csv(report / "summary.csv").set_index("run_id")
    labels = ["constraint=none", "constraint=task", "constraint=json_format(root=any)"]
    assert summary["settings"].tolist()[1:] == labels
    table = pd.read_csv(report / "tables" / "trajectories.csv").set_index("settings")
    assert table["violating"].isna().tolist() == [True, True, False, False]
    assert table.loc[labels[2], "violating"] == 0
    one, other = summary.index[1], summary.index[3]
    capsys.readouterr()
    assert cli.main(["explain", one, other, str(tmp_path)]) == 0
    assert "constraint differs: json_format(root=any), was none" in capsys.readouterr().out


def test_a_constraint_in_words() -> None:
    parts = [
        "task",
        {"constraint": "regex", "pattern": "[a-c] b"},
        {"constraint": "forbidden_tokens", "ids": [1, 2], "weight": 2},
    ]
    config = constraint_of({"constraint": "combined", "parts": parts, "weights": [0.5, 1, 3]}).config()
    assert constraint_text(config) == '0.5*task+regex(pattern="[a-c] b")+3*forbidden_tokens(ids=[1,2],weight=2.0)'
    assert changes(flat({"constraint": "none"}), flat({"constraint": config})) == [
        f"constraint differs: {constraint_text(config)}, was none"
    ]
    assert constraint_targets({"constraint": config})[0] is None
    assert [target.rpartition(".")[2] for target in constraint_targets({"constraint": config})[1:] if target] == [
        "regex", "forbidden_tokens",
    ]  # fmt: skip


PAGE = Path(__file__).parents[2] / "docs" / "constraints.md"


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The constraint of one's own from the documentation, as a node of a configuration."""
    _, code = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert len(code.splitlines()) < 15
    (tmp_path / "my_rules.py").write_text(code + BAD)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_rules", raising=False)
    environment.source_digest.cache_clear()
    return dict(yaml.safe_load(text))


BAD = """

def nothing(tokenizer):
    return None


def untyped(tokenizer, *, much=1):
    return None


def broken(tokenizer):
    raise KeyError("x")


def named(tokenizer, *, name: str = "x"):
    return capitals(tokenizer)


thing = capitals("x", weight=1.0) if False else object()
"""


def test_a_constraint_of_ones_own_is_used_recorded_and_named(mine: dict[str, Any], tmp_path: Path) -> None:
    plain = cli.compose([f"output_dir={tmp_path}", *RULES, "task=json", "n_problems=2"])
    found = comparison(plain | {"constraint": mine})
    assert found.candidate.config()["constraint"] == {"name": "capitals", "target": "my_rules.capitals", "weight": 0.5}
    assert constraint_text(found.candidate.config()["constraint"]) == "my_rules.capitals(weight=0.5)"
    assert do(found) == 2
    assert [record["violations"] for record in stored(found)] == [0, 0]
    manifest = json.loads((tmp_path / "runs" / found.candidate.run_id / "manifest.json").read_text())
    assert manifest["environments"][0]["constraint_code"] == environment.source_digest("my_rules.capitals")
    inline = node("constraint=combined", "constraint.parts=[{_target_:my_rules.capitals,weight:0.5}]")
    assert constraint_of(inline).config() == found.candidate.config()["constraint"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nothing", "constraint my_rules.nothing returned NoneType: must return a function of token ids"),
        ("untyped", "constraint.much: untyped does not say its type; annotate it, as much: float"),
        ("broken", "constraint my_rules.broken cannot be made: KeyError: 'x'"),
        ("thing", "must be a function or a class"),
        ("named", "my_rules.named: configurations use 'name' otherwise; call the parameter something else"),
        ("missing", "_target_=my_rules.missing: must be the dotted path of something that can be imported"),
    ],
)
@pytest.mark.usefixtures("mine")
def test_a_constraint_of_ones_own_that_is_none_is_refused(target: str, message: str, tmp_path: Path) -> None:
    plain = cli.compose([f"output_dir={tmp_path}", *RULES, "task=json", "n_problems=2"])
    with pytest.raises(ValueError, match=re.escape(message)):
        comparison(plain | {"constraint": {"_target_": f"my_rules.{target}"}})


def test_a_tokenizer_that_is_not_loaded_answers_nothing() -> None:
    for ask in (lambda t: t.encode("a"), lambda t: t("a"), len, list, lambda t: t["a"], lambda t: "a" in t):
        with pytest.raises(TokenizerNeededError):
            ask(NotLoaded())
