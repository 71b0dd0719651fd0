"""The layer and the nesting of modules that Dream, iLLaDA and LLaDA-MoE share, with the names of Llama's weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

from torch import Tensor, nn
from torch.nn import functional as F

from tta_bench.models.native import Anatomy, Layer, Look, NativeModel, RMSNorm, attend, heads


class Attention(nn.Module):
    """Attention of a layer, perhaps with fewer heads of keys than of queries.

    Args:
        config: with the key names of Llama's.
        number: of the layer.
        bias: on queries, keys and values.
        norm: a norm of each head of queries and keys, before the rotation.
    """

    def __init__(self, config: Any, number: int, *, bias: bool, norm: bool) -> None:
        super().__init__()
        width = config.hidden_size
        self.number, self.head_width = number, width // config.num_attention_heads
        self.q_proj = nn.Linear(width, width, bias=bias)
        self.k_proj = nn.Linear(width, self.head_width * config.num_key_value_heads, bias=bias)
        self.v_proj = nn.Linear(width, self.head_width * config.num_key_value_heads, bias=bias)
        self.o_proj = nn.Linear(width, width, bias=False)
        self.normed = norm
        if norm:
            self.q_norm = RMSNorm(self.head_width, config.rms_norm_eps)
            self.k_norm = RMSNorm(self.head_width, config.rms_norm_eps)

    def forward(self, x: Tensor, look: Look) -> Tensor:
        """(B, Q, hidden_size)."""
        q, k, v = (heads(project(x), self.head_width) for project in (self.q_proj, self.k_proj, self.v_proj))
        if self.normed:
            q, k = self.q_norm(q), self.k_norm(k)
        return self.o_proj(attend(q, k, v, look, self.number, precise=False))


class MLP(nn.Module):
    """SwiGLU, without biases."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """As ``x``."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class DecoderLayer(Layer):
    """One layer of a decoder, which here sees both ways."""

    def __init__(self, config: Any, self_attn: Attention, mlp: nn.Module) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = self_attn
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = mlp

    def forward(self, x: Tensor, look: Look) -> Tensor:
        """(B, Q, hidden_size)."""
        x = x + self.self_attn(self.input_layernorm(x), look)
        return x + self.mlp(self.post_attention_layernorm(x))

    @property
    def branches(self) -> list[nn.Module]:
        """The modules whose output is added to the residual stream."""
        return [self.self_attn.o_proj, self.mlp.down_proj if isinstance(self.mlp, MLP) else self.mlp]


class Decoder(nn.Module):
    """The nesting of modules: ``embed_tokens``, ``layers``, ``norm``."""

    def __init__(self, config: Any, layer: Callable[[int], DecoderLayer]) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(layer(number) for number in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class DecoderModel(NativeModel):
    """A model made of a ``Decoder`` and a head, which is the embedding where ``tie_word_embeddings`` says so."""

    _no_split_modules = ["DecoderLayer"]
    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.model = Decoder(config, self.layer)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def layer(self, number: int) -> DecoderLayer:
        """A new layer."""
        raise NotImplementedError

    def get_output_embeddings(self) -> nn.Module:
        """The head."""
        return self.lm_head

    @property
    def layers(self) -> list[DecoderLayer]:
        """The layers, first to last."""
        return list(cast("Iterable[DecoderLayer]", self.model.layers))

    def anatomy(self) -> Anatomy:
        """The model's parts."""
        return Anatomy(
            embedding=self.model.embed_tokens,
            layers=self.layers,
            norm=self.model.norm,
            head=self.lm_head,
            head_width=self.config.hidden_size // self.config.num_attention_heads,
            rope_theta=self.config.rope_theta,
        )

    def residual_branches(self) -> list[nn.Module]:
        """The modules whose output is added to the residual stream: where dropout views act."""
        return [module for layer in self.layers for module in layer.branches]


def refuse(name: str, config: Any, required: dict[str, Any]) -> None:
    """Refuse a configuration that asks for what is not computed here.

    Raises:
        ValueError: a value differs from the only one that published checkpoints have, or the heads do not divide the width.
    """
    for key, value in required.items():
        if getattr(config, key) != value:
            raise ValueError(
                f"{name} config: {key}={getattr(config, key)!r} is not supported; every published {name} has {value!r}"
            )
    if config.hidden_size % config.num_attention_heads or config.num_attention_heads % config.num_key_value_heads:
        raise ValueError(
            f"{name} config: hidden_size={config.hidden_size} must be a multiple of "
            f"num_attention_heads={config.num_attention_heads}, and that of num_key_value_heads={config.num_key_value_heads}"
        )


def rotary(name: str, rope_theta: float, rope_scaling: dict[str, Any] | None, kwargs: dict[str, Any]) -> float:
    """Base of the rotary positions, wherever a configuration tells it; takes from ``kwargs`` what tells of them.

    Raises:
        ValueError: they are scaled, or turn a part of a head only.
    """
    # transformers 5 writes the settings of its own models as rope_parameters.
    told = {**(rope_scaling or {}), **(kwargs.pop("rope_parameters", None) or {})}
    kind, part = told.get("rope_type", told.get("type", "default")), told.get("partial_rotary_factor", 1.0)
    if kind != "default" or part != 1:
        raise ValueError(
            f"{name} config: rope_type={kind!r} with partial_rotary_factor={part} is not supported; every published {name} has "
            "'default' and 1"
        )
    return float(told.get("rope_theta", rope_theta))
