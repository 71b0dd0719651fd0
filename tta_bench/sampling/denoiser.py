"""One evaluation of the model on a canvas: guidance, logit shift, and a mask token that can never be chosen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tta_bench.types import Canvas


class ModelOutputError(FloatingPointError):
    """The model returned logits that no distribution can be made of."""


def check_cfg_scale(value: float) -> None:
    """Refuse a guidance scale that is negative or not finite."""
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"cfg_scale={value}: must be a number >= 0; 0 switches guidance off")


@dataclass(frozen=True)
class Denoiser:
    """The model as the views see it.

    Attributes:
        model: callable, ``model(input_ids)`` -> object with ``logits`` (B, L, V).
        cfg_scale: classifier-free guidance w: l_u + (w + 1)(l - l_u), with l_u from the prompt masked (LLaDA).
        shift_logits: True where the logits at i predict the token at i + 1 (Dream).
    """

    model: Any
    cfg_scale: float = 0.0
    shift_logits: bool = False

    @property
    def passes(self) -> int:
        """Model evaluations per row of one look."""
        return 2 if self.cfg_scale > 0 else 1

    def logits(self, canvas: Canvas, repeats: int = 1) -> Tensor:
        """Logits at the editable positions, in one call of the model.

        Args:
            canvas: B rows, of which M positions in all are editable.
            repeats: how many copies of the batch to evaluate (for views that perturb the network).

        Returns:
            (repeats, M, V), positions in row-major order, minus infinity at the mask token.

        Raises:
            ModelOutputError: a logit is NaN or plus infinity, or a position has no finite logit.
        """
        tokens = canvas.tokens
        if self.cfg_scale > 0:
            tokens = torch.cat((tokens, torch.where(canvas.editable, tokens, canvas.mask_id)))
        logits = self.model(tokens.repeat(repeats, 1)).logits
        if self.shift_logits:
            logits = torch.cat((logits[:, :1], logits[:, :-1]), dim=1)
        logits = logits.view(repeats, self.passes, *canvas.tokens.shape, -1)[:, :, canvas.editable]
        conditional, unconditional = logits[:, 0], logits[:, -1]
        if self.cfg_scale > 0:
            conditional = unconditional + (self.cfg_scale + 1) * (conditional - unconditional)
        _check(conditional, canvas)
        banned = torch.arange(conditional.shape[-1], device=conditional.device) == canvas.mask_id
        return conditional.masked_fill(banned, -torch.inf)


def _check(logits: Tensor, canvas: Canvas) -> None:
    """Refuse logits with NaN, plus infinity, or nothing finite, naming where."""
    top = logits.amax(dim=-1)
    if bool(torch.isfinite(top).all()):
        return
    place = int((~torch.isfinite(top)).nonzero()[0, 1])
    row, position = (int(i) for i in canvas.editable.nonzero()[place])
    raise ModelOutputError(
        f"step {canvas.step}: the model's logits at row {row}, position {position} have the maximum "
        f"{float(top[:, place].max())}; it must be finite. Nothing of this batch was kept."
    )
