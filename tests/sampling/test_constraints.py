"""The constraints that are ready for use, against the same rules written down in the plainest way."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import tta_bench
from tta_bench import tasks
from tta_bench.runner.prompts import batch_constraint, encode
from tta_bench.sampling.constraints import (
    UNKNOWN,
    UNREADABLE,
    ConstraintError,
    combined,
    evaluate_constraint,
    forbidden_tokens,
    json_format,
    math_expression,
    no_repeat_ngrams,
    of_text,
    regex,
    sudoku_units,
)
from tta_bench.sampling.constraints.ngrams import _named

END, MASK, PAD = 0, 1, 2


@dataclass
class Words:
    """A tokenizer whose tokens are texts of any length: ids 3, 4, ... are given to pieces as they turn up.

    In a text ▢ is a mask and ⏹ the token that ends it; pieces are separated by ``|``, or else are single characters.
    """

    pieces: list[str] = field(default_factory=list)
    eos_token_id: ClassVar[int | None] = END
    mask_token_id: ClassVar[int | None] = MASK
    pad_token_id: ClassVar[int | None] = PAD
    all_special_ids: ClassVar[list[int]] = [END, MASK, PAD]

    def ids(self, text: str, pieces: bool = False) -> list[int]:
        special = {"▢": MASK, "⏹": END, "▫": PAD}
        return [special[piece] if piece in special else self.id(piece) for piece in (text.split("|") if pieces else text)]

    def id(self, piece: str) -> int:
        if piece not in self.pieces:
            self.pieces.append(piece)
        return 3 + self.pieces.index(piece)

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self.pieces[i - 3] for i in ids)


Make = Callable[..., Any]


def marks(make: Make, text: str, pieces: bool = False, **reading: Any) -> list[float]:
    """The violations of a text's tokens."""
    words = Words()
    ids = words.ids(text, pieces)
    return evaluate_constraint(make(words, **reading), torch.tensor([ids]).reshape(1, -1).long())[0].tolist()


def marked(make: Make, text: str, pieces: bool = False, **reading: Any) -> str:
    """The tokens in violation, ``_`` for the others."""
    scores = marks(make, text, pieces, **reading)
    found = text.split("|") if pieces else list(text)
    return ("|" if pieces else "").join(t if s else "_" * len(t) for t, s in zip(found, scores, strict=True))


def matching(pattern: str) -> Make:
    return lambda tokenizer, **reading: regex(pattern, tokenizer, **reading)


# N-grams and tokens


