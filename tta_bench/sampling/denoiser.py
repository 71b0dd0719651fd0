"""One evaluation of the model on a canvas: the prompt-free pass of guidance, logit shift, padding, needed positions."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from tta_bench.sampling.logits import Logits
from tta_bench.types import Canvas


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
            real token. A model that takes ``positions`` (B, L) bool computes logits there only, and returns them as (M, V).
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
    def takes(self) -> frozenset[str]:
        """Names of the arguments that the model takes; ``**`` where it takes any."""
        parameters = inspect.signature(getattr(self.model, "forward", self.model)).parameters
        return frozenset("**" if p.kind is p.VAR_KEYWORD else name for name, p in parameters.items())

    def look(self, canvas: Canvas, repeats: int = 1, hidden: Tensor | None = None) -> Logits:
        """Logits at the positions looked at, in one call of the model. Rows without any are not evaluated.

        Args:
            canvas: rows of which some positions are looked at.
            repeats: how many copies of the batch to evaluate (for views that perturb the network or its input).
            hidden: (repeats, B, L) bool, where each copy has a mask instead of its token; None for nowhere.

        Returns:
            The logits of ``repeats`` views.
        """
        rows = canvas.looked.any(dim=1)
        n_calls = repeats * self.passes
        tokens = self.inputs(canvas)[rows.repeat(self.passes)].repeat(repeats, 1)
        if hidden is not None:
            hides = hidden[:, rows].repeat(1, self.passes, 1).flatten(0, 1)
            tokens = tokens.masked_fill(hides, canvas.mask_id)
        visible = None if canvas.padding is None else ~canvas.padding[rows].repeat(n_calls, 1)
        logits = self.evaluated(tokens, visible, canvas.looked[rows].repeat(n_calls, 1))
        return self.told(logits.view(repeats, self.passes, -1, logits.shape[-1]), canvas, canvas.looked)

    def told(self, raw: Tensor, canvas: Canvas, where: Tensor) -> Logits:
        """What the model gave (repeats, passes, M, V) at ``where`` (B, L)."""
        return Logits(raw, where, canvas.step, canvas.mask_id, self.cfg_scale, self.dtype)

    def evaluated(self, tokens: Tensor, visible: Tensor | None, wanted: Tensor) -> Tensor:
        """One call of the model.

        Args:
            tokens: ids (R, L).
            visible: (R, L) bool, False at padding; None where there is none.
            wanted: (R, L) bool, N positions whose token is to be predicted.

        Returns:
            Logits (N, V) of the tokens there, in row-major order.
        """
        needed, order = self.needed(visible, wanted)
        return self.call(tokens, needed, order, **self.padded(visible))

    def padded(self, visible: Tensor | None) -> dict[str, Tensor]:
        """What the model must be told of padding."""
        if visible is None:
            return {}
        told = {"attention_mask": visible.long()}
        return told | {"position_ids": positions(visible)} if self.takes & {"position_ids", "**"} else told

    def needed(self, visible: Tensor | None, wanted: Tensor) -> tuple[Tensor, Tensor | None]:
        """Where logits are needed to predict the tokens at ``wanted`` (R, L).

        With shifted logits that is one position to the left; the first visible position of a row has nothing to its left, and
        keeps its own.

        Returns:
            (R, L) bool, and which of these (N,) predicts each token; None where they are the same in the same order.
        """
        if not self.shift_logits:
            return wanted, None
        first = torch.zeros_like(wanted)
        first[:, 0] = True
        if visible is not None:
            first = visible & (visible.cumsum(dim=1) == 1)
        own = torch.arange(wanted.numel(), device=wanted.device).view(wanted.shape)
        source = torch.where(first, own, own - 1)[wanted]
        needed = torch.zeros_like(wanted)
        needed.view(-1)[source] = True
        return needed, needed.view(-1).cumsum(dim=0)[source] - 1

    def call(self, tokens: Tensor, needed: Tensor, order: Tensor | None, **more: Any) -> Tensor:
        """One call of the model: its logits at ``needed`` (R, L), or those of them that ``order`` says (N, V)."""
        if "positions" in self.takes:
            logits = self.model(tokens, positions=needed, **more).logits
        else:
            logits = self.model(tokens, **more).logits[needed]
        logits = logits.to(tokens.device)
        return logits if order is None else logits[order]

    def with_shadow(self, canvas: Canvas) -> tuple[Canvas, Logits]:
        """Logits at the positions looked at, and of a shadow of the current block, in one call of the model.

        The shadow adds a mask for each position of the block, at the same position id. No real position sees it; it sees all
        real positions but the one it mirrors, and the other shadows. The model must take a boolean ``attention_mask``
        (B, 1, L', L'), True = may attend, and ``position_ids`` (B, L').

        Returns:
            A wider canvas (B, L + W), in whose last columns stand the tokens that the shadows of a row mirror, in their order;
            and the logits there and at the positions looked at.
        """
        rows, block = canvas.looked.any(dim=1), canvas.block
        width, length = int(block.sum(dim=1).max()), block.shape[1]
        order = block.long().sort(dim=1, descending=True, stable=True)
        mirrored, real = order.indices[:, :width], order.values[:, :width].bool()
        visible = torch.ones_like(block) if canvas.padding is None else ~canvas.padding
        sees = torch.zeros(len(block), length + width, length + width, dtype=torch.bool, device=block.device)
        sees[:, :, :length] = torch.cat((visible, torch.zeros_like(real)), dim=1)[:, None, :length]
        sees[:, length:, :length].scatter_(2, mirrored[:, :, None], False)
        sees[:, length:, length:] = real[:, None, :] | torch.eye(width, dtype=torch.bool, device=block.device)
        position_ids = positions(visible)
        wide = replace(
            canvas,
            tokens=torch.cat((canvas.tokens, canvas.tokens.gather(1, mirrored)), dim=1),
            editable=torch.cat((canvas.editable, real), dim=1),
            focus=torch.cat((canvas.looked, real), dim=1),
        )
        tokens = self.inputs(canvas)[rows.repeat(self.passes)]
        shadows = torch.full((len(tokens), width), canvas.mask_id, dtype=tokens.dtype, device=tokens.device)
        logits = self.call(
            torch.cat((tokens, shadows), dim=1),
            wide.looked[rows].repeat(self.passes, 1),
            None,
            attention_mask=sees[rows, None].repeat(self.passes, 1, 1, 1),
            position_ids=torch.cat((position_ids, position_ids.gather(1, mirrored)), dim=1)[rows].repeat(self.passes, 1),
        )
        return wide, self.told(logits.view(1, self.passes, -1, logits.shape[-1]), wide, wide.looked)

    def inputs(self, canvas: Canvas) -> Tensor:
        """(passes x B, L): the canvas, and with guidance the canvas without its prompt."""
        if self.cfg_scale == 0:
            return canvas.tokens
        return torch.cat((canvas.tokens, torch.where(canvas.editable, canvas.tokens, canvas.mask_id)))


def positions(visible: Tensor) -> Tensor:
    """Position ids (B, L) that count the visible positions (B, L) from 0; 0 at padding."""
    return (visible.long().cumsum(dim=1) - 1).clamp(min=0)
