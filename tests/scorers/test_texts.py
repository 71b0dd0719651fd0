from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tta_bench.scorers import scorer

ARC = {"choices": {"text": ["iron", "a magnet", "Vitamin A"], "label": ["1", "2", "3"]}}
VITAMINS = {"choices": ["Vitamin A", "Vitamin B", "a dog"]}


@pytest.mark.parametrize(
    ("options", "text", "score"),
    [
        ({}, " Paris\n", 1.0),
        ({"strip": False}, " Paris\n", 0.0),
        ({}, "paris", 0.0),
        ({"casefold": True}, "PARIS", 1.0),
        ({}, "Par is", 0.0),
    ],
)
def test_exact(options: dict, text: str, score: float) -> None:
    assert scorer("exact", **options).score("Paris", text, {}) == score


def test_exact_with_collapsed_whitespace() -> None:
    it = scorer("exact", collapse_whitespace=True)
    assert it.score("a b", "a \n\t b ", {}) == 1.0
    assert it.score("a b", "ab", {}) == 0.0
    assert scorer("exact").score("a b", "a  b", {}) == 0.0


def test_regex() -> None:
    assert scorer("regex", pattern=r"\d+").score("", "123\n", {}) == 1.0
    assert scorer("regex", pattern=r"\d+").score("", "a123", {}) == 0.0
    by_row = scorer("regex")
    assert by_row.score("(red|green)", "green", {}) == 1.0
    assert by_row.score("(a|a)*b", "a" * 40, {}) == 0.0
    with pytest.raises(ValueError, match=r"target='\(': must be a regular expression"):
        by_row.check("(", {})


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("B", "B"),
        ("(B)", "B"),
        ("B.", "B"),
        ("B) Vitamin B", "B"),
        ("B. because of the rest", "B"),
        ("The answer is (B).", "B"),
        ("the answer is B", "B"),
        ("Answer: **B**", "B"),
        ("A or C? The correct answer is option B, not A.", "B"),
        ("A, then B. The answer is A. No, the answer is B.", "B"),
        (r"So A is wrong: \boxed{B}", "B"),
        (r"\boxed{\text{(B)}}", "B"),
        (r"The answer is \boxed{\text{B}}.", "B"),
        ("vitamin b.", "B"),
        ("The answer is Vitamin B.", "B"),
        (r"\boxed{Vitamin B}", "B"),
        ("I think it is B, yes B", "B"),
        ("A dog is B", "B"),
        ("B\n\nQuestion: what is A?", "B"),
        ("(A) or (B)", None),
        ("A B", None),
        ("A and B are both right", None),
        ("b", None),
        ("Bed", None),
        ("D", None),
        ("nothing", None),
        ("", None),
    ],
)
def test_letters(text: str, letter: str | None) -> None:
    it = scorer("multiple_choice")
    assert it.answer(text, VITAMINS) == letter
    assert it.score("B", text, VITAMINS) == float(letter == "B")


def test_what_the_gold_answer_is_must_be_said() -> None:
    assert scorer("multiple_choice", gold="index").score("1", "B", VITAMINS) == 1.0
    assert scorer("multiple_choice", gold="text").score("a dog", "C", VITAMINS) == 1.0
    assert scorer("multiple_choice").score("(C)", "C", VITAMINS) == 1.0
    assert scorer("multiple_choice").score("2", "(2)", ARC) == 1.0
    assert scorer("multiple_choice").score("2", "The answer is a magnet", ARC) == 1.0
    assert scorer("multiple_choice", letters="WXYZ").score("X", "The answer is X", {}) == 1.0