@given(
    rows=st.integers(0, 4), length=st.integers(0, 12), n=st.integers(1, 5), ignore=st.sets(st.integers(0, 3)),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_repeated_ngrams_are_those_of_a_loop(rows: int, length: int, n: int, ignore: set[int], seed: int) -> None:
    tokens = torch.randint(0, 4, (rows, length), generator=torch.Generator().manual_seed(seed))
    expected = torch.zeros(rows, length)
    for row, ids in enumerate(tokens.tolist()):
        seen = set()
        for i in range(n - 1, length):
            ngram = tuple(ids[i - n + 1 : i + 1])
            expected[row, i] = float(ngram in seen and not set(ngram) & ignore)
            seen.add(ngram)
    assert torch.equal(no_repeat_ngrams(n, ignore=ignore)(tokens), expected)


@given(st.integers(0, 2**32), st.integers(1, 3), st.lists(st.integers(0, 8), min_size=3, max_size=3))
def test_ngrams_are_those_of_the_text_only(seed: int, n: int, start: list[int]) -> None:
    """As if each text were a row of its own: behind its prompt, and before its end or the masks in it."""
    end, mask = 3, 2
    tokens = torch.randint(0, 4, (3, 8), generator=torch.Generator().manual_seed(seed))
    expected = torch.zeros(tokens.shape)
    for row, (ids, begin) in enumerate(zip(tokens.tolist(), start, strict=True)):
        stop = next((place for place in range(begin, 8) if ids[place] == end), 8)
        if begin < stop:
            expected[row, begin:stop] = no_repeat_ngrams(n, ignore=(mask,))(tokens[row : row + 1, begin:stop])[0]
    assert torch.equal(no_repeat_ngrams(n, start=start, end_ids=(end,), mask_ids=(mask,))(tokens), expected)


def test_long_ngrams_of_large_ids_have_names_of_their_own() -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(2**61, 2**62, (8, 200), generator=generator)
    names = _named(tokens, 20)
    assert names.min() >= 0
    assert len(names.unique()) == names.numel()
    assert no_repeat_ngrams(20)(tokens.repeat(1, 2))[:, 219:].all()


def test_forbidden_tokens_are_marked_wherever_they_stand() -> None:
    tokens = torch.tensor([[1, 2, 3], [3, 3, 0]])
    found = forbidden_tokens((3, 0), weight=0.5)(tokens)
    assert found.tolist() == [[0, 0, 0.5], [0.5, 0.5, 0.5]]
    assert found.dtype == torch.float32


def test_forbidden_tokens_are_marked_in_the_text_and_at_its_end_only() -> None:
    tokens = torch.tensor([[5, 5, 1, 5, 0, 5, 0], [5, 1, 5, 5, 1, 5, 1]])
    found = forbidden_tokens([5, 0], start=[2, 3], end_ids=[0])(tokens)
    assert found.tolist() == [[0, 0, 0, 1, 1, 0, 0], [0, 0, 0, 1, 0, 1, 0]]
    with pytest.raises(ValueError, match="start: has 2 places for 1 rows"):
        forbidden_tokens([5], start=[2, 3])(tokens[:1])
    with pytest.raises(ValueError, match="start=8: lies behind the 7 tokens"):
        forbidden_tokens([5], start=8)(tokens)


def test_forbidden_tokens_have_names(mini: tuple) -> None:
    _, tokenizer = mini
    a, end = tokenizer.encode("a")[0], tokenizer.eos_token_id
    found = forbidden_tokens(texts=["a", tokenizer.eos_token], tokenizer=tokenizer)(torch.tensor([[a, a + 1, end]]))
    assert found.tolist() == [[1, 0, 1]]
    for text, message in (
        ("ab", r"texts='ab': is 2 tokens of this model \('a', 'b'\)"),
        ("\u00e9", "has no such token"),
        ("", "is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            forbidden_tokens(texts=[text], tokenizer=tokenizer)
    with pytest.raises(ValueError, match="texts='a': tokens are named by text with a tokenizer only"):
        forbidden_tokens(texts=["a"])


# JSON


def is_json(text: str) -> bool:
    def refuse(_: str) -> None:
        raise ValueError("no JSON")

    try:
        json.loads(text, parse_constant=refuse)
    except ValueError:
        return False
    return True


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
json_texts = st.builds(
    json.dumps, json_values, ensure_ascii=st.booleans(), indent=st.sampled_from([None, 1]), separators=st.just((" ,", " : "))
).filter(lambda text: "▢" not in text and "⏹" not in text and "▫" not in text)
soup = st.text(alphabet='{}[]",:-+.eE019 \\utrufalsn\nx', max_size=14)


@given(text=st.one_of(soup, json_texts))
def test_a_text_without_violation_is_json(text: str) -> None:
    assert (not any(marks(json_format, text + "⏹"))) == is_json(text)


@given(text=json_texts, cut=st.integers(0, 10_000))
def test_the_beginning_of_json_has_no_violation_but_at_its_end(text: str, cut: int) -> None:
    beginning = text[: cut % (len(text) + 1)]
    assert not any(marks(json_format, beginning + "⏹")[:-1])


@pytest.mark.parametrize(
    ("alphabet", "longest", "looked_at"),
    [("[],1", 8, 4), ('{}":', 8, 3), ("-0.e", 6, 5), ("-1E+", 6, 5), ('"\\u0', 8, 3), ("true", 6, 5), (' ,"][', 6, 3)],
)
def test_the_first_character_is_marked_that_no_json_has_there(alphabet: str, longest: int, looked_at: int) -> None:
    texts = ["".join(characters) for n in range(longest + 1) for characters in product(alphabet, repeat=n)]
    beginnings = {text[:i] for text in texts if is_json(text) for i in range(len(text) + 1)}
    for text in (text for text in texts if len(text) <= looked_at):
        scores = [0.0] * (len(text) + 1)
        dead = next((i for i in range(len(text)) if text[: i + 1] not in beginnings), None)
        scores[len(text) if dead is None else dead] = float(dead is not None or not is_json(text))
        assert marks(json_format, text + "⏹") == scores, text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a":1}', "_______"),
        ('{"a" 1}', "_____1_"),
        ('{"a":01}', "______1_"),
        ('{"a":1,}', "_______}"),
        ("[1,2", "___2"),
        ("[1,2⏹⏹⏹", "____⏹__"),
        ("⏹⏹", "⏹_"),
        ("", ""),
        ("  ", "_ "),
        ("nul", "__l"),
        ("12 ", "___"),
        ("-⏹", "_⏹"),
        ('"a\nb"', "__\n__"),
        ('"\\x"', "__x_"),
        ('"\\ud83"', "______\""),
        ("NaN", "N__"),
        ('["ab⏹"]', "____⏹__"),
        ("{}}", "__}"),
        ("[]]▢", "__]_"),
        ("[1}", "__}"),
        ("true false", "_____f____"),
    ],
)  # fmt: skip
def test_json_is_marked_where_it_breaks(text: str, expected: str) -> None:
    assert marked(json_format, text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("▢▢▢", "___"),
        ("▢⏹", "__"),
        ('{"a":▢}', "_______"),
        ('{"a":▢]', "_______"),  # the mask may open a list inside, and more follows
        ("▢:,", "__,"),
        ("▢ 1 2", "____2"),
        ("▢tru⏹", "____⏹"),
        ("[▢{]", "___]"),
        ('▢"a":1,2', "_______2"),  # whatever the first quote does, a key must follow
        ('▢a":1,"', '______"'),
        ("▢,2⏹", "___⏹"),
        ('▢"', "__"),
        ("1▢", "__"),
        ("[] ▢ 1", "_____1"),  # finished: only space may follow, whatever the mask becomes
        ("▢\n\n\x01", "___\x01"),
        ("x▢", "x_"),
    ],
)
def test_behind_a_mask_only_what_nothing_can_mend_is_marked(text: str, expected: str) -> None:
    assert marked(json_format, text) == expected


