"""How the canvas is cut into blocks, and how many positions are due when.

``Blocks`` lays out the blocks of given rows; a ``Schedule`` says how many commits a step owes. Fixed schedules are
cumulative: a position that was remasked is owed again, and the last step leaves no mask. An open schedule counts no steps: it
stays in a block until the block is filled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from tta_bench.types import Canvas


class Schedule(Protocol):
    """How many commits are due, and when a block is done.

    Attributes:
        uses_steps: every block gets its share of the steps; otherwise the number of steps is the sampler's own affair.
        until_filled: a block is left once it is filled, even before its share is spent.
        verifies: a block is left only after a look that found it filled took nothing back.
        rounds: where it verifies, the block is left without such a look once a position was taken back so often; None
            for never.
        times: factor on the steps asked for.
    """

    @property
    def uses_steps(self) -> bool: ...
    @property
    def until_filled(self) -> bool: ...
    @property
    def verifies(self) -> bool: ...
    @property
    def rounds(self) -> int | None: ...
    @property
    def times(self) -> int: ...

    def due(self, canvas: Canvas) -> Tensor:
        """(B,) integers: commits owed in this step."""
        ...


@dataclass(frozen=True)
class Layout:
    """Blocks of given rows, (B,) integers each: positions in a block, number of blocks, steps in each block."""

    length: Tensor
    count: Tensor
    share: Tensor

    def to(self, device: torch.device) -> Layout:
        """The same on a device."""
        return Layout(self.length.to(device), self.count.to(device), self.share.to(device))


@dataclass(frozen=True)
class Blocks:
    """Semi-autoregressive blocks of ``block_length`` consecutive *editable* positions; None makes one block of the canvas.

    Every block of a row gets the same number of steps; None will do for samplers that count none. Reference: Nie et al.,
    arXiv:2502.09992, section 2.4.
    """

    steps: int | None
    block_length: int | None = None

    def __post_init__(self) -> None:
        if self.steps is not None and (not isinstance(self.steps, int) or self.steps < 1):
            raise ValueError(f"steps={self.steps}: must be a whole number, at least 1")
        if self.block_length is not None and self.block_length < 1:
            raise ValueError(f"block_length={self.block_length}: must be at least 1")

    def layout(self, n_editable: list[int], schedule: Schedule) -> Layout:
        """The blocks of rows with ``n_editable`` editable positions each; a share of 0 where the schedule counts no steps.

        Raises:
            ValueError: the steps cannot be shared equally among the blocks.
        """
        rows = [self._row(n, schedule) for n in n_editable]
        length, count, share = (torch.tensor(values) for values in zip(*rows, strict=True))
        return Layout(length, count, share)

    def _row(self, n: int, schedule: Schedule) -> tuple[int, int, int]:
        length = max(1, n if self.block_length is None else min(self.block_length, n))
        blocks = max(1, -(-n // length))
        if not schedule.uses_steps:
            return length, blocks, 0
        if self.steps is None:
            raise ValueError("steps=None: this sampler needs a number of steps")
        if self.steps % blocks:
            raise ValueError(
                f"steps={self.steps}: must be divisible by the number of blocks, {blocks} "
                f"({n} positions in blocks of {length}); choose a multiple of {blocks}, or another block_length"
            )
        return length, blocks, self.steps * schedule.times // blocks


@dataclass(frozen=True)
class Uniform:
    """LLaDA's: m masks over s steps are m // s each, and one more in the first m % s.

    Attributes:
        times: factor on the steps asked for.
    """

    times: int = 1
    uses_steps: ClassVar[bool] = True
    until_filled: ClassVar[bool] = False
    verifies: ClassVar[bool] = False
    rounds: ClassVar[int | None] = None

    def due(self, canvas: Canvas) -> Tensor:
        """What is missing to the number that the row should have committed once the step is done."""
        place = canvas.place
        size, done = place.end - place.start, place.step + 1
        quota = place.start + size // place.n_steps * done + torch.minimum(done, size % place.n_steps)
        return quota - canvas.committed.sum(dim=1)


@dataclass(frozen=True)
class Linear:
    """MaskGIT's linear one: floor(m (1 - (i + 1) / s)) masks of a block of m are left once step i of s is done.

    In float64 and in this order of operations, as its implementations compute it.
    """

    times: ClassVar[int] = 1
    uses_steps: ClassVar[bool] = True
    until_filled: ClassVar[bool] = False
    verifies: ClassVar[bool] = False
    rounds: ClassVar[int | None] = None

    def due(self, canvas: Canvas) -> Tensor:
        """What is missing to the number that the row should have committed once the step is done."""
        place = canvas.place
        left = (place.end - place.start) * (1 - (place.step + 1).double() / place.n_steps)
        return place.end - left.floor().long() - canvas.committed.sum(dim=1)


@dataclass(frozen=True)
class Timed:
    """A share 1 - s / t of the masks that are left, times from 1 down to ``end`` in equal steps; in the last step all.

    Attributes:
        end: the last time, 0 < end < 1.
    """

    end: float = 1e-3
    times: ClassVar[int] = 1
    uses_steps: ClassVar[bool] = True
    until_filled: ClassVar[bool] = False
    verifies: ClassVar[bool] = False
    rounds: ClassVar[int | None] = None

    def __post_init__(self) -> None:
        if not 0 < self.end < 1:
            raise ValueError(f"eps={self.end}: must lie between 0 and 1")

    def share(self, canvas: Canvas) -> Tensor:
        """(B,): 1 - s / t, and 1 in a block's last step; in float32, as Dream computes it."""
        t, s = times(canvas, self.end)
        return torch.where(canvas.place.step + 1 == canvas.place.n_steps, 1.0, 1 - s / t)

    def due(self, canvas: Canvas) -> Tensor:
        """The share, rounded down."""
        masked = (canvas.masked & canvas.reachable).sum(dim=1)
        return (masked * self.share(canvas)).long()


