"""The one sampling loop. A sampler is views + schedule + commit + remask + freeze; the loop only puts them in order."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from tta_bench.rng import Noise
from tta_bench.sampling.commit import Commit
from tta_bench.sampling.constraints import evaluate_constraint
from tta_bench.sampling.denoiser import Denoiser
from tta_bench.sampling.eos import EosPolicy
from tta_bench.sampling.freeze import FreezeMemory, FreezeWindow
from tta_bench.sampling.remask import Doubts, Remask
from tta_bench.sampling.schedule import Blocks, Layout, Schedule, Uniform
from tta_bench.sampling.vote import Temporal, Vote
from tta_bench.types import AnswerFn, Canvas, ConstraintFn, Generation, Observe, Place, Prediction, StepInfo, Turn

ENGINE_VERSION = 2
"""Raised whenever a change here or in a component changes what is generated; part of every run id."""


IDLE_STEPS, LOOKS = 100, 1000
"""A sampler that does not count its steps is stopped after so many steps that change nothing, or so many for each position."""


class Views(Protocol):
    """K looks at a canvas, merged. ``memory`` is what the last call returned, None in the first."""

    @property
    def k(self) -> int: ...

    def predict(self, denoiser: Denoiser, canvas: Canvas, noise: Noise, memory: Any) -> tuple[Prediction, Any]: ...


@dataclass(frozen=True)
class Sampler:
    """A decoding strategy without memory: what a step must remember travels in the loop.

    Attributes:
        views: how the canvas is looked at.
        commit: which masked positions become tokens.
        schedule: how many are due, and when a block is done.
        remask: which committed tokens are taken back; None takes none.
        freeze: what may not be taken back for a while; None freezes nothing.
        vote: chooses among several answers to the same prompt; None takes the decoded canvas.
        looks_ahead: look at what is masked behind the current block as well. It cannot be committed yet, so most samplers have
            no use for its candidates, and its logits are not computed.
    """

    views: Views
    commit: Commit
    schedule: Schedule = field(default_factory=Uniform)
    remask: Remask | None = None
    freeze: FreezeWindow | None = None
    vote: Vote | None = None
    looks_ahead: bool = False

    def __post_init__(self) -> None:
        needed = {
            "views": ("predict", "k"),
            "commit": ("commits",),
            "schedule": ("due",),
            "remask": ("remasks", "uses_constraint"),
        }
        for part, attributes in needed.items():
            value = getattr(self, part)
            missing = [name for name in attributes if value is not None and not hasattr(value, name)]
            if missing:
                raise TypeError(
                    f"{part}={value!r}: must have {' and '.join(missing)} (see the protocols in tta_bench.sampling)"
                )
        if isinstance(self.vote, Temporal) and not self.looks_ahead:
            raise ValueError(
                "looks_ahead=False: a vote among the answers that the steps predict needs all of each; set it to True"
            )

    @property
    def looks_back(self) -> bool:
        """Whether it goes by what is predicted of tokens that were committed before the current block."""
        return self.remask is not None and bool(getattr(self.remask, "looks_back", True))

    @property
    def uses_constraint(self) -> bool:
        """Whether violations can change what is remasked."""
        return self.remask is not None and self.remask.uses_constraint


def sample(
    denoiser: Denoiser,
    sampler: Sampler,
    blocks: Blocks,
    tokens: Tensor,
    editable: Tensor,
    *,
    mask_id: int,
    noise: Noise,
    padding: Tensor | None = None,
    constraint_fn: ConstraintFn | None = None,
    eos: EosPolicy | None = None,
    answer_fn: AnswerFn | None = None,
    observe: Observe | None = None,
) -> Generation:
    """Fill the masks of a batch.

    Args:
        denoiser: the model.
        sampler: the strategy.
        blocks: steps and length of a block.
        tokens: (B, L) ids; the editable positions hold ``mask_id``. Not changed.
        editable: (B, L) bool.
        mask_id: id of the mask token.
        noise: random numbers by row.
        padding: (B, L) bool, True at padding; None where there is none.
        constraint_fn: scores the canvas with the candidates filled in.
        eos: what becomes of end-of-sequence tokens; None allows them.
        answer_fn: what a row answers, for samplers that vote; None takes all its token ids.
        observe: told of every step while the decoding goes on.

    Returns:
        The filled sequences, what they cost and every StepInfo. A row without masks comes back as it is, at no cost.

    Raises:
        ValueError: the steps do not fit the rows.
        ModelOutputError: the model returned NaN or infinity.
        ConstraintError: the constraint failed or broke its rules.
        RuntimeError: the sampler does not come to an end.
    """
    began = time.perf_counter()
    n = sampler.vote.samples if sampler.vote else 1
    if n > 1:
        tokens, editable = tokens.repeat_interleave(n, dim=0), editable.repeat_interleave(n, dim=0)
        padding, noise = None if padding is None else padding.repeat_interleave(n, dim=0), noise.repeated(n)
    layout = blocks.layout(editable.sum(dim=1).tolist(), sampler.schedule).to(tokens.device)
    state = State.start(tokens, editable, padding, layout, sampler, mask_id)
    step = Step(sampler, layout, denoiser, noise, constraint_fn, EosPolicy() if eos is None else eos)
    with torch.inference_mode(), evaluating(denoiser.model):
        final, steps = decode(state, step, observe)
    # Outside inference mode, so that the caller may write to it.
    chosen = sampler.vote.choose(final, steps, answer_fn) if sampler.vote else final.clone()
    row_steps, passes, evaluated = cost(steps, len(chosen), n)
    calls = sum(info.prediction.calls for info in steps)
    return Generation(chosen, row_steps, passes, evaluated, calls, steps, time.perf_counter() - began)


def decode(state: State, step: Step, observe: Observe | None) -> tuple[Tensor, list[StepInfo]]:
    """Step until every row is finished: the tokens (B, L), and what was observed."""
    steps: list[StepInfo] = []
    idle = 0
    while bool(state.canvas.editable.any()):
        state, info = step.advance(state)
        steps.append(info)
        if observe:
            observe(info)
        idle = 0 if bool((info.committed | info.remasked).any()) else idle + 1
        if not step.sampler.schedule.uses_steps and (idle > IDLE_STEPS or len(steps) > LOOKS * info.tokens.shape[1]):
            raise RuntimeError(
                f"the sampler is not done after {len(steps)} steps, the last {idle} of which neither committed nor took back "
                "anything: a sampler that does not count its steps must fill every block by its own rules"
            )
    return state.canvas.tokens, steps


def cost(steps: list[StepInfo], rows: int, samples: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Steps, forward passes and evaluated positions of each row, summed over its samples; a finished row costs nothing."""
    total = torch.zeros(3, rows, dtype=torch.int64)
    for info in steps:
        prediction, active = info.prediction, info.canvas.editable.any(dim=1)
        evaluated = info.canvas.lengths * prediction.forward_passes if prediction.evaluated is None else prediction.evaluated
        made = torch.stack((active, active * prediction.forward_passes, active * evaluated)).cpu()
        total += made.view(3, rows, samples).sum(dim=2)
    row_steps, passes, positions = (tuple(counts) for counts in total.tolist())
    return row_steps, passes, positions


