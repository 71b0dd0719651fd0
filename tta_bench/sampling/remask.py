"""Which committed tokens are taken back."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from tta_bench.rng import Noise
from tta_bench.sampling.commit import Heeding, editable_uniform, shares
from tta_bench.sampling.selection import take_highest
from tta_bench.types import Turn


class Remask(Protocol):
    """A rule that takes back.

    Attributes:
        uses_constraint: whether violations can change what it takes back.

    A rule that does not go by what the step predicts of tokens before the current block may say ``looks_back = False``: then
    these are not looked at again.
    """

    @property
    def uses_constraint(self) -> bool: ...

    def remasks(self, turn: Turn, commits: Tensor, noise: Noise) -> Tensor:
        """(B, L) bool, among ``turn.remaskable``; ``commits`` (B, L) is what the step commits."""
        ...


@runtime_checkable
class Doubts(Protocol):
    """What a remask rule may have besides: the score by which it takes back, for traces."""

    def doubt(self, turn: Turn, noise: Noise) -> Tensor:
        """(B, L), higher is taken back earlier."""
        ...


class Score(Protocol):
    """How doubtful committed tokens are.

    Attributes:
        uses_constraint: whether violations enter the score.
    """

    @property
    def uses_constraint(self) -> bool: ...

    def score(self, turn: Turn, noise: Noise) -> Tensor:
        """(B, L), higher is taken back earlier."""
        ...


@dataclass(frozen=True)
class Budget:
    """How many committed tokens a step takes back: ``top_k``, else max(1, floor(top_pct x committed)); 0 takes none."""

    top_k: int | None = None
    top_pct: float = 0.1

    def __post_init__(self) -> None:
        if self.top_k is not None and self.top_k < 0:
            raise ValueError(f"remask_top_k={self.top_k}: must not be negative; 0 remasks nothing, null uses remask_top_pct")
        if not 0 <= self.top_pct <= 1:
            raise ValueError(f"remask_top_pct={self.top_pct}: must be a share, 0 to 1 (10 % is 0.1)")

    def count(self, committed: Tensor) -> Tensor:
        """(B,) tokens to take back where ``committed`` (B,) are on the canvas."""
        if self.top_k is not None:
            return torch.full_like(committed, self.top_k)
        if self.top_pct == 0:
            return torch.zeros_like(committed)
        # The small term undoes binary rounding: 0.29 x 100 is 28.999999999999996 and means 29.
        share = [max(1, math.floor(self.top_pct * n + 1e-9)) for n in committed.tolist()]
        return torch.tensor(share, device=committed.device)


@dataclass(frozen=True)
class UncertaintyScore:
    """R = alpha H + beta D + gamma V + delta (1 - p) - lambda C.

    Entropy, disagreement, violation, the probability p that the views give the token that stands there (worth a term where they
    cannot see it), and how often it was remasked so far.
    """

    alpha_entropy: float = 1.0
    beta_disagreement: float = 0.5
    gamma_violation: float = 0.3
    lambda_change: float = 0.2
    delta_improbability: float = 0.0

    def __post_init__(self) -> None:
        for name in (f.name for f in fields(self)):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name}={value}: must be a number >= 0; 0 leaves the term out")

    @property
    def uses_constraint(self) -> bool:
        """Whether violations enter the score."""
        return self.gamma_violation > 0

    def score(self, turn: Turn, noise: Noise) -> Tensor:
        """(B, L), higher is taken back earlier."""
        return (
            self.alpha_entropy * turn.prediction.entropy
            + self.beta_disagreement * turn.prediction.disagreement
            + self.gamma_violation * turn.violation
            + self.delta_improbability * (1 - turn.prediction.support)
            - self.lambda_change * turn.times_remasked
        )


@dataclass(frozen=True)
class RandomScore:
    """Random numbers: the control that tells what remasking is worth when the choice is blind."""

    uses_constraint: ClassVar[bool] = False

    def score(self, turn: Turn, noise: Noise) -> Tensor:
        """(B, L), higher is taken back earlier."""
        return editable_uniform(turn.canvas, noise, "remask")


@dataclass(frozen=True)
class Shuffled:
    """The control for any score: the scores of what may be taken back change places at random, row by row.

    As many tokens exceed any threshold as before, so as many are taken back, but blindly.

    Attributes:
        of: the score.
    """

    of: Score

    @property
    def uses_constraint(self) -> bool:
        """Whether violations enter the score."""
        return self.of.uses_constraint

    def score(self, turn: Turn, noise: Noise) -> Tensor:
        """(B, L), higher is taken back earlier."""
        values, there = self.of.score(turn, noise), turn.remaskable
        chance = editable_uniform(turn.canvas, noise, "shuffle").masked_fill(~there, torch.inf)
        source, goal = (~there).long().sort(dim=1, stable=True).indices, chance.sort(dim=1, stable=True).indices
        return torch.where(there, torch.empty_like(values).scatter(1, goal, values.gather(1, source)), values)


@dataclass(frozen=True)
class TakeBack:
    """Take back the committed tokens with the highest score, within the budget.

    Attributes:
        score: of doubt.
        budget: how many.
        times: how often a position is taken back at most; None for any number.
    """

    score: Score
    budget: Budget
    times: int | None = None

    @property
    def uses_constraint(self) -> bool:
        """Whether violations can change what is taken back."""
        return self.score.uses_constraint

    def doubt(self, turn: Turn, noise: Noise) -> Tensor:
        """(B, L), higher is taken back earlier."""
        return self.score.score(turn, noise)

    def remasks(self, turn: Turn, commits: Tensor, noise: Noise) -> Tensor:
        """(B, L) bool."""
        count = self.budget.count(((turn.canvas.committed | commits) & turn.revisable).sum(dim=1))
        allowed = turn.remaskable if self.times is None else turn.remaskable & (turn.times_remasked < self.times)
        return take_highest(self.doubt(turn, noise), allowed, count)


@dataclass(frozen=True)
class Repair:
    """Take back the doubtful tokens of a block once it is filled: those whose score exceeds ``threshold``, the worst first.

    Attributes:
        score: of doubt.
        threshold: what a token must exceed to be taken back.
        share: of the block that is taken back at a time, rounded up.
        times: how often a position is taken back at most.
    """

    score: Score
    threshold: float
    share: float
    times: int
    looks_back: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not math.isfinite(self.threshold):
            raise ValueError(f"repair_threshold={self.threshold}: must be a number")
        if not 0 < self.share <= 1:
            raise ValueError(f"repair_share={self.share}: must be a share of the block, above 0 and at most 1")
        if self.times < 0:
            raise ValueError(f"repair_rounds={self.times}: must not be negative; 0 takes nothing back")

    @property
    def uses_constraint(self) -> bool:
        """Whether violations can change what is taken back."""
        return self.score.uses_constraint

    def doubt(self, turn: Turn, noise: Noise) -> Tensor:
        """(B, L), higher is taken back earlier."""
        return self.score.score(turn, noise)

    def remasks(self, turn: Turn, commits: Tensor, noise: Noise) -> Tensor:
        """(B, L) bool."""
        canvas, doubt = turn.canvas, self.doubt(turn, noise)
        filled = ~(canvas.masked & canvas.reachable).any(dim=1, keepdim=True)
        doubtful = turn.remaskable & canvas.block & filled & (doubt > self.threshold) & (turn.times_remasked < self.times)
        return take_highest(doubt, doubtful, shares(self.share, canvas.block.sum(dim=1)))


@dataclass(frozen=True)
class Either:
    """What either of two rules takes back; doubt is that of the first."""

    first: TakeBack | Repair
    second: Heeding

    @property
    def uses_constraint(self) -> bool:
        """Whether violations can change what is taken back."""
        return self.first.uses_constraint or self.second.uses_constraint

    @property
    def looks_back(self) -> bool:
        """Whether it goes by what is predicted of tokens before the current block."""
        return bool(getattr(self.first, "looks_back", True))

    def doubt(self, turn: Turn, noise: Noise) -> Tensor:
        """(B, L), higher is taken back earlier."""
        return self.first.doubt(turn, noise)

    def remasks(self, turn: Turn, commits: Tensor, noise: Noise) -> Tensor:
        """(B, L) bool."""
        return self.first.remasks(turn, commits, noise) | self.second.remasks(turn, commits, noise)
