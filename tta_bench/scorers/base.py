"""What a scorer is: it compares what the model wrote with the gold answer of a data set's row."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable


class Scorer(Protocol):
    """The contract of a scorer: a frozen dataclass whose fields are its options.

    Scores and answers depend on the arguments and the options alone, and no text makes them raise.
    """

    version: ClassVar[str]
    """Raised whenever a score may change."""

    def score(self, target: str, text: str, facts: Mapping[str, object]) -> float:
        """How right ``text`` is, in 0..1.

        Args:
            target: the gold answer as the data set has it.
            text: what the model wrote.
            facts: the row's other columns.
        """
        ...

    def answer(self, text: str, facts: Mapping[str, object]) -> Hashable:
        """What ``text`` answers, found without the target: equal answers are one answer in a vote."""
        ...

    def check(self, target: str, facts: Mapping[str, object]) -> None:
        """Refuse a row that cannot be scored.

        Raises:
            ValueError: names what is missing or wrong.
        """
        ...


@runtime_checkable
class Writes(Protocol):
    """What a scorer may have besides: how a right answer is written, where that is not the target as it stands."""

    def written(self, target: str, facts: Mapping[str, object]) -> str:
        """The answer, as solved examples show it."""
        ...


@dataclass(frozen=True)
class Choices:
    """The possible answers to a problem.

    Attributes:
        labels: letters, or what the data set has in their place.
        texts: of the answers, in the same order.
        right: place of the right one, from 0.
    """

    labels: tuple[str, ...]
    texts: tuple[str, ...]
    right: int


@runtime_checkable
class Chooses(Protocol):
    """What a scorer may have besides: the possible answers, of which a model can be asked how probable each is."""

    def choices(self, target: str, facts: Mapping[str, object]) -> Choices:
        """The possible answers.

        Raises:
            ValueError: the row has none.
        """
        ...
