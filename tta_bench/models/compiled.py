"""``torch.compile`` for static shapes.

Rows finish and prompts differ, so the shapes that a sampler asks for change all the time, and each would be compiled anew. Here
batches are filled up to a power of two and sequences to a multiple of ``MULTIPLE``, with positions that nobody sees; few shapes
are left. Rounding differs from the model that is not compiled, so a near-tie can fall the other way.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_outputs import MaskedLMOutput

from tta_bench.models.hf import MaskedLM
from tta_bench.models.native import NativeModel, at_positions

MULTIPLE = 64
"""Lengths are filled up to a multiple of this."""

SHAPES = 64
"""Different shapes that may be compiled before torch gives up on it."""


class Compiled(nn.Module):
    """A compiled model. Keys and values cannot be kept (``cache=none``).

    Attributes:
        uncompiled: the model itself, for dropout views. Its layers are compiled in place, and these tell torch not to use that.

    Args:
        model: native, or a ``MaskedLM``.
        backend: of ``torch.compile``.
    """

    def __init__(self, model: NativeModel | MaskedLM, backend: str = "inductor") -> None:
        super().__init__()
        self.model = self.uncompiled = model
        self.config: Any = model.config
        self.end_ids: tuple[int, ...] = getattr(model, "end_ids", ())
        self.shift_logits = bool(getattr(model, "shift_logits", False))
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, SHAPES)
        # A layer is compiled once and serves them all; what depends on data, the choice of positions, stays outside.
        for layer in model.anatomy().layers if isinstance(model, NativeModel) else [model.model]:
            layer.compile(dynamic=False, backend=backend)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.model.dtype

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> MaskedLMOutput:
        """As the model's."""
        rows, length = input_ids.shape
        wide, tall = -length % MULTIPLE, (1 << (rows - 1).bit_length()) - rows
        if attention_mask is None and wide:
            attention_mask = torch.ones_like(input_ids)
        if attention_mask is not None:
            unseen = torch.finfo(attention_mask.dtype).min if attention_mask.is_floating_point() else 0
            attention_mask = attention_mask.expand(rows, *(-1,) * (attention_mask.dim() - 1))
            if attention_mask.dim() == 4:
                attention_mask = attention_mask.expand(-1, -1, length, -1)
            # New queries see what others do, so that none sees nothing; nobody sees the new keys.
            attention_mask = F.pad(attention_mask, (0, wide), value=unseen)
            if attention_mask.dim() == 4:
                attention_mask = torch.cat((attention_mask, attention_mask[:, :, :1].expand(-1, -1, wide, -1)), dim=2)
        if position_ids is None:
            position_ids = torch.arange(length, device=input_ids.device)
        position_ids = position_ids.expand_as(input_ids)
        some = positions if positions is not None and positions.dtype == torch.bool else None
        wanted = torch.ones_like(input_ids, dtype=torch.bool) if some is None else some
        logits = self.model(
            taller(F.pad(input_ids, (0, wide)), tall),
            attention_mask=None if attention_mask is None else taller(attention_mask, tall),
            position_ids=taller(F.pad(position_ids, (0, wide)), tall),
            positions=F.pad(wanted, (0, wide, 0, tall)),
        ).logits
        return MaskedLMOutput(logits=at_positions(logits.view(rows, length, -1), positions) if some is None else logits)


def taller(values: Tensor, rows: int) -> Tensor:
    """With its first row once more, ``rows`` times."""
    return torch.cat((values, values[:1].expand(rows, *values.shape[1:]))) if rows else values
