"""Several constraints as one."""

from __future__ import annotations

from torch import Tensor

from tta_bench.sampling.constraints import checks
from tta_bench.sampling.constraints.evaluate import evaluate_constraint
from tta_bench.types import ConstraintFn


def combined(*parts: tuple[ConstraintFn, float]) -> ConstraintFn:
    """The weighted sum of constraints.

    Args:
        *parts: (constraint, weight) each; weights are finite and >= 0. Those of weight 0 are not asked.

    Raises:
        ValueError: no part, or one that is no such pair.
    """
    weighted = [_part(i, part) for i, part in enumerate(parts)]
    if not weighted:
        raise ValueError("combined(): has nothing to combine; give pairs (constraint, weight)")

    def violations(tokens: Tensor) -> Tensor:
        total = evaluate_constraint(None, tokens)
        for constraint, weight in weighted:
            if weight:
                total = total + weight * evaluate_constraint(constraint, tokens)
        return total

    return violations


def _part(i: int, part: object) -> tuple[ConstraintFn, float]:
    if not (isinstance(part, tuple | list) and len(part) == 2 and callable(part[0])):
        raise ValueError(f"parts[{i}]={part!r}: must be a pair (constraint, weight), as (json_format(tokenizer), 1.0)")
    return part[0], checks.weight(f"weight of parts[{i}]", part[1])
