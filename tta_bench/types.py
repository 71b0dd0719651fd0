"""The values that travel between views, schedule, commit, remask and the loop. B rows, L positions, K views, S steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

ConstraintFn: TypeAlias = "Callable[[Tensor], Tensor]"
"""Token ids (B, L) -> violation (B, L): floating point, finite, >= 0, higher is worse."""


@dataclass(frozen=True)
class Canvas:
    """The sequences as they stand, and which of their positions may be written.

    Attributes:
        tokens: token ids (B, L).
        editable: (B, L) bool, True where the sampler may write: appended masks, or holes in a template.
        step: number of the current denoising step, from 0.
        n_steps: S, how many there are.
        mask_id: id of the mask token.
    """

    tokens: Tensor
    editable: Tensor
    step: int
    n_steps: int
    mask_id: int

    @property
    def masked(self) -> Tensor:
        """(B, L) bool, True where a token is still to be committed."""
        return (self.tokens == self.mask_id) & self.editable

    @property
    def committed(self) -> Tensor:
        """(B, L) bool, True where a token was committed and may be taken back."""
        return (self.tokens != self.mask_id) & self.editable


@dataclass(frozen=True)
class Prediction:
    """What K views of one canvas say per position. Logits are not kept. Zero outside the editable positions.

    Attributes:
        tokens: the candidate (B, L).
        confidence: probability of the candidate (B, L).
        entropy: of the views' mean distribution (B, L), nats.
        disagreement: (distinct drawn tokens - 1) / (K - 1), (B, L), 0..1.
        mutual_information: entropy of the mean minus mean entropy of the views (B, L), nats.
        forward_passes: model evaluations made for each row.
    """

    tokens: Tensor
    confidence: Tensor
    entropy: Tensor
    disagreement: Tensor
    mutual_information: Tensor
    forward_passes: int


@dataclass(frozen=True)
class StepInfo:
    """What one step did.

    Attributes:
        canvas: as it went into the model.
        prediction: what the views said of it.
        violation: constraint violations of the candidates filled in (B, L).
        committed: mask -> token in this step (B, L) bool.
        remasked: token -> mask in this step (B, L) bool.
        frozen: could not be remasked in this step (B, L) bool.
        tokens: the canvas after the step (B, L).
    """

    canvas: Canvas
    prediction: Prediction
    violation: Tensor
    committed: Tensor
    remasked: Tensor
    frozen: Tensor
    tokens: Tensor


@dataclass(frozen=True)
class Generation:
    """A finished decoding: tokens (B, L), model evaluations per row, calls of the model, and what was observed."""

    tokens: Tensor
    forward_passes: int
    model_calls: int
    steps: list[StepInfo]
    seconds: float