@pytest.mark.parametrize(
    ("options", "target", "facts", "message"),
    [
        ({}, "D", VITAMINS, "target='D': must be one of the letters A, B, C"),
        ({"gold": "index"}, "3", VITAMINS, "target='3': must be an index from 0"),
        ({"gold": "index"}, "B", VITAMINS, "target='B': must be an index from 0"),
        ({"gold": "text"}, "cat", VITAMINS, "target='cat': must be the text of exactly one"),
        ({"gold": "text"}, "a", {"choices": ["a", "A"]}, "must be the text of exactly one"),
        ({"gold": "text"}, "a", {}, r"facts\['choices'\] is missing"),
        ({"letters": "AB"}, "A", VITAMINS, "has 3 texts for 2 letters"),
        ({}, "A", {"choices": "red"}, "must be a list of texts"),
        ({}, "A", {"choices": [1, 2]}, "must be a list of texts"),
        ({}, "A", {"choices": {"text": ["a"], "label": 1}}, "must be a list of texts"),
    ],
)
def test_choices_that_cannot_be_scored(options: dict, target: str, facts: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scorer("multiple_choice", **options).check(target, facts)


@given(
    st.sampled_from("ABC"),
    st.sampled_from(["The answer is ({}).", "{}", "{}.", "({})", r"\boxed{{{}}}", "Answer: {}\n", "**{}**"]),
)
def test_every_letter_is_found_in_every_form(letter: str, form: str) -> None:
    assert scorer("multiple_choice").answer(form.format(letter), VITAMINS) == letter


SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}, "who": {"$ref": "#/$defs/name"}},
    "patternProperties": {"^x_": {"type": "boolean"}},
    "required": ["n"],
    "additionalProperties": False,
    "$defs": {"name": {"type": "string", "pattern": "^[a-z]+$"}},
}


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ('{"n": 1}', 1.0),
        ('{"n": 1.0, "who": "bo", "x_a": true}', 1.0),
        ('Here:\n```json\n{"n": 1}\n```\nDone {"n": "no"}', 1.0),
        ('```\n{"n": 1}', 1.0),
        ('{"n": true}', 0.0),
        ('{"n": 1, "who": "Bo"}', 0.0),
        ('{"n": 1, "x_a": 1}', 0.0),
        ('{"n": 1, "y": 1}', 0.0),
        ('{"who": "bo"}', 0.0),
        ('{"n": 1} and more', 0.0),
        ("{'n': 1}", 0.0),
        ('{"n": NaN}', 0.0),
        ('{"n": 1e999}', 0.0),
        ("", 0.0),
    ],
)
def test_json_keeps_to_its_schema(text: str, score: float) -> None:
    assert scorer("json_schema", schema=SCHEMA).score("", text, {}) == score
    assert scorer("json_schema").score("", text, {"schema": SCHEMA}) == score
    assert scorer("json_schema").score("", text, {"schema": json.dumps(SCHEMA)}) == score


@pytest.mark.parametrize(
    ("target", "text", "score"),
    [
        ('{"a": 1, "b": [true, null]}', '{"b": [true, null], "a": 1.0}', 1.0),
        ("1", "true", 0.0),
        ("0", "false", 0.0),
        ("[1, 2]", "[2, 1]", 0.0),
        ('"1"', "1", 0.0),
        ("{}", "[]", 0.0),
        ("null", "null", 1.0),
        ("100000000000000000001", "100000000000000000000", 0.0),
    ],
)
def test_json_equals_its_target_as_a_value(target: str, text: str, score: float) -> None:
    it = scorer("json_schema")
    it.check(target, {})
    assert it.score(target, text, {}) == score
    assert (it.answer(target, {}) == it.answer(text, {})) == bool(score)


@pytest.mark.parametrize(
    ("target", "facts", "message"),
    [
        ("", {}, r"facts\['schema'\] is missing"),
        ("{", {}, "target='{': must be JSON"),
        ("", {"schema": "{"}, r"facts\['schema'\]='{': must be JSON"),
        ("", {"schema": [1]}, "must be an object"),
        ("", {"schema": {"type": 1}}, r"facts\['schema'\]: must be a JSON schema"),
        ("[]", {"schema": {"type": "object"}}, "must keep to the schema, or no answer is right"),
        ("", {"schema": {"patternProperties": {"a": {}}, "unevaluatedProperties": False}}, "do not go together"),
    ],
)
def test_json_rows_that_cannot_be_scored(target: str, facts: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scorer("json_schema").check(target, facts)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_json_written_otherwise_is_the_same(value: object) -> None:
    it = scorer("json_schema")
    assert it.score(json.dumps(value), f"```json\n{json.dumps(value, indent=1, sort_keys=True)}\n```", {}) == 1.0
    assert it.score(json.dumps(value), json.dumps([value]), {}) == 0.0