@given(text=json_texts, places=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 5)), max_size=4))
def test_json_with_parts_masked_has_no_violation(text: str, places: list[tuple[int, int]]) -> None:
    for place, length in places:
        place %= len(text) + 1
        text = text[:place] + "▢" + text[place + length :]
    assert not any(marks(json_format, text + "⏹"))


def test_a_text_may_have_to_be_an_object_or_an_array() -> None:
    assert marked(json_format, " [{}]", root="object") == "_[___"
    assert marked(json_format, " {}", root="array") == "_{_"
    assert marked(json_format, "3", root="object") == "3"
    assert not any(marks(json_format, ' {"a":[1]}', root="object"))
    assert not any(marks(json_format, " [{}]", root="array"))
    assert not any(marks(json_format, "▢}", root="object"))


def test_deeply_nested_json_is_judged() -> None:
    assert not any(marks(json_format, "[" * 3000 + "]" * 3000))
    assert marked(json_format, "[" * 3000 + "]" * 3001) == "_" * 6000 + "]"


# Arithmetic


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # parentheses
        ("(1+2))", "_____)"),
        ("((1+2)", "(_____"),
        (")(", ")("),
        ("sin(x)", "______"),
        # divisions by zero
        ("1/0", "_/0"),
        ("1/ 0.00, x", "_/ 0.00___"),
        ("x÷0", "_÷0"),
        ("1/-0", "_/-0"),
        ("1//0", "_//0"),
        ("1/05", "____"),
        ("1/0.5", "_____"),
        ("1/.0", "_/.0"),
        ("1/.05", "_____"),
        ("1/0.", "_/0_"),
        ("1/0!", "____"),
        ("1/0^0", "_____"),
        ("1/0x", "____"),
        ("1/0 x", "_____"),
        ("1/0 each", "_/0_____"),
        ("1/0,5", "_____"),
        # equalities
        ("3+4=7", "_____"),
        ("3+4=8", "____8"),
        ("12 * 2 = 25", "_________25"),
        ("1+1=2=3", "______3"),
        ("1+1=3=2", "____3_2"),
        ("3+4==8", "_____8"),
        ("3+4!=8", "______"),
        ("3+4<=8", "______"),
        ("1/3=0.33", "________"),
        ("1/3=0.34", "____0.34"),
        ("0.33=1/3", "________"),
        ("2/3=-0.67", "____-0.67"),
        ("-2/3=-0.67", "__________"),
        ("1/8=0.12", "________"),  # as far from 0.13
        ("1/8=0.13", "________"),
        ("7/2=4", "____4"),
        ("0.33*3=1", "_______1"),
        ("2^10=1024", "_________"),
        ("2**3**2=512", "___________"),
        ("-2^2=4", "_____4"),
        ("2^-1=0.5", "________"),
        ("(1+2)*3=9", "_________"),
        ("2(3+4)=15", "_______15"),
        ("8/2(2+2)=1", "__________"),  # some read 16, some 1
        ("3 x 4 = 13", "________13"),
        ("3 \N{MULTIPLICATION SIGN} 4 \N{MINUS SIGN} 2 = 11", "____________11"),
        ("$3 + $4 = $8", "___________8"),
        ("1,000 + 1 = 1,002", "____________1,002"),
        ("1,5 = 3/2", "_________"),
        ("12:30 = 5", "_________"),
        ("0005=5", "______"),
        ("3+4 = 8 apples, 1+1=2.", "______8_______________"),
        ("so 3+4=8", "_______8"),
        ("(so 3+4=8)", "________8_"),
        ("x+3=5", "_____"),
        ("half of 10 = 5", "______________"),
        ("20% of 50+10 = 12", "_________________"),
        ("50% = 0.5", "_________"),
        ("5! = 120", "________"),
        ("sqrt 16 = 4", "___________"),
        ("sqrt(16) = 4", "____________"),
        ("f(3) = 4", "________"),
        ("6 = 2 x", "_______"),
        ("7/2 = 3 remainder 1", "___________________"),
        ("6 = 2x", "______"),
        ("60 minutes = 1 hour", "___________________"),
        ("1 1/2 = 3/2", "___________"),
        ("1+2+...+10 = 55", "_______________"),
        ("- 3+4 = 7", "_________"),
        ("1. 3+4=8", "_______8"),
        ("3+4=7\n5+5=11", "__________11"),
        ("Answer:3+4=8", "___________8"),
        ("=3", "__"),
        ("3=", "__"),
        ("x[3]=5", "______"),
        ("1/(2-2)=7", "_________"),
        ("7=1/(2-2)", "_________"),
        # limits
        ("9^9^9=1", "_______"),
        ("10^400=1", "________"),
        ("(" * 60 + "1" + ")" * 60 + "=2", "_" * 123),
        ("1" * 500 + "=2", "_" * 502),
        ("1+" * 150 + "1=2", "_" * 303),
        ("-" * 60 + "1=2", "_" * 63),
    ],
)  # fmt: skip
def test_arithmetic_is_marked_where_it_is_wrong(text: str, expected: str) -> None:
    assert marked(math_expression, text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "(▢", "▢)", "1/0▢", "1/0 ▢", "1/0*▢", "1/▢", "3+4=8▢", "3+4=▢8", "▢3+4=8", "▢ 3+4=8", "3+▢=8", "3+4=8.▢",
        "3+4=8,▢", "▢so 3+4=8", "so▢ 3+4=8", "(3+4=8▢", "(▢, 3+4=8)", "▢)+3+4=8", "▢. 3+4=8", "2▢(3+4)=3", "x▢3:3+4=8",
    ],
)  # fmt: skip
def test_what_a_mask_may_mend_is_not_marked(text: str) -> None:
    assert not any(marks(math_expression, text))


