"""What may be searched, and how it is written."""

from __future__ import annotations

import math
import re

import pytest

from tta_bench import cli
from tta_bench.tuning.space import Choice, Range, Space, range_of


def space(*words: str) -> Space:
    return cli.searched(words)[1]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("sampler.tta_k=3,5,7", Choice("sampler.tta_k", ("3", "5", "7"))),
        ("sampler=tta,wino", Choice("sampler", ("tta", "wino"))),
        ("sampler.tta_temperature_range=[0,0.3],[0,1]", Choice("sampler.tta_temperature_range", ("[0,0.3]", "[0,1]"))),
        ("sampler.remask_top_k=null,2", Choice("sampler.remask_top_k", ("null", "2"))),
        ("sampler.remask_top_pct=interval(0,0.3)", Range("sampler.remask_top_pct", 0.0, 0.3)),
        ("sampler.temperature=tag(log,interval(1e-3,1))", Range("sampler.temperature", 1e-3, 1.0, log=True)),
        ("sampler.tta_k=int(interval(1,9))", Range("sampler.tta_k", 1, 9, 1)),
        ("steps=range(4,17,4)", Range("steps", 4, 16, 4)),
        ("cfg_scale=range(0,1,0.25)", Range("cfg_scale", 0, 0.75, 0.25)),
    ],
)
def test_hydras_sweeps_are_read(word: str, expected: Choice | Range) -> None:
    fixed, found = cli.searched(["task=json", word])
    assert found.dimensions == (expected,)
    assert fixed == ["task=json"]


def test_a_range_holds_what_hydras_range_does() -> None:
    for start, stop, step in ((4, 17, 4), (4, 16, 4), (0, 1, 0.25), (0, 0.3, 0.1)):
        expected = [start + i * step for i in range(100) if start + i * step < stop - 1e-9]
        assert range_of("k", start, stop, step).values == pytest.approx(expected)


def test_values_are_words_that_can_be_typed_again() -> None:
    assert Range("k", 0.0, 0.3).word(0.123456) == "k=0.1235"
    assert Range("k", 1e-7, 0.12345678).word(0.12345678) == "k=0.12345678"  # rounding must not leave the range
    assert Range("steps", 4, 16, 4).word(8.0) == "steps=8"
    assert Range("k", 0, 0.3, 0.1).word(0.30000000000000004) == "k=0.3"


def test_the_size_and_the_settings_of_a_finite_space() -> None:
    found = space("steps=4,8", "sampler.tta_k=range(3,8,2)")
    assert found.size == 6
    assert [found.words(one) for one in found.settings(99)] == [
        (f"sampler.tta_k={k}", f"steps={steps}") for k in (3, 5, 7) for steps in (4, 8)
    ]
    assert space("cfg_scale=interval(0,1)", "steps=4,8").size == math.inf
    assert str(space("steps=4,8", "cfg_scale=interval(0,1)")) == "cfg_scale=0..1  steps=4,8"
    assert space("steps=4,8", "cfg_scale=interval(0,1)") == space("cfg_scale=interval(0,1)", "steps=4,8")


def test_every_end_is_checked() -> None:
    found = space("cfg_scale=interval(0,1)", "steps=4,8,16").to_check()
    assert found == [
        ("cfg_scale=0.0", "steps=4"), ("cfg_scale=1.0", "steps=4"), ("cfg_scale=0.0", "steps=8"), ("cfg_scale=0.0", "steps=16"),
    ]  # fmt: skip


BAD = [
    ([], "nothing is searched"),
    (["task=json,sudoku"], "task: cannot be searched"),
    (["seed=1,2"], "seed: cannot be searched"),
    (["baseline.temperature=0,1"], "baseline.temperature: cannot be searched"),
    (["sampler@baseline=low_confidence,random"], "sampler@baseline: cannot be searched"),
    (["steps=4,8", "steps=16,32"], "steps: is searched twice"),
    (["steps=4,4"], "steps=4,4: names a value twice"),
    (["cfg_scale=interval(1,0)"], "cfg_scale=1..0: must go from a smaller number to a larger one"),
    (["cfg_scale=tag(log,interval(0,1))"], "cfg_scale=0..1 (log): a logarithmic scale needs a lower end above 0"),
    (["steps=range(4,5)"], "holds fewer than two values"),
    (["sampler=glob(*)"], "can be swept, but not searched; write the values out"),
    (["experiment=tta_k"], "task: cannot be searched"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_what_cannot_be_searched_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        cli.searched(words)


def test_a_saved_study_says_what_is_searched() -> None:
    fixed, found = cli.searched(["experiment=tta_k", "task=json", "steps=8"])
    assert fixed == ["experiment=tta_k", "task=json", "steps=8"]
    assert [one.key for one in found.dimensions] == ["sampler.tta_k", "sampler.tta_temperature_range"]
