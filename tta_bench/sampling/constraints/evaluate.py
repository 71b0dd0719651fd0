"""Calling a constraint function without ever hiding that it failed."""

from __future__ import annotations

import torch
from torch import Tensor

from tta_bench.types import ConstraintFn


class ConstraintError(ValueError):
    """A constraint function failed, or broke the rules of what it may return."""


def evaluate_constraint(constraint_fn: ConstraintFn | None, tokens: Tensor, samples: int = 1) -> Tensor:
    """Violations (B x samples, L), float32, of ``tokens`` (B x samples, L); zeros without a constraint.

    Where every row is decoded several times, next to each other, the function sees the B rows it knows, once for each.

    Raises:
        ConstraintError: the function raised, or returned something other than a floating-point tensor of the tokens' shape
            with finite values >= 0. The function gets a copy, so it cannot change the canvas.
    """
    if constraint_fn is None:
        return torch.zeros(tokens.shape, device=tokens.device)
    return torch.stack([_violation(constraint_fn, tokens[i::samples]) for i in range(samples)], dim=1).flatten(0, 1)


def asked_once(judge: ConstraintFn) -> ConstraintFn:
    """A constraint that remembers what it was asked: for a step, several rules of which ask about the same tokens."""
    known: list[tuple[Tensor, Tensor]] = []

    def answer(tokens: Tensor) -> Tensor:
        for asked, violations in known:
            if torch.equal(asked, tokens):
                return violations
        known.append((tokens, judge(tokens)))
        return known[-1][1]

    return answer


def _violation(constraint_fn: ConstraintFn, tokens: Tensor) -> Tensor:
    try:
        violation = constraint_fn(tokens.clone())
    except Exception as error:
        raise ConstraintError(f"constraint_fn raised {type(error).__name__}: {error}") from error
    _check(violation, tokens)
    return violation.detach().to(tokens.device, torch.float32)


def _check(violation: object, tokens: Tensor) -> None:
    """Raise ConstraintError, naming the rule, unless ``violation`` is what a constraint may return."""
    if not isinstance(violation, Tensor):
        raise ConstraintError(f"constraint_fn returned {type(violation).__name__}: it must return a torch.Tensor")
    if violation.shape != tokens.shape:
        raise ConstraintError(
            f"constraint_fn returned shape {tuple(violation.shape)}: it must be the shape of its tokens, {tuple(tokens.shape)}"
        )
    if not violation.is_floating_point():
        raise ConstraintError(f"constraint_fn returned dtype {violation.dtype}: it must return torch.float32")
    if not bool(torch.isfinite(violation).all()):
        raise ConstraintError("constraint_fn returned NaN or infinity: every score must be finite")
    if bool((violation < 0).any()):
        raise ConstraintError(f"constraint_fn returned {float(violation.min())}: scores must be >= 0 (higher is worse)")