def test_what_no_mask_mends_is_marked() -> None:
    assert marked(math_expression, "3+4=8, ▢") == "____8___"
    assert marked(math_expression, "1/0=▢") == "_/0__"
    assert marked(math_expression, ")▢") == ")_"
    assert marked(math_expression, "(1)▢ (3=4) (") == "________4__("


@given(data=st.data())
def test_whatever_the_masks_become_what_was_marked_stays_marked(data: st.DataObject) -> None:
    piece = st.sampled_from([*"()=/0123.,+- \n", "3+4=8", "(1=2)", "so ", "▢", "1/0", "2x", "^"])
    parts = data.draw(st.lists(piece, max_size=9))
    fillings = {i: data.draw(st.text(alphabet="()=/012.,+*- \nx<", max_size=3)) for i, part in enumerate(parts) if part == "▢"}
    before = marks(math_expression, "".join(parts))
    after = marks(math_expression, "".join(fillings.get(i, part) for i, part in enumerate(parts)))
    old = new = 0
    for i, part in enumerate(parts):
        if i not in fillings:
            for k in range(len(part)):
                assert not before[old + k] or after[new + k], (parts, fillings)
        old, new = old + len(part), new + len(fillings.get(i, part))


@st.composite
def expressions(draw: st.DrawFn, depth: int = 3) -> tuple[str, str]:
    """An expression, and the same for Python with exact numbers."""
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        whole, decimals = draw(st.integers(0, 40)), draw(st.sampled_from(["", ".5", ".25"]))
        return f"{whole}{decimals}", f"F('{whole}{decimals}')"
    kind = draw(st.sampled_from(["+", "-", "*", "/", "()", "-x", "^"]))
    one, python_one = draw(expressions(depth=depth - 1))
    if kind == "()":
        return f"({one})", f"({python_one})"
    if kind == "-x":
        return f"-({one})", f"-({python_one})"
    if kind == "^":
        exponent = draw(st.integers(-3, 3))
        return f"({one})^{exponent}", f"({python_one})**({exponent})"
    other, python_other = draw(expressions(depth=depth - 1))
    space = draw(st.sampled_from(["", " "]))
    return f"{one}{space}{kind}{space}{other}", f"{python_one}{kind}{python_other}"


