"""iLLaDA, natively: LLaDA's successor with grouped-query attention, without remote code.

A plain Llama block (no biases) with attention that sees both ways; the logits are not shifted. The published configuration
does not tell the mask token, whose id is 5; a ``mask_token_id`` in it is taken before that.

Reference: the checkpoints GSAI-ML/iLLaDA-8B-Base and -Instruct, arXiv:2606.25331.
"""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, PretrainedConfig

from tta_bench.models.decoder import MLP, Attention, DecoderLayer, DecoderModel, refuse, rotary


class ILLaDAConfig(PretrainedConfig):
    """Configuration with the key names of the published iLLaDA ``config.json``.

    Raises:
        ValueError: a value asks for a variant that no published iLLaDA uses and this code does not compute.
    """

    model_type = "illada"

    def __init__(
        self,
        vocab_size: int = 155136,
        hidden_size: int = 4096,
        intermediate_size: int = 14336,
        num_hidden_layers: int = 32,
        num_attention_heads: int = 32,
        num_key_value_heads: int | None = 8,
        hidden_act: str = "silu",
        max_position_embeddings: int = 8192,
        initializer_range: float = 0.02,
        rms_norm_eps: float = 1e-5,
        layer_norm_eps: float | None = None,
        rope_theta: float = 500000.0,
        rope_scaling: dict[str, Any] | None = None,
        attention_bias: bool = False,
        mlp_bias: bool = False,
        mask_token_id: int = 5,
        eos_token_id: int | None = 2,
        pad_token_id: int | None = 2,
        tie_word_embeddings: bool = True,
        **kwargs: Any,
    ) -> None:
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.num_key_value_heads = num_attention_heads if num_key_value_heads is None else num_key_value_heads
        self.hidden_act = hidden_act
        self.max_position_embeddings = max_position_embeddings
        self.initializer_range = initializer_range
        self.rms_norm_eps = rms_norm_eps
        self.layer_norm_eps = layer_norm_eps
        self.rope_theta = rotary("iLLaDA", rope_theta, rope_scaling, kwargs)
        self.attention_bias = attention_bias
        self.mlp_bias = mlp_bias
        self.mask_token_id = mask_token_id
        super().__init__(
            eos_token_id=eos_token_id, pad_token_id=pad_token_id, tie_word_embeddings=tie_word_embeddings, **kwargs
        )
        required = {"hidden_act": "silu", "layer_norm_eps": None, "mlp_bias": False}
        refuse("iLLaDA", self, required)


class ILLaDAForCausalLM(DecoderModel):
    """An iLLaDA masked diffusion language model. The name is the published one; nothing about it is causal."""

    config_class = ILLaDAConfig

    def layer(self, number: int) -> DecoderLayer:
        """A new layer."""
        attention = Attention(self.config, number, bias=self.config.attention_bias, norm=False)
        return DecoderLayer(self.config, attention, MLP(self.config.hidden_size, self.config.intermediate_size))


AutoConfig.register("illada", ILLaDAConfig, exist_ok=True)
AutoModel.register(ILLaDAConfig, ILLaDAForCausalLM, exist_ok=True)
AutoModelForMaskedLM.register(ILLaDAConfig, ILLaDAForCausalLM, exist_ok=True)
