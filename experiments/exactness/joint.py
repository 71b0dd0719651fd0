"""A joint distribution small enough to enumerate, as a denoiser whose conditionals are exact."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

import tta_bench


class Joint:
    """A joint distribution of ``n`` tokens of a vocabulary of ``v``, drawn from a Dirichlet distribution; token v is the mask.

    Called as a model, it answers every masked position with its exact conditional distribution given the visible tokens.
    """

    def __init__(self, n: int = 3, v: int = 3, concentration: float = 0.5, seed: int = 0) -> None:
        self.n, self.v, self.mask_id = n, v, v
        p = np.random.default_rng(seed).dirichlet(np.full(v**n, concentration))
        self.p = torch.from_numpy(p).reshape((v,) * n)

    def __call__(self, input_ids: Tensor) -> SimpleNamespace:
        """Logits (B, n, v + 1): log p(x_i | visible) at masked positions, certainty at visible ones."""
        rows, inverse = torch.unique(input_ids, dim=0, return_inverse=True)
        logits = torch.stack([self._row(tuple(row)) for row in rows.tolist()])
        return SimpleNamespace(logits=logits[inverse])

    def _row(self, tokens: tuple[int, ...]) -> Tensor:
        index = tuple(slice(None) if t == self.mask_id else slice(t, t + 1) for t in tokens)
        compatible = self.p[index]
        logits = torch.full((self.n, self.v + 1), -math.inf, dtype=torch.float64)
        for i, token in enumerate(tokens):
            if token == self.mask_id:
                marginal = compatible.sum(dim=[axis for axis in range(self.n) if axis != i])
                logits[i, : self.v] = marginal.log() - marginal.sum().log()
            else:
                logits[i, token] = 0.0
        return logits

    @property
    def entropy(self) -> float:
        """Of the joint, nats."""
        return float(torch.special.entr(self.p).sum())


@dataclass(frozen=True)
class Agreement:
    """How far the sequences of a sampler are from the joint.

    Attributes:
        total_variation: half the sum of |frequency - probability| over all sequences.
        expected: mean of that for as many independent draws from the joint, in a normal approximation.
        worst: largest |count - expected count| of a sequence, in standard errors.
        log_probability: mean log p of the sequences, nats; minus the joint's entropy if they are drawn from it.
        standard_error: of ``log_probability``.
    """

    total_variation: float
    expected: float
    worst: float
    log_probability: float
    standard_error: float


def agreement(
    joint: Joint, sampler: str, n_samples: int, *, steps: int | None = None, seed: int = 0, **parameters: Any
) -> Agreement:
    """Decode ``n_samples`` sequences and compare their frequencies with the joint; ``steps`` None decodes one at a time."""
    tokens, _ = tta_bench.generate(
        joint,
        torch.empty(n_samples, 0, dtype=torch.int64),
        sampler,
        mask_id=joint.mask_id,
        gen_length=joint.n,
        steps=joint.n if steps is None else steps,
        block_length=None,
        seed=seed,
        row_keys=[str(i) for i in range(n_samples)],
        **parameters,
    )
    return compare(joint.p.numpy(), tokens.numpy())


def compare(p: np.ndarray, tokens: np.ndarray) -> Agreement:
    """Compare sequences (N, n) with the joint distribution ``p`` (v, ..., v)."""
    n_samples = len(tokens)
    cells = np.ravel_multi_index(tuple(tokens.T), p.shape)
    flat = p.ravel()
    counts = np.bincount(cells, minlength=flat.size)
    error = np.sqrt(n_samples * flat * (1 - flat))
    log_p = np.log(flat[cells])
    return Agreement(
        total_variation=float(np.abs(counts / n_samples - flat).sum() / 2),
        expected=float(error.sum() / n_samples * math.sqrt(2 / math.pi) / 2),
        worst=float((np.abs(counts - n_samples * flat) / error).max()),
        log_probability=float(log_p.mean()),
        standard_error=float(log_p.std(ddof=1) / math.sqrt(n_samples)),
    )
