"""The models that are measured, and what one evaluation of them costs at least."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

import tta_bench
from tta_bench.models.llada import LLaDAConfig, LLaDAModelLM


@dataclass(frozen=True)
class Shape:
    """Of a random LLaDA.

    Attributes:
        width, layers, vocabulary: sizes.
        head: width of a head.
        inner: width of the feed-forward part, as a multiple of ``width``.
    """

    width: int
    layers: int
    vocabulary: int
    head: int = 64
    inner: int = 4

    def build(self) -> Any:
        """The model, the same every time."""
        torch.manual_seed(0)
        config = LLaDAConfig(
            d_model=self.width,
            n_heads=self.width // self.head,
            n_layers=self.layers,
            mlp_hidden_size=self.inner * self.width,
            vocab_size=self.vocabulary,
            embedding_size=self.vocabulary,
            mask_token_id=self.vocabulary - 1,
            eos_token_id=self.vocabulary - 2,
            pad_token_id=self.vocabulary - 2,
        )
        return LLaDAModelLM(config).eval()


SHAPES = {"V": Shape(256, 8, 126_464), "D": Shape(512, 16, 4_096)}
"""V has LLaDA's vocabulary on a narrow body, D a deep body and a small vocabulary."""


def build(name: str) -> Any:
    """A model by name: V, D or mini."""
    return tta_bench.load("mini", device="cpu")[0] if name == "mini" else SHAPES[name].build()


def floor(model: Any, length: int, positions: int) -> tuple[float, float]:
    """Multiply-adds and bytes of weights (both at least) of an evaluation of ``length`` tokens with logits at ``positions``."""
    head = model.get_output_embeddings().weight.numel()
    embedding = model.get_input_embeddings().weight.numel()
    body = sum(p.numel() for p in model.parameters()) - head - embedding
    attention = 2 * length * length * model.config.d_model * model.config.n_layers
    return body * length + head * positions + attention, 4.0 * (body + head)
