"""Which tokens of a row belong to its text."""

from __future__ import annotations

import torch
from torch import Tensor

from tta_bench.sampling.constraints import checks


def in_text(tokens: Tensor, begins: int | list[int], ends: Tensor) -> Tensor:
    """(B, L) bool: where ``tokens`` (B, L) lie in the text, the token that ends it included.

    Args:
        tokens: ids.
        begins: where the text begins, one place for all rows or one for each.
        ends: ids that end it (n,).

    Raises:
        ValueError: too many places, too few, or one behind the rows.
    """
    first = torch.tensor(checks.one_for_each(begins, tokens), device=tokens.device)[:, None]
    behind = torch.arange(tokens.shape[1], device=tokens.device) >= first
    ended = (torch.isin(tokens, ends.to(tokens.device)) & behind).long()
    return behind & (ended.cumsum(dim=1) - ended == 0)
