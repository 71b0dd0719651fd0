"""A conformance suite for samplers, of this package or your own.

A sampler that passes keeps the prompt, leaves no mask, counts what it costs, and depends on nothing but its seed::

    import pytest
    from tta_bench.testing import CHECKS

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_my_sampler(check):
        check(my_sampler())  # a Sampler, or a name in conf/sampler

Each check raises AssertionError with a message that says what was broken, and on which input. Needs hypothesis:
``pip install "tta_bench[testing]"``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, TypeAlias

import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from tta_bench.api import Logs, generate
from tta_bench.sampling.eos import POLICIES
from tta_bench.sampling.logits import ModelOutputError
from tta_bench.sampling.sampler import Sampler

AnySampler: TypeAlias = str | Sampler
Check: TypeAlias = Callable[..., None]

VOCABULARY, MASK_ID, EOS_ID = 13, 6, 2
EXAMPLES = 12
"""Inputs that each drawn check tries."""
PHASES = (Phase.generate, Phase.shrink)
"""What hypothesis does: draw inputs, and look for a simpler one that fails too."""


class TinyDenoiser(torch.nn.Module):
    """A one-layer bidirectional attention model with random weights, float64, whose mask token lies within its vocabulary.

    It takes 2-D and 4-D attention masks and position ids, can be given dropout views, and keeps its inputs in ``calls``.
    """

    def __init__(self, seed: int = 0, width: int = 16, length: int = 96) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)

        def weights(*shape: int) -> torch.nn.Parameter:
            return torch.nn.Parameter(torch.randn(*shape, generator=generator, dtype=torch.float64), requires_grad=False)

        self.config = SimpleNamespace(mask_token_id=MASK_ID, eos_token_id=EOS_ID)
        self.embedding, self.position = weights(VOCABULARY, width), weights(length, width)
        self.qkv, self.head = weights(width, 3 * width), weights(width, VOCABULARY)
        self.branch = torch.nn.Identity()
        self.calls: list[Tensor] = []

    def residual_branches(self) -> list[torch.nn.Module]:
        """Where dropout views act."""
        return [self.branch]

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, position_ids: Tensor | None = None
    ) -> SimpleNamespace:
        """Logits (B, L, V)."""
        self.calls.append(input_ids.clone())
        if position_ids is None:
            position_ids = torch.arange(input_ids.shape[1])[None]
        if attention_mask is not None and attention_mask.dim() == 2:
            attention_mask = (attention_mask != 0)[:, None, None]
        sees = None if attention_mask is None else attention_mask[:, 0]
        h = self.embedding[input_ids] + self.position[position_ids]
        q, k, v = (h @ self.qkv).chunk(3, dim=-1)
        h = torch.tanh(h + self.branch(F.scaled_dot_product_attention(q, k, v, attn_mask=sees)))
        return SimpleNamespace(logits=h @ self.head)


@dataclass(frozen=True)
class Shape:
    """An input of ``generate``."""

    prompt: Tensor
    gen_length: int
    block_length: int | None
    steps: int

    @property
    def arguments(self) -> dict[str, Any]:
        """As keyword arguments."""
        return {name: getattr(self, name) for name in ("prompt", "gen_length", "block_length", "steps")}


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    """One to three prompts of 0 to 6 tokens, perhaps with holes, and a generation of 1 to 12 in blocks that fit."""
    rows, width, gen_length = draw(st.sampled_from([2, 3, 1])), draw(st.integers(0, 6)), draw(st.integers(1, 12))
    token = st.integers(0, VOCABULARY - 1).filter(lambda t: t != MASK_ID)
    prompt = torch.tensor([[draw(token) for _ in range(width)] for _ in range(rows)]).reshape(rows, width).long()
    if width > 1 and draw(st.booleans()):
        prompt[:, draw(st.integers(0, width - 1))] = MASK_ID
    n = gen_length + int((prompt[0] == MASK_ID).sum())
    block = draw(st.sampled_from([None, 1, 3, 4, 64]))
    blocks = 1 if block is None else -(-n // min(block, n))
    return Shape(prompt, gen_length, block, blocks * draw(st.integers(1, 4)))


def on_drawn_inputs(check: Callable[[AnySampler, Shape, int, Mapping[str, Any]], None]) -> Check:
    """A check that runs on ``EXAMPLES`` drawn shapes and seeds, the same every time."""

    def run(sampler: AnySampler, **parameters: Any) -> None:
        @settings(
            max_examples=EXAMPLES,
            phases=PHASES,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(shape=shapes(), seed=st.integers(0, 5))
        def trial(shape: Shape, seed: int) -> None:
            check(sampler, shape, seed, parameters)

        trial()

    run.__name__, run.__doc__ = check.__name__, check.__doc__
    return run


def require(condition: bool, message: str) -> None:
    """Raise AssertionError with a message unless the condition holds (also where Python runs with -O)."""
    if not condition:
        raise AssertionError(message)


@on_drawn_inputs
def fills_the_masks_and_nothing_else(sampler: AnySampler, shape: Shape, seed: int, parameters: Mapping[str, Any]) -> None:
    """The prompt stays, no mask is left or emitted, commits and remasks of a step are disjoint, inputs are not changed."""
    before = shape.prompt.clone()
    tokens, logs = generate(TinyDenoiser(), sampler=sampler, seed=seed, **shape.arguments, **parameters)
    fixed = before != MASK_ID
    width = before.shape[1]
    require(torch.equal(shape.prompt, before), "the prompt tensor was changed")
    require(tokens.shape == (len(before), width + shape.gen_length), f"wrong shape {tuple(tokens.shape)}")
    require(torch.equal(tokens[:, :width][fixed], before[fixed]), "tokens of the prompt were changed in the answer")
    require(not bool((tokens == MASK_ID).any()), "masks are left")
    for step in logs["token_logs"]:
        committed, remasked = ({event[:2] for event in step[name]} for name in ("committed", "remasked"))
        require(not committed & remasked, f"step {step['step']}: a position was committed and remasked at once")
        require(all(event[2] != MASK_ID for event in step["committed"]), "the mask token was committed")


@on_drawn_inputs
def counts_what_it_costs(sampler: AnySampler, shape: Shape, seed: int, parameters: Mapping[str, Any]) -> None:
    """``forward_passes`` equals the evaluations that the model saw, with and without guidance."""
    for cfg_scale in (0.0, 0.5):
        model = TinyDenoiser()
        _, logs = generate(model, sampler=sampler, seed=seed, cfg_scale=cfg_scale, **shape.arguments, **parameters)
        seen = sum(len(call) for call in model.calls)
        require(logs["model_calls"] == len(model.calls), f"{logs['model_calls']} calls told, {len(model.calls)} made")
        require(sum(logs["forward_passes_per_row"]) == seen, f"{logs['forward_passes_per_row']} passes told, {seen} made")


@on_drawn_inputs
def depends_on_the_seed_only(sampler: AnySampler, shape: Shape, seed: int, parameters: Mapping[str, Any]) -> None:
    """The same seed gives the same tokens whatever the global generator does, and leaves that alone."""
    outcomes = []
    for state in (0, 1):
        torch.manual_seed(state)
        expected = torch.rand(1)
        torch.manual_seed(state)
        outcomes.append(generate(TinyDenoiser(), sampler=sampler, seed=seed, **shape.arguments, **parameters)[0])
        require(torch.equal(torch.rand(1), expected), "the global random generator was used")
    require(torch.equal(*outcomes), "the same seed gave other tokens")


@on_drawn_inputs
def decodes_a_row_as_it_would_alone(sampler: AnySampler, shape: Shape, seed: int, parameters: Mapping[str, Any]) -> None:
    """A row's tokens and cost do not depend on the batch around it."""
    for cfg_scale in (0.0, 0.5):
        options = {"seed": seed, "cfg_scale": cfg_scale, **parameters}
        together, logs = generate(TinyDenoiser(), sampler=sampler, **shape.arguments, **options)
        for row in first_occurrences(shape.prompt):
            arguments = shape.arguments | {"prompt": shape.prompt[row : row + 1]}
            alone, own = generate(TinyDenoiser(), sampler=sampler, **arguments, **options)
            require(torch.equal(alone[0], together[row]), f"row {row} alone is {alone[0]}, in the batch {together[row]}")
            require(own["forward_passes_per_row"][0] == logs["forward_passes_per_row"][row], f"row {row} costs more or less")


