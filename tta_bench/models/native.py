"""What the native models share: attention that sees both ways, rotary positions, and one calling convention.

A native model brings its modules under their published names, and says in ``anatomy`` which of them does what.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import MaskedLMOutput

Rotary: TypeAlias = tuple[Tensor, Tensor]
"""Cosine and sine of the rotary embedding, (B, 1, L, head_width) each."""


class Keys(Protocol):
    """Keys and values of the layers, kept from one evaluation to the next."""

    def update(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keep those of the Q positions being evaluated, (B, heads, Q, width) each; all that are to be attended to."""
        ...


@dataclass(frozen=True)
class Look:
    """What all layers of one evaluation have in common.

    Attributes:
        rotary: of the positions being evaluated.
        mask: boolean, True = may attend, or added to the scores; broadcasts to (B, heads, Q, L). None where all see all.
        cache: keys and values of earlier evaluations; None evaluates the whole sequence for itself.
    """

    rotary: Rotary
    mask: Tensor | None
    cache: Keys | None

    def to(self, device: torch.device, non_blocking: bool = False) -> Look:
        """The same on the device of a layer, where a model lies on several."""
        cos, sin = (angle.to(device, non_blocking=non_blocking) for angle in self.rotary)
        mask = None if self.mask is None else self.mask.to(device, non_blocking=non_blocking)
        return Look((cos, sin), mask, self.cache)


@dataclass(frozen=True)
class Anatomy:
    """The parts of a transformer.

    Attributes:
        embedding: of the tokens.
        layers: first to last; each is called with the hidden states and a ``Look``.
        norm: before the head.
        head: hidden states (..., width) to logits (..., V).
        head_width: of attention.
        rope_theta: base of the rotary positions.
        scale: of the logits.
    """

    embedding: nn.Module
    layers: Sequence[nn.Module]
    norm: nn.Module
    head: Callable[[Tensor], Tensor]
    head_width: int
    rope_theta: float
    scale: float = 1.0


class RMSNorm(nn.Module):
    """Root-mean-square norm, computed in float32 (float64 stays float64) whatever the input's dtype."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """As ``x``."""
        precise = x.to(torch.promote_types(x.dtype, torch.float32))
        return F.rms_norm(precise, x.shape[-1:], eps=self.eps).to(x.dtype) * self.weight


class Layer(GradientCheckpointingLayer):
    """One pre-norm transformer layer: x + attention(norm(x)), then x + mlp(norm(x)).

    Attributes:
        number: of the layer, from 0.
    """

    number: int

    def forward(self, x: Tensor, look: Look) -> Tensor:
        """Hidden states (B, Q, width) after the layer."""
        raise NotImplementedError


def rotary_angles(position_ids: Tensor, head_width: int, theta: float) -> Rotary:
    """Cosine and sine (B, 1, L, head_width), float32, of the rotary embedding at ``position_ids`` (B, L)."""
    exponent = torch.arange(0, head_width, 2, device=position_ids.device, dtype=torch.float32) / head_width
    angle = position_ids[..., None].float() / theta**exponent
    angle = torch.cat((angle, angle), dim=-1)[:, None]
    return angle.cos(), angle.sin()


def rotate(x: Tensor, rotary: Rotary) -> Tensor:
    """Rotary embedding of ``x`` (B, heads, L, head_width) in its dtype; the two halves of a head are the plane's axes."""
    cos, sin = (angle.to(x.dtype) for angle in rotary)
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def attend(q: Tensor, k: Tensor, v: Tensor, look: Look, layer: int, *, precise: bool) -> Tensor:
    """Attention with rotary positions, fewer heads of keys than of queries where ``k`` has fewer.

    Args:
        q: (B, heads, Q, head_width) before the rotation.
        k, v: (B, key heads, Q, head_width).
        look: of the evaluation.
        layer: its number.
        precise: rotate in float32 whatever the dtype.

    Returns:
        (B, Q, heads x head_width).
    """
    dtype = torch.promote_types(q.dtype, torch.float32) if precise else q.dtype
    q, k = (rotate(t.to(dtype), look.rotary).to(v.dtype) for t in (q, k))
    if look.cache is not None:
        k, v = look.cache.update(layer, k, v)
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=look.mask, enable_gqa=q.shape[1] != k.shape[1])
    return y.transpose(1, 2).flatten(2)


def heads(x: Tensor, head_width: int) -> Tensor:
    """(B, L, heads x head_width) as (B, heads, L, head_width)."""
    return x.unflatten(2, (-1, head_width)).transpose(1, 2)


