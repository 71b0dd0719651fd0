"""Answer-level controls: several answers to one prompt, of which the most frequent is given."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from tta_bench.types import AnswerFn, StepInfo


class Vote(Protocol):
    """Chooses a sequence for each row.

    Attributes:
        samples: decodings of each row that it needs.
    """

    @property
    def samples(self) -> int: ...

    def choose(self, tokens: Tensor, steps: Sequence[StepInfo], answer_fn: AnswerFn | None) -> Tensor:
        """(B, L) from the decoded canvas (B x samples, L), a row's samples next to each other, and what led to it."""
        ...


@dataclass(frozen=True)
class Majority:
    """The most frequent of ``samples`` independent decodings; of equally frequent ones the one that was drawn first."""

    samples: int = 5

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"samples={self.samples}: must be at least 1")

    def choose(self, tokens: Tensor, steps: Sequence[StepInfo], answer_fn: AnswerFn | None) -> Tensor:
        """(B, L)."""
        groups = tokens.view(-1, self.samples, tokens.shape[1])
        weights = [1.0] * self.samples
        chosen = [winner([answered(row, s, answer_fn) for s in group.tolist()], weights) for row, group in enumerate(groups)]
        return torch.stack([group[i] for group, i in zip(groups, chosen, strict=True)])


@dataclass(frozen=True)
class Temporal:
    """The answer with the largest weight among those that the steps predicted: each step's canvas with its candidates.

    Attributes:
        growth: a step's weight is exp(growth x i / (S - 1)), i = 0 .. S - 1; 0 weighs all alike.
    """

    growth: float = 5.0
    samples: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not 0 <= self.growth <= 100:
            raise ValueError(f"growth={self.growth}: must be a number from 0 (all steps alike) to 100")

    def choose(self, tokens: Tensor, steps: Sequence[StepInfo], answer_fn: AnswerFn | None) -> Tensor:
        """(B, L); of answers with equal weight the latest sequence of the earliest answer."""
        return torch.stack([self._row(row, final, steps, answer_fn) for row, final in enumerate(tokens)])

    def _row(self, row: int, final: Tensor, steps: Sequence[StepInfo], answer_fn: AnswerFn | None) -> Tensor:
        active = [info for info in steps if bool(info.canvas.editable[row].any())]
        predicted = [torch.where(i.canvas.masked[row], i.prediction.tokens[row], i.canvas.tokens[row]) for i in active]
        predicted = [*predicted[:-1], final]
        weights = torch.linspace(0, self.growth, len(predicted), dtype=torch.float64).exp().tolist()
        answers = [answered(row, sequence.tolist(), answer_fn) for sequence in predicted]
        best = answers[winner(answers, weights)]
        return predicted[max(i for i, a in enumerate(answers) if a == best)]


def answered(row: int, ids: list[int], answer_fn: AnswerFn | None) -> Hashable:
    """What a sequence answers: ``answer_fn`` of it, or all its token ids."""
    found = tuple(ids) if answer_fn is None else answer_fn(row, ids)
    if not isinstance(found, Hashable):
        raise TypeError(
            f"answer_fn returned {type(found).__name__} for row {row}: answers must be hashable, for instance a str"
        )
    return found


def winner(answers: Sequence[Hashable], weights: Sequence[float]) -> int:
    """The first place of the answer with the largest total weight; of equal ones, of the answer that came first."""
    totals: dict[Hashable, float] = defaultdict(float)
    for a, weight in zip(answers, weights, strict=True):
        totals[a] += weight
    return answers.index(max(totals, key=lambda a: totals[a]))
