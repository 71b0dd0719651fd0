from __future__ import annotations

import pytest

from tta_bench.scorers import sandbox, scorer

HUMANEVAL = {
    "prompt": (
        "from typing import List\n\n\ndef twice(x: int) -> int:\n    return 2 * x\n\n\n"
        'def quadruple(x: int) -> int:\n    """Four times x."""\n'
    ),
    "test": "def check(candidate):\n    assert candidate(2) == 8\n    assert candidate(-1) == -4\n",
    "entry_point": "quadruple",
}
MBPP = {"test_list": ["assert add(1, 2) == 3", "assert math.isclose(add(0.1, 0.2), 0.3)"], "test_imports": ["import math"]}


@pytest.fixture
def code() -> object:
    if sandbox.missing_layers():
        return scorer("code", required=[])
    return scorer("code")


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("    return twice(twice(x))\n", 1.0),
        ("    return twice(twice(x))\n\nprint(quadruple(\n", 1.0),
        ("    return 4 * x\n```\nThis works.", 1.0),
        ("def quadruple(x):\n    return twice(twice(x))", 1.0),
        ("Here it is:\n```python\ndef quadruple(x: int) -> List:\n    return 4 * x\n```\nand ```python\nquadruple(\n```", 1.0),
        ("```python\nx = 1\n```\n```python\ndef quadruple(x):\n    return 4 * x\n```", 1.0),
        ("```python\n    return 4 * x\n```", 1.0),
        ("    return 2 * x\n", 0.0),
        ("    return 4 * abs(x)\n", 0.0),
        ("    pass\n", 0.0),
        ("    exit()\n", 0.0),
        ("def quadruple(x):\n    import os\n    os._exit(0)", 0.0),
        ("no code at all", 0.0),
        ("", 0.0),
        ("\0", 0.0),
        ("\ud800", 0.0),
    ],
)
def test_humaneval(code: object, text: str, score: float) -> None:
    code.check("", HUMANEVAL)
    assert code.score("", text, HUMANEVAL) == score


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("def add(a, b):\n    return a + b", 1.0),
        ("[BEGIN]\ndef add(a, b):\n    return a + b\n[DONE]\nmore", 1.0),
        ("```py\ndef add(a, b):\n    return a + b\n```", 1.0),
        ("def add(a, b):\n    return 3", 0.0),
        ("import sys\nsys.exit(0)", 0.0),
    ],
)
def test_mbpp(code: object, text: str, score: float) -> None:
    code.check("", MBPP)
    assert code.score("", text, MBPP) == score


def test_mbpp_setup_code_comes_before_the_tests(code: object) -> None:
    facts = {"test_setup_code": "one = 1", "test_list": ["assert add(one, one) == 2"], "test_imports": None}
    assert code.score("", "def add(a, b): return a + b", facts) == 1.0


def test_the_same_program_is_the_same_answer(code: object) -> None:
    plain = code.answer("    return 4 * x\n", HUMANEVAL)
    assert plain == code.answer("    return 4 * x   \n\n\nprint(1)", HUMANEVAL)
    assert plain != code.answer("    return 2 * x\n", HUMANEVAL)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({}, r"facts\['prompt'\] is missing; code needs prompt, test and entry_point"),
        (HUMANEVAL | {"test": 5}, r"facts\['test'\]=5: must be a text"),
        (HUMANEVAL | {"entry_point": "f()"}, "must be the name of a function"),
        ({"test_list": []}, "test_list'] is empty"),
        ({"test_list": "assert x"}, "must be a list of texts"),
    ],
)
def test_rows_that_cannot_be_scored(facts: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scorer("code").check("", facts)


def test_what_is_required_and_missing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "missing_layers", lambda: {"namespaces": "not permitted", "seccomp": "no table"})
    with pytest.raises(ValueError, match="cannot be kept from network, signals, processes here"):
        scorer("code").check("", MBPP)
    with pytest.raises(sandbox.SandboxError, match="cannot be kept from"):
        scorer("code").score("", "", MBPP)
    outcome = scorer("code", required=["files"]).run("def add(a, b): return a + b", MBPP)
    assert outcome.passed
    assert outcome.protections == ("files",)
