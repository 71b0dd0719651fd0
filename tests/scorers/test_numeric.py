from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tta_bench.scorers import scorer

ROWS = [json.loads(line) for line in (Path(__file__).parent / "data" / "gsm8k_30.jsonl").read_text().splitlines()]
NUMERIC = scorer("numeric")


def read(text: str) -> object:
    return NUMERIC.answer(text, {})


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["question"][:20])
def test_gold_answers_are_right_and_their_neighbours_wrong(row: dict) -> None:
    target = row["answer"]
    work, _, gold = target.rpartition("#### ")
    NUMERIC.check(target, {})
    value = int(gold.replace(",", ""))
    for right in (target, gold, str(value), f"{gold}.0", f"The answer is ${gold}.", rf"so \boxed{{{gold}}}"):
        assert NUMERIC.score(target, right, {}) == 1.0
    dropped = {gold[:i] + gold[i + 1 :] for i in range(len(gold)) if gold[i] != ","} - {gold}
    for wrong in (str(value + 1), str(value - 1), str(-value), *dropped):
        for text in (wrong, f"{work}#### {wrong}", f"The answer is {wrong}."):
            assert NUMERIC.score(target, text, {}) == 0.0


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("18", 18),
        ("18.0", 18),
        ("1,000,000.50", Fraction(2000001, 2)),
        ("-5", -5),
        ("\u22125", -5),
        ("-$1,234.5", Fraction(-2469, 2)),
        ("$-5", -5),
        ("$ 18", 18),
        ("€18", 18),
        (".5", Fraction(1, 2)),
        ("3/4", Fraction(3, 4)),
        ("-3/4", Fraction(-3, 4)),
        ("2e3", 2000),
        ("50%", 50),
        ("18 eggs.", 18),
        ("18.", 18),
        ("**18**", 18),
        ("$18$", 18),
        (r"\$18", 18),
        (r"1{,}000", 1000),
        ("10-5", 5),
        ("(10)-5", 5),
        ("10 - 5 = -5", -5),
        ("pages 5-10", 10),
        ("one 1, two 2, three 3", 3),
        ("#### 18", 18),
        ("####18\nThank you 5 times", 18),
        ("#### 1\n#### 2", 2),
        ("The answer is 18, not 19.", 18),
        ("THE ANSWER IS: $18.50 for 2", Fraction(37, 2)),
        ("The answer is 5 + 3 = 8.", 8),
        ("The answer is x = 5", 5),
        ("The answer is 12 = 3 * 4", 12),
        ("The answer is $12 = 15 - 3$ dollars.", 12),
        (r"The answer is 12 = 3 \times 4 = 2 \cdot 6", 12),
        ("#### 12 = 50% of 24", 12),
        ("#### 12 = 3*4 = 12", 12),
        ("The answer is 8 = 8 eggs (5 + 3)", 8),
        ("The answer is x = 3 * 4", 3),
        ("1 1/2", Fraction(3, 2)),
        ("-1 1/2 cups.", Fraction(-3, 2)),
        ("#### $5 3/4 each, or 6", Fraction(23, 4)),
        ("The answer is 1 1/2 = 3/2", Fraction(3, 2)),
        (r"\boxed{1\frac{1}{2}}", Fraction(3, 2)),
        (r"\boxed{-2 \frac34}", Fraction(-11, 4)),
        ("1 1/2 or 2 1/3", Fraction(7, 3)),
        ("1 1/2 1/4", Fraction(1, 4)),
        ("1  1/2", Fraction(1, 2)),
        ("1.5 1/2", Fraction(1, 2)),
        ("2/3 1/2", Fraction(1, 2)),
        ("#### 3 7/4", 3),
        ("on 5 3/4/2020", 2020),
        ("1 1/0", None),
        ("The answer is:\n$$\n5\n$$", 5),
        ("The answer is 18 because 16 - 3 = 13", 18),
        (r"The answer is \boxed{7} of 9", 7),
        (r"\boxed{3} or rather \boxed{\frac{3}{4}} in 10", Fraction(3, 4)),
        (r"\boxed{-\frac34}", Fraction(-3, 4)),
        (r"\boxed{18\text{ eggs}}", 18),
        (r"\boxed{\boxed{5}} 6", 5),
        (r"\boxed{\{5\}} 6", 5),
        (r"\boxed{5", 5),
        ("18\n\nQuestion: 2 + 2", 18),
        ("#### ", None),
        ("2 and 3\n#### ", None),
        ("The answer is unknown.", None),
        ("", None),
        ("1/0", None),
        ("9" * 2000, None),
    ],
)
def test_conventions(text: str, value: Fraction | int | None) -> None:
    assert read(text) == value


def test_a_text_ends_where_one_says() -> None:
    assert scorer("numeric", stop=["###"]).score("5", "5 ### 6", {}) == 1.0
    assert scorer("numeric", stop=[]).score("5", "5\n\nQuestion: 6", {}) == 0.0


def test_a_target_needs_a_number() -> None:
    with pytest.raises(ValueError, match="target='five': must hold a number"):
        NUMERIC.check("five", {})


WORDS = st.text(st.characters(categories=["Ll", "Lu"]), max_size=12)
NUMBERS = st.decimals(-(10**9), 10**9, places=2)


@given(NUMBERS, WORDS, st.sampled_from(["", "$", "€"]), st.sampled_from(["", "%", " eggs", " km/h", ".", ".\n", r"\text{ cm}"]))
def test_commas_signs_and_units_do_not_matter(number: object, words: str, before: str, behind: str) -> None:
    written = f"{abs(number):,}"
    sign = "-" if number < 0 else ""
    for text in (
        f"{words} {sign}{before}{written}{behind}",
        f"#### {sign}{before}{written}{behind}",
        rf"\boxed{{{sign}{written}}}{behind}",
    ):
        assert read(text) == Fraction(number)


@given(st.lists(st.integers(-(10**6), 10**6), min_size=1), WORDS)
def test_the_last_of_several_numbers_counts(numbers: list[int], word: str) -> None:
    assert read(f" {word} ".join(map(str, numbers)) + f" {word}") == numbers[-1]
    assert read("\n".join(f"#### {n}" for n in numbers) + "\n12345678") == numbers[-1]
    assert read(" ".join(rf"$\boxed{{{n}}}$" for n in numbers) + " 12345678") == numbers[-1]


@given(st.integers(-(10**6), 10**6), st.integers(1, 10**4))
def test_fractions(above: int, below: int) -> None:
    assert (
        read(f"{above}/{below}")
        == read(rf"$\boxed{{{'-' if above < 0 else ''}\dfrac{{{abs(above)}}}{{{below}}}}}$")
        == Fraction(above, below)
    )


@given(st.integers(), st.integers())
def test_only_equal_numbers_are_equal(one: int, other: int) -> None:
    assert NUMERIC.score(f"#### {one}", f"{other:,}", {}) == float(one == other)
