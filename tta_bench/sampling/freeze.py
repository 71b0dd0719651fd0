"""The freeze window: a position that keeps changing is left alone for a while."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class FreezeMemory:
    """What the freeze window remembers.

    Attributes:
        changed: (W, B, L) bool, where the canvas changed in each of the last W steps, oldest first.
        until: (B, L) integers, the first step in which the position may be remasked again.
    """

    changed: Tensor
    until: Tensor


@dataclass(frozen=True)
class FreezeWindow:
    """Freeze, row by row, what changed ``threshold`` times within ``window`` steps, for ``duration`` steps.

    A change is any difference between the canvas before and after a step: a commit or a remask. The condition is looked
    at before every step; while it holds, the freeze is renewed.
    """

    window: int = 5
    threshold: int = 3
    duration: int = 3

    def __post_init__(self) -> None:
        if self.window < 1:
            raise ValueError(f"freeze_window={self.window}: must be at least 1")
        if self.threshold < 1:
            raise ValueError(f"freeze_threshold={self.threshold}: must be at least 1")
        if self.duration < 0:
            raise ValueError(f"freeze_duration={self.duration}: must not be negative; 0 never freezes")

    def init(self, tokens: Tensor) -> FreezeMemory:
        """Nothing changed yet, for tokens (B, L)."""
        changed = torch.zeros((self.window, *tokens.shape), dtype=torch.bool, device=tokens.device)
        return FreezeMemory(changed, torch.zeros_like(tokens))

    def begin(self, memory: FreezeMemory, step: int) -> FreezeMemory:
        """The memory with the freezes that start (or are renewed) in ``step``."""
        restless = memory.changed.sum(dim=0) >= self.threshold
        return FreezeMemory(memory.changed, torch.where(restless, step + self.duration, memory.until))

    def end(self, memory: FreezeMemory, changed: Tensor) -> FreezeMemory:
        """The memory after a step in which ``changed`` (B, L) positions changed."""
        return FreezeMemory(torch.cat((memory.changed[1:], changed[None])), memory.until)
