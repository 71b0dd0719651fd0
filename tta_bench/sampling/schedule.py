"""How many positions are to be committed by when, as data.

The schedule is cumulative: ``quota[:, i]`` positions are committed once step i is done. A position that was remasked is
thereby owed again, and the last step leaves no mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Plan:
    """A schedule for given rows.

    Attributes:
        quota: (B, S) integers, positions committed once the step is done.
        reach: (B, S) integers; in the step, only the first ``reach`` editable positions may be committed.
    """

    quota: Tensor
    reach: Tensor


@dataclass(frozen=True)
class BlockSchedule:
    """LLaDA's semi-autoregressive blocks: the same number of steps in each, uniform within it, the remainder first.

    A block is ``block_length`` consecutive *editable* positions; None makes one block of the canvas. Reference: Nie et
    al., arXiv:2502.09992, section 2.4; the split of m masks over s steps is m // s each and one more in the first m % s.
    """

    steps: int
    block_length: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.steps, int) or self.steps < 1:
            raise ValueError(f"steps={self.steps}: must be a whole number, at least 1")
        if self.block_length is not None and self.block_length < 1:
            raise ValueError(f"block_length={self.block_length}: must be at least 1")

    def plan(self, n_editable: list[int]) -> Plan:
        """The schedule for rows with ``n_editable`` editable positions each.

        Raises:
            ValueError: the steps cannot be shared equally among the blocks.
        """
        rows = [self._row(n) for n in n_editable]
        return Plan(torch.tensor([quota for quota, _ in rows]), torch.tensor([reach for _, reach in rows]))

    def _row(self, n: int) -> tuple[list[int], list[int]]:
        length = n if self.block_length is None else min(self.block_length, n)
        blocks = max(1, -(-n // max(1, length)))
        if self.steps % blocks:
            raise ValueError(
                f"steps={self.steps}: must be divisible by the number of blocks, {blocks} "
                f"({n} positions in blocks of {length}); choose a multiple of {blocks}, or another block_length"
            )
        share = self.steps // blocks
        quota, reach = [], []
        for block in range(blocks):
            start, end = block * length, min(n, (block + 1) * length)
            base, extra = divmod(end - start, share)
            quota += [start + base * i + min(i, extra) for i in range(1, share + 1)]
            reach += [end] * share
        return quota, reach
