"""The one sampling loop. A sampler is views + schedule + commit + remask + freeze; the loop only puts them in order."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from tta_bench.rng import Noise
from tta_bench.sampling.constraints import evaluate_constraint
from tta_bench.sampling.denoiser import Denoiser
from tta_bench.sampling.freeze import FreezeWindow
from tta_bench.sampling.remask import Remask
from tta_bench.sampling.schedule import BlockSchedule
from tta_bench.sampling.selection import take_highest
from tta_bench.types import Canvas, ConstraintFn, Generation, Prediction, RowNoise, StepInfo

ENGINE_VERSION = 1
"""Raised whenever a change here or in a component changes what is generated; part of every run id."""


class Views(Protocol):
    """K looks at a canvas, merged."""

    @property
    def k(self) -> int: ...

    def predict(self, denoiser: Denoiser, canvas: Canvas, noise: Noise) -> Prediction: ...


class Commit(Protocol):
    """The order in which masked positions are committed: higher priority (B, L) first, ties by lowest position."""

    def priority(self, canvas: Canvas, prediction: Prediction, noise: RowNoise) -> Tensor: ...


@dataclass(frozen=True)
class Sampler:
    """A decoding strategy without memory: what a step must remember travels in the loop.

    Attributes:
        views: how the canvas is looked at.
        commit: which masked positions come first.
        remask: which committed tokens are taken back; None takes none.
        freeze: what may not be taken back for a while; None freezes nothing.
    """

    views: Views
    commit: Commit
    remask: Remask | None = None
    freeze: FreezeWindow | None = None

    @property
    def uses_constraint(self) -> bool:
        """Whether violations can change what is remasked."""
        return self.remask is not None and self.remask.score.uses_constraint


def sample(
    denoiser: Denoiser,
    sampler: Sampler,
    schedule: BlockSchedule,
    tokens: Tensor,
    editable: Tensor,
    *,
    mask_id: int,
    noise: Noise,
    constraint_fn: ConstraintFn | None = None,
) -> Generation:
    """Fill the masks of a batch.

    Args:
        denoiser: the model.
        sampler: the strategy.
        schedule: how many positions are due after each step.
        tokens: (B, L) ids; the editable positions hold ``mask_id``. Not changed.
        editable: (B, L) bool.
        mask_id: id of the mask token.
        noise: random numbers by row.
        constraint_fn: scores the canvas with the candidates filled in.

    Returns:
        The filled sequences, what they cost and every StepInfo.

    Raises:
        ValueError: the schedule does not fit the rows.
        ModelOutputError: the model returned NaN or infinity.
        ConstraintError: the constraint failed or broke its rules.
    """
    began = time.perf_counter()
    plan = schedule.plan(editable.sum(dim=1).tolist())
    quota, reach = plan.quota.to(tokens.device), plan.reach.to(tokens.device)
    rank = editable.cumsum(dim=1) - 1
    canvas = Canvas(tokens.clone(), editable, 0, schedule.steps, mask_id)
    times_remasked = torch.zeros_like(tokens)
    memory = sampler.freeze.init(tokens) if sampler.freeze else None
    steps: list[StepInfo] = []
    with torch.no_grad(), evaluating(denoiser.model):
        for step in range(schedule.steps):
            if memory and sampler.freeze:
                memory = sampler.freeze.begin(memory, step)
            frozen = (memory.until > step) & editable if memory else torch.zeros_like(editable)
            prediction = sampler.views.predict(denoiser, canvas, noise)
            due = quota[:, step] - canvas.committed.sum(dim=1)
            within_reach = canvas.masked & (rank < reach[:, step, None])
            commits = take_highest(sampler.commit.priority(canvas, prediction, noise), within_reach, due)
            filled = torch.where(canvas.masked, prediction.tokens, canvas.tokens)
            violation = evaluate_constraint(constraint_fn, filled)
            remasks = torch.zeros_like(commits)
            if sampler.remask and step < schedule.steps - 1:
                committed = canvas.committed | commits
                score = sampler.remask.score.score(canvas, prediction, violation, times_remasked, noise)
                count = sampler.remask.budget.count(committed.sum(dim=1))
                remasks = take_highest(score, canvas.committed & ~frozen, count)
            after = torch.where(commits, prediction.tokens, canvas.tokens).masked_fill(remasks, mask_id)
            if memory and sampler.freeze:
                memory = sampler.freeze.end(memory, after != canvas.tokens)
            times_remasked = times_remasked + remasks
            steps.append(StepInfo(canvas, prediction, violation, commits, remasks, frozen, after))
            canvas = Canvas(after, editable, step + 1, schedule.steps, mask_id)
    passes = sum(info.prediction.forward_passes for info in steps)
    return Generation(canvas.tokens, passes, len(steps), steps, time.perf_counter() - began)


@contextmanager
def evaluating(model: Any) -> Any:
    """The model in eval mode; every module gets its own train / eval state back afterwards."""
    if not isinstance(model, torch.nn.Module):
        yield
        return
    states = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in states:
            module.training = training
