"""The letter of one of several choices."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeGuard

from tta_bench.scorers.base import Choices
from tta_bench.scorers.reading import NEXT_QUESTION, check_stop, last_box, until

MARKER = re.compile(r"\b(?:answer|choice|option)\s*+(?:is\b|:)", re.IGNORECASE)
OPENING = " \t\r\n:*_`\"'$([{"
CLOSING = " \t\r\n:*_`\"'$)]}.,;!"
COMMAND = re.compile(r"\\(?:text|textbf|mathrm|mathbf|boxed)\s*+\{|(?:option|choice)\b", re.IGNORECASE)


@dataclass(frozen=True)
class MultipleChoice:
    r"""1 where the text answers with the letter of the right choice.

    The first of these rules that finds one letter decides:

    1. what follows the last "answer is", "answer:" (also choice, option): a letter, or the text of exactly one choice;
    2. the same in the last ``\boxed{...}``;
    3. the whole text is the text of exactly one choice, or a letter with the text of its choice;
    4. all letters that stand alone in the text are the same one.

    A and I before a word in small letters (but and, or, is) are words, not answers. Several different letters without a marker
    are no answer.

    The choices are the row's column ``choices``: a list of texts, or, as in ARC, an object with lists ``text`` and ``label``,
    whose labels then take the place of the letters. Without that column, any of ``letters`` can be the answer.

    Attributes:
        letters: of the choices, in their order.
        gold: what the target is: a ``letter``, an ``index`` from 0, or the ``text`` of a choice.
        stop: strings at the first of which a text ends.
    """

    letters: str = "ABCDEFGHIJ"
    gold: Literal["letter", "index", "text"] = "letter"
    stop: tuple[str, ...] = NEXT_QUESTION
    version: ClassVar[str] = "1"

    def __post_init__(self) -> None:
        check_stop(self.stop)
        if len(self.letters) < 2 or len(set(self.letters)) < len(self.letters) or not self.letters.isalnum():
            raise ValueError(f"scorer.letters={self.letters!r}: must be two or more different letters or digits, as 'ABCD'")
        if self.gold not in ("letter", "index", "text"):
            raise ValueError(f"scorer.gold={self.gold!r}: must be letter, index or text")

    def score(self, target: str, text: str, facts: Mapping[str, object]) -> float:
        return float(self.answer(text, facts) == self._right(target, facts))

    def answer(self, text: str, facts: Mapping[str, object]) -> Hashable:
        """The letter; None where the text has none, or several."""
        letters, choices = self._choices(facts)
        text = until(text, self.stop)
        places = [match.end() for match in MARKER.finditer(text)]
        box = last_box(text)
        for part in ([text[places[-1] :]] if places else []) + ([box] if box is not None else []):
            if (found := _led(part, letters) or _named(part.strip().partition("\n")[0], letters, choices)) is not None:
                return found
        return _named(text, letters, choices) or _lettered(text, letters, choices) or _alone(text, letters)

    def written(self, target: str, facts: Mapping[str, object]) -> str:
        """The letter of the right choice."""
        return self._right(target, facts)

    def choices(self, target: str, facts: Mapping[str, object]) -> Choices:
        """The choices with their letters or labels.

        Raises:
            ValueError: the row has no column ``choices``.
        """
        letters, texts = self._choices(facts)
        if not texts:
            raise ValueError("the row has no column 'choices'; name the one with the possible answers (task.choices)")
        return Choices(tuple(letters), tuple(texts), list(letters).index(self._right(target, facts)))

    def check(self, target: str, facts: Mapping[str, object]) -> None:
        self._right(target, facts)

    def _choices(self, facts: Mapping[str, object]) -> tuple[Sequence[str], Sequence[str]]:
        """Letters and texts of the choices; no texts where the row has none."""
        found = facts.get("choices")
        if found is None:
            return self.letters, ()
        labels = found.get("label") if isinstance(found, Mapping) else None
        texts = found.get("text") if isinstance(found, Mapping) else found
        if not _texts(texts) or not (labels is None or _texts(labels)):
            raise ValueError(f"facts['choices']={found!r}: must be a list of texts, or an object of two, text and label")
        letters = self.letters[: len(texts)] if labels is None else labels
        if len(letters) != len(texts):
            raise ValueError(f"facts['choices'] has {len(texts)} texts for {len(letters)} letters; set scorer.letters to more")
        return letters, texts

    def _right(self, target: str, facts: Mapping[str, object]) -> str:
        """The letter of the right choice."""
        letters, choices = self._choices(facts)
        target = target.strip()
        if self.gold == "letter":
            right = target.strip("().") if target.strip("().") in tuple(letters) else None
        elif self.gold == "index":
            right = letters[int(target)] if re.fullmatch("[0-9]{1,3}", target) and int(target) < len(letters) else None
        else:
            if not choices:
                raise ValueError("facts['choices'] is missing: scorer.gold=text needs the texts of the choices")
            right = _named(target, letters, choices)
        if not right:
            rule = {"letter": "one of the letters", "index": "an index from 0 of one of", "text": "the text of exactly one of"}
            raise ValueError(f"target={target!r}: must be {rule[self.gold]} {', '.join(letters)}; see scorer.gold")
        return right


def _texts(column: object) -> TypeGuard[Sequence[str]]:
    """Whether this is a list of texts, and not empty."""
    return isinstance(column, list | tuple) and bool(column) and all(isinstance(text, str) for text in column)


def _led(part: str, letters: Sequence[str]) -> str | None:
    """The letter that a text begins with, behind brackets, emphasis and the word option."""
    part = part[:200].lstrip(OPENING)
    while match := COMMAND.match(part):
        part = part[match.end() :].lstrip(OPENING)
    match = _pattern(letters).match(part)
    return match[1] if match else None


def _named(part: str, letters: Sequence[str], choices: Sequence[str]) -> str | None:
    """The letter of the only choice whose text this is."""
    plain = _plain(part)
    same = [letter for letter, choice in zip(letters, choices, strict=False) if _plain(choice) == plain]
    return same[0] if plain and len(same) == 1 else None


def _lettered(text: str, letters: Sequence[str], choices: Sequence[str]) -> str | None:
    """The letter that stands before the text of its own choice, as in ``(B) text``."""
    led = _led(text, letters)
    rest = text.lstrip(OPENING)[len(led) :] if led else ""
    return led if led and _plain(rest) in {_plain(c) for x, c in zip(letters, choices, strict=False) if x == led} else None


def _alone(text: str, letters: Sequence[str]) -> str | None:
    """The only letter that stands alone in a text, however often."""
    found = {match[1] for match in _pattern(letters).finditer(text)}
    return found.pop() if len(found) == 1 else None


def _pattern(letters: Sequence[str]) -> re.Pattern[str]:
    """A letter that stands alone; A and I before most words in small letters do not."""
    names = "|".join(re.escape(letter) for letter in letters)
    return re.compile(rf"(?<![\w'\u2019\\-])(?!(?<![(\[])[AI] (?!and\b|or\b|is\b)[a-z])({names})(?![\w'\u2019-])")


def _plain(text: str) -> str:
    return " ".join(text.strip(OPENING + CLOSING).split()).casefold()
