"""LLaDA-MoE, natively: a LLaDA whose layers choose 8 of 64 experts for each token, without remote code.

Its configuration says ``model_type: llada``, as the dense models' does, with other keys; ``num_experts`` tells them apart.
Queries and keys are normed by head before the rotation; the logits are not shifted. Published code ignores the attention
mask; here padding is hidden.

Reference: Zhu et al., "LLaDA-MoE: A Sparse MoE Diffusion Language Model", arXiv:2509.24389.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForMaskedLM, PretrainedConfig

from tta_bench.models.decoder import MLP, Attention, DecoderLayer, DecoderModel, refuse, rotary


class LLaDAMoEConfig(PretrainedConfig):
    """Configuration with the key names of the published LLaDA-MoE ``config.json``.

    Raises:
        ValueError: a value asks for a variant that no published LLaDA-MoE uses and this code does not compute.
    """

    model_type = "llada"

    def __init__(
        self,
        vocab_size: int = 157184,
        hidden_size: int = 2048,
        num_hidden_layers: int = 16,
        num_attention_heads: int = 16,
        num_key_value_heads: int | None = 16,
        num_experts: int = 64,
        num_experts_per_tok: int = 8,
        expert_intermediate_size: int = 1024,
        shared_expert_intermediate_size: int | None = None,
        moe_layer_freq: Sequence[int] | None = None,
        moe_router_score_function: str = "softmax",
        moe_router_enable_expert_bias: bool = False,
        routed_scaling_factor: float | None = 1.0,
        norm_topk_prob: bool | None = None,
        qk_layernorm: bool = True,
        attention_bias: bool = False,
        clip_qkv: float | None = None,
        hidden_act: str = "silu",
        max_position_embeddings: int = 8192,
        initializer_range: float = 0.02,
        rms_norm_eps: float = 1e-5,
        rope_theta: float = 50000.0,
        rope_scaling: dict[str, Any] | None = None,
        partial_rotary_factor: float = 1.0,
        mask_token_id: int = 156895,
        eos_token_id: int | None = 156892,
        pad_token_id: int | None = 156892,
        tie_word_embeddings: bool = False,
        **kwargs: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.num_key_value_heads = num_attention_heads if num_key_value_heads is None else num_key_value_heads
        self.num_experts = num_experts
        self.num_experts_per_tok = num_experts_per_tok
        self.expert_intermediate_size = expert_intermediate_size
        self.shared_expert_intermediate_size = shared_expert_intermediate_size
        self.moe_layer_freq = [1] * num_hidden_layers if moe_layer_freq is None else list(moe_layer_freq)
        self.moe_router_score_function = moe_router_score_function
        self.moe_router_enable_expert_bias = moe_router_enable_expert_bias
        self.routed_scaling_factor = 1.0 if routed_scaling_factor is None else routed_scaling_factor
        self.norm_topk_prob = bool(norm_topk_prob)
        self.qk_layernorm = qk_layernorm
        self.attention_bias = attention_bias
        self.clip_qkv = clip_qkv
        self.hidden_act = hidden_act
        self.max_position_embeddings = max_position_embeddings
        self.initializer_range = initializer_range
        self.rms_norm_eps = rms_norm_eps
        self.rope_theta = rotary("LLaDA-MoE", rope_theta, rope_scaling, kwargs)
        self.partial_rotary_factor = partial_rotary_factor
        self.mask_token_id = mask_token_id
        super().__init__(
            eos_token_id=eos_token_id, pad_token_id=pad_token_id, tie_word_embeddings=tie_word_embeddings, **kwargs
        )
        required = {
            "hidden_act": "silu",
            "shared_expert_intermediate_size": None,
            "moe_layer_freq": [1] * num_hidden_layers,
            "moe_router_score_function": "softmax",
            "moe_router_enable_expert_bias": False,
            "routed_scaling_factor": 1.0,
            "clip_qkv": None,
            "partial_rotary_factor": 1.0,
        }
        refuse("LLaDA-MoE", self, required)


class Experts(nn.Module):
    """For each token the sum of its most probable experts, weighted by their probability among all.

    Published code never makes the chosen weights sum to one, whatever ``norm_topk_prob`` says; neither does this.
    """

    def __init__(self, config: LLaDAMoEConfig) -> None:
        super().__init__()
        self.chosen = config.num_experts_per_tok
        self.gate = nn.Linear(config.hidden_size, config.num_experts, bias=False)
        self.experts = nn.ModuleList(
            MLP(config.hidden_size, config.expert_intermediate_size) for _ in range(config.num_experts)
        )

    def forward(self, x: Tensor) -> Tensor:
        """As ``x``."""
        flat = x.flatten(0, 1)
        probability = self.gate(flat).softmax(dim=-1, dtype=torch.promote_types(x.dtype, torch.float32))
        weight, expert = probability.topk(self.chosen, dim=-1)
        weight, total = weight.to(x.dtype), torch.zeros_like(flat)
        for number in expert.unique().tolist():
            token, rank = (expert == number).nonzero(as_tuple=True)
            total.index_add_(0, token, self.experts[number](flat[token]) * weight[token, rank, None])
        return total.view_as(x)


class LLaDAMoEModelLM(DecoderModel):
    """A LLaDA-MoE masked diffusion language model."""

    config_class = LLaDAMoEConfig

    def layer(self, number: int) -> DecoderLayer:
        """A new layer."""
        config = self.config
        attention = Attention(config, number, bias=config.attention_bias, norm=config.qk_layernorm)
        return DecoderLayer(config, attention, Experts(config))


AutoModel.register(LLaDAMoEConfig, LLaDAMoEModelLM, exist_ok=True)
AutoModelForMaskedLM.register(LLaDAMoEConfig, LLaDAMoEModelLM, exist_ok=True)
