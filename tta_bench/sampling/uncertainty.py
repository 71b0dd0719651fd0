"""Measures of uncertainty and draws, as pure functions of logits and probabilities. M positions, V vocabulary, K views."""

from __future__ import annotations

import torch
from torch import Tensor


def probabilities(logits: Tensor) -> Tensor:
    """Softmax over the last axis, in float32, or in float64 where the logits are."""
    return torch.softmax(logits, dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))


def entropy(p: Tensor) -> Tensor:
    """Shannon entropy over the last axis, nats; 0 log 0 = 0."""
    return torch.special.entr(p).sum(dim=-1)


def mutual_information(p: Tensor) -> Tensor:
    """H(mean_k p_k) - mean_k H(p_k) >= 0 over the first axis of p (K, M, V), nats: what the views disagree about (BALD).

    Reference: Houlsby et al., arXiv:1112.5745, eq. 2.
    """
    return (entropy(p.mean(dim=0)) - entropy(p).mean(dim=0)).clamp(min=0)


def disagreement(draws: Tensor) -> Tensor:
    """(distinct tokens - 1) / (K - 1) over the first axis of draws (K, M), in 0..1; 0 where K = 1."""
    if draws.shape[0] == 1:
        return torch.zeros(draws.shape[1:], device=draws.device)
    ordered = draws.sort(dim=0).values
    return (ordered[1:] != ordered[:-1]).float().mean(dim=0)


def draw(logits: Tensor, temperature: float, uniform: Tensor | None) -> Tensor:
    """Draw from softmax(logits / temperature), the law of Gumbel-max at that temperature; argmax at temperature 0.

    LLaDA takes argmax of exp(l) / (-ln U)^T with one U per vocabulary entry; its law is the categorical above, which is
    drawn here by inversion with one uniform number a position.

    Args:
        logits: (M, V).
        temperature: >= 0.
        uniform: (M,) in [0, 1), float64; None will do at temperature 0.

    Returns:
        Token ids (M,).
    """
    if temperature == 0:
        return logits.argmax(dim=-1)
    if uniform is None:
        raise ValueError(f"temperature={temperature}: drawing needs uniform numbers")
    cumulative = torch.softmax(logits.double() / temperature, dim=-1).cumsum(dim=-1)
    total = cumulative[:, -1:].contiguous()
    token = torch.searchsorted(cumulative, uniform[:, None] * total, right=True)
    last_possible = torch.searchsorted(cumulative, total)
    return torch.minimum(token, last_possible).squeeze(-1)
