"""LLaDA, natively: the transformer of the published checkpoints, without remote code.

Module names equal the published weight names (``model.transformer.blocks.0.q_proj.weight`` ...), so a LLaDA
checkpoint folder loads as it is. The block is the bias-free, pre-norm "llama" block: RMSNorm, rotary positions,
bidirectional attention, SwiGLU.

Reference: Nie et al., "Large Language Diffusion Models", arXiv:2502.09992.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import MaskedLMOutput

from tta_bench.models.checkpoint import MINI_PATH


class LLaDAConfig(PretrainedConfig):
    """Configuration with the key names of the published LLaDA ``config.json``.

    Raises:
        ValueError: a value asks for a variant that no published LLaDA uses and this code does not compute.
    """

    model_type = "llada"
    attribute_map = {
        "hidden_size": "d_model",
        "num_attention_heads": "n_heads",
        "num_hidden_layers": "n_layers",
        "num_key_value_heads": "n_kv_heads",
        "intermediate_size": "mlp_hidden_size",
        "max_position_embeddings": "max_sequence_length",
    }

    def __init__(
        self,
        d_model: int = 4096,
        n_heads: int = 32,
        n_kv_heads: int | None = None,
        n_layers: int = 32,
        mlp_ratio: int = 4,
        mlp_hidden_size: int | None = 12288,
        activation_type: str = "silu",
        block_type: str = "llama",
        layer_norm_type: str = "rms",
        rms_norm_eps: float = 1e-5,
        rope: bool = True,
        rope_theta: float = 500000.0,
        rope_full_precision: bool = True,
        alibi: bool = False,
        attention_layer_norm: bool = False,
        include_bias: bool = False,
        include_qkv_bias: bool = False,
        input_emb_norm: bool = False,
        scale_logits: bool = False,
        weight_tying: bool = False,
        max_sequence_length: int = 4096,
        vocab_size: int = 126464,
        embedding_size: int | None = 126464,
        mask_token_id: int = 126336,
        eos_token_id: int | None = 126081,
        pad_token_id: int | None = 126081,
        init_std: float = 0.02,
        **kwargs: Any,
    ) -> None:
        self.d_model = d_model
        self.n_heads = n_heads
        self.n_kv_heads = n_heads if n_kv_heads is None else n_kv_heads
        self.n_layers = n_layers
        self.mlp_ratio = mlp_ratio
        self.mlp_hidden_size = mlp_ratio * d_model if mlp_hidden_size is None else mlp_hidden_size
        self.activation_type = activation_type
        self.block_type = block_type
        self.layer_norm_type = layer_norm_type
        self.rms_norm_eps = rms_norm_eps
        self.rope = rope
        self.rope_theta = rope_theta
        self.rope_full_precision = rope_full_precision
        self.alibi = alibi
        self.attention_layer_norm = attention_layer_norm
        self.include_bias = include_bias
        self.include_qkv_bias = include_qkv_bias
        self.input_emb_norm = input_emb_norm
        self.scale_logits = scale_logits
        self.weight_tying = weight_tying
        self.max_sequence_length = max_sequence_length
        self.vocab_size = vocab_size
        self.embedding_size = vocab_size if embedding_size is None else embedding_size
        self.mask_token_id = mask_token_id
        self.init_std = init_std
        kwargs["tie_word_embeddings"] = weight_tying
        super().__init__(eos_token_id=eos_token_id, pad_token_id=pad_token_id, **kwargs)
        self._refuse_unknown_variants()

    def _refuse_unknown_variants(self) -> None:
        required = {
            "block_type": "llama",
            "activation_type": "silu",
            "layer_norm_type": "rms",
            "rope": True,
            "alibi": False,
            "attention_layer_norm": False,
            "include_bias": False,
            "input_emb_norm": False,
        }
        for name, value in required.items():
            if getattr(self, name) != value:
                raise ValueError(
                    f"LLaDA config: {name}={getattr(self, name)!r} is not supported; every published LLaDA has {value!r}"
                )
        if self.d_model % self.n_heads or self.n_heads % self.n_kv_heads:
            raise ValueError(
                f"LLaDA config: d_model={self.d_model} must be a multiple of n_heads={self.n_heads}, "
                f"and n_heads a multiple of n_kv_heads={self.n_kv_heads}"
            )


class RMSNorm(nn.Module):
    """Root-mean-square norm, computed in float32 whatever the input's dtype."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), x.shape[-1:], eps=self.eps).to(x.dtype) * self.weight