@on_drawn_inputs
def decodes_a_padded_row_as_it_would_unpadded(
    sampler: AnySampler, shape: Shape, seed: int, parameters: Mapping[str, Any]
) -> None:
    """Padding to the left of a prompt changes nothing, with guidance and with shifted logits either."""
    longest = len(shape.prompt) - 1
    bare = [
        torch.tensor([[(3 * row + i) % 5 for i in range(longest - row)] + shape.prompt[row].tolist()])
        for row in range(len(shape.prompt))
    ]
    bare = [prompt.reshape(1, -1).long() for prompt in bare]
    padded = torch.cat([F.pad(prompt, (row, 0), value=EOS_ID) for row, prompt in enumerate(bare)])
    mask = torch.tensor([[int(i >= row) for i in range(padded.shape[1])] for row in range(len(bare))]).reshape(padded.shape)
    for cfg_scale, shift_logits in ((0.0, False), (0.5, True)):
        arguments = shape.arguments | {"sampler": sampler, "seed": seed, "cfg_scale": cfg_scale, **parameters}
        try:
            together, _ = generate(
                TinyDenoiser(), **(arguments | {"prompt": padded}), attention_mask=mask, shift_logits=shift_logits
            )
        except ValueError as error:
            require("shift_logits" in str(error), f"refused without a reason: {error}")
            shift_logits = False
            together, _ = generate(TinyDenoiser(), **(arguments | {"prompt": padded}), attention_mask=mask)
        for row, prompt in enumerate(bare):
            alone, _ = generate(TinyDenoiser(), **(arguments | {"prompt": prompt}), shift_logits=shift_logits)
            require(
                torch.equal(alone[0], together[row, row:]),
                f"row {row} unpadded is {alone[0]}, with {row} pads {together[row, row:]}",
            )


