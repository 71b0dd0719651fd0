"""Dream, natively: the published checkpoints (and DiffuCoder's, which share the architecture), without remote code.

The backbone is Qwen2's (biases on queries, keys and values, grouped-query attention) with attention that sees both ways.
Its logits are shifted: those at i predict the token at i + 1, as in the autoregressive model it was trained from.

Reference: Ye et al., "Dream 7B: Diffusion Large Language Models", arXiv:2508.15487.
"""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, PretrainedConfig

from tta_bench.models.decoder import MLP, Attention, DecoderLayer, DecoderModel, refuse, rotary


class DreamConfig(PretrainedConfig):
    """Configuration with the key names of the published Dream ``config.json``.

    Raises:
        ValueError: a value asks for a variant that no published Dream uses and this code does not compute.
    """

    model_type = "Dream"

    def __init__(
        self,
        vocab_size: int = 152064,
        hidden_size: int = 3584,
        intermediate_size: int = 18944,
        num_hidden_layers: int = 28,
        num_attention_heads: int = 28,
        num_key_value_heads: int | None = 4,
        hidden_act: str = "silu",
        max_position_embeddings: int = 131072,
        initializer_range: float = 0.02,
        rms_norm_eps: float = 1e-6,
        rope_theta: float = 1000000.0,
        rope_scaling: dict[str, Any] | None = None,
        use_sliding_window: bool = False,
        mask_token_id: int = 151666,
        eos_token_id: int | None = 151643,
        pad_token_id: int | None = 151643,
        tie_word_embeddings: bool = False,
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
        self.rope_theta = rotary("Dream", rope_theta, rope_scaling, kwargs)
        self.use_sliding_window = use_sliding_window
        self.mask_token_id = mask_token_id
        super().__init__(
            eos_token_id=eos_token_id, pad_token_id=pad_token_id, tie_word_embeddings=tie_word_embeddings, **kwargs
        )
        refuse("Dream", self, {"hidden_act": "silu", "use_sliding_window": False})


class DreamModel(DecoderModel):
    """A Dream masked diffusion language model; its logits at i predict the token at i + 1."""

    config_class = DreamConfig
    shift_logits: ClassVar[bool] = True

    def layer(self, number: int) -> DecoderLayer:
        """A new layer."""
        attention = Attention(self.config, number, bias=True, norm=False)
        return DecoderLayer(self.config, attention, MLP(self.config.hidden_size, self.config.intermediate_size))


AutoConfig.register("Dream", DreamConfig, exist_ok=True)
AutoModel.register(DreamConfig, DreamModel, exist_ok=True)
AutoModelForMaskedLM.register(DreamConfig, DreamModel, exist_ok=True)
