"""One evaluation of the model on a canvas: guidance, logit shift, padding, and a mask token that can never be chosen."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
from functools import cached_property
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
        model: callable, ``model(input_ids)`` -> object with ``logits`` (B, L, V). Where a batch is padded it is also given
            ``attention_mask`` (B, L), 0 at padding, and, if it takes them, ``position_ids`` (B, L) that start at the first
            real token.
        cfg_scale: classifier-free guidance w: l_u + (w + 1)(l - l_u), with l_u from the prompt masked (LLaDA).
        shift_logits: True where the logits at i predict the token at i + 1 (Dream).
        dtype: in which logits are guided and scored; None takes the model's, at least float32.
    """

    model: Any
    cfg_scale: float = 0.0
    shift_logits: bool = False
    dtype: torch.dtype | None = None

    @property
    def passes(self) -> int:
        """Model evaluations per row of one look."""
        return 2 if self.cfg_scale > 0 else 1

    @cached_property
    def _takes_position_ids(self) -> bool:
        parameters = inspect.signature(getattr(self.model, "forward", self.model)).parameters
        return "position_ids" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())

    def logits(self, canvas: Canvas, repeats: int = 1) -> Tensor:
        """Logits at the editable positions, in one call of the model. Rows without any are not evaluated.

        Args:
            canvas: rows of which M positions in all are editable.
            repeats: how many copies of the batch to evaluate (for views that perturb the network).

        Returns:
            (repeats, M, V), positions in row-major order, minus infinity at the mask token.

        Raises:
            ModelOutputError: a logit is NaN or plus infinity, or a position has no finite logit.
        """
        rows = canvas.editable.any(dim=1)
        n_calls = repeats * self.passes
        more: dict[str, Tensor] = {}
        if canvas.padding is not None:
            visible = ~canvas.padding[rows]
            more["attention_mask"] = visible.long().repeat(n_calls, 1)
            if self._takes_position_ids:
                more["position_ids"] = positions(visible).repeat(n_calls, 1)
        logits = self.model(self._inputs(canvas)[rows.repeat(self.passes)].repeat(repeats, 1), **more).logits
        if self.shift_logits:
            logits = shifted(logits, None if canvas.padding is None else canvas.padding[rows].repeat(n_calls, 1))
        logits = logits.view(repeats, self.passes, *canvas.tokens[rows].shape, -1)[:, :, canvas.editable[rows]]
        return self._scored(logits, canvas, canvas.editable)

    def with_shadow(self, canvas: Canvas) -> tuple[Tensor, Tensor]:
        """Logits at the editable positions, and of a shadow of the current block, in one call of the model.

        The shadow adds a mask for each position of the block, at the same position id. No real position sees it; it sees all
        real positions but the one it mirrors, and the other shadows. The model must take a boolean ``attention_mask``
        (B, 1, L', L'), True = may attend, and ``position_ids`` (B, L').

        Returns:
            (M, V) at the editable positions, and (N, V) at the positions of the current block, both in row-major order.
        """
        rows = canvas.editable.any(dim=1)
        block = canvas.block[rows]
        n, length = block.shape
        visible = torch.ones_like(block) if canvas.padding is None else ~canvas.padding[rows]
        width = int(block.sum(dim=1).max())
        order = block.long().sort(dim=1, descending=True, stable=True)
        mirrored, real = order.indices[:, :width], order.values[:, :width].bool()
        position_ids = positions(visible)
        sees = torch.zeros(n, length + width, length + width, dtype=torch.bool, device=block.device)
        sees[:, :, :length] = torch.cat((visible, torch.zeros_like(real)), dim=1)[:, None, :length]
        sees[:, length:, :length].scatter_(2, mirrored[:, :, None], False)
        sees[:, length:, length:] = real[:, None, :] | torch.eye(width, dtype=torch.bool, device=block.device)
        tokens = self._inputs(canvas)[rows.repeat(self.passes)]
        shadows = torch.full((len(tokens), width), canvas.mask_id, dtype=tokens.dtype, device=tokens.device)
        logits = self.model(
            torch.cat((tokens, shadows), dim=1),
            attention_mask=sees[:, None].repeat(self.passes, 1, 1, 1),
            position_ids=torch.cat((position_ids, position_ids.gather(1, mirrored)), dim=1).repeat(self.passes, 1),
        ).logits
        logits = logits.view(1, self.passes, n, length + width, -1)
        real_logits = self._scored(logits[:, :, :, :length][:, :, canvas.editable[rows]], canvas, canvas.editable)
        return real_logits[0], self._scored(logits[:, :, :, length:][:, :, real], canvas, canvas.block)[0]

    def _inputs(self, canvas: Canvas) -> Tensor:
        """(passes x B, L): the canvas, and with guidance the canvas without its prompt."""
        if self.cfg_scale == 0:
            return canvas.tokens
        return torch.cat((canvas.tokens, torch.where(canvas.editable, canvas.tokens, canvas.mask_id)))

    def _scored(self, logits: Tensor, canvas: Canvas, where: Tensor) -> Tensor:
        """(repeats, passes, M, V) to (repeats, M, V): cast, guided, checked, without the mask token."""
        logits = logits.to(self.dtype or torch.promote_types(logits.dtype, torch.float32))
        conditional, unconditional = logits[:, 0], logits[:, -1]
        if self.cfg_scale > 0:
            conditional = unconditional + (self.cfg_scale + 1) * (conditional - unconditional)
        banned = torch.arange(conditional.shape[-1], device=conditional.device) == canvas.mask_id
        conditional = conditional.masked_fill(banned, -torch.inf)
        _check(conditional, canvas.step, where)
        return conditional


def shifted(logits: Tensor, padding: Tensor | None) -> Tensor:
    """Logits (B, L, V) moved one position to the right; the first visible position of a row keeps its own."""
    moved = torch.cat((logits[:, :1], logits[:, :-1]), dim=1)
    if padding is None:
        return moved
    first = ~padding & (padding.roll(1, dims=1))
    first[:, 0] = ~padding[:, 0]
    return torch.where(first[..., None], logits, moved)


def positions(visible: Tensor) -> Tensor:
    """Position ids (B, L) that count the visible positions (B, L) from 0; 0 at padding."""
    return (visible.long().cumsum(dim=1) - 1).clamp(min=0)


def _check(logits: Tensor, step: int, where: Tensor) -> None:
    """Refuse logits (repeats, M, V) with NaN, plus infinity, or nothing finite, naming where (B, L) they are."""
    top = logits.amax(dim=-1)
    if bool(torch.isfinite(top).all()):
        return
    place = int((~torch.isfinite(top)).nonzero()[0, 1])
    row, position = (int(i) for i in where.nonzero()[place])
    raise ModelOutputError(
        f"step {step}: the model's logits at row {row}, position {position} have the maximum {float(top[:, place].max())} "
        "over the tokens that may be written; it must be finite. Nothing of this batch was kept."
    )