class NativeModel(PreTrainedModel):
    """A masked diffusion language model with the calling convention of transformers.

    Attributes:
        shift_logits: True where the logits at i predict the token at i + 1.
    """

    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    shift_logits: ClassVar[bool] = False

    def anatomy(self) -> Anatomy:
        """The model's parts."""
        raise NotImplementedError

    def residual_branches(self) -> list[nn.Module]:
        """The modules whose output is added to the residual stream: where dropout views act."""
        raise NotImplementedError

    def _init_weights(self, module: nn.Module) -> None:
        std = getattr(self.config, "initializer_range", 0.02)
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=std)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, RMSNorm):
            nn.init.ones_(module.weight)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        positions: Tensor | None = None,
        cache: Keys | None = None,
    ) -> MaskedLMOutput:
        """Predict tokens.

        Args:
            input_ids: token ids (B, L); with a ``cache`` those of the Q positions that are evaluated.
            attention_mask: None, or (B, L) with 0 at padding, or (B, 1 or heads, Q, L), boolean with True = may attend, or
                floating point, added to the attention scores.
            position_ids: rotary positions (B, L); 0 .. L-1 when absent.
            positions: where logits are wanted, the head is not computed elsewhere: None for all, (N,) or (B, N) integers, or
                (B, L) bool.
            cache: keys and values of the other positions, from earlier evaluations (``tta_bench.sampling.cache``).

        Returns:
            An output whose ``logits`` are (B, L, V); (B, N, V) with integer ``positions``; (M, V) for the M positions of a
            bool, in row-major order. The logits at i predict the token at i (at i + 1 where ``shift_logits``).

        Raises:
            ValueError: a mask or positions that fit none of these.
        """
        parts = self.anatomy()
        if position_ids is None:
            position_ids = torch.arange(input_ids.shape[1], device=input_ids.device)[None]
        x = parts.embedding(input_ids)
        rotary = rotary_angles(position_ids.to(x.device), parts.head_width, parts.rope_theta)
        look = Look(rotary, attention_bias(attention_mask, x), cache)
        for layer in parts.layers:
            x = layer(x, look)
        logits = project(parts.head, parts.norm(at_positions(x, positions)))
        return MaskedLMOutput(logits=logits if parts.scale == 1 else logits * parts.scale)


FEW_ROWS, SLICE = 64, 4096
"""Where ``project`` multiplies the other way round, and how much of the weight at a time."""


def project(head: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """``head(x)``: logits of M selected positions (M, width).

    On a CPU a product of few rows with a large weight spends its time on rearranging the weight. With the operands exchanged it
    does not; its result is the transpose, which is turned around while it is in the cache.
    """
    few = x.dim() == 2 and 1 < len(x) <= FEW_ROWS and x.device.type == "cpu" and x.dtype == torch.float32
    # Nothing but a matrix that is there: no bias, no hook, no weight on another device or yet to be fetched.
    if not (few and type(head) is nn.Linear and head.bias is None and "forward" not in vars(head)):
        return head(x)
    weight = head.weight
    if head._forward_hooks or head._forward_pre_hooks or weight.device != x.device or len(weight) <= SLICE:
        return head(x)
    logits = x.new_empty(len(x), len(weight))
    for begin in range(0, len(weight), SLICE):
        part = slice(begin, begin + SLICE)
        logits[:, part] = torch.mm(weight[part], x.T).T
    return logits


def attention_bias(attention_mask: Tensor | None, x: Tensor) -> Tensor | None:
    """A mask in the form that attention takes; None where everything is seen.

    Raises:
        ValueError: it has another number of dimensions than 2 or 4.
    """
    if attention_mask is None:
        return None
    if attention_mask.dim() == 2:
        seen = attention_mask.to(x.device) != 0
        return None if bool(seen.all()) else seen[:, None, None, :]
    if attention_mask.dim() != 4:
        raise ValueError(
            f"attention_mask: has shape {tuple(attention_mask.shape)}; must be (B, L) with 0 at padding, "
            "or (B, 1 or heads, L, L)"
        )
    mask = attention_mask.to(x.device)
    return mask.to(x.dtype) if mask.is_floating_point() else mask != 0


def at_positions(x: Tensor, positions: Tensor | None) -> Tensor:
    """Hidden states at some positions, see ``NativeModel.forward``.

    Raises:
        ValueError: they are neither integers (N,) or (B, N), nor a bool (B, L).
    """
    if positions is None:
        return x
    positions = positions.to(x.device)
    if positions.dtype == torch.bool and positions.shape == x.shape[:2]:
        return x[positions]
    if positions.dtype == torch.int64 and positions.dim() == 1:
        return x[:, positions]
    if positions.dtype == torch.int64 and positions.dim() == 2 and len(positions) == len(x):
        return x.gather(1, positions[..., None].expand(-1, -1, x.shape[2]))
    raise ValueError(
        f"positions: {positions.dtype} {tuple(positions.shape)}; must be int64 (N,) or ({len(x)}, N), "
        f"or bool {tuple(x.shape[:2])}"
    )
