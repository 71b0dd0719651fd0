"""What is searched: the settings that vary, and the values each may take."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

SEARCHABLE = ("sampler", "steps", "block_length", "cfg_scale", "eos_policy", "constraint")
"""Keys that a search may vary, with all that is under them. Anything else would change what is measured, or by what."""

DIGITS = 4
"""Significant digits of a value drawn from an interval: more would tell nothing, and nobody could type it again."""


class Dimension(Protocol):
    """A setting that is searched.

    Attributes:
        key: what is set, as in ``key=value``.
    """

    @property
    def key(self) -> str: ...

    @property
    def values(self) -> Sequence[Any] | None:
        """All values, as optuna tells them; None where they are not finitely many."""

    @property
    def ends(self) -> Sequence[str]:
        """Words that are checked before anything runs: every choice, the ends of a range."""

    def distribution(self) -> BaseDistribution:
        """The same for optuna."""

    def word(self, value: Any) -> str:
        """``key=value`` for a value that optuna tells."""


@dataclass(frozen=True)
class Choice:
    """One of several values, without an order.

    Attributes:
        key: what is set.
        values: as one writes them.
    """

    key: str
    values: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(set(self.values)) < len(self.values):
            raise ValueError(f"{self.key}={','.join(self.values)}: names a value twice; give each once")

    @property
    def ends(self) -> Sequence[str]:
        return [self.word(value) for value in self.values]

    def distribution(self) -> BaseDistribution:
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.values)

    def word(self, value: Any) -> str:
        return f"{self.key}={value}"

    def __str__(self) -> str:
        return f"{self.key}={','.join(self.values)}"


@dataclass(frozen=True)
class Range:
    """A number between two, both included.

    Attributes:
        key: what is set.
        low, high: the smallest and the largest value.
        step: between neighbouring values; None takes any number, to ``DIGITS`` digits.
        log: whether the logarithm is drawn evenly; needs ``low`` above 0, and no step but 1.
    """

    key: str
    low: float
    high: float
    step: float | None = None
    log: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high)) or not self.low < self.high:
            raise ValueError(f"{self}: must go from a smaller number to a larger one")
        if self.step is not None and not self.step > 0:
            raise ValueError(f"{self}: its step must be above 0")
        if self.log and (self.low <= 0 or self.step not in (None, 1)):
            raise ValueError(f"{self}: a logarithmic scale needs a lower end above 0, and takes no step")

    @property
    def whole(self) -> bool:
        """Whether the values are whole numbers."""
        return self.step is not None and all(float(number).is_integer() for number in (self.low, self.high, self.step))

    @property
    def values(self) -> Sequence[Any] | None:
        if self.step is None:
            return None
        numbers = [self.low + i * self.step for i in range(1 + round((self.high - self.low) / self.step))]
        return [int(number) for number in numbers] if self.whole else numbers

    @property
    def ends(self) -> Sequence[str]:
        return [self.word(self.low), self.word(self.high)]

    def distribution(self) -> BaseDistribution:
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.whole and self.step:
            return IntDistribution(int(self.low), int(self.high), log=self.log, step=int(self.step))
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def word(self, value: Any) -> str:
        if self.whole:
            return f"{self.key}={int(value)}"
        digits = DIGITS if self.step is None else 12
        return f"{self.key}={min(max(float(f'{value:.{digits}g}'), self.low), self.high)!r}"

    def __str__(self) -> str:
        kind = f"{self.low:.12g}..{self.high:.12g}"
        return f"{self.key}={kind}{f' in steps of {self.step:.12g}' if self.step else ''}{' (log)' if self.log else ''}"


def range_of(key: str, start: float, stop: float, step: float) -> Range:
    """The values start, start + step, ... below ``stop``, as Hydra's ``range(start,stop,step)`` has them.

    Raises:
        ValueError: they are fewer than two.
    """
    n = math.ceil((stop - start) / step - 1e-9) if step > 0 else 0
    if n < 2:
        raise ValueError(f"{key}=range({start},{stop},{step}): holds fewer than two values; its end is not among them")
    return Range(key, start, start + (n - 1) * step, step)


@dataclass(frozen=True)
class Space:
    """All settings that are searched, in the order of their keys, so that the order in which they are given means nothing.

    Attributes:
        dimensions: at least one, each of another key.
    """

    dimensions: tuple[Dimension, ...]

    def __post_init__(self) -> None:
        if not self.dimensions:
            raise ValueError(
                "nothing is searched: give at least one key several values, as sampler.tta_k=3,5,7 or "
                "'sampler.remask_top_pct=interval(0,0.3)'"
            )
        keys = [one.key for one in self.dimensions]
        for key in keys:
            if keys.count(key) > 1:
                raise ValueError(f"{key}: is searched twice; give its values once")
            if re.split(r"[.@]", key.lstrip("+"))[0] not in SEARCHABLE or "@" in key:
                raise ValueError(
                    f"{key}: cannot be searched, since settings are compared on the same problems, with the same random "
                    f"numbers and the same baseline; {', '.join(SEARCHABLE)} and what is under them can. "
                    "Give it one value, and run tune once for each"
                )
        object.__setattr__(self, "dimensions", tuple(sorted(self.dimensions, key=lambda one: one.key)))

    @property
    def size(self) -> float:
        """How many settings there are; infinite where an interval is searched."""
        return math.prod(math.inf if one.values is None else len(one.values) for one in self.dimensions)

    @property
    def first(self) -> tuple[str, ...]:
        """One setting: the first value of each."""
        return tuple(one.ends[0] for one in self.dimensions)

    def words(self, parameters: Mapping[str, Any]) -> tuple[str, ...]:
        """``key=value`` of every dimension for what optuna suggests."""
        return tuple(one.word(parameters[one.key]) for one in self.dimensions)

    def settings(self, most: int) -> list[dict[str, Any]]:
        """The first ``most`` settings of a finite space, in the order of their values."""
        values = [one.values or () for one in self.dimensions]
        keys = [one.key for one in self.dimensions]
        return [dict(zip(keys, chosen, strict=True)) for chosen in islice(product(*values), most)]

    def to_check(self) -> list[tuple[str, ...]]:
        """Settings that are checked before anything runs: every end of every dimension, the others at their first values."""
        found = [self.first]
        for i, one in enumerate(self.dimensions):
            found += [(*self.first[:i], word, *self.first[i + 1 :]) for word in one.ends[1:]]
        return found

    def __str__(self) -> str:
        return "  ".join(map(str, self.dimensions))
