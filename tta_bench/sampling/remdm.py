"""ReMDM: a reverse process that keeps the marginals of masked diffusion and may mask a token again.

With alpha_t the share of tokens that are not masked at time t and sigma the probability of masking again, a step from t to
s < t keeps a committed token with probability 1 - sigma and commits a masked position with probability
(alpha_s - (1 - sigma) alpha_t) / (1 - alpha_t). Reference: Wang et al., "Remasking Discrete Diffusion Models with
Inference-Time Scaling", arXiv:2503.00307, section 3 (posterior) and section 4 (schedules of sigma).

Times run from 1 to 0 in equal steps over a block, so the last step commits whatever is left. The published code ends its grid
at 1e-5 and fills what may be left greedily, with one more evaluation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from tta_bench.rng import Noise
from tta_bench.sampling.commit import editable_uniform
from tta_bench.sampling.schedule import times
from tta_bench.types import Turn


class Remasking(Protocol):
    """How likely a committed token is masked again."""

    def alpha(self, t: Tensor) -> Tensor:
        """Share of tokens that are not masked at time t, 0 at 1 and 1 at 0."""
        ...

    def sigma(self, turn: Turn, t: Tensor, sigma_max: Tensor) -> Tensor:
        """(B, 1) or (B, L), from t and the largest value that is allowed, both (B, 1)."""
        ...


def sigma_max(alpha_t: Tensor, alpha_s: Tensor) -> Tensor:
    """min(1, (1 - alpha_s) / alpha_t): the most that leaves the marginals alone."""
    return torch.where(alpha_t > 0, (1 - alpha_s) / alpha_t, 1.0).clamp(max=1)


def commit_probability(alpha_t: Tensor, alpha_s: Tensor, sigma: Tensor) -> Tensor:
    """(alpha_s - (1 - sigma) alpha_t) / (1 - alpha_t): that a masked position becomes a token."""
    return ((alpha_s - (1 - sigma) * alpha_t) / (1 - alpha_t)).clamp(0, 1)


@dataclass(frozen=True)
class Posterior:
    """Every position decides for itself. It serves as commit rule and as remask rule of a sampler at once."""

    remasking: Remasking
    uses_constraint: ClassVar[bool] = False
    looks_back: ClassVar[bool] = False

    def commits(self, turn: Turn, noise: Noise) -> Tensor:
        """(B, L) bool."""
        alpha_t, alpha_s, sigma = self._rates(turn)
        probability = commit_probability(alpha_t, alpha_s, sigma)
        return turn.eligible & (editable_uniform(turn.canvas, noise, "commit") < probability)

    def remasks(self, turn: Turn, commits: Tensor, noise: Noise) -> Tensor:
        """(B, L) bool."""
        _, _, sigma = self._rates(turn)
        return turn.remaskable & turn.canvas.block & (editable_uniform(turn.canvas, noise, "remask") < sigma)

    def _rates(self, turn: Turn) -> tuple[Tensor, Tensor, Tensor]:
        t, s = (time[:, None] for time in times(turn.canvas, 0.0, torch.float64))
        alpha_t, alpha_s = self.remasking.alpha(t), self.remasking.alpha(s)
        return alpha_t, alpha_s, self.remasking.sigma(turn, t, sigma_max(alpha_t, alpha_s))


@dataclass(frozen=True)
class Capped:
    """sigma = min(eta, sigma_max)."""

    eta: float

    def __post_init__(self) -> None:
        check_eta(self.eta)

    def alpha(self, t: Tensor) -> Tensor:
        """1 - t."""
        return 1 - t

    def sigma(self, turn: Turn, t: Tensor, sigma_max: Tensor) -> Tensor:
        """(B, 1)."""
        return sigma_max.clamp(max=self.eta)


@dataclass(frozen=True)
class Rescaled:
    """sigma = eta sigma_max."""

    eta: float

    def __post_init__(self) -> None:
        check_eta(self.eta)

    def alpha(self, t: Tensor) -> Tensor:
        """1 - t."""
        return 1 - t

    def sigma(self, turn: Turn, t: Tensor, sigma_max: Tensor) -> Tensor:
        """(B, 1)."""
        return self.eta * sigma_max


@dataclass(frozen=True)
class ByConfidence:
    """sigma_i = softmax(-confidence at commit)_i sigma_max over the block's committed tokens; 0 at masked positions."""

    def alpha(self, t: Tensor) -> Tensor:
        """1 - t."""
        return 1 - t

    def sigma(self, turn: Turn, t: Tensor, sigma_max: Tensor) -> Tensor:
        """(B, L)."""
        committed = turn.canvas.committed & turn.canvas.block
        weight = torch.exp(-turn.stored.double()) * committed
        return weight / weight.sum(dim=1, keepdim=True).clamp(min=1e-300) * sigma_max


@dataclass(frozen=True)
class Looped:
    """Three phases: decode up to ``alpha_on``, remask and decode at constant alpha with sigma = eta, decode the rest.

    Attributes:
        eta: sigma between the times ``t_on`` and ``t_off``, as far as sigma_max allows.
        t_on, t_off: when the loop starts and ends, 1 > t_on > t_off > 0.
        alpha_on: share of tokens that are not masked during the loop.
    """

    eta: float
    t_on: float
    t_off: float
    alpha_on: float

    def __post_init__(self) -> None:
        check_eta(self.eta)
        if not 1 > self.t_on > self.t_off > 0:
            raise ValueError(f"t_on={self.t_on}, t_off={self.t_off}: must satisfy 1 > t_on > t_off > 0")
        if not 0 < self.alpha_on < 1:
            raise ValueError(f"alpha_on={self.alpha_on}: must lie between 0 and 1")

    def alpha(self, t: Tensor) -> Tensor:
        """Linear from 0 to alpha_on, constant, linear from alpha_on to 1."""
        before = (1 - t) * self.alpha_on / (1 - self.t_on)
        after = 1 - t * (1 - self.alpha_on) / self.t_off
        return torch.where(t > self.t_on, before, torch.where(t > self.t_off, torch.full_like(t, self.alpha_on), after))

    def sigma(self, turn: Turn, t: Tensor, sigma_max: Tensor) -> Tensor:
        """(B, 1): eta within the loop, else 0."""
        return torch.where((t <= self.t_on) & (t > self.t_off), sigma_max.clamp(max=self.eta), 0.0)


def check_eta(value: float) -> None:
    """Refuse an eta that is no probability."""
    if not (math.isfinite(value) and 0 <= value <= 1):
        raise ValueError(f"eta={value}: must be a probability, 0 to 1")
