"""What the model gives a committed token when it cannot see it: an honest judge of what already stands on a canvas."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from tta_bench.rng import Noise
from tta_bench.sampling.denoiser import Denoiser
from tta_bench.sampling.views import Draws, TTAViews, perturbed, prediction, single, spread
from tta_bench.types import Canvas, Place, Prediction


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
    found = torch.zeros(canvas.tokens.shape, device=canvas.tokens.device)
    for hidden in cut(canvas.committed, folds):
        if not bool(hidden.any()):
            continue
        blind = replace(canvas, tokens=canvas.tokens.masked_fill(hidden, canvas.mask_id), focus=hidden)
        found[hidden] = denoiser.look(blind).probability(canvas.tokens[hidden]).float()
    return found


@dataclass(frozen=True)
class HoldoutViews:
    """A plain look proposes candidates; K looks, each without one of K disjoint folds of the committed tokens, judge these.

    What is told of a committed token is what the look says that cannot see it. Token number i of those judged in a row belongs
    to fold i mod K. The K looks go through the network in one batch, and only those are made that have something to say:
    K + 1 where tokens stand and masks are left, 1 where nothing stands, K where nothing is masked.

    Attributes:
        folds: the views: how many (2 or more), the temperatures of the draws from what a look says, and its dropout.
        when_filled: judge a row only when its block is filled; what is told of committed tokens before that is of the last
            look that told of them.
    """

    folds: TTAViews
    when_filled: bool = False

    def __post_init__(self) -> None:
        if self.folds.k < 2:
            raise ValueError(f"tta_k={self.folds.k}: holdout views need at least 2; a single one hides every token at once")
        if self.folds.context is not None:
            raise ValueError("context: cannot be combined with holdout views, which hide what they judge already")

    @property
    def k(self) -> int:
        """Folds."""
        return self.folds.k

    def predict(self, denoiser: Denoiser, canvas: Canvas, noise: Noise, memory: None) -> tuple[Prediction, None]:
        """Candidates at masks, judgements elsewhere."""
        open_, judged = canvas.masked & canvas.looked, canvas.committed & canvas.looked
        if self.when_filled:
            judged = judged & ~(canvas.masked & canvas.reachable).any(dim=1, keepdim=True)
        found = [self.proposed(denoiser, replace(canvas, focus=open_), noise)] if bool(open_.any()) else []
        found += [self.judgement(denoiser, replace(canvas, focus=judged), noise)] if bool(judged.any()) else []
        merged = found[0]
        for other in found[1:]:
            values: dict[str, Any] = {
                f.name: torch.where(judged, value, getattr(merged, f.name))
                for f in fields(other)
                if isinstance(value := getattr(other, f.name), Tensor) and value.shape == judged.shape
            }
            passes = merged.forward_passes + other.forward_passes
            merged = replace(merged, **values, forward_passes=passes, calls=merged.calls + other.calls)
        return replace(merged, told=open_ | judged), None

    def proposed(self, denoiser: Denoiser, canvas: Canvas, noise: Noise) -> Prediction:
        """The plain look."""
        draws = Draws.at(canvas, noise, self.folds.candidate_temperature, canvas.masked, "candidate")
        passes = canvas.looked.any(dim=1) * denoiser.passes
        return replace(single(denoiser.look(canvas), canvas, draws, denoiser.passes), forward_passes=passes)

    def judgement(self, denoiser: Denoiser, canvas: Canvas, noise: Noise) -> Prediction:
        """The K looks at the committed tokens looked at."""
        judged, views = canvas.looked, self.folds
        hidden = cut(judged, self.k)
        wide = stacked(canvas, hidden)
        if views.dropout is None:
            logits = denoiser.look(wide)
        else:
            seeds = [seed for view in noise.seeds(canvas.step, "dropout", self.k) for seed in view]
            logits = perturbed(denoiser, wide, views.dropout, [seeds])
        uniform = views.uniform(canvas, noise)
        number = spread(canvas, torch.arange(uniform.shape[1], device=judged.device)).repeat(self.k, 1)[wide.looked]
        standing = canvas.tokens.repeat(self.k, 1)[wide.looked]
        told = views.merged(logits, standing, uniform[:, number])
        in_order = number.argsort()  # every position lies in one fold
        passes = hidden.any(dim=2).sum(dim=0) * denoiser.passes
        found = prediction(canvas, 0, {name: values[in_order] for name, values in told.items()})
        return replace(found, forward_passes=passes)


def cut(where: Tensor, folds: int) -> Tensor:
    """(folds, B, L) bool: disjoint parts of ``where`` (B, L); number i of a row is in part i mod ``folds``."""
    return where & ((where.cumsum(dim=1) - 1) % folds == torch.arange(folds, device=where.device)[:, None, None])


def stacked(canvas: Canvas, hidden: Tensor) -> Canvas:
    """A canvas (K x B, L) of K copies, each with masks where ``hidden`` (K, B, L), which is what it is to tell of."""
    k = len(hidden)
    place = Place(*(getattr(canvas.place, f.name).repeat(k) for f in fields(Place)))
    return replace(
        canvas,
        tokens=canvas.tokens.repeat(k, 1).masked_fill(hidden.flatten(0, 1), canvas.mask_id),
        editable=canvas.editable.repeat(k, 1),
        place=place,
        padding=None if canvas.padding is None else canvas.padding.repeat(k, 1),
        focus=hidden.flatten(0, 1),
    )
