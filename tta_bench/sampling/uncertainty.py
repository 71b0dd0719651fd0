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


def kullback_leibler(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) over the last axis, nats, from log probabilities; infinite where q excludes what p allows."""
    p = log_p.exp()
    return torch.where(p > 0, p * (log_p - log_q), 0.0).sum(dim=-1)


def margin(p: Tensor) -> Tensor:
    """The largest probability minus the second largest, over the last axis."""
    best = p.topk(2, dim=-1).values
    return best[..., 0] - best[..., 1]


def truncated(logits: Tensor, temperature: float, top_p: float | None, top_k: int | None, inclusive: bool = True) -> Tensor:
    """Logits / temperature (not divided at 0), minus infinity outside the nucleus and outside the ``top_k`` largest.

    Args:
        logits: (M, V).
        temperature: >= 0.
        top_p: the nucleus is the smallest set of most probable tokens whose probabilities add up to more than this; None
            takes all. Reference: Holtzman et al., arXiv:1904.09751, section 3.1.
        top_k: how many of the largest stay (all that equal the last of them); None takes all.
        inclusive: whether the token that crosses ``top_p`` belongs to the nucleus. The most probable one always does.

    Returns:
        (M, V).
    """
    if temperature > 0:
        logits = logits / temperature
    if top_p is not None and top_p < 1:
        ordered, order = logits.sort(dim=-1, descending=True, stable=True)
        cumulative = probabilities(ordered).cumsum(dim=-1)
        outside = cumulative > top_p
        if inclusive:
            outside = outside.roll(1, dims=-1)
        outside[..., 0] = False
        logits = logits.masked_fill(torch.zeros_like(outside).scatter(-1, order, outside), -torch.inf)
    if top_k is not None:
        last = logits.topk(min(top_k, logits.shape[-1]), dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < last, -torch.inf)
    return logits


CHUNK = 2**24
"""Most vocabulary entries that are held in float64 at a time."""


def draw(logits: Tensor, temperature: float, uniform: Tensor | None) -> Tensor:
    """Draw from softmax(logits / temperature), the law of Gumbel-max at that temperature; argmax at temperature 0.

    LLaDA takes argmax of exp(l) / (-ln U)^T with one U per vocabulary entry; its law is the categorical above, which is
    drawn here by inversion with one uniform number a position, in float64, a chunk of positions at a time.

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
    size = max(1, CHUNK // logits.shape[-1])
    chunks = zip(logits.split(size), uniform.split(size), strict=True)
    return torch.cat([_inverted(part, temperature, numbers) for part, numbers in chunks])


def _inverted(logits: Tensor, temperature: float, uniform: Tensor) -> Tensor:
    cumulative = torch.softmax(logits.double() / temperature, dim=-1).cumsum(dim=-1)
    total = cumulative[:, -1:].contiguous()
    token = torch.searchsorted(cumulative, uniform[:, None] * total, right=True)
    last_possible = torch.searchsorted(cumulative, total)
    return torch.minimum(token, last_possible).squeeze(-1)


def gumbel(uniform: Tensor) -> Tensor:
    """Standard Gumbel numbers from uniform ones in [0, 1). The n largest of score + Gumbel are a draw of n without
    replacement from softmax(score). Reference: Kool et al., arXiv:1903.06059, section 2.3."""
    tiny = torch.finfo(uniform.dtype).tiny
    return -torch.log(-torch.log(uniform.clamp(min=tiny)))