@dataclass(frozen=True)
class AtTheEnd:
    """Nothing is due before a block's last step, then all: for rules that decide for themselves how many they commit."""

    times: ClassVar[int] = 1
    uses_steps: ClassVar[bool] = True
    until_filled: ClassVar[bool] = False
    verifies: ClassVar[bool] = False
    rounds: ClassVar[int | None] = None

    def due(self, canvas: Canvas) -> Tensor:
        """Nothing, or all that is masked in reach."""
        left = (canvas.masked & canvas.reachable).sum(dim=1)
        return torch.where(canvas.place.step + 1 == canvas.place.n_steps, left, 0)


@dataclass(frozen=True)
class Open:
    """As many steps as it takes to fill the block, at least one commit each.

    Attributes:
        verifies: look once more at the filled block, and stay as long as something is taken back.
        rounds: do not look once more when a position was taken back so often; None for always.
    """

    verifies: bool = False
    rounds: int | None = None
    times: ClassVar[int] = 1
    uses_steps: ClassVar[bool] = False
    until_filled: ClassVar[bool] = True

    def due(self, canvas: Canvas) -> Tensor:
        """One, where something is masked."""
        return (canvas.masked & canvas.reachable).any(dim=1).long()


@dataclass(frozen=True)
class Draft:
    """Fill the block in ``steps`` steps, then check it and fill what was taken back at the same pace.

    Attributes:
        steps: of a draft of a whole block.
        rounds: do not check again when a position was taken back so often; None for always.
    """

    steps: int
    rounds: int | None = 1
    verifies: ClassVar[bool] = True
    times: ClassVar[int] = 1
    uses_steps: ClassVar[bool] = False
    until_filled: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"draft_steps={self.steps}: must be at least 1; null commits by the entropy bound")

    def due(self, canvas: Canvas) -> Tensor:
        """An equal share of the block, rounded up, or what is left of it."""
        masked = (canvas.masked & canvas.reachable).sum(dim=1)
        size = canvas.place.end - canvas.place.start
        return torch.minimum((size + self.steps - 1) // self.steps, masked)


def times(canvas: Canvas, end: float, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """The times t before and s after the step, (B,) each, on a grid from 1 to ``end`` over the block's steps."""
    place = canvas.place
    pairs = zip(place.step.tolist(), place.n_steps.tolist(), strict=True)
    grid = torch.stack([torch.linspace(1, end, n + 1, dtype=dtype)[i : i + 2] for i, n in pairs]).to(place.step.device)
    return grid[:, 0], grid[:, 1]
