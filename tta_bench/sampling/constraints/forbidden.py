"""Tokens that must not occur."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from tta_bench.sampling.constraints import checks
from tta_bench.types import ConstraintFn


def forbidden_tokens(ids: Iterable[int], weight: float = 1.0) -> ConstraintFn:
    """``weight`` at every token with one of these ids.

    Raises:
        ValueError: no ids, or a weight that is not finite and >= 0.
    """
    found = checks.token_ids("ids", ids)
    if not found:
        raise ValueError("ids=(): forbids nothing; name at least one token id")
    amount, forbidden = checks.weight("weight", weight), torch.tensor(found)

    def violations(tokens: Tensor) -> Tensor:
        return torch.isin(tokens, forbidden.to(tokens.device)) * torch.tensor(amount, device=tokens.device)

    return violations