@given(one=expressions(), offset=st.sampled_from([0, 0, 1, Fraction(1, 7)]))
def test_equalities_are_those_of_exact_arithmetic(one: tuple[str, str], offset: Fraction) -> None:
    text, python = one
    try:
        value = eval(python, {"F": Fraction})
    except ZeroDivisionError:
        assert not any(marks(math_expression, f"{text}=1")[-2:])
        return
    right = value + offset
    equation = f"{text}={right.numerator}/{right.denominator}" if right.denominator > 1 else f"{text}={right}"
    assert bool(marks(math_expression, equation)[-1]) == (offset != 0)


@given(text=st.text(alphabet="()a", max_size=12))
def test_parentheses_are_marked_until_the_rest_is_balanced(text: str) -> None:
    scores = marks(math_expression, text)
    rest = "".join(c for c, score in zip(text, scores, strict=True) if c in "()" and not score)
    while "()" in rest:
        rest = rest.replace("()", "")
    assert rest == ""
    lonely = text.replace("a", "")
    while "()" in lonely:
        lonely = lonely.replace("()", "")
    assert sum(scores) == len(lonely)


@given(text=st.text(alphabet="()=/0123.,+-*^ \nx▢⏹%$é", max_size=40))
def test_any_text_is_judged(text: str) -> None:
    scores = marks(math_expression, text)
    assert set(scores) <= {0.0, 1.0}


# Patterns


PATTERNS = ["a*b", "(ab|ba)*", "a?b{2,3}a?", "(a|ab)(b|bba)", "[^a]*", "", "aab|abb", "a(?=b)b+"]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_text_is_marked_behind_its_longest_beginning_of_a_match(pattern: str) -> None:
    texts = ["".join(t) for n in range(9) for t in product("ab", repeat=n)]
    matches = [text for text in texts if re.fullmatch(pattern, text)]
    beginnings = {text[:i] for text in matches for i in range(len(text) + 1)}
    for text in (text for text in texts if len(text) <= 5):
        scores = [0.0] * (len(text) + 1)
        dead = next((i for i in range(len(text)) if text[: i + 1] not in beginnings), None)
        scores[len(text) if dead is None else dead] = float(dead is not None or text not in matches)
        assert marks(matching(pattern), text + "⏹") == scores, text