def rotary_angles(position_ids: Tensor, head_width: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine (B, 1, L, head_width), float32, of the rotary embedding at ``position_ids`` (B, L)."""
    exponent = torch.arange(0, head_width, 2, device=position_ids.device, dtype=torch.float32) / head_width
    angle = position_ids[..., None].float() / theta**exponent
    angle = torch.cat((angle, angle), dim=-1)[:, None]
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding of ``x`` (B, heads, L, head_width), with the two halves of a head as the plane's axes."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class LLaDABlock(nn.Module):
    """One pre-norm transformer block."""

    def __init__(self, config: LLaDAConfig) -> None:
        super().__init__()
        width, bias = config.d_model, config.include_qkv_bias
        self.n_heads, self.n_kv_heads = config.n_heads, config.n_kv_heads
        self.rope_full_precision = config.rope_full_precision
        kv_width = width // config.n_heads * config.n_kv_heads
        self.attn_norm = RMSNorm(width, config.rms_norm_eps)
        self.q_proj = nn.Linear(width, width, bias=bias)
        self.k_proj = nn.Linear(width, kv_width, bias=bias)
        self.v_proj = nn.Linear(width, kv_width, bias=bias)
        self.attn_out = nn.Linear(width, width, bias=False)
        self.ff_norm = RMSNorm(width, config.rms_norm_eps)
        self.ff_proj = nn.Linear(width, config.mlp_hidden_size, bias=False)
        self.up_proj = nn.Linear(width, config.mlp_hidden_size, bias=False)
        self.ff_out = nn.Linear(config.mlp_hidden_size, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None) -> Tensor:
        x = x + self.attn_out(self._attend(self.attn_norm(x), cos, sin, mask))
        y = self.ff_norm(x)
        return x + self.ff_out(F.silu(self.ff_proj(y)) * self.up_proj(y))

    def _attend(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None) -> Tensor:
        batch, length, width = x.shape
        q = self.q_proj(x).view(batch, length, self.n_heads, -1).transpose(1, 2)
        k = self.k_proj(x).view(batch, length, self.n_kv_heads, -1).transpose(1, 2)
        v = self.v_proj(x).view(batch, length, self.n_kv_heads, -1).transpose(1, 2)
        rotation_dtype = torch.float32 if self.rope_full_precision else x.dtype
        q, k = (rotate(t.to(rotation_dtype), cos, sin).to(v.dtype) for t in (q, k))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=self.n_heads != self.n_kv_heads)
        return y.transpose(1, 2).reshape(batch, length, width)


class LLaDAModel(nn.Module):
    """The published nesting of modules: ``transformer.{wte, blocks, ln_f, ff_out}``."""

    def __init__(self, config: LLaDAConfig) -> None:
        super().__init__()
        modules: dict[str, nn.Module] = {
            "wte": nn.Embedding(config.embedding_size, config.d_model),
            "blocks": nn.ModuleList(LLaDABlock(config) for _ in range(config.n_layers)),
            "ln_f": RMSNorm(config.d_model, config.rms_norm_eps),
        }
        if not config.weight_tying:
            modules["ff_out"] = nn.Linear(config.d_model, config.embedding_size, bias=False)
        self.transformer = nn.ModuleDict(modules)

    @property
    def blocks(self) -> list[LLaDABlock]:
        """The blocks, first to last."""
        return list(cast("Iterable[LLaDABlock]", self.transformer["blocks"]))

    @property
    def head(self) -> Tensor:
        """Weight of the output head (embedding_size, d_model): its own, or the embedding's where they are tied."""
        name = "ff_out" if "ff_out" in self.transformer else "wte"
        return cast(Tensor, self.transformer[name].weight)


class LLaDAModelLM(PreTrainedModel):
    """A LLaDA masked diffusion language model, with the calling convention of transformers."""

    config_class = LLaDAConfig
    base_model_prefix = "model"
    _no_split_modules = ["LLaDABlock"]
    _supports_sdpa = True

    def __init__(self, config: LLaDAConfig) -> None:
        super().__init__(config)
        self.model = LLaDAModel(config)
        self.post_init()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """As in transformers; the name ``mini`` stands for the embedded checkpoint."""
        if pretrained_model_name_or_path == "mini":
            pretrained_model_name_or_path = MINI_PATH
        return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)

    def get_input_embeddings(self) -> nn.Module:
        return self.model.transformer["wte"]

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.model.transformer["wte"] = value

    def get_output_embeddings(self) -> nn.Module:
        return self.model.transformer["wte" if self.config.weight_tying else "ff_out"]

    def residual_branches(self) -> list[nn.Module]:
        """The modules whose output is added to the residual stream: where dropout views act."""
        return [m for block in self.model.blocks for m in (block.attn_out, block.ff_out)]

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.init_std)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, RMSNorm):
            nn.init.ones_(module.weight)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> MaskedLMOutput:
        """Predict the token at every position.

        Args:
            input_ids: token ids (B, L).
            attention_mask: None, or (B, L) with 0 at padding, or a boolean (B, 1 or heads, L, L), True = may attend.
            position_ids: rotary positions (B, L); 0 .. L-1 when absent.

        Returns:
            An output whose ``logits`` are (B, L, embedding_size); the logits at i predict the token at i (no shift).
        """
        if position_ids is None:
            position_ids = torch.arange(input_ids.shape[1], device=input_ids.device)[None]
        if attention_mask is not None and attention_mask.dim() == 2:
            attention_mask = None if bool((attention_mask != 0).all()) else (attention_mask != 0)[:, None, None, :]
        parts = self.model.transformer
        cos, sin = rotary_angles(position_ids, self.config.d_model // self.config.n_heads, self.config.rope_theta)
        x = parts["wte"](input_ids)
        for block in self.model.blocks:
            x = block(x, cos, sin, attention_mask)
        x = parts["ln_f"](x)
        logits = F.linear(x, self.model.head)
        if self.config.scale_logits:
            logits = logits * self.config.d_model**-0.5
        return MaskedLMOutput(logits=logits)


AutoConfig.register("llada", LLaDAConfig, exist_ok=True)
AutoModel.register(LLaDAConfig, LLaDAModelLM, exist_ok=True)
