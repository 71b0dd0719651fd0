"""What becomes of end-of-sequence tokens while a text is being decoded in any order."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tta_bench.types import Canvas

POLICIES = ("allow", "forbid", "stop")


@dataclass(frozen=True)
class EosPolicy:
    """How end-of-sequence tokens are committed.

    ``allow``: as any other token. ``forbid``: until the end; a position whose candidate ends the sequence waits as long as
    the row has other positions to commit, or enough steps to wait. ``stop``: early; once a committed end has no mask before it,
    what is masked behind it is filled with it, at no further cost, and the row is finished.

    Attributes:
        kind: allow, forbid or stop.
        ids: token ids that end a sequence.
    """

    kind: str = "allow"
    ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in POLICIES:
            raise ValueError(f"eos_policy={self.kind}: must be one of {', '.join(POLICIES)}")
        if self.kind != "allow" and not self.ids:
            raise ValueError(f"eos_policy={self.kind}: nothing tells which tokens end a sequence; give eos_id, or use allow")

    def ends(self, tokens: Tensor) -> Tensor:
        """Where (B, L) ``tokens`` end a sequence."""
        return torch.isin(tokens, torch.tensor(self.ids, dtype=tokens.dtype, device=tokens.device))

    def hold_back(self, eligible: Tensor, candidates: Tensor, due: Tensor) -> Tensor:
        """``eligible`` (B, L) without the positions that must wait for their end-of-sequence candidate.

        None waits in a row that has nothing else to commit, or that must commit all that is eligible now.
        """
        if self.kind != "forbid":
            return eligible
        others = eligible & ~self.ends(candidates)
        waits = others.any(dim=1) & (due < eligible.sum(dim=1))
        return torch.where(waits[:, None], others, eligible)

    def stopped(self, canvas: Canvas, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (B,) that are finished, and ``tokens`` (B, L) with what is masked behind their end filled with it.

        Only ends behind the last position that is not editable count: a template goes on after its holes.
        """
        if self.kind != "stop":
            return torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device), tokens
        masked = (tokens == canvas.mask_id) & canvas.editable
        in_tail = (~canvas.editable).flip(1).cumsum(dim=1).flip(1) == 0
        clear = masked.cumsum(dim=1) == 0
        ends = self.ends(tokens) & in_tail & clear
        finished = ends.any(dim=1)
        first = tokens.gather(1, ends.long().argmax(dim=1, keepdim=True))
        return finished, torch.where(finished[:, None] & masked, first, tokens)