@dataclass(frozen=True)
class State:
    """What the next step needs to know.

    Attributes:
        canvas: the sequences.
        block: (B,) integers, number of the row's current block.
        times_remasked: (B, L) integers, how often each position was taken back.
        stored: (B, L) confidence of the tokens on the canvas when they were committed; 0 where there are none.
        previous_commits: (B,) integers, commits of the step before.
        prediction: of the step before, what it committed supported by the confidence it had; None before the first.
        views: memory of the views.
        freeze: memory of the freeze window; None without one.
    """

    canvas: Canvas
    block: Tensor
    times_remasked: Tensor
    stored: Tensor
    previous_commits: Tensor
    prediction: Prediction | None
    views: Any
    freeze: FreezeMemory | None

    @staticmethod
    def start(
        tokens: Tensor, editable: Tensor, padding: Tensor | None, layout: Layout, sampler: Sampler, mask_id: int
    ) -> State:
        """Before the first step."""
        none = torch.zeros_like(layout.count)
        n_steps = int((layout.count * layout.share).max()) if sampler.schedule.uses_steps else None
        place = placed(none, none, layout, editable.sum(dim=1))
        return State(
            canvas=Canvas(tokens.clone(), editable, 0, n_steps, mask_id, place, padding),
            block=none,
            times_remasked=torch.zeros_like(tokens),
            stored=torch.zeros(tokens.shape, device=tokens.device),
            previous_commits=none,
            prediction=None,
            views=None,
            freeze=sampler.freeze.init(tokens) if sampler.freeze else None,
        )


def placed(block: Tensor, step: Tensor, layout: Layout, n_editable: Tensor) -> Place:
    """The place of rows that have spent ``step`` (B,) steps on their block number ``block`` (B,)."""
    last = (block == layout.count - 1) & (step == layout.share - 1)
    start = torch.minimum(block * layout.length, n_editable)
    return Place(start, torch.minimum(start + layout.length, n_editable), step, layout.share, last)