def test_nothing_behind_a_mask_is_held_against_a_pattern() -> None:
    assert marked(matching(r"\d+-\d+"), "12-3a") == "____a"
    assert marked(matching(r"\d+-\d+"), "12") == "_2"
    assert marked(matching(r"\d+-\d+"), "1▢xx⏹") == "_____"
    assert marked(matching(r"\d+-\d+"), "1x▢⏹") == "_x__"
    assert marked(matching(r"(?!)"), "ab") == "a_"


def test_a_pattern_that_takes_for_ever_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tta_bench.sampling.constraints.pattern.PATIENCE", 0.05)
    with pytest.raises(ConstraintError, match="TimeoutError"):
        marks(matching(r"(a|a|aa)+(a|aa)+c"), "a" * 60 + "b")


# Sudoku


def sudoku_text(cells: str, side: int = 6, header: str = "sudoku\n") -> str:
    return header + "\n".join(cells[i : i + side] for i in range(0, side * side, side))


@given(cells=st.text(alphabet="123456x", min_size=36, max_size=36))
def test_conflicts_are_those_of_the_task(cells: str) -> None:
    text = sudoku_text(cells)
    task = tasks.load("sudoku")
    assert marks(sudoku_units, text) == task.violations(task.problems("dev", 1)[0], text)


