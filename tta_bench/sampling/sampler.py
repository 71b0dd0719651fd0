"""The one sampling loop. A sampler is views + schedule + commit + remask + freeze; the loop only puts them in order."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from tta_bench.rng import Noise
from tta_bench.sampling.constraints import evaluate_constraint
from tta_bench.sampling.denoiser import Denoiser
from tta_bench.sampling.freeze import FreezeMemory, FreezeWindow
from tta_bench.sampling.remask import Remask
from tta_bench.sampling.schedule import BlockSchedule
from tta_bench.sampling.selection import take_highest
from tta_bench.types import Canvas, ConstraintFn, Generation, Prediction, StepInfo

ENGINE_VERSION = 1
"""Raised whenever a change here or in a component changes what is generated; part of every run id."""


class Views(Protocol):
    """K looks at a canvas, merged."""

    @property
    def k(self) -> int: ...

    def predict(self, denoiser: Denoiser, canvas: Canvas, noise: Noise) -> Prediction: ...


class Commit(Protocol):
    """The order in which masked positions are committed: higher priority (B, L) first, ties by lowest position."""

    def priority(self, canvas: Canvas, prediction: Prediction, noise: Noise) -> Tensor: ...


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
    memory = sampler.freeze.init(tokens) if sampler.freeze else None
    state = State(Canvas(tokens.clone(), editable, 0, schedule.steps, mask_id), torch.zeros_like(tokens), memory)
    steps: list[StepInfo] = []
    with torch.no_grad(), evaluating(denoiser.model):
        for i in range(schedule.steps):
            state, info = advance(state, sampler, denoiser, quota[:, i], reach[:, i], noise, constraint_fn)
            steps.append(info)
    passes = sum(info.prediction.forward_passes for info in steps)
    return Generation(state.canvas.tokens, passes, len(steps), steps, time.perf_counter() - began)


@dataclass(frozen=True)
class State:
    """What the next step needs to know.

    Attributes:
        canvas: the sequences.
        times_remasked: (B, L) integers, how often each position was taken back.
        memory: of the freeze window; None without one.
    """

    canvas: Canvas
    times_remasked: Tensor
    memory: FreezeMemory | None


def advance(
    state: State,
    sampler: Sampler,
    denoiser: Denoiser,
    quota: Tensor,
    reach: Tensor,
    noise: Noise,
    constraint_fn: ConstraintFn | None,
) -> tuple[State, StepInfo]:
    """One denoising step: look, commit what is due, take back what is doubtful.

    Args:
        quota: (B,) positions that are to be committed once the step is done.
        reach: (B,) only the first so many editable positions may be committed.
    """
    canvas, memory, freeze = state.canvas, state.memory, sampler.freeze
    frozen = torch.zeros_like(canvas.editable)
    if freeze and memory:
        memory = freeze.begin(memory, canvas.step)
        frozen = (memory.until > canvas.step) & canvas.editable
    prediction = sampler.views.predict(denoiser, canvas, noise)
    within_reach = canvas.masked & (canvas.editable.cumsum(dim=1) <= reach[:, None])
    due = quota - canvas.committed.sum(dim=1)
    commits = take_highest(sampler.commit.priority(canvas, prediction, noise), within_reach, due)
    violation = evaluate_constraint(constraint_fn, torch.where(canvas.masked, prediction.tokens, canvas.tokens))
    remasks = torch.zeros_like(commits)
    if sampler.remask and canvas.step < canvas.n_steps - 1:
        score = sampler.remask.score.score(canvas, prediction, violation, state.times_remasked, noise)
        count = sampler.remask.budget.count((canvas.committed | commits).sum(dim=1))
        remasks = take_highest(score, canvas.committed & ~frozen, count)
    tokens = torch.where(commits, prediction.tokens, canvas.tokens).masked_fill(remasks, canvas.mask_id)
    if freeze and memory:
        memory = freeze.end(memory, tokens != canvas.tokens)
    info = StepInfo(canvas, prediction, violation, commits, remasks, frozen, tokens)
    after = replace(canvas, tokens=tokens, step=canvas.step + 1)
    return State(after, state.times_remasked + remasks, memory), info


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
