"""Distributions over the vocabulary: what they say, and draws from them. Pure functions of logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional as F

BLOCK = 128
"""Tokens whose weights are summed first; a draw looks into one block only."""

LOWEST = -1e30
"""Stands for minus infinity: exp of it is 0 at any temperature, and 0 times it is 0."""


@dataclass(frozen=True)
class Softmax:
    """softmax of logits (..., V), never normalised: exp(logit - largest), and what that adds up to.

    Attributes:
        top: the largest logit (...).
        shifted: logits minus the largest, cut into blocks of ``BLOCK`` tokens (..., n, BLOCK); ``LOWEST`` where impossible, and
            behind the last token.
        weights: exp(shifted) (..., n, BLOCK).
        sums: of the weights of each block (..., n).
        total: weight of all tokens (...), 1 / the probability of the most probable.
        entropy: Shannon entropy (...), nats.
        best: the most probable token (...), of equals the one with the lowest id.
        room: as large as ``shifted``, for intermediate results.
    """

    top: Tensor
    shifted: Tensor
    weights: Tensor
    sums: Tensor
    total: Tensor
    entropy: Tensor
    best: Tensor
    room: Tensor

    @staticmethod
    def of(blocks: Tensor, weights: Tensor | None = None, room: Tensor | None = None) -> Softmax:
        """Of logits in blocks (..., n, BLOCK), in their dtype.

        Args:
            blocks: see ``blocked``; overwritten.
            weights, room: memory as large, which distributions that are not in use together can share.
        """
        weights, room = (torch.empty_like(blocks) if memory is None else memory for memory in (weights, room))
        of_blocks = blocks.amax(dim=-1)
        top = of_blocks.amax(dim=-1)
        shifted = blocks.sub_(top[..., None, None]).clamp_(min=LOWEST)
        sums = torch.exp(shifted, out=weights).sum(dim=-1)
        total = sums.sum(dim=-1)
        entropy = total.log() - torch.mul(weights, shifted, out=room).sum(dim=-1).sum(dim=-1) / total
        block = of_blocks.argmax(dim=-1)
        best = block * BLOCK + picked(shifted, block).argmax(dim=-1)
        return Softmax(top, shifted, weights, sums, total, entropy, best, room)

    def __getitem__(self, view: int) -> Softmax:
        """One of several views, without copying."""
        return Softmax(*(getattr(self, f.name)[view] for f in fields(self)))

    def only(self, where: Tensor) -> Softmax:
        """The distributions marked in ``where`` (...) bool, in a row; without copying where these are all."""
        if bool(where.all()):
            return self
        room = self.room.new_empty(int(where.sum()), *self.room.shape[-2:])
        return Softmax(*(room if f.name == "room" else getattr(self, f.name)[where] for f in fields(self)))

    @property
    def probabilities(self) -> Tensor:
        """(..., n, BLOCK), in ``room``."""
        return torch.div(self.weights, self.total[..., None, None], out=self.room)

    def log_probabilities(self, out: Tensor | None = None) -> Tensor:
        """(..., n, BLOCK), nats; about ``LOWEST`` where impossible."""
        return torch.sub(self.shifted, self.total.log()[..., None, None], out=out)

    def tempered(self, temperature: float) -> Tensor:
        """Probabilities of softmax(logits / T) (..., n, BLOCK); at 0 all on the most probable token."""
        if temperature == 0:
            flat = torch.zeros_like(self.shifted).flatten(-2)
            return flat.scatter_(-1, self.best[..., None], 1.0).view(self.shifted.shape)
        weights = torch.exp(self.shifted / temperature)
        return weights / weights.sum(dim=(-2, -1), keepdim=True)

    def tempered_entropy(self, temperature: float) -> Tensor:
        """Shannon entropy of softmax(logits / T) (...) as a share of ln V, 0..1, in closed form; 0 at temperature 0.

        V is the number of tokens that are possible.
        """
        possible = (self.shifted > LOWEST).sum(dim=(-2, -1)).clamp(min=2)
        return torch.special.entr(self.tempered(temperature)).sum(dim=(-2, -1)) / possible.log()

    @property
    def margin(self) -> Tensor:
        """Probability of the most probable token minus that of the second (...)."""
        of_blocks, block = self.shifted.amax(dim=-1), self.best // BLOCK
        elsewhere = of_blocks.scatter(-1, block[..., None], -torch.inf).amax(dim=-1)
        second = torch.maximum(elsewhere, picked(self.shifted, block).topk(2, dim=-1).values[..., 1])
        return (1 - second.exp()) / self.total

    def probability(self, tokens: Tensor) -> Tensor:
        """Of ``tokens`` (...); 0 where an id lies outside the vocabulary."""
        return at(self.shifted, tokens, LOWEST).exp() / self.total

    def log_probability(self, tokens: Tensor) -> Tensor:
        """Log of the probability of ``tokens`` (...), nats; minus infinity where that is impossible."""
        shifted = at(self.shifted, tokens, LOWEST)
        return (shifted - self.total.log()).masked_fill(shifted <= LOWEST, -torch.inf)

    def divergence(self, log_q: Tensor) -> Tensor:
        """Kullback-Leibler divergence KL(p || q) (...), nats, from this p to other ``log_probabilities`` (..., n, BLOCK).

        As cross entropy minus entropy, to about 10^-6 in float32. Infinite where q excludes what p allows (with a probability
        above 10^-10; below that, very large).
        """
        cross = -torch.mul(self.weights, log_q, out=self.room).sum(dim=-1).sum(dim=-1) / self.total
        return (cross - self.entropy).clamp(min=0).masked_fill(cross > -LOWEST * 1e-10, torch.inf)

    def draws(self, temperatures: Sequence[float], uniform: Tensor) -> Tensor:
        """Draw tokens from softmax(logits / T) for each T, the law of Gumbel-max at that temperature.

        LLaDA takes the argmax of exp(l) / (-ln U)^T with one U per vocabulary entry. Its law is the categorical above, which is
        drawn here by inversion with one number a position: a block by the running total of the sums of blocks, then a token
        within the block, both in float64. With float32 logits a probability is right to a few parts in 10^6; none is cut off.

        Args:
            temperatures: K numbers >= 0; at 0 the most probable token is taken.
            uniform: (K, ...) in [0, 1), float64.

        Returns:
            Token ids (K, ...).
        """
        warm = [k for k, temperature in enumerate(temperatures) if temperature > 0]
        if len(warm) == len(temperatures):
            return self._inverted(temperatures, uniform)
        tokens = self.best.expand(len(temperatures), *self.best.shape).clone()
        if warm:
            tokens[warm] = self._inverted([temperatures[k] for k in warm], uniform[warm])
        return tokens

    def _inverted(self, temperatures: Sequence[float], uniform: Tensor) -> Tensor:
        """``draws`` at temperatures > 0."""
        sums = self._sums(temperatures)
        running = sums.cumsum(dim=-1)
        goal = uniform[..., None] * running[..., -1:]
        block = first_above(running, goal)
        before, mass = (values.gather(-1, block) for values in (running - sums, sums))
        warmth = torch.tensor(temperatures, dtype=torch.float64, device=sums.device).view(-1, *[1] * (sums.dim() - 1))
        logits = torch.stack([picked(self.shifted, chosen) for chosen in block.squeeze(-1)]).double()
        within = (logits / warmth).exp_().cumsum(dim=-1)
        share = ((goal - before) / mass).clamp(min=0)
        return (block * BLOCK + first_above(within, share * within[..., -1:])).squeeze(-1)

    def _sums(self, temperatures: Sequence[float]) -> Tensor:
        """Sums of exp(shifted / T) in each block, (K, ..., n) float64.

        At half of a temperature a weight is the square of what it is there: cheaper than an exponential, and no less exact.
        """
        found = {1.0: self.sums}
        for temperature in sorted(set(temperatures) - {1.0}, reverse=True):
            half = temperature
            while half in temperatures and half not in found:
                if half == temperature:
                    torch.div(self.shifted, half, out=self.room).exp_()
                else:
                    self.room.square_()
                found[half] = self.room.sum(dim=-1)
                half /= 2
        return torch.stack([found[temperature] for temperature in temperatures]).double()


@dataclass(frozen=True)
class Mixture:
    """The mean of K distributions.

    Attributes:
        probabilities: (..., n, BLOCK).
    """

    probabilities: Tensor

    @staticmethod
    def of(views: Softmax) -> Mixture:
        """Of distributions (K, ...), all alike."""
        return Mixture(views.probabilities.mean(dim=0))

    @property
    def entropy(self) -> Tensor:
        """Shannon entropy (...), nats; 0 log 0 = 0."""
        return torch.special.entr(self.probabilities).sum(dim=-1).sum(dim=-1)

    @property
    def best(self) -> Tensor:
        """The most probable token (...), of equals the one with the lowest id."""
        block = self.probabilities.amax(dim=-1).argmax(dim=-1)
        return block * BLOCK + picked(self.probabilities, block).argmax(dim=-1)

    def probability(self, tokens: Tensor) -> Tensor:
        """Of ``tokens`` (...); 0 where an id lies outside the vocabulary."""
        return at(self.probabilities, tokens, 0.0)


def blocked(logits: Tensor) -> Tensor:
    """Logits (..., V) in blocks (..., n, BLOCK), filled up with minus infinity; the same memory where that is not needed."""
    rest = -logits.shape[-1] % BLOCK
    return (F.pad(logits, (0, rest), value=-torch.inf) if rest else logits).unflatten(-1, (-1, BLOCK))


def picked(blocks: Tensor, block: Tensor) -> Tensor:
    """One block (..., BLOCK) of each (..., n, BLOCK), by its number (...)."""
    return blocks.gather(-2, block[..., None, None].expand(*block.shape, 1, BLOCK)).squeeze(-2)


def at(blocks: Tensor, tokens: Tensor, otherwise: float) -> Tensor:
    """Values (..., n, BLOCK) at ``tokens`` (...), and ``otherwise`` where an id lies outside."""
    flat = blocks.flatten(-2)
    outside = (tokens < 0) | (tokens >= flat.shape[-1])
    return flat.gather(-1, tokens.masked_fill(outside, 0)[..., None]).squeeze(-1).masked_fill(outside, otherwise)


def first_above(running: Tensor, goal: Tensor) -> Tensor:
    """Where running totals (..., n) first exceed ``goal`` (..., 1); the last place that adds anything where none does."""
    last = torch.searchsorted(running, running[..., -1:].contiguous())
    return torch.minimum(torch.searchsorted(running, goal, right=True), last)


def truncated(logits: Tensor, temperature: float, top_p: float | None, top_k: int | None, inclusive: bool = True) -> Tensor:
    """Logits / temperature (not divided at 0), minus infinity outside the nucleus and outside the ``top_k`` largest.

    Args:
        logits: (..., V).
        temperature: >= 0.
        top_p: the nucleus is the smallest set of most probable tokens whose probabilities add up to more than this; None
            takes all. Of equally probable tokens those with lower ids come first. Reference: Holtzman et al.,
            arXiv:1904.09751, section 3.1.
        top_k: how many of the largest stay (all that equal the last of them); None takes all.
        inclusive: whether the token that crosses ``top_p`` belongs to the nucleus. The most probable one always does.

    Returns:
        (..., V).
    """
    if temperature > 0:
        logits = logits / temperature
    if top_p is not None and top_p < 1:
        logits = logits.masked_fill(~nucleus(logits, top_p, inclusive), -torch.inf)
    if top_k is not None:
        last = logits.topk(min(top_k, logits.shape[-1]), dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < last, -torch.inf)
    return logits


FEW = 256
"""Most probable tokens that are looked at first for a nucleus; only where they are not enough all are sorted."""


def nucleus(logits: Tensor, top_p: float, inclusive: bool) -> Tensor:
    """(..., V) bool, the nucleus of softmax(logits), see ``truncated``."""
    flat = logits.flatten(0, -2)
    n, last = edge(flat, min(FEW, flat.shape[-1]), top_p, inclusive)
    more = n == FEW
    if bool(more.any()) and flat.shape[-1] > FEW:
        n[more], last[more] = edge(flat[more], flat.shape[-1], top_p, inclusive)
    kept = flat >= last[:, None]
    surplus = kept.sum(dim=-1) - n
    tied = surplus > 0
    if bool(tied.any()):  # of the tokens that equal the last one, those with the highest ids are outside
        equal = flat[tied] == last[tied, None]
        room = equal.sum(dim=-1, keepdim=True) - surplus[tied, None]
        kept[tied] &= ~equal | (equal.cumsum(dim=-1) <= room)
    return kept.view(logits.shape)


def edge(logits: Tensor, few: int, top_p: float, inclusive: bool) -> tuple[Tensor, Tensor]:
    """How many tokens are in the nucleus (m,), as far as that can be seen from the ``few`` largest logits of (m, V), and the
    smallest logit in it (m,)."""
    ordered = logits.topk(few, dim=-1).values
    running = (ordered - logits.logsumexp(dim=-1, keepdim=True)).exp().cumsum(dim=-1)
    n = ((running <= top_p).sum(dim=-1) + inclusive).clamp(1, few)
    return n, ordered.gather(-1, n[:, None] - 1)[:, 0]
