"""Decoding loops as one writes them down, the yardsticks: one sequence, full-vocabulary tensors, nothing shared or skipped."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


def gumbel_choice(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """argmax of exp(l) / (-ln U)^T in float64 with a U for every entry of (..., V); argmax at temperature 0."""
    if temperature == 0:
        return logits.argmax(dim=-1)
    logits = logits.double()
    uniform = torch.rand(logits.shape, dtype=torch.float64, device=logits.device, generator=generator)
    return (logits.exp() / (-uniform.log()) ** temperature).argmax(dim=-1)


@torch.no_grad()
def llada(
    model: Any,
    prompt: Tensor,
    *,
    steps: int,
    gen_length: int,
    block_length: int,
    temperature: float,
    mask_id: int,
    generator: torch.Generator,
) -> Tensor:
    """LLaDA's semi-autoregressive sampling with low-confidence remasking, every quantity at all L positions of (1, L).

    Reference: Nie et al., "Large Language Diffusion Models", arXiv:2502.09992, algorithm 5, with the draws and the numbers of
    transfers of the published code.
    """
    start = prompt.shape[1]
    tokens = torch.cat((prompt, torch.full((1, gen_length), mask_id, device=prompt.device)), dim=1)
    blocks = gen_length // block_length
    share = steps // blocks
    for block in range(blocks):
        end = start + (block + 1) * block_length
        base, more = divmod(int((tokens[:, end - block_length : end] == mask_id).sum()), share)
        for step in range(share):
            masked = tokens == mask_id
            logits = model(tokens).logits
            candidates = gumbel_choice(logits, temperature, generator)
            probability = torch.softmax(logits, dim=-1).gather(-1, candidates[..., None])[..., 0]
            probability[:, end:] = -math.inf
            confidence = torch.where(masked, probability, -math.inf)
            chosen = confidence[0].topk(base + (step < more)).indices
            tokens[0, chosen] = candidates[0, chosen]
    return tokens


@torch.no_grad()
def sequential_views(
    model: Any,
    prompt: Tensor,
    *,
    steps: int,
    gen_length: int,
    block_length: int,
    k: int,
    mask_id: int,
    generator: torch.Generator,
    temperature_range: tuple[float, float] = (0.0, 0.3),
    alpha_entropy: float = 1.0,
    beta_disagreement: float = 0.5,
    lambda_change: float = 0.2,
    remask_top_pct: float = 0.1,
    freeze_window: int = 5,
    freeze_threshold: int = 3,
    freeze_duration: int = 3,
) -> Tensor:
    """TTA uncertainty sampling with temperature views, an evaluation of the model for each of the ``k`` views."""
    start, (low, high) = prompt.shape[1], temperature_range
    tokens = torch.cat((prompt[0], torch.full((gen_length,), mask_id, device=prompt.device)))
    changes: list[Tensor] = []
    times_remasked, until = torch.zeros(2, gen_length, device=prompt.device)
    blocks = gen_length // block_length
    share = steps // blocks
    for step in range(steps):
        block, within = divmod(step, share)
        views, draws = [], []
        for view in range(k):
            logits = model(tokens[None]).logits[0, start:].clone()
            logits[:, mask_id] = -math.inf
            views.append(torch.softmax(logits, dim=-1))
            draws.append(gumbel_choice(logits, low + (high - low) * view / (k - 1), generator))
        mean = torch.stack(views).mean(dim=0)
        confidence, candidates = mean.max(dim=-1)
        entropy = torch.special.entr(mean).sum(dim=-1)
        disagreement = torch.tensor([(len(set(column)) - 1) / (k - 1) for column in torch.stack(draws).T.tolist()])
        disagreement = disagreement.to(prompt.device)

        answer = tokens[start:].clone()
        committed = answer != mask_id
        quota = block * block_length + block_length // share * (within + 1) + min(within + 1, block_length % share)
        eligible = ~committed & (torch.arange(gen_length, device=prompt.device) < (block + 1) * block_length)
        commits = highest(confidence, eligible, quota - int(committed.sum()))
        answer[commits] = candidates[commits]

        restless = torch.stack(changes[-freeze_window:]).sum(dim=0) >= freeze_threshold if changes else torch.zeros(()).bool()
        until = torch.where(restless, step + freeze_duration, until)
        if step < steps - 1:
            doubt = alpha_entropy * entropy + beta_disagreement * disagreement - lambda_change * times_remasked
            count = max(1, math.floor(remask_top_pct * len(commits + committed.nonzero()[:, 0].tolist()) + 1e-9))
            remasks = highest(doubt, committed & (until <= step), count)
            answer[remasks] = mask_id
            times_remasked[remasks] += 1
        changes.append(answer != tokens[start:])
        tokens = torch.cat((prompt[0], answer))
    return tokens[None]


def highest(score: Tensor, eligible: Tensor, count: int) -> list[int]:
    """The ``count`` highest-scored eligible positions, of equals the lowest."""
    places: list[int] = eligible.nonzero()[:, 0].tolist()
    values: list[float] = score.tolist()
    return sorted(places, key=lambda i: (-values[i], i))[: max(0, count)]
