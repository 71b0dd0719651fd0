"""Views that judge what stands, the check and repair, and rules that are heeded."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import tta_bench
from tests.toy import TableModel, ToyDenoiser, peaked
from tta_bench import testing
from tta_bench.rng import Noise
from tta_bench.sampling.denoiser import Denoiser
from tta_bench.sampling.distributions import Softmax, blocked
from tta_bench.sampling.holdout import HoldoutViews, holdout_probability
from tta_bench.sampling.presets.tta import tta
from tta_bench.sampling.remask import Shuffled, UncertaintyScore
from tta_bench.sampling.shadow import ShadowView, shadow_probability
from tta_bench.sampling.uncertainty import disagreement, expected_disagreement
from tta_bench.sampling.views import TTAViews, hidden_context
from tta_bench.types import Canvas, Place, Turn

MASK = 96
CHECKED: dict[str, Any] = {
    "schedule": "check_and_repair",
    "tta_views": "holdout",
    "tta_k": 2,
    "alpha_entropy": 0.0,
    "delta_improbability": 1.0,
}

VARIANTS: dict[str, dict[str, Any]] = {
    "holdout": {"tta_views": "holdout", "tta_k": 3},
    "shadow": {"tta_views": "shadow"},
    "context, tempered": {"tta_views": "context", "tta_k": 3, "tta_context_p": 0.3, "tta_disagreement": "tempered_entropy"},
    "adaptive": {"schedule": "adaptive", "remask_top_pct": 0.3, "entropy_bound": 1.0},
    "draft": CHECKED | {"draft_steps": 2, "repair_rounds": 3},
    "repair, shuffled": CHECKED | {"repair_threshold": 0.1, "shuffle_scores": True},
    "heeding": {"heed_constraint": True, "candidate_temperature": 1.0},
}


def row(tokens: list[int], mask_id: int = MASK, start: int = 0) -> Canvas:
    """One row in one block, editable from ``start`` on."""
    ids = torch.tensor([tokens])
    editable = torch.arange(len(tokens))[None] >= start
    n = len(tokens) - start
    place = Place(*(torch.tensor([x]) for x in (0, n, 1, 8)), torch.tensor([False]))
    return Canvas(ids, editable, 1, 8, mask_id, place)


@pytest.mark.usefixtures("inputs")
@pytest.mark.parametrize("check", testing.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_every_option_keeps_what_a_sampler_must(options: dict[str, Any], check: testing.Check) -> None:
    check(tta(**options))


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_holdout_views_say_of_a_token_what_the_model_says_that_cannot_see_it(toy: ToyDenoiser, folds: int) -> None:
    canvas = row([5, 6, 7, 8, MASK, 9, 10, MASK, 11], start=1)
    denoiser, noise = Denoiser(toy), Noise(0, ("a",))
    told, _ = HoldoutViews(TTAViews(k=folds)).predict(denoiser, canvas, noise, None)
    assert torch.equal(told.support.float(), holdout_probability(denoiser, canvas, folds))
    # The candidates are those of a look that hides nothing.
    plain, _ = TTAViews(k=1).predict(denoiser, canvas, noise, None)
    assert torch.equal(told.tokens[canvas.masked], plain.tokens[canvas.masked])
    assert torch.equal(told.confidence[canvas.masked], plain.confidence[canvas.masked])
    # Entropy and disagreement, too, are those of the look without the token.
    hidden = torch.tensor([[False, True, False, False, False, False, False, False, False]])
    if folds == 5:  # six committed tokens: the first is hidden together with the last
        hidden[0, 8] = True
        blind = Canvas(**(vars(canvas) | {"tokens": canvas.tokens.masked_fill(hidden, MASK)}))
        alone, _ = TTAViews(k=1).predict(denoiser, blind, noise, None)
        assert told.entropy[0, 1] == alone.entropy[0, 1]


def test_a_shadow_judges_every_block_at_once(toy: ToyDenoiser) -> None:
    canvas = row([5, 6, 7, 8, MASK, 9, 10, MASK, 11], start=1)
    denoiser = Denoiser(toy)
    found = shadow_probability(denoiser, canvas)
    judged, _ = ShadowView().predict(denoiser, canvas, Noise(0, ("a",)), None)  # of one block, which is all there is
    torch.testing.assert_close(found[canvas.committed], judged.support[canvas.committed].float())
    assert not found[~canvas.committed].any()
    # The current block does not matter.
    later = replace(canvas, place=replace(canvas.place, start=canvas.place.end - 1))
    torch.testing.assert_close(shadow_probability(denoiser, later), found)
    with pytest.raises(ValueError, match="shift_logits=True"):
        shadow_probability(Denoiser(toy, shift_logits=True), canvas)


def test_holdout_views_cost_only_the_looks_that_have_something_to_say(toy: ToyDenoiser) -> None:
    views, noise = HoldoutViews(TTAViews(k=3)), Noise(0, ("a",))
    for tokens, passes in ([MASK] * 4, 1), ([5, MASK, MASK, MASK], 2), ([5, 6, MASK, 7], 4), ([5, 6, 7, 8], 3):
        toy.calls.clear()
        told, _ = views.predict(Denoiser(toy), row(tokens), noise, None)
        assert torch.as_tensor(told.forward_passes).tolist() == [passes]
        assert sum(len(call) for call in toy.calls) == passes


def test_a_block_that_is_not_filled_is_not_checked(toy: ToyDenoiser) -> None:
    views, noise = HoldoutViews(TTAViews(k=3), when_filled=True), Noise(0, ("a",))
    told, _ = views.predict(Denoiser(toy), row([5, 6, MASK, 7]), noise, None)
    assert torch.as_tensor(told.forward_passes).tolist() == [1]
    assert told.told is not None
    assert told.told.tolist() == [[False, False, True, False]]


def test_the_expected_disagreement_is_the_mean_over_all_draws() -> None:
    views = [torch.rand(1, 4, generator=torch.Generator().manual_seed(seed)).double() for seed in range(3)]
    views = [view / view.sum() for view in views]
    mean = 0.0
    for draw in product(range(4), repeat=3):
        chance = torch.stack([view[0, token] for view, token in zip(views, draw, strict=True)]).prod()
        mean += chance * disagreement(torch.tensor(draw)[:, None])[0]
    assert expected_disagreement(views)[0] == pytest.approx(float(mean))


def test_tempered_distributions_and_their_entropy() -> None:
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(0)).double()
    found = Softmax.of(blocked(logits))
    for temperature in (0.5, 1.0, 2.0):
        expected = torch.distributions.Categorical(logits=logits / temperature)
        assert torch.allclose(found.tempered(temperature).flatten(1)[:, :50], expected.probs)
        assert torch.allclose(found.tempered_entropy(temperature), expected.entropy() / torch.tensor(50.0).log())
    assert found.tempered(0.0).flatten(1).argmax(dim=1).tolist() == logits.argmax(dim=1).tolist()
    assert found.tempered_entropy(0.0).tolist() == [0, 0, 0]


def test_closed_forms_do_not_depend_on_the_seed(toy: ToyDenoiser) -> None:
    options = {"mask_id": MASK, "steps": 6, "gen_length": 12, "tta_temperature_range": (0.0, 2.0)}
    for kind, same in (("draws", False), ("expected", True), ("tempered_entropy", True)):
        logs = [
            tta_bench.generate(toy, torch.tensor([[1]]), "tta", seed=seed, tta_disagreement=kind, **options)[1]
            for seed in (0, 1)
        ]
        found = [log["tta_stats"]["avg_disagreement_per_step"] for log in logs]
        assert (found[0] == found[1]) is same
        assert sum(found[0]) > 0


def test_context_views_hide_the_share_they_are_told_of_prompt_and_committed_tokens_only() -> None:
    canvas = row([5] * 300 + [6] * 300 + [MASK] * 100, start=300)
    hidden = hidden_context(canvas, Noise(0, ("a",)), 0.25, 4)
    assert hidden.shape == (4, 1, 700)
    assert not hidden[:, canvas.masked].any()
    for part in (slice(0, 300), slice(300, 600)):
        assert float(hidden[:, 0, part].float().mean()) == pytest.approx(0.25, abs=0.05)
    assert not torch.equal(hidden[0], hidden[1])


class Doubter:
    """Sure of token 0 at every mask; of a token that it is not shown it says that position 1 holds something else."""

    def __call__(self, input_ids: Tensor) -> SimpleNamespace:
        table = peaked([0.99, 0.99, 0.99, 0.99]).expand(len(input_ids), -1, -1).clone()
        alone = (input_ids == 4).sum(dim=1) < 4  # not the first look, at masks only
        table[alone, 1] = peaked([0.3])[0].roll(1)
        return SimpleNamespace(logits=table)


@pytest.mark.parametrize(("rounds", "changes"), [(0, 0), (1, 1), (3, 3)])
def test_a_check_takes_back_what_the_model_would_not_write_again(rounds: int, changes: int) -> None:
    options = CHECKED | {"repair_rounds": rounds, "entropy_bound": 9.0, "lambda_change": 0.0, "freeze_threshold": 99}
    _, logs = tta_bench.generate(Doubter(), torch.zeros(1, 0).long(), "tta", mask_id=4, gen_length=4, seed=0, **options)
    steps = [([p for _, p, _ in s["committed"]], [p for _, p, _ in s["remasked"]]) for s in logs["token_logs"]]
    assert steps[0] == ([0, 1, 2, 3], [])
    assert [back for _, back in steps if back] == [[1]] * changes
    # A check costs two folds, a refill one pass; after the last round nothing is checked any more.
    assert logs["forward_passes"] == 1 + 3 * changes


def test_a_draft_fills_the_block_in_its_steps_and_the_refill_keeps_the_pace() -> None:
    model = TableModel(peaked([0.9, 0.2, 0.8, 0.7, 0.6, 0.3]))
    options = CHECKED | {"draft_steps": 3, "repair_threshold": 0.5, "repair_share": 0.5, "freeze_threshold": 99}
    _, logs = tta_bench.generate(model, torch.zeros(1, 0).long(), "tta", mask_id=4, gen_length=6, seed=0, **options)
    steps = [([p for _, p, _ in s["committed"]], [p for _, p, _ in s["remasked"]]) for s in logs["token_logs"]]
    assert steps == [([0, 2], []), ([3, 4], []), ([1, 5], []), ([], [1, 5]), ([1, 5], [])]


def twice(tokens: Tensor) -> Tensor:
    """1 at every token but masks that occurs more than once in its row."""
    same = tokens[:, :, None] == tokens[:, None, :]
    return ((same.sum(dim=2) > 1) & (tokens != MASK)).float()


@pytest.mark.parametrize("share", [0.5, 1.0])
@pytest.mark.parametrize("schedule", ["in_loop", "adaptive"])
def test_what_is_heeded_does_not_stand(toy: ToyDenoiser, schedule: str, share: float) -> None:
    options = {"schedule": schedule, "heed_constraint": True, "heed_share": share, "entropy_bound": 9.0, "remask_top_pct": 0.0}
    prompt = torch.zeros(3, 0).long()
    arguments = {"mask_id": MASK, "gen_length": 16, "steps": 8, "candidate_temperature": 1.0, "constraint_fn": twice}
    tokens, _ = tta_bench.generate(toy, prompt, "tta", **arguments, **options)
    careless, _ = tta_bench.generate(toy, prompt, "tta", **arguments, **options | {"heed_constraint": False})
    assert twice(careless).sum() > 2 * twice(tokens).sum()
    assert MASK not in tokens


def test_a_step_asks_the_constraint_once_about_the_same_tokens(toy: ToyDenoiser) -> None:
    asked: list[Tensor] = []

    def noted(tokens: Tensor) -> Tensor:
        asked.append(tokens)
        return twice(tokens)

    _, logs = tta_bench.generate(toy, torch.zeros(1, 0).long(), "tta_rules", mask_id=MASK, gen_length=16, constraint_fn=noted)
    # All candidates filled in, for the trace; and the choice, for both what is held back and what is taken back.
    assert logs["total_steps"] < len(asked) <= 2 * logs["total_steps"]


def test_without_a_constraint_heeding_changes_nothing(toy: ToyDenoiser) -> None:
    arguments: dict[str, Any] = {"mask_id": MASK, "gen_length": 16}
    heeding, _ = tta_bench.generate(toy, torch.tensor([[3, 4]]), "tta_rules", entropy_bound=0.5, **arguments)
    plain, _ = tta_bench.generate(toy, torch.tensor([[3, 4]]), "entropy_bound", gamma=0.5, **arguments)
    assert torch.equal(heeding, plain)


@pytest.mark.parametrize(
    ("preset", "parameters", "same"),
    [
        (
            "tta_best",
            {"repair_threshold": 0.9, "temperature": 1.0},
            CHECKED | {"repair_threshold": 0.9, "beta_disagreement": 0.0},
        ),
        ("tta_rules", {"temperature": 1.0}, {"schedule": "adaptive", "remask_top_pct": 0.0, "heed_constraint": True}),
    ],
)
def test_presets_are_tta_with_other_parameters(
    toy: ToyDenoiser, preset: str, parameters: dict[str, Any], same: dict[str, Any]
) -> None:
    arguments: dict[str, Any] = {"mask_id": MASK, "gen_length": 16, "entropy_bound": 3.0, "constraint_fn": twice}
    found, logs = tta_bench.generate(toy, torch.zeros(2, 0).long(), preset, **arguments, **parameters)
    share = {"heed_share": 0.5} if preset == "tta_rules" else {"lambda_change": 0.0, "gamma_violation": 0.0}
    other, told = tta_bench.generate(
        toy, torch.zeros(2, 0).long(), "tta", candidate_temperature=1.0, **arguments, **same, **share
    )
    assert torch.equal(found, other)
    assert logs["forward_passes_per_row"] == told["forward_passes_per_row"]


def test_shuffled_scores_are_the_same_scores_elsewhere() -> None:
    canvas = row([5, 6, 7, 8, 9, 10, MASK, 11])
    zero = torch.zeros(1, 8)
    prediction, _ = TTAViews(k=1).predict(Denoiser(ToyDenoiser()), canvas, Noise(0, ("a",)), None)
    remaskable = canvas.committed & (torch.arange(8) != 0)
    turn = Turn(canvas, prediction, zero, canvas.masked, zero[:, 0], remaskable, zero, zero, zero[:, 0], torch.zeros_like)
    plain = UncertaintyScore().score(turn, Noise(0, ("a",)))
    shuffled = [Shuffled(UncertaintyScore()).score(turn, Noise(seed, ("a",))) for seed in range(20)]
    for scores in shuffled:
        assert torch.equal(scores[remaskable].sort().values, plain[remaskable].sort().values)
        assert torch.equal(scores[~remaskable], plain[~remaskable])
    assert len({tuple(scores[0].tolist()) for scores in shuffled}) > 15
    # Every score comes everywhere.
    assert {int((scores == plain[0, 1]).nonzero()[0, 1]) for scores in shuffled} == {1, 2, 3, 4, 5, 7}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tta_views": "mirror"}, "tta_views=mirror: must be one of temperature, context, holdout, shadow"),
        ({"schedule": "soon"}, "schedule=soon: must be one of in_loop, adaptive, check_and_repair"),
        ({"tta_disagreement": "x"}, "tta_disagreement=x: must be one of draws, expected, tempered_entropy"),
        ({"tta_views": "holdout", "tta_k": 1}, "tta_k=1: holdout views need at least 2"),
        ({"tta_views": "context", "tta_context_p": 0.0}, "tta_context_p=0.0: must lie strictly between 0 and 1"),
        ({"tta_views": "shadow", "tta_use_dropout": True}, "dropout and context cannot be combined"),
        ({"candidate_temperature": 1.0, "tta_use_dropout": True}, "candidate_temperature=1.0: candidates are drawn from one"),
        ({"candidate_temperature": -1.0}, "candidate_temperature=-1.0: a temperature must be a number >= 0"),
        ({"draft_steps": 3}, "draft_steps=3: is of schedule=check_and_repair"),
        (CHECKED | {"draft_steps": 0}, "draft_steps=0: must be at least 1"),
        (CHECKED | {"repair_share": 0.0}, "repair_share=0.0: must be a share of the block"),
        (CHECKED | {"repair_threshold": float("nan")}, "repair_threshold=nan: must be a number"),
        (CHECKED | {"repair_rounds": -1}, "repair_rounds=-1: must not be negative"),
        ({"heed_constraint": True, "heed_share": 2.0}, "heed_share=2.0: must be a share"),
        ({"delta_improbability": -1.0}, "delta_improbability=-1.0: must be a number >= 0"),
        ({"schedule": "adaptive", "entropy_bound": -1.0}, "gamma=-1.0: must be a number >= 0"),
        ({"tta_views": "holdout", "cache": "dual"}, "cache=dual: tta_views=holdout changes the input of every look"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("+", r"\+")):
        tta(**options)