@on_drawn_inputs
def keeps_to_every_eos_policy(sampler: AnySampler, shape: Shape, seed: int, parameters: Mapping[str, Any]) -> None:
    """No mask is left under any policy; stopping early costs no more."""
    passes = {}
    for policy in POLICIES:
        tokens, logs = generate(TinyDenoiser(), sampler=sampler, seed=seed, eos_policy=policy, **shape.arguments, **parameters)
        require(not bool((tokens == MASK_ID).any()), f"eos_policy={policy}: masks are left")
        passes[policy] = logs["forward_passes_per_row"]
    saved = [stop <= allow for stop, allow in zip(passes["stop"], passes["allow"], strict=True)]
    require(all(saved), f"eos_policy=stop cost {passes['stop']} passes, allow {passes['allow']}")


def handles_edge_cases(sampler: AnySampler, **parameters: Any) -> None:
    """One position, one step, more steps than positions, no prompt, nothing to fill, ties, impossible tokens."""
    prompt = torch.tensor([[1, 3]])

    def run(model: Any, prompt: Tensor, **options: Any) -> tuple[Tensor, Logs]:
        return generate(model, prompt, sampler, mask_id=MASK_ID, **options, **parameters)

    def constant(logits: Tensor) -> Callable[..., SimpleNamespace]:
        """A model that answers every position with the same logits (V,)."""

        def model(input_ids: Tensor, **_: Tensor) -> SimpleNamespace:
            return SimpleNamespace(logits=logits.expand(*input_ids.shape, -1).clone())

        return model

    cases: dict[str, dict[str, int]] = {
        "one position": {"steps": 1, "gen_length": 1},
        "one step": {"steps": 1, "gen_length": 5},
        "more steps than positions": {"steps": 9, "gen_length": 2},
    }
    for name, options in cases.items():
        tokens, _ = run(TinyDenoiser(), prompt, **options)
        require(not bool((tokens == MASK_ID).any()), f"{name}: masks are left")
    tokens, _ = run(TinyDenoiser(), torch.zeros(1, 0, dtype=torch.int64), steps=2, gen_length=3)
    require(tokens.shape == (1, 3), "a prompt without tokens: wrong shape")
    tokens, logs = run(TinyDenoiser(), prompt, steps=2, gen_length=0)
    require(
        torch.equal(tokens, prompt) and logs["forward_passes"] == 0, "nothing to fill: the prompt is not given back as it is"
    )
    tokens, _ = run(constant(torch.zeros(VOCABULARY)), prompt, steps=3, gen_length=6)
    require(not bool((tokens == MASK_ID).any()), "ties everywhere: masks are left")
    only = torch.full((VOCABULARY,), -torch.inf)
    only[[4, MASK_ID]] = 0.0
    tokens, _ = run(constant(only), prompt, steps=3, gen_length=6)
    require(tokens[0, 2:].tolist() == [4] * 6, "a token of probability 0 was committed")


def refuses_broken_logits(sampler: AnySampler, **parameters: Any) -> None:
    """NaN is an error that names step and position."""

    class Broken(TinyDenoiser):
        def forward(self, *args: Any, **kwargs: Any) -> SimpleNamespace:
            output = super().forward(*args, **kwargs)
            output.logits[:, 3] = torch.nan
            return output

    try:
        generate(Broken(), torch.tensor([[1, 3]]), sampler, steps=2, gen_length=4, **parameters)
    except ModelOutputError as error:
        require("step 0" in str(error) and "position 3" in str(error), f"the error does not name step and position: {error}")
    else:
        raise AssertionError("logits with NaN were taken")


def draws_for_every_seed_and_row(sampler: AnySampler, **parameters: Any) -> None:
    """For samplers that draw: other seeds give other tokens, and rows with equal prompts draw for themselves."""
    options = {"steps": 8, "gen_length": 24, **parameters}
    prompt = torch.tensor([[1, 3]])
    by_seed = {tuple(generate(TinyDenoiser(), prompt, sampler, seed=s, **options)[0][0].tolist()) for s in range(6)}
    require(len(by_seed) > 1, "six seeds gave the same tokens")
    rows, _ = generate(TinyDenoiser(), prompt.repeat(6, 1), sampler, **options)
    require(len({tuple(row) for row in rows.tolist()}) > 1, "six equal prompts got the same tokens")


def first_occurrences(prompt: Tensor) -> list[int]:
    """Rows that equal no row before them: a repeated prompt draws other numbers than it would alone."""
    rows = prompt.tolist()
    return [i for i, row in enumerate(rows) if rows.index(row) == i]


CHECKS: tuple[Check, ...] = (
    fills_the_masks_and_nothing_else,
    counts_what_it_costs,
    depends_on_the_seed_only,
    decodes_a_row_as_it_would_alone,
    decodes_a_padded_row_as_it_would_unpadded,
    keeps_to_every_eos_policy,
    handles_edge_cases,
    refuses_broken_logits,
)
"""What every sampler must pass; ``draws_for_every_seed_and_row`` is for those that draw."""