@dataclass(frozen=True)
class Step:
    """One denoising step: look, commit what is due, take back what is doubtful, move on. Attributes: see ``sample``."""

    sampler: Sampler
    layout: Layout
    denoiser: Denoiser
    noise: Noise
    constraint_fn: ConstraintFn | None
    eos: EosPolicy

    def advance(self, state: State) -> tuple[State, StepInfo]:
        """The state after a step, and what the step did."""
        sampler, noise = self.sampler, self.noise
        canvas, freeze, memory = self.focused(state.canvas), sampler.freeze, state.freeze
        frozen = torch.zeros_like(canvas.editable)
        if freeze and memory:
            memory = freeze.begin(memory, canvas.step)
            frozen = (memory.until > canvas.step) & canvas.editable
        prediction, views = sampler.views.predict(self.denoiser, canvas, noise, state.views)
        prediction = carried(prediction, state.prediction, canvas.looked)
        filled_in = torch.where(canvas.masked, prediction.tokens, canvas.tokens)
        violation = evaluate_constraint(self.constraint_fn, filled_in, sampler.vote.samples if sampler.vote else 1)
        due = sampler.schedule.due(canvas)
        revisable = canvas.editable if prediction.revisable is None else prediction.revisable
        turn = Turn(
            canvas=canvas,
            prediction=prediction,
            violation=violation,
            eligible=self.eos.hold_back(canvas.masked & canvas.reachable, prediction.tokens, due),
            due=due,
            remaskable=canvas.committed & ~frozen & ~canvas.place.last[:, None] & revisable,
            times_remasked=state.times_remasked,
            stored=state.stored,
            previous_commits=state.previous_commits,
        )
        commits = sampler.commit.commits(turn, noise)
        check_choice(sampler.commit, "commit", commits, turn.eligible, canvas.step)
        remasks = sampler.remask.remasks(turn, commits, noise) if sampler.remask else torch.zeros_like(commits)
        doubt = sampler.remask.doubt(turn, noise) if isinstance(sampler.remask, Doubts) else None
        check_choice(sampler.remask, "take back", remasks, turn.remaskable, canvas.step)
        tokens = torch.where(commits, prediction.tokens, canvas.tokens).masked_fill(remasks, canvas.mask_id)
        if freeze and memory:
            memory = freeze.end(memory, tokens != canvas.tokens)
        stored = torch.where(commits, prediction.confidence, state.stored)
        info = StepInfo(canvas, prediction, violation, commits, remasks, frozen, tokens, stored, doubt)
        after = State(
            canvas=state.canvas,
            block=state.block,
            times_remasked=state.times_remasked + remasks,
            stored=stored.masked_fill(remasks, 0),
            previous_commits=commits.sum(dim=1),
            prediction=replace(prediction, support=torch.where(commits, prediction.confidence, prediction.support)),
            views=views,
            freeze=memory,
        )
        return moved_on(after, info, sampler.schedule, self.layout, self.eos), info

    def focused(self, canvas: Canvas) -> Canvas:
        """The canvas with a focus on what the step needs to know; logits are computed nowhere else.

        That is the current block; of what lies before it, what is masked again, and all that is committed where the remask rule
        looks back; and what is masked behind it, where the sampler looks ahead or a constraint is to see the canvas filled in.
        """
        focus = canvas.block | (canvas.masked & canvas.reachable)
        if self.sampler.looks_back:
            focus = focus | canvas.committed
        if self.sampler.looks_ahead or self.constraint_fn is not None:
            focus = focus | canvas.masked
        return replace(canvas, focus=focus)


def carried(new: Prediction, old: Prediction | None, looked: Tensor) -> Prediction:
    """A prediction (B, L) with the values of an older one where it tells nothing: elsewhere than ``looked`` (B, L), or more."""
    if old is None:
        return new
    told = looked if new.told is None else new.told
    values: dict[str, Any] = {}
    for name in (f.name for f in fields(new)):
        mine, before = getattr(new, name), getattr(old, name)
        if isinstance(mine, Tensor) and mine.shape == told.shape and name not in ("revisable", "told"):
            values[name] = torch.where(told, mine, before)
    return replace(new, **values)


def check_choice(rule: object, verb: str, chosen: Tensor, allowed: Tensor, step: int) -> None:
    """Refuse what a rule may not choose.

    Raises:
        ValueError: it is no (B, L) bool, or holds a position that is not allowed; the message names rule, row and position.
    """
    name = type(rule).__name__
    if chosen.shape != allowed.shape or chosen.dtype != torch.bool:
        raise ValueError(
            f"step {step}: {name} must return a bool tensor {tuple(allowed.shape)}, got {chosen.dtype} {tuple(chosen.shape)}"
        )
    if bool((chosen & ~allowed).any()):
        row, position = (chosen & ~allowed).nonzero()[0].tolist()
        kind = "turn.eligible" if verb == "commit" else "turn.remaskable"
        raise ValueError(f"step {step}: {name} may not {verb} row {row}, position {position}: it is not among {kind}")


def moved_on(state: State, info: StepInfo, schedule: Schedule, layout: Layout, eos: EosPolicy) -> State:
    """The state with the canvas after the step: rows that are done with their block in the next, finished rows closed."""
    canvas, place = info.canvas, info.canvas.place
    stopped, tokens = eos.stopped(canvas, info.tokens)
    done = place.step + 1 == place.n_steps
    if schedule.until_filled:
        filled = ~((tokens == canvas.mask_id) & canvas.reachable).any(dim=1)
        if schedule.verifies:
            filled &= ~(canvas.masked & canvas.reachable).any(dim=1)
        done |= filled
    block = state.block + done
    step = torch.where(done, 0, place.step + 1)
    finished = stopped | (block >= layout.count)
    editable = canvas.editable & ~finished[:, None]
    after = replace(
        canvas,
        tokens=tokens,
        editable=editable,
        step=canvas.step + 1,
        place=placed(block, step, layout, canvas.editable.sum(dim=1)),
    )
    return replace(state, canvas=after, block=block)


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
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
