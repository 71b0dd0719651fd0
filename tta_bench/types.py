"""The values that travel between views, schedule, commit, remask and the loop. B rows, L positions, K views, S steps."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

ConstraintFn: TypeAlias = "Callable[[Tensor], Tensor]"
"""Token ids (B, L) -> violation (B, L): floating point, finite, >= 0, higher is worse."""

AnswerFn: TypeAlias = "Callable[[int, list[int]], Hashable]"
"""Row number and the token ids of its whole sequence -> what it answers; equal answers are one answer in a vote."""


@dataclass(frozen=True)
class Place:
    """Where each row stands in its blocks, (B,) each. A block is a run of consecutive *editable* positions.

    Attributes:
        start, end: the current block holds the editable positions number ``start`` to ``end - 1`` of the row.
        step: steps already spent on the block.
        n_steps: steps the block gets; 0 where the sampler counts none and goes on until the block is filled.
        last: bool, True in the row's last step, where it is known to be the last.
    """

    start: Tensor
    end: Tensor
    step: Tensor
    n_steps: Tensor
    last: Tensor


@dataclass(frozen=True)
class Canvas:
    """The sequences as they stand, and which of their positions may be written.

    Attributes:
        tokens: token ids (B, L).
        editable: (B, L) bool, True where the sampler may write: appended masks, or holes in a template. A finished row has
            none and is not evaluated any more.
        step: number of the current denoising step, from 0.
        n_steps: S, how many there are; None where the sampler goes on until nothing is masked.
        mask_id: id of the mask token.
        place: where each row stands in its blocks.
        padding: (B, L) bool, True at padding to the left of a prompt; None where there is none.
        focus: (B, L) bool, the editable positions that this look is to tell of; None for all of them.
    """

    tokens: Tensor
    editable: Tensor
    step: int
    n_steps: int | None
    mask_id: int
    place: Place
    padding: Tensor | None = None
    focus: Tensor | None = None

    @property
    def looked(self) -> Tensor:
        """(B, L) bool, True where this look is to tell something."""
        return self.editable if self.focus is None else self.focus

    @property
    def lengths(self) -> Tensor:
        """(B,) integers, length of each row without its padding."""
        padded = 0 if self.padding is None else self.padding.sum(dim=1)
        return self.editable.new_full(self.editable.shape[:1], self.editable.shape[1], dtype=self.tokens.dtype) - padded

    @property
    def present(self) -> Tensor:
        """(B, L) bool, True but at padding."""
        return self.editable.new_ones(self.editable.shape) if self.padding is None else ~self.padding

    @property
    def masked(self) -> Tensor:
        """(B, L) bool, True where a token is still to be committed."""
        return (self.tokens == self.mask_id) & self.editable

    @property
    def committed(self) -> Tensor:
        """(B, L) bool, True where a token was committed and may be taken back."""
        return (self.tokens != self.mask_id) & self.editable

    @property
    def reachable(self) -> Tensor:
        """(B, L) bool, True at editable positions up to the end of the row's current block."""
        return self.editable & (self.editable.cumsum(dim=1) <= self.place.end[:, None])

    @property
    def block(self) -> Tensor:
        """(B, L) bool, True in the row's current block."""
        return self.reachable & (self.editable.cumsum(dim=1) > self.place.start[:, None])


@dataclass(frozen=True)
class Prediction:
    """What K views of one canvas say per position. Logits are not kept. Zero outside the editable positions.

    Attributes:
        tokens: the candidate (B, L).
        confidence: probability of the candidate (B, L).
        entropy: of the views' mean distribution (B, L), nats.
        disagreement: (distinct drawn tokens - 1) / (K - 1), (B, L), 0..1.
        mutual_information: entropy of the mean minus mean entropy of the views (B, L), nats.
        support: probability of the token that stands at the position (B, L); 0 where it is masked.
        forward_passes: model evaluations made for each row that is not finished; (B,) where rows differ.
        margin: probability of the most probable token minus that of the second (B, L); None where the views do not tell.
        drift: the largest Kullback-Leibler divergence (nats) between the distributions of consecutive recent steps (B, L),
            infinite until enough steps are known; None where the views do not tell.
        evaluated: token positions of each row that went through the network (B,), summed over the forward passes; None where
            every pass evaluated the whole row.
        revisable: (B, L) bool, the positions that are looked at again while the block lasts; nothing else may be taken back.
            None where that is all that is editable.
        calls: calls of the model.
        told: (B, L) bool, the positions that this look tells of; None for all that it was to look at. At the others the loop
            puts what the last look said, 0 (and the token that stands there as candidate) before the first.
    """

    tokens: Tensor
    confidence: Tensor
    entropy: Tensor
    disagreement: Tensor
    mutual_information: Tensor
    support: Tensor
    forward_passes: int | Tensor
    margin: Tensor | None = None
    drift: Tensor | None = None
    evaluated: Tensor | None = None
    revisable: Tensor | None = None
    calls: int = 1
    told: Tensor | None = None


@dataclass(frozen=True)
class Turn:
    """What a step has to go by when it decides what to commit and what to take back.

    Attributes:
        canvas: as it went into the model.
        prediction: what the views said of it.
        violation: constraint violations of the candidates filled in (B, L).
        eligible: masked positions that may be committed (B, L) bool.
        due: (B,) integers, how many commits the schedule asks for now.
        remaskable: committed positions that may be taken back (B, L) bool: not frozen, and revisable.
        times_remasked: (B, L) integers, how often each position was taken back so far.
        stored: confidence of the token on the canvas when it was committed (B, L); 0 where there is none.
        previous_commits: (B,) integers, commits of the step before.
        violations: what the constraint says of other token ids (B, L) than those with all candidates filled in.
    """

    canvas: Canvas
    prediction: Prediction
    violation: Tensor
    eligible: Tensor
    due: Tensor
    remaskable: Tensor
    times_remasked: Tensor
    stored: Tensor
    previous_commits: Tensor
    violations: ConstraintFn

    @property
    def revisable(self) -> Tensor:
        """(B, L) bool, what is looked at again while the block lasts."""
        return self.canvas.editable if self.prediction.revisable is None else self.prediction.revisable


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
        stored: confidence that each token had when it was committed, this step's commits included (B, L); 0 at masks.
        doubt: the score by which tokens are taken back (B, L), higher is earlier; None where there is none.
    """

    canvas: Canvas
    prediction: Prediction
    violation: Tensor
    committed: Tensor
    remasked: Tensor
    frozen: Tensor
    tokens: Tensor
    stored: Tensor
    doubt: Tensor | None = None


Observe: TypeAlias = Callable[[StepInfo], None]
"""Told what every step did, when it is done."""


@dataclass(frozen=True)
class Generation:
    """A finished decoding.

    Attributes:
        tokens: (B, L).
        row_steps: steps that each row took, summed over its samples.
        forward_passes: model evaluations made for each row, of the whole of it or, with a cache, of a part.
        evaluated: token positions of each row that went through the network, padding not counted: length x forward passes
            without a cache.
        model_calls: calls of the model.
        steps: what was observed. Where a sampler decodes each row several times, these are rows of their own here, a row's
            samples next to each other.
        seconds: wall-clock time.
    """

    tokens: Tensor
    row_steps: tuple[int, ...]
    forward_passes: tuple[int, ...]
    evaluated: tuple[int, ...]
    model_calls: int
    steps: list[StepInfo]
    seconds: float
