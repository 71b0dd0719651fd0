from __future__ import annotations

import subprocess
import sys
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tta_bench import scorers
from tta_bench.scorers import scorer

CHOICES = {"choices": ["red", "green", "blue"]}
ROWS: dict[str, tuple[dict, str, dict]] = {
    "exact": ({}, "gold", {}),
    "numeric": ({}, "#### 18", {}),
    "multiple_choice": ({}, "B", CHOICES),
    "json_schema": ({"schema": {"type": "object", "patternProperties": {"(a+)+$": {"pattern": "(x+x+)+y"}}}}, "", {}),
    "parallelbench": ({"strict": True, "metric": "list_shuffle_score"}, '["b", "a"]', {"answer": {"input": ["a", "b"]}}),
    "regex": ({"pattern": "(a|b|ab)*c"}, "", {}),
}
"""Options, target and facts for scorers that are cheap enough to be asked about anything."""


@dataclass(frozen=True)
class Length:
    """1 where the text is as long as the target."""

    slack: int = 0
    version: ClassVar[str] = "1"

    def score(self, target: str, text: str, facts: Mapping[str, object]) -> float:
        return float(abs(len(target) - len(text)) <= self.slack)

    def answer(self, text: str, facts: Mapping[str, object]) -> Hashable:
        return len(text)

    def check(self, target: str, facts: Mapping[str, object]) -> None: ...


def test_each_module_is_a_scorer() -> None:
    assert scorers.names() == (
        "code", "exact", "json_schema", "math", "multiple_choice", "numeric", "parallelbench", "regex",
    )  # fmt: skip
    for name in scorers.names():
        assert scorer(name).version
        assert type(scorer(name)).__dataclass_params__.frozen


def test_a_scorer_of_ones_own_is_found_by_its_path() -> None:
    own = scorer(f"{__name__}.Length", slack="2")
    assert own == Length(2)
    with pytest.raises(ValueError, match="has no version, score, answer, check"):
        scorer("pathlib.Path")
    with pytest.raises(ValueError, match="must be the dotted path"):
        scorer("nowhere.Scorer")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("numerics", {}, "unknown scorer 'numerics'; did you mean numeric"),
        ("base", {}, "unknown scorer 'base'"),
        ("exact", {"case_fold": True}, "has no parameter 'case_fold'; did you mean casefold"),
        ("exact", {"strip": "perhaps"}, "scorer.strip='perhaps'"),
        ("numeric", {"stop": [""]}, r"scorer.stop=\[''\]: must hold no empty string"),
        ("multiple_choice", {"letters": "A"}, "scorer.letters='A': must be two or more"),
        ("multiple_choice", {"letters": "AAB"}, "scorer.letters='AAB': must be two or more different"),
        ("multiple_choice", {"gold": "number"}, "scorer.gold='number'.*'letter', 'index' or 'text'"),
        ("regex", {"pattern": "("}, r"scorer.pattern='\(': must be a regular expression"),
        ("json_schema", {"schema": {"type": "objekt"}}, "scorer.schema: must be a JSON schema"),
        ("json_schema", {"schema": {"$ref": "http://x.org/s"}}, "must name a part of the schema itself"),
        ("json_schema", {"schema": {"$ref": "#/$defs/no"}}, "must name a part of the schema itself"),
        ("json_schema", {"schema": {"properties": {"a": {"pattern": "["}}}}, "must be a"),
        ("parallelbench", {"metric": "summary_score"}, "scorer.metric='summary_score': must be .*grammar"),
        ("code", {"language": "c"}, "scorer.language='c'"),
        ("code", {"required": ["internet"]}, "scorer.required=.*must be among files, network"),
        ("code", {"timeout": 0}, "seconds=0.0: must be a number from 0.01"),
        ("math", {"timeout": 0}, "scorer.timeout=0.0: must be a number of seconds above 0"),
        ("math", {"memory_mb": 1}, "scorer.memory_mb=1: must be 1024 or more"),
    ],
)
def test_a_mistake_is_refused_with_the_rule(name: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scorer(name, **options)


@pytest.mark.parametrize("name", ROWS)
@given(text=st.text())
@example(text="[" * 100_000)
@example(text="9" * 10_000)
@example(text="1/" * 5000 + "0")
@example(text="1e999" * 10)
@example(text="\\boxed{" * 2000)
@example(text="answer is " * 2000)
@example(text="A " * 20_000)
@example(text='{"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!": "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}')
@example(text="ab" * 5000)
@example(text="- $" * 20_000)
@example(text="$ ,1" * 20_000)
@example(text="```json\n" * 5000)
@example(text="\ud800")
def test_no_text_makes_a_scorer_raise(name: str, text: str) -> None:
    options, target, facts = ROWS[name]
    it = scorer(name, **options)
    it.check(target, facts)
    score = it.score(target, text, facts)
    assert score in (0.0, 1.0)
    assert it.score(target, text, facts) == score
    assert hash(it.answer(text, facts)) == hash(it.answer(text, facts))


def test_no_scorer_needs_torch() -> None:
    code = (
        "import sys; from tta_bench import scorers\nfor name in scorers.names(): scorers.scorer(name)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
