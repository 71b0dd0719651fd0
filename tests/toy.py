"""Small models for tests."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

GOLDEN = Path(__file__).parent / "golden" / "data"


class ToyDenoiser(torch.nn.Module):
    """A two-layer attention model in float64 with the weights of the golden data; its mask token is 96 of 97."""

    def __init__(self) -> None:
        super().__init__()
        weights = load_file(GOLDEN / "toy_denoiser.safetensors")
        for name, value in weights.items():
            self.register_buffer(name.replace(".", "_"), value)
        self.calls: list[Tensor] = []

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, position_ids: Tensor | None = None
    ) -> SimpleNamespace:
        """A 2-D ``attention_mask`` hides padding, a 4-D boolean one says who may attend to whom."""
        self.calls.append(input_ids.clone())
        if position_ids is None:
            position_ids = torch.arange(input_ids.shape[1])[None]
        if attention_mask is not None and attention_mask.dim() == 2:
            attention_mask = (attention_mask != 0)[:, None, None]
        sees = None if attention_mask is None else attention_mask[:, 0]
        h = self.embedding[input_ids] + self.position[position_ids]
        for i in (0, 1):
            q, k, v = (h @ getattr(self, f"qkv_{i}").T).chunk(3, dim=-1)
            a = F.scaled_dot_product_attention(4 * q, k, v, attn_mask=sees)
            h = torch.tanh((3 * a + 0.3 * h) @ getattr(self, f"mix_{i}").T)
        logits = h @ self.head.T
        logits[..., 96] = -1e9
        return SimpleNamespace(logits=logits)


class TableModel:
    """Answers every canvas with the same logits (L, V): what a sampler does with them can be worked out by hand."""

    def __init__(self, logits: Tensor) -> None:
        self.table = logits
        self.calls = 0

    def __call__(self, input_ids: Tensor) -> SimpleNamespace:
        self.calls += 1
        return SimpleNamespace(logits=self.table.expand(len(input_ids), -1, -1).clone())


def peaked(confidences: list[float], vocabulary: int = 5) -> Tensor:
    """Logits (L, V) that give token 0 the probability asked for, the rest shared by tokens 1 .. V-2; V-1 is the mask."""
    rows = []
    for p in confidences:
        rest = (1 - p) / (vocabulary - 2)
        rows.append([p, *[rest] * (vocabulary - 2), 0.0])
    return torch.tensor(rows).clamp(min=1e-9).log()
