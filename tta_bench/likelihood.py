"""What a masked diffusion model thinks of a given text: the Monte Carlo bound of its log-likelihood, and pseudo-perplexity.

A token that the model can see mostly predicts itself, so its probability says nothing about the text. Here every token that
is scored is hidden from the model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from tta_bench.api import find_mask_id
from tta_bench.rng import digest
from tta_bench.sampling.denoiser import Denoiser, check_cfg_scale
from tta_bench.sampling.sampler import evaluating
from tta_bench.types import Canvas, Place


@dataclass(frozen=True)
class LikelihoodBound:
    """An estimate of a lower bound of log p(answer | prompt).

    Attributes:
        value: nats, summed over the answer's tokens.
        standard_error: of the value, from its batches; NaN where there was only one.
        n_tokens: of the answer.
        forward_passes: model evaluations of one sequence.
    """

    value: float
    standard_error: float
    n_tokens: int
    forward_passes: int


Value = TypeVar("Value")

GROUPS = 8
"""Of the draws of ``choice_bounds``: each group spreads its draws evenly, and the standard error is that of the groups."""


@dataclass(frozen=True)
class ChoiceBounds:
    """Estimates of a lower bound of log p(choice | prompt) for several choices, made with common random numbers.

    Attributes:
        groups: (C, G) nats, summed over a choice's tokens: the mean of each group of draws. Group g of all choices has the same
            random numbers, so the standard error of a difference of choices is that of the differences of their groups.
        n_tokens: of each choice.
        forward_passes: model evaluations of one sequence. Draws that hide the same tokens are evaluated once.
    """

    groups: tuple[tuple[float, ...], ...]
    n_tokens: tuple[int, ...]
    forward_passes: int

    @property
    def values(self) -> tuple[float, ...]:
        """Nats, one for each choice."""
        return tuple(float(np.mean(groups)) for groups in self.groups)

    @property
    def standard_errors(self) -> tuple[float, ...]:
        """Of the values: 0 for a choice of one token, which is exact; NaN where there is only one group."""
        return tuple(0.0 if n == 1 else error_of(groups) for groups, n in zip(self.groups, self.n_tokens, strict=True))


@dataclass(frozen=True)
class PseudoLikelihood:
    """Log-probabilities of tokens, each given all the others.

    Attributes:
        token_log_probabilities: nats, in order of position.
        forward_passes: model evaluations of one sequence.
    """

    token_log_probabilities: tuple[float, ...]
    forward_passes: int

    @property
    def value(self) -> float:
        """Pseudo-log-likelihood, nats: their sum. No log-likelihood of anything, nor a bound of one."""
        return sum(self.token_log_probabilities)

    @property
    def perplexity(self) -> float:
        """Pseudo-perplexity: exp of minus their mean."""
        return math.exp(-self.value / len(self.token_log_probabilities))


def log_likelihood_bound(
    model: Any,
    prompt: Tensor,
    answer: Tensor,
    *,
    mc_num: int = 128,
    batch_size: int = 16,
    seed: int = 0,
    cfg_scale: float = 0.0,
    mask_id: int | None = None,
    shift_logits: bool | None = None,
) -> LikelihoodBound:
    """LLaDA's estimate of how probable an answer is.

    Of an answer of L tokens l are hidden, l uniform in 1 .. L and the tokens at random; L / l times the sum of their
    log-probabilities is an unbiased estimate of the bound. The numbers l of a batch are spread evenly over 1 .. L from a random
    start, which leaves each of them uniform and lowers the variance.

    Args:
        model: as in ``generate``.
        prompt: token ids (P,), which may be empty; never hidden.
        answer: token ids (L,).
        mc_num: samples; a multiple of ``batch_size``, or fewer. One is enough for an answer of one token.
        batch_size: samples evaluated together.
        seed: of the samples.
        cfg_scale: classifier-free guidance; above 0 a sample costs two forward passes.
        mask_id, shift_logits: as in ``generate``.

    Raises:
        ValueError: an argument is out of range.

    Reference:
        Nie et al., "Large Language Diffusion Models", arXiv:2502.09992, equation 6 and algorithm 3. Probabilities are over the
        tokens that may be written, all but the mask.
    """
    check_ids("prompt", prompt, 0)
    check_ids("answer", answer, 1)
    batch_size = min(batch_size, mc_num)
    if batch_size < 1 or mc_num % batch_size:
        raise ValueError(f"mc_num={mc_num}: must be a multiple of batch_size={batch_size}, both at least 1")
    check_cfg_scale(cfg_scale)
    denoiser = make_denoiser(model, cfg_scale, shift_logits)
    mask, n = find_mask_id(model, mask_id), len(answer)
    if bool((answer == mask).any()):
        raise ValueError(f"answer: holds the mask token {mask}, of which no model says how probable it is")
    source = np.random.Generator(np.random.Philox(key=digest("likelihood", seed, prompt.tolist(), answer.tolist())))
    means = []
    for _ in range(mc_num // batch_size):
        hidden = stratified(source, n, batch_size)
        rows = [[False] * len(prompt) + row for row in hidden.tolist()]
        found = hidden_log_probabilities(denoiser, torch.cat((prompt, answer)), torch.tensor(rows), len(prompt), mask)
        means.append(sum(n / len(row) * sum(row) for row in found) / batch_size)
    return LikelihoodBound(float(np.mean(means)), error_of(means), n, mc_num * denoiser.passes)


def choice_bounds(
    model: Any,
    prompt: Tensor,
    choices: Sequence[Tensor],
    *,
    mc_num: int = 128,
    batch_size: int = 16,
    seed: int = 0,
    key: str | None = None,
    cfg_scale: float = 0.0,
    mask_id: int | None = None,
    shift_logits: bool | None = None,
) -> ChoiceBounds:
    """How probable each of several choices is as the answer, by ``log_likelihood_bound`` with common random numbers.

    A draw is one number for the share of a choice that is hidden and one for each place in it: choices of equal length hide
    the same places, others the same share of them as near as they can, by the same order of their common places. Each
    choice's estimate has the law that it has alone; what the draws have in common cancels in the difference of two choices.
    The draws are in ``GROUPS`` groups of like size, each spread evenly over the shares.

    Args:
        model: as in ``generate``.
        prompt: token ids (P,), which may be empty; never hidden.
        choices: token ids (L_c,) of each.
        mc_num: draws for each choice. One is enough for choices of one token; below 2 there is no standard error.
        batch_size: rows evaluated together; changes no number but by rounding.
        seed: of the draws.
        key: of the draws, for instance the problem's id; None takes the prompt.
        cfg_scale: classifier-free guidance; above 0 an evaluation costs two forward passes.
        mask_id, shift_logits: as in ``generate``.

    Raises:
        ValueError: an argument is out of range.

    Reference:
        Nie et al., "Large Language Diffusion Models", arXiv:2502.09992, equation 6, algorithm 3 and appendix B (evaluation).
    """
    check_ids("prompt", prompt, 0)
    if not choices:
        raise ValueError("choices: must be at least one")
    if mc_num < 1:
        raise ValueError(f"mc_num={mc_num}: must be at least 1")
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: must be at least 1")
    check_cfg_scale(cfg_scale)
    mask = find_mask_id(model, mask_id)
    for number, choice in enumerate(choices, 1):
        check_ids(f"choice {number}", choice, 1)
        if bool((choice == mask).any()):
            raise ValueError(f"choice {number}: holds the mask token {mask}, of which no model says how probable it is")
    denoiser, longest = make_denoiser(model, cfg_scale, shift_logits), max(map(len, choices))
    source = np.random.Generator(np.random.Philox(key=digest("choices", seed, prompt.tolist() if key is None else key)))
    sizes = [len(part) for part in np.array_split(np.arange(mc_num), min(GROUPS, mc_num))]
    draws = [(source.random(), source.random((size, longest))) for size in sizes]
    found, evaluated = [], 0
    for choice in choices:
        n = len(choice)
        hidden = np.concatenate([spread(int(share * n), numbers[:, :n]) for share, numbers in draws])
        patterns, which = np.unique(hidden, axis=0, return_inverse=True)
        values = []
        for part in batched(patterns.tolist(), batch_size):
            rows = torch.tensor([[False] * len(prompt) + row for row in part])
            told = hidden_log_probabilities(denoiser, torch.cat((prompt, choice)), rows, len(prompt), mask)
            values += [n / len(row) * sum(row) for row in told]
        ends = np.cumsum(sizes)[:-1]
        found.append(tuple(float(group.mean()) for group in np.split(np.array(values)[which.ravel()], ends)))
        evaluated += len(patterns)
    return ChoiceBounds(tuple(found), tuple(map(len, choices)), evaluated * denoiser.passes)


def pseudo_log_likelihood(
    model: Any,
    tokens: Tensor,
    *,
    start: int = 0,
    positions: Sequence[int] | None = None,
    batch_size: int = 16,
    mask_id: int | None = None,
    shift_logits: bool | None = None,
) -> PseudoLikelihood:
    """Hide each token in turn, and ask for its probability given all others, before and behind it.

    Args:
        model: as in ``generate``.
        tokens: ids (L,).
        start: the first position that is scored; what lies before is context only.
        positions: those from ``start`` on that are scored, in ascending order; None scores all.
        batch_size: tokens scored together, a forward pass each.
        mask_id, shift_logits: as in ``generate``.

    Raises:
        ValueError: an argument is out of range, or a scored position holds the mask token.

    Reference:
        Salazar et al., "Masked Language Model Scoring", arXiv:1910.14659, equation 2.
    """
    check_ids("tokens", tokens, 1)
    if not 0 <= start < len(tokens):
        raise ValueError(f"start={start}: must be a position of the {len(tokens)} tokens")
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size}: must be at least 1")
    denoiser, mask = make_denoiser(model, 0.0, shift_logits), find_mask_id(model, mask_id)
    scored = list(range(start, len(tokens)) if positions is None else positions)
    if not scored or scored != sorted(set(scored)) or scored[0] < start or scored[-1] >= len(tokens):
        raise ValueError(f"positions={scored}: must be ascending, from start={start} to {len(tokens) - 1}, and at least one")
    if bool((tokens[start:] == mask).any()):
        raise ValueError(f"tokens: hold the mask token {mask} from position {start} on; decode the text first")
    found: list[float] = []
    for places in batched(scored, batch_size):
        hidden = torch.arange(len(tokens)) == torch.tensor(places)[:, None]
        rows = hidden_log_probabilities(denoiser, tokens, hidden, start, mask)
        found += [value for row in rows for value in row]
    return PseudoLikelihood(tuple(found), len(found))


def stratified(source: np.random.Generator, n: int, rows: int) -> np.ndarray:
    """(rows, n) bool: in row j 1 + (k + floor(j n / rows)) mod n are True, one k for all, uniform in 0 .. n - 1."""
    return spread(int(source.integers(n)), source.random((rows, n)))


def spread(k: int, numbers: np.ndarray) -> np.ndarray:
    """Of ``numbers`` (rows, n) the 1 + (k + floor(j n / rows)) mod n smallest of row j: (rows, n) bool."""
    rows, n = numbers.shape
    counts = 1 + (k + np.arange(rows) * n // rows) % n
    ranks = numbers.argsort(axis=1).argsort(axis=1)
    hidden: np.ndarray = ranks < counts[:, None]
    return hidden


def error_of(means: Sequence[float]) -> float:
    """The standard error of the mean of independent means; NaN of one."""
    return float(np.std(means, ddof=1) / math.sqrt(len(means))) if len(means) > 1 else math.nan


def hidden_log_probabilities(denoiser: Denoiser, tokens: Tensor, hidden: Tensor, start: int, mask_id: int) -> list[list[float]]:
    """For each row of ``hidden`` (R, L) bool the log-probabilities of these ``tokens`` (L,) given the others."""
    hidden = hidden.to(tokens.device)
    none = torch.zeros(len(hidden), dtype=torch.int64, device=tokens.device)
    answer = (torch.arange(len(tokens), device=tokens.device) >= start).expand_as(hidden)
    place = Place(none, none, none, none, none.bool())
    canvas = Canvas(torch.where(hidden, mask_id, tokens), answer, 0, None, mask_id, place, focus=hidden)
    with torch.inference_mode(), evaluating(denoiser.model):
        values = denoiser.look(canvas).log_probability(tokens.expand_as(hidden)[hidden]).tolist()
    ends = hidden.sum(dim=1).cumsum(dim=0).tolist()
    return [values[end - count : end] for end, count in zip(ends, hidden.sum(dim=1).tolist(), strict=True)]


def make_denoiser(model: Any, cfg_scale: float, shift_logits: bool | None) -> Denoiser:
    """The model as it is evaluated here."""
    return Denoiser(model, cfg_scale, bool(getattr(model, "shift_logits", False)) if shift_logits is None else shift_logits)


def check_ids(name: str, ids: Tensor, least: int) -> None:
    """Refuse what is no sequence of token ids."""
    if not isinstance(ids, Tensor) or ids.dim() != 1 or ids.dtype != torch.int64 or len(ids) < least:
        told = f"{ids.dtype} {tuple(ids.shape)}" if isinstance(ids, Tensor) else type(ids).__name__
        raise ValueError(f"{name}: must be a LongTensor of shape (L,) with L >= {least}, got {told}")


def batched(values: Sequence[Value], size: int) -> Iterator[list[Value]]:
    """Consecutive parts of at most ``size`` values."""
    for begin in range(0, len(values), size):
        yield list(values[begin : begin + size])
