"""LLaDA, natively: the transformer of the published checkpoints, without remote code.

Module names equal the published weight names (``model.transformer.blocks.0.q_proj.weight`` ...), so a LLaDA
checkpoint folder loads as it is. The block is the bias-free, pre-norm "llama" block: RMSNorm, rotary positions,
bidirectional attention, SwiGLU.

Reference: Nie et al., "Large Language Diffusion Models", arXiv:2502.09992.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, PretrainedConfig

from tta_bench.models.checkpoint import MINI_PATH
from tta_bench.models.decoder import rotary
from tta_bench.models.native import Anatomy, Layer, Look, NativeModel, RMSNorm, attend, heads


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
        "initializer_range": "init_std",
    }

    def __init__(
        self,
        d_model: int = 4096,
        n_heads: int = 32,
        n_kv_heads: int | None = None,
        multi_query_attention: bool | None = None,
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
        self.multi_query_attention = multi_query_attention
        self.n_kv_heads = (1 if multi_query_attention else n_heads) if n_kv_heads is None else n_kv_heads
        self.n_layers = n_layers
        self.mlp_ratio = mlp_ratio
        self.mlp_hidden_size = mlp_ratio * d_model if mlp_hidden_size is None else mlp_hidden_size
        self.activation_type = activation_type
        self.block_type = block_type
        self.layer_norm_type = layer_norm_type
        self.rms_norm_eps = rms_norm_eps
        self.rope = rope
        self.rope_theta = rotary("LLaDA", rope_theta, kwargs.pop("rope_scaling", None), kwargs)
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
        self._refuse_unknown_variants(kwargs)
        super().__init__(eos_token_id=eos_token_id, pad_token_id=pad_token_id, **kwargs)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As in transformers; a LLaDA-MoE, whose ``model_type`` is the same, gets its own configuration."""
        if cls is LLaDAConfig and "num_experts" in config_dict:
            from tta_bench.models.llada_moe import LLaDAMoEConfig

            return LLaDAMoEConfig.from_dict(config_dict, **kwargs)
        return super().from_dict(config_dict, **kwargs)

    def _refuse_unknown_variants(self, more: dict[str, Any]) -> None:
        absent: dict[str, Any] = {"clip_qkv": None, "norm_after": False, "bias_for_layer_norm": False, "block_group_size": 1}
        for name, value in absent.items():
            if more.get(name) not in (None, value):
                raise ValueError(
                    f"LLaDA config: {name}={more[name]!r} is not supported; every published LLaDA has {value!r} or nothing"
                )
        required: dict[str, Any] = {
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


class LLaDABlock(Layer):
    """The published block, with the module names of its weights."""

    def __init__(self, config: LLaDAConfig, number: int) -> None:
        super().__init__()
        width, bias = config.d_model, config.include_qkv_bias
        self.number, self.head_width = number, width // config.n_heads
        self.rope_full_precision = config.rope_full_precision
        self.attn_norm = RMSNorm(width, config.rms_norm_eps)
        self.q_proj = nn.Linear(width, width, bias=bias)
        self.k_proj = nn.Linear(width, self.head_width * config.n_kv_heads, bias=bias)
        self.v_proj = nn.Linear(width, self.head_width * config.n_kv_heads, bias=bias)
        self.attn_out = nn.Linear(width, width, bias=False)
        self.ff_norm = RMSNorm(width, config.rms_norm_eps)
        self.ff_proj = nn.Linear(width, config.mlp_hidden_size, bias=False)
        self.up_proj = nn.Linear(width, config.mlp_hidden_size, bias=False)
        self.ff_out = nn.Linear(config.mlp_hidden_size, width, bias=False)

    def forward(self, x: Tensor, look: Look) -> Tensor:
        """(B, Q, d_model)."""
        y = self.attn_norm(x)
        q, k, v = (heads(project(y), self.head_width) for project in (self.q_proj, self.k_proj, self.v_proj))
        x = x + self.attn_out(attend(q, k, v, look, self.number, precise=self.rope_full_precision))
        y = self.ff_norm(x)
        return x + self.ff_out(F.silu(self.ff_proj(y)) * self.up_proj(y))


class LLaDAModel(nn.Module):
    """The published nesting of modules: ``transformer.{wte, blocks, ln_f, ff_out}``."""

    def __init__(self, config: LLaDAConfig) -> None:
        super().__init__()
        modules: dict[str, nn.Module] = {
            "wte": nn.Embedding(config.embedding_size, config.d_model),
            "blocks": nn.ModuleList(LLaDABlock(config, number) for number in range(config.n_layers)),
            "ln_f": RMSNorm(config.d_model, config.rms_norm_eps),
        }
        if not config.weight_tying:
            modules["ff_out"] = nn.Linear(config.d_model, config.embedding_size, bias=False)
        self.transformer = nn.ModuleDict(modules)

    @property
    def blocks(self) -> list[LLaDABlock]:
        """The blocks, first to last."""
        return list(cast("Iterable[LLaDABlock]", self.transformer["blocks"]))


class LLaDAModelLM(NativeModel):
    """A LLaDA masked diffusion language model."""

    config_class = LLaDAConfig
    _no_split_modules = ["LLaDABlock"]

    def __init__(self, config: LLaDAConfig) -> None:
        if not isinstance(config, LLaDAConfig):
            raise ValueError(
                f"{type(config).__name__}: is the configuration of another architecture; load it with tta_bench.load, or with "
                "the class of that"
            )
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
        """The token embedding."""
        return self.model.transformer["wte"]

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Exchange the token embedding."""
        self.model.transformer["wte"] = value

    def get_output_embeddings(self) -> nn.Module:
        """The head, or the token embedding where that is the head."""
        return self.model.transformer["wte" if self.config.weight_tying else "ff_out"]

    def set_output_embeddings(self, value: nn.Module) -> None:
        """Exchange the head."""
        self.model.transformer["wte" if self.config.weight_tying else "ff_out"] = value

    def anatomy(self) -> Anatomy:
        """The model's parts."""
        parts, config = self.model.transformer, self.config
        embedding = cast(nn.Embedding, parts["wte"])
        return Anatomy(
            embedding=embedding,
            layers=self.model.blocks,
            norm=parts["ln_f"],
            head=(lambda x: F.linear(x, embedding.weight)) if config.weight_tying else parts["ff_out"],
            head_width=config.d_model // config.n_heads,
            rope_theta=config.rope_theta,
            scale=config.d_model**-0.5 if config.scale_logits else 1.0,
        )

    def residual_branches(self) -> list[nn.Module]:
        """The modules whose output is added to the residual stream: where dropout views act."""
        return [m for block in self.model.blocks for m in (block.attn_out, block.ff_out)]


AutoConfig.register("llada", LLaDAConfig, exist_ok=True)
AutoModel.register(LLaDAConfig, LLaDAModelLM, exist_ok=True)
AutoModelForMaskedLM.register(LLaDAConfig, LLaDAModelLM, exist_ok=True)
