"""Randomness by name, not by order.

Every number is a function of (seed, row key, step, purpose, index), computed by the counter-based generator Philox. So a
row's numbers do not depend on the batch around it, on the rows before it, on a resume, on the device, or on any global
generator. Reference: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import hashlib
import operator
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np


def digest(*parts: object, size: int = 16) -> int:
    """An integer of ``size`` bytes that depends on every part and on nothing else."""
    text = "\x1f".join(f"{type(p).__name__}:{p}" for p in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=size).digest(), "big")


@dataclass(frozen=True)
class Noise:
    """Uniform numbers for the rows of a batch.

    Attributes:
        seed: of the run.
        keys: one per row, for instance ``"test-00012/0"`` (problem and replicate); equal keys draw equal numbers.
        purposes: what it was asked for so far; nothing was random where that is nothing.
    """

    seed: int
    keys: tuple[str, ...]
    purposes: set[str] = field(default_factory=set, compare=False, repr=False)

    def __post_init__(self) -> None:
        # A numpy integer must draw what the equal Python integer draws.
        object.__setattr__(self, "seed", operator.index(self.seed))

    def uniform(self, step: int, purpose: str, n: int, k: int = 1) -> np.ndarray:
        """(B, n, k) float64 in [0, 1); entry (b, i, j) does not depend on B or n."""
        self.purposes.add(purpose)
        counter = [0, 0, step, digest(purpose, size=8)]
        return np.stack(
            [
                np.random.Generator(np.random.Philox(key=digest(self.seed, key), counter=counter)).random((n, k))
                for key in self.keys
            ]
        )

    def repeated(self, n: int) -> Noise:
        """The noise of a batch that holds each row ``n`` times in a row; each repetition draws for itself."""
        return Noise(self.seed, tuple(f"{key}/sample-{i}" for key in self.keys for i in range(n)), self.purposes)

    def seeds(self, step: int, purpose: str, k: int) -> list[list[int]]:
        """One 63-bit seed for each (view, row), as k lists of B, for generators of another library."""
        self.purposes.add(purpose)
        return [[digest(self.seed, key, step, purpose, view, size=8) >> 1 for key in self.keys] for view in range(k)]


def keys_of_prompts(prompts: Sequence[Sequence[int]]) -> tuple[str, ...]:
    """Row keys by content: a prompt draws the same numbers alone or in any batch; its repetitions draw others."""
    seen: Counter[tuple[int, ...]] = Counter()
    keys = []
    for prompt in prompts:
        ids = tuple(prompt)
        keys.append(f"{digest(ids):032x}/{seen[ids]}")
        seen[ids] += 1
    return tuple(keys)
