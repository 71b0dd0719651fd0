"""What a run tells its sampler of violations: the task's own rules, constraints of the catalog, or a weighted sum of such."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tta_bench import catalog
from tta_bench.catalog import Entry
from tta_bench.sampling.constraints import checks
from tta_bench.sampling.constraints import combined as weighted_sum
from tta_bench.types import ConstraintFn


@dataclass(frozen=True)
class Term:
    """One constraint of a sum.

    Attributes:
        entry: of the catalog; None stands for the task's own rules.
        weight: above 0.
    """

    entry: Entry | None
    weight: float = 1.0

    def build(self, own: Callable[[], ConstraintFn], supplied: Mapping[str, Any]) -> ConstraintFn:
        """The constraint as a function, see ``Constraint.build``."""
        return own() if self.entry is None else made(self.entry, supplied)

    @property
    def node(self) -> str | dict[str, Any]:
        """As it is written to a run's configuration, without its weight."""
        return "task" if self.entry is None else {"name": self.entry.name, **self.entry.node}


@dataclass(frozen=True)
class Constraint:
    """A weighted sum of constraints; of none, a sampler sees no violations.

    Attributes:
        terms: of the sum, in the order in which they are added.
    """

    terms: tuple[Term, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.terms)

    @property
    def simple(self) -> bool:
        """Whether it is one constraint as it is, and no sum."""
        return [term.weight for term in self.terms] == [1.0]

    @property
    def targets(self) -> tuple[str, ...]:
        """Dotted paths of what builds the terms, without the task's own rules."""
        return tuple(term.entry.target for term in self.terms if term.entry)

    def config(self) -> str | dict[str, Any]:
        """As it is written to a run's configuration, and hashed: ``none``, ``task``, or a mapping with a name."""
        if not self.terms:
            return "none"
        if self.simple:
            return self.terms[0].node
        return {"name": "combined", "parts": [{"weight": term.weight, "constraint": term.node} for term in self.terms]}

    def build(self, own: Callable[[], ConstraintFn], supplied: Mapping[str, Any]) -> ConstraintFn | None:
        """The constraint as a function from token ids (B, L) to violations (B, L); None of no terms.

        Args:
            own: makes the constraint of the task's own rules.
            supplied: how the rows of a batch are read: ``tokenizer``, ``start``, ``end_ids`` and ``mask_ids``.

        Raises:
            ValueError: a parameter is out of range, or not of this tokenizer; or what should make a constraint does not.
        """
        parts = [(term.build(own, supplied), term.weight) for term in self.terms]
        if not parts:
            return None
        return parts[0][0] if self.simple else weighted_sum(*parts)

    def check(self, tokenizer: Any = None) -> None:
        """Refuse parameters out of range. Without a tokenizer, what asks for one is left for later.

        Raises:
            ValueError: as ``build``.
        """
        supplied = {"tokenizer": NotLoaded() if tokenizer is None else tokenizer, "start": 0, "end_ids": (), "mask_ids": ()}
        for term in self.terms:
            if term.entry:
                try:
                    made(term.entry, supplied)
                except TokenizerNeededError:
                    continue


CHOICES = {"none": Constraint(), "task": Constraint((Term(None),))}
"""The constraints that nothing in the catalog makes."""

COMBINED = f"{__name__}.combined"
"""The target of the catalog's entry for sums."""


class TokenizerNeededError(Exception):
    """Something cannot be told without the tokenizer."""


class NotLoaded:
    """Stands for a tokenizer before it is loaded; whatever it is asked is a ``TokenizerNeededError``."""

    def _needed(self, *_: Any) -> Any:
        raise TokenizerNeededError

    __getattr__ = __call__ = __len__ = __iter__ = __contains__ = __getitem__ = _needed


def made(entry: Entry, supplied: Mapping[str, Any]) -> ConstraintFn:
    """What an entry of the catalog makes, which must be a constraint."""
    try:
        found: ConstraintFn = entry.build(**supplied)
    except (ValueError, TokenizerNeededError):
        raise
    except Exception as error:
        raise ValueError(f"constraint {entry.target} cannot be made: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise ValueError(
            f"constraint {entry.target} returned {type(found).__name__}: must return a function of token ids, as of_text does"
        )
    return found


def constraint_of(chosen: object) -> Constraint:
    """The constraint that a configuration names.

    Args:
        chosen: a name in ``conf/constraint``; a mapping of ``constraint``, such a name, and those parameters that are not to be
            as saved there; or, as Hydra composes it, a mapping of ``_target_`` and parameters.

    Raises:
        ValueError: no such name or parameter, a value of the wrong type, or ``combined`` of what cannot be combined.
    """
    if isinstance(chosen, str):
        return constraint_of({"constraint": chosen})
    if not isinstance(chosen, Mapping):
        raise ValueError(f"constraint={chosen}: must be a name, or a mapping of one (constraint) and its parameters")
    node = dict(chosen)
    if "_target_" not in node:
        if "constraint" not in node:
            raise ValueError(f"constraint={chosen}: names no constraint; add one, as {{constraint:json_format,root:object}}")
        name = str(node.pop("constraint"))
        if name in CHOICES:
            if node:
                raise ValueError(f"constraint {name} has no parameters, but {', '.join(map(str, node))} is given")
            return CHOICES[name]
        node = {**catalog.saved("constraint", name), **node}
    if node.get("_target_") == COMBINED:
        return combined(**catalog.coerce("constraint", combined, {k: v for k, v in node.items() if k != "_target_"}))
    target = catalog.resolve(str(node["_target_"]))
    if not (inspect.isfunction(target) or inspect.isclass(target)):
        kind = type(target).__name__
        raise ValueError(f"_target_={node['_target_']}: is a {kind}; must be a function or a class, so that its code is known")
    return Constraint((Term(catalog.entry_of("constraint", node)),))


def combined(parts: list[Any], weights: list[float] | None = None) -> Constraint:
    """The sum of what ``parts`` name, times ``weights``, without those whose weight is 0.

    Raises:
        ValueError: no parts, not a weight for each, or a weight below 0.
    """
    if not parts:
        raise ValueError("constraint.parts=[]: names nothing to combine; name constraints, as [task,json_format]")
    factors: Sequence[float] = [1.0] * len(parts) if weights is None else weights
    if len(factors) != len(parts):
        raise ValueError(f"constraint.weights={weights}: has {len(factors)} weights for {len(parts)} parts; give one for each")
    factors = [checks.weight(f"constraint.weights[{i}]", factor) for i, factor in enumerate(factors)]
    return Constraint(
        tuple(
            Term(term.entry, factor * term.weight)
            for part, factor in zip(parts, factors, strict=True)
            for term in constraint_of(part).terms
            if factor * term.weight > 0
        )
    )