@pytest.mark.parametrize(("side", "box"), [(4, (2, 2)), (6, (3, 2)), (9, (3, 3)), (1, (1, 1)), (5, (1, 5))])
@given(data=st.data())
def test_conflicts_of_any_grid_are_those_of_a_loop(side: int, box: tuple[int, int], data: st.DataObject) -> None:
    digits = "".join(str(i + 1) for i in range(side))
    cells = data.draw(st.text(alphabet=digits + "▢0", min_size=side * side, max_size=side * side))

    def shares(kind: int, i: int, j: int) -> bool:
        (r, c), (s, d) = divmod(i, side), divmod(j, side)
        return (r == s, c == d, (r // box[0], c // box[1]) == (s // box[0], d // box[1]))[kind]

    expected = []
    for i, cell in enumerate(cells):
        again = [any(i != j and shares(kind, i, j) and cells[j] == cell for j in range(side * side)) for kind in range(3)]
        expected.append(0.0 if cell == "▢" else 3.0 if cell == "0" else float(sum(again)))
    found = marks(sudoku_units, sudoku_text(cells, side, ""), side=side, box=box, header="")
    assert [found[i] for i in range(len(found)) if (i + 1) % (side + 1)] == expected


def test_what_breaks_the_layout_is_marked() -> None:
    good = sudoku_text("123456456123231564564231312645645312")
    assert not any(marks(sudoku_units, good))
    assert not any(marks(sudoku_units, good + "⏹⏹"))
    assert marked(sudoku_units, good[:13] + "7" + good[14:]) == "_" * 13 + "7" + "_" * 34
    assert marks(sudoku_units, good[:12] + "\n" + good[13:])[12] == 3
    assert marks(sudoku_units, good[:12] + "⏹" + good[13:])[12] == 3
    assert marks(sudoku_units, good[:20]) == [0.0] * 19 + [1.0]
    assert marks(sudoku_units, good[:20] + "⏹", end_ids=(END,)) == [0.0] * 20 + [1.0]


# Texts and tokens


def test_a_token_gets_the_worst_of_its_characters_and_the_end_goes_to_who_ends() -> None:
    def judge(text: str) -> list[float]:
        return [float(c) if c.isdigit() else 0.0 for c in text] + [0.5]

    def make(tokenizer: Words, **reading: Any) -> Any:
        return of_text(judge, tokenizer, **reading)

    assert marks(make, "a1b|29||c|⏹|9", pieces=True) == [1.0, 9.0, 0.0, 0.0, 0.5, 0.0]
    assert marks(make, "a1b|29||c", pieces=True) == [1.0, 9.0, 0.0, 0.5]
    assert marks(make, "a1b|9", pieces=True) == [1.0, 9.0]
    assert marked(json_format, '{"|a|":|"x"|"y"|}', pieces=True) == '__|_|__|___|"y"|_'


def test_special_tokens_end_the_text_or_cannot_be_read() -> None:
    texts: list[str] = []

    def make(tokenizer: Words, **reading: Any) -> Any:
        return of_text(lambda text: texts.append(text) or [0.0] * len(text), tokenizer, **reading)

    for end_ids in (None, (), (PAD,)):
        marks(make, "a▢▫b⏹c", end_ids=end_ids)
    marks(make, "a▢", mask_ids=())
    unread = UNREADABLE
    assert texts == [f"a{UNKNOWN}{unread}b", f"a{UNKNOWN}{unread}b{unread}c", f"a{UNKNOWN}", f"a{unread}"]


def test_padding_and_prompts_are_not_judged() -> None:
    words = Words()
    rows = [words.ids("▫▫x[1}"), words.ids("xx![1]")]
    tokens = torch.tensor(rows)
    assert json_format(words, start=3)(tokens).tolist() == [[0, 0, 0, 0, 0, 1], [0] * 6]
    assert json_format(words, start=[5, 3])(tokens).tolist() == [[0, 0, 0, 0, 0, 1], [0] * 6]
    assert json_format(words)(tokens).tolist() == [[0, 0, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0]]
    assert json_format(words, start=6)(tokens).tolist() == [[0] * 6] * 2
    assert json_format(words)(torch.tensor([[PAD, PAD]])).tolist() == [[0, 0]]
    with pytest.raises(ConstraintError, match="start: has 1 places for 2 rows"):
        evaluate_constraint(json_format(words, start=[3]), tokens)
    with pytest.raises(ConstraintError, match="start=7: lies behind the 6 tokens"):
        evaluate_constraint(json_format(words, start=7), tokens)


def test_a_padding_token_that_ends_texts_too_is_padding_in_front() -> None:
    words = Words()
    words.pad_token_id = END
    tokens = torch.tensor([words.ids("⏹⏹[1}⏹")])
    assert json_format(words)(tokens).tolist() == [[0, 0, 0, 0, 1, 0]]
    assert json_format(words, start=1)(tokens).tolist() == [[0, 1, 0, 0, 0, 0]]


def test_a_row_is_judged_once_while_it_is_remembered() -> None:
    texts: list[str] = []
    words = Words()
    constraint = of_text(lambda text: texts.append(text) or [1.0] * len(text), words, remembered=2)

    def ask(*rows: str) -> Tensor:
        return constraint(torch.tensor([words.ids(row) for row in rows]))

    assert torch.equal(ask("ab", "cd", "ab"), torch.ones(3, 2))
    ask("cd", "ab")
    assert texts == ["ab", "cd"]
    ask("ef")
    ask("ab", "cd")
    assert texts == ["ab", "cd", "ef", "cd"]


def test_a_judge_that_fails_is_asked_again_and_one_that_miscounts_is_an_error() -> None:
    words = Words()
    tokens = torch.tensor([words.ids("ab")])
    for given_back in ([0.0], [0.0] * 4):
        constraint = of_text(lambda _, given_back=given_back: given_back, words)
        for _ in range(2):
            with pytest.raises(ConstraintError, match=rf"returned {len(given_back)} violations of 2 characters"):
                evaluate_constraint(constraint, tokens)


def test_the_rules_of_a_task_are_asked_once_for_each_row_of_a_batch(mini: tuple) -> None:
    _, tokenizer = mini
    task = tasks.load("listops", operations=["sort"])
    asked = []
    counted = SimpleNamespace(violations=lambda problem, text: asked.append(text) or task.violations(problem, text))
    problems = task.problems("dev", 2)
    prompts = [encode(problem, tokenizer, tokenizer.mask_token_id, None) for problem in problems]
    constraint = batch_constraint(counted, problems, prompts, tokenizer, [0, 0])
    answer = tokenizer.encode("abcdefgh", return_tensors="pt")[0]
    tokens = torch.tensor([prompt.ids for prompt in prompts])
    tokens[:, prompts[0].start : prompts[0].start + 8] = answer
    first = constraint(tokens)
    assert torch.equal(constraint(tokens.clone()), first)
    # The same answer to other problems is judged for itself.
    assert len(asked) == 2
    assert not torch.equal(first[0], first[1])


# Together, and mistakes


def test_the_sum_weighs_its_parts_and_asks_none_of_weight_zero() -> None:
    tokens = torch.tensor([[1, 1, 1, 2]])
    both = combined((no_repeat_ngrams(1), 0.5), (forbidden_tokens([2, 1]), 2), (lambda _: 1 / 0, 0.0))
    assert both(tokens).tolist() == [[2.0, 2.5, 2.5, 2.0]]
    with pytest.raises(ConstraintError, match="ZeroDivisionError"):
        combined((lambda _: 1 / 0, 1.0))(tokens)


class Maskless(Words):
    mask_token_id = None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: no_repeat_ngrams(0), "n=0: must be a whole number of tokens, at least 1"),
        (lambda: no_repeat_ngrams(True), "n=True: must be a whole number"),
        (lambda: no_repeat_ngrams(torch.tensor([[1]])), r"n=Tensor: must be a whole number; no_repeat_ngrams\(n=3\)"),
        (lambda: no_repeat_ngrams(2, ignore=[-1]), r"ignore=\[-1\]: token ids are >= 0"),
        (lambda: forbidden_tokens([]), r"ids=\(\): forbids nothing; name at least one"),
        (lambda: forbidden_tokens(3), r"ids=3: must be a sequence of token ids; write a single one as \(3,\)"),
        (lambda: forbidden_tokens(["a"]), r"ids=\['a'\]: must be a sequence of token ids"),
        (lambda: forbidden_tokens([3], float("nan")), "weight=nan: must be a finite number >= 0"),
        (lambda: combined(), r"combined\(\): has nothing to combine"),
        (lambda: combined(no_repeat_ngrams(2)), r"parts\[0\]=.*: must be a pair \(constraint, weight\)"),
        (lambda: combined((no_repeat_ngrams(2), 1), (no_repeat_ngrams(3), -1)), r"weight of parts\[1\]=-1: must be a finite"),
        (lambda: json_format(Words(), root="list"), "root='list': must be one of any, object, array"),
        (lambda: json_format(Words(), start=-1), "start=-1: positions are counted from 0"),
        (lambda: json_format(Words(), start=[0, -1]), r"start=\[0, -1\]: positions are counted from 0"),
        (lambda: json_format(Words(), start="a"), "start='a': must be a position, or one for each row"),
        (lambda: json_format(Words(), end_ids=0), "end_ids=0: must be a sequence of token ids"),
        (lambda: json_format(Maskless()), "mask_ids=None: the tokenizer has no mask token; give the model's"),
        (lambda: json_format(Words(), remembered=0), "remembered=0: must be a number of rows, at least 1"),
        (lambda: regex("(", Words()), r"pattern='\(': is no regular expression"),
        (lambda: sudoku_units(Words(), 6, (2, 2)), r"side=6, box=\(2, 2\): must be 1 to 9 cells, and boxes of as many"),
        (lambda: sudoku_units(Words(), 12, (3, 4)), r"side=12, box=\(3, 4\)"),
        (lambda: sudoku_units(Words(), 6, (-2, -3)), r"side=6, box=\(-2, -3\)"),
    ],
)
def test_mistakes_are_named_with_the_rule_and_the_remedy(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("sampler", ["tta", "tta_rules"])
def test_every_constraint_steers_a_sampler(mini: tuple, sampler: str) -> None:
    model, tokenizer = mini
    batch = tokenizer(["json name=bola, age=42:", "json vip=yes, age=7:"], return_tensors="pt", padding=True)
    start = batch.input_ids.shape[1]
    constraint = combined(
        (no_repeat_ngrams(3, ignore=(tokenizer.eos_token_id,)), 0.1),
        (forbidden_tokens(tokenizer.encode("#")), 1.0),
        (json_format(tokenizer, root="object", start=start), 1.0),
        (math_expression(tokenizer, start=start), 1.0),
        (regex(r"\{.*\}", tokenizer, start=start), 1.0),
        (sudoku_units(tokenizer, start=start), 0.1),
    )
    tokens, logs = tta_bench.generate(
        model, batch.input_ids, sampler, attention_mask=batch.attention_mask, steps=8, gen_length=24, constraint_fn=constraint
    )
    assert tokenizer.mask_token_id not in tokens
    assert max(logs["tta_stats"]["avg_violation_per_step"]) > 0
