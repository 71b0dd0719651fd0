"""What the model gives a committed token when it cannot see it: an honest judge of what already stands on a canvas."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from tta_bench.sampling.denoiser import Denoiser
from tta_bench.types import Canvas


def holdout_probability(denoiser: Denoiser, canvas: Canvas, folds: int) -> Tensor:
    """Hide the committed tokens in turn, one of ``folds`` disjoint parts at a time, and ask for each token's probability.

    Args:
        denoiser: the model; one evaluation for each fold.
        canvas: whose committed tokens are judged; rows without editable positions are not evaluated.
        folds: 2 or more; token number i of a row belongs to fold i mod ``folds``.

    Returns:
        (B, L) probabilities, 0 where no token is committed.

    Raises:
        ValueError: fewer than two folds, which would hide everything at once.
    """
    if folds < 2:
        raise ValueError(f"folds={folds}: must be at least 2; a single fold hides every token at once")
    committed = canvas.committed
    rank = committed.cumsum(dim=1) - 1
    found = torch.zeros(canvas.tokens.shape, device=canvas.tokens.device)
    for fold in range(folds):
        hidden = committed & (rank % folds == fold)
        if not bool(hidden.any()):
            continue
        blind = replace(canvas, tokens=canvas.tokens.masked_fill(hidden, canvas.mask_id), focus=hidden)
        found[hidden] = denoiser.look(blind).probability(canvas.tokens[hidden]).float()
    return found
