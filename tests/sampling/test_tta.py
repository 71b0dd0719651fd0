"""The rules of TTA uncertainty sampling, worked out by hand on models whose answers are known."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

import tta_bench
from tests.toy import TableModel, ToyDenoiser, peaked
from tta_bench import ConstraintError
from tta_bench.sampling.views import TTAViews

MASK = 4
PROMPT = torch.tensor([[0, 0]])


def run(model: object, prompt: Tensor = PROMPT, **options: object) -> tuple[Tensor, dict]:
    return tta_bench.generate_with_tta_uncertainty(model, prompt, mask_id=MASK, seed=0, **options)


def test_temperatures_are_evenly_spaced_and_a_single_view_has_its_own() -> None:
    assert TTAViews(k=4, temperature_range=(0.0, 0.3)).temperatures == pytest.approx([0, 0.1, 0.2, 0.3])
    assert TTAViews(k=1, temperature=0.7).temperatures == [0.7]


def test_the_most_confident_is_committed_and_the_most_uncertain_committed_is_taken_back() -> None:
    model = TableModel(peaked([1, 1, 0.9, 0.6, 0.8, 0.7]))
    tokens, logs = run(model, steps=4, gen_length=4, tta_k=1, remask_top_k=1, freeze_threshold=99, lambda_change=0.0)
    steps = [([p for _, p, _ in s["committed"]], [p for _, p, _ in s["remasked"]]) for s in logs["token_logs"]]
    # Step 0 commits 2; nothing else was there to take back. Step 1 commits 4 (0.8) and takes back 2, the only older one.
    # Step 2 owes two and commits 2 and 5, then takes back 4. Step 3 fills the rest and takes nothing back.
    assert steps == [([2], []), ([4], [2]), ([2, 5], [4]), ([3, 4], [])]
    assert MASK not in tokens
    assert logs["tta_stats"]["remask_ratio_per_step"] == [0, 1 / 2, 1 / 3, 0]


@pytest.mark.parametrize(("penalty", "places"), [(0.0, {3, 5}), (9.0, {2, 3, 4, 5})])
def test_a_change_penalty_sends_the_remask_elsewhere(penalty: float, places: set[int]) -> None:
    model = TableModel(peaked([1, 1, 0.9, 0.6, 0.8, 0.7]))
    _, logs = run(
        model,
        steps=10,
        gen_length=4,
        tta_k=1,
        remask_top_k=1,
        freeze_threshold=99,
        lambda_change=penalty,
        beta_disagreement=0.0,
    )
    # From step 4 on everything is committed. Without a penalty the two most uncertain positions take turns.
    assert {p for s in logs["token_logs"][4:] for _, p, _ in s["remasked"]} == places


def test_entropy_is_that_of_the_mean_distribution_untempered() -> None:
    model = TableModel(peaked([1, 0.5], vocabulary=4))
    _, logs = tta_bench.generate_with_tta_uncertainty(model, torch.tensor([[0]]), mask_id=3, steps=1, gen_length=1, seed=0)
    expected = -(0.5 * torch.tensor(0.5).log() + 2 * 0.25 * torch.tensor(0.25).log())
    assert logs["tta_stats"]["avg_entropy_per_step"] == pytest.approx([expected.item()])


def test_temperature_views_share_one_pass_and_nfe_keeps_the_guides_figure(toy: ToyDenoiser) -> None:
    _, logs = tta_bench.generate_with_tta_uncertainty(
        toy, torch.tensor([[1, 2]]), mask_id=96, steps=6, gen_length=6, tta_k=5, seed=0
    )
    assert (logs["forward_passes"], logs["nfe"], len(toy.calls)) == (6, 30, 6)


def test_no_view_and_no_remask_is_the_baseline(toy: ToyDenoiser) -> None:
    prompt = torch.tensor([[5, 6, 7]])
    options = {"mask_id": 96, "steps": 8, "gen_length": 16, "block_length": 8}
    baseline, _ = tta_bench.generate(toy, prompt, "low_confidence", **options)
    same, _ = tta_bench.generate(toy, prompt, "tta", tta_k=1, remask_top_pct=0, **options)
    other, _ = tta_bench.generate(toy, prompt, "tta", remask_top_pct=0.5, **options)
    assert torch.equal(baseline, same)
    assert not torch.equal(baseline, other)


def test_remasked_tokens_are_owed_and_no_mask_is_left(toy: ToyDenoiser) -> None:
    tokens, logs = tta_bench.generate(
        toy, torch.tensor([[5, 6]]), "tta", mask_id=96, steps=8, gen_length=16, remask_top_pct=1.0, freeze_duration=0
    )
    assert max(logs["tta_stats"]["remask_ratio_per_step"]) >= 0.5
    assert logs["tta_stats"]["remask_ratio_per_step"][-1] == 0
    assert 96 not in tokens


def test_freezing_acts_in_every_row(toy: ToyDenoiser) -> None:
    prompt = torch.tensor([[5, 6], [7, 8]])
    options = {"mask_id": 96, "steps": 16, "gen_length": 8, "remask_top_k": 2, "freeze_threshold": 2, "freeze_duration": 4}
    batch = tta_bench.generate(toy, prompt, "tta", **options)
    for row in (0, 1):
        alone = tta_bench.generate(toy, prompt[row : row + 1], "tta", **options)
        assert torch.equal(alone[0][0], batch[0][row])
        assert max(alone[1]["tta_stats"]["frozen_ratio_per_step"]) > 0


def test_violations_steer_the_remask_and_see_the_candidates_filled_in() -> None:
    seen: list[Tensor] = []

    def dislike_position_3(tokens: Tensor) -> Tensor:
        seen.append(tokens)
        scores = torch.zeros(tokens.shape)
        scores[:, 3] = 10.0
        return scores

    model = TableModel(peaked([1, 1, 0.9, 0.8, 0.7, 0.6]))
    _, logs = run(model, steps=4, gen_length=4, remask_top_k=1, constraint_fn=dislike_position_3)
    assert all(MASK not in tokens for tokens in seen)
    assert logs["token_logs"][2]["remasked"] == [(0, 3, 0)]
    assert logs["tta_stats"]["avg_violation_per_step"][0] == 0
    assert logs["tta_stats"]["avg_violation_per_step"][1] == pytest.approx(5)


@pytest.mark.parametrize(
    ("constraint", "rule"),
    [
        (lambda _: [0.0], "must return a torch.Tensor"),
        (lambda t: torch.zeros(t.shape[1]), "shape of its tokens"),
        (lambda t: torch.zeros(t.shape, dtype=torch.int64), "torch.float32"),
        (lambda t: torch.zeros(t.shape) / 0, "finite"),
        (lambda t: torch.zeros(t.shape) - 1, ">= 0"),
        (lambda t: t.nope, "raised AttributeError"),
    ],
)
def test_a_broken_constraint_is_an_error_that_names_the_rule(constraint: object, rule: str) -> None:
    with pytest.raises(ConstraintError, match=rule):
        run(TableModel(peaked([1, 1, 0.9])), steps=1, gen_length=1, constraint_fn=constraint)


def test_a_constraint_cannot_change_the_canvas() -> None:
    def meddle(tokens: Tensor) -> Tensor:
        tokens[:] = 1
        return torch.zeros(tokens.shape)

    model = TableModel(peaked([1, 1, 0.9, 0.8]))
    assert run(model, steps=2, gen_length=2, constraint_fn=meddle)[0].tolist() == [[0, 0, 0, 0]]


def test_dropout_views_differ_cost_k_passes_and_leave_the_model_as_it_was(mini: tuple) -> None:
    model, tokenizer = mini
    model.train()
    model.model.transformer["blocks"][0].eval()
    states = [m.training for m in model.modules()]
    prompt = tokenizer.encode("sort abdc=", return_tensors="pt")
    options = {"steps": 4, "gen_length": 4, "tta_k": 3, "seed": 1}
    _, plain = tta_bench.generate(model, prompt, "tta", **options)
    first, noisy = tta_bench.generate(model, prompt, "tta", tta_use_dropout=True, **options)
    again, _ = tta_bench.generate(model, prompt, "tta", tta_use_dropout=True, **options)
    assert [m.training for m in model.modules()] == states
    model.eval()
    assert all(not m._forward_hooks for m in model.modules())
    assert plain["forward_passes"] == 4
    assert (noisy["forward_passes"], noisy["nfe"], noisy["model_calls"]) == (12, 12, 4)
    assert plain["tta_stats"]["avg_mutual_information_per_step"] == pytest.approx([0] * 4, abs=1e-6)
    assert min(noisy["tta_stats"]["avg_mutual_information_per_step"]) > 0
    assert torch.equal(first, again)


def test_dropout_that_cannot_act_is_an_error(toy: ToyDenoiser) -> None:
    with pytest.raises(TypeError, match=r"ToyDenoiser has no residual_branches\(\)"):
        tta_bench.generate(toy, torch.tensor([[1]]), "tta", mask_id=96, steps=1, gen_length=1, tta_use_dropout=True)
    toy.residual_branches = lambda: [torch.nn.Identity()]
    with pytest.raises(RuntimeError, match="evaluated none"):
        tta_bench.generate(toy, torch.tensor([[1]]), "tta", mask_id=96, steps=1, gen_length=1, tta_use_dropout=True)


def test_nan_logits_are_refused_with_step_row_and_position() -> None:
    table = peaked([1, 1, 0.9, 0.8])
    table[3, 1] = torch.nan
    with pytest.raises(FloatingPointError, match=r"step 0: .* row 0, position 3"):
        run(TableModel(table), steps=2, gen_length=2)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"tta_k": 0}, "tta_k=0"),
        ({"remask_top_pct": 1.5}, "remask_top_pct=1.5"),
        ({"tta_temperature_range": (0.3, 0.0)}, "must not exceed the second"),
        ({"alpha_entropy": -1.0}, "alpha_entropy=-1.0"),
        ({"beta_disagreement": float("nan")}, "beta_disagreement"),
        ({"freeze_window": 0}, "freeze_window=0"),
        ({"tta_kk": 3}, "did you mean tta_k"),
        ({"tta_k": 2.5}, "tta_k=2.5"),
        ({"tta_use_dropout": True, "tta_dropout_p": 1.0}, "tta_dropout_p=1.0"),
        ({"gen_length": -1}, "gen_length=-1"),
        ({"steps": 0}, "steps=0"),
        ({"steps": 5, "gen_length": 8, "block_length": 2}, "multiple of 4"),
        ({"cfg_scale": -1.0}, "cfg_scale=-1.0"),
    ],
)
def test_bad_arguments_are_named_with_their_rule(option: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(TableModel(peaked([1] * 80)), **{"steps": 1, "gen_length": 1, **option})


def test_tokens_can_be_changed_and_a_numpy_seed_is_the_same_seed(toy: ToyDenoiser) -> None:
    options = {"mask_id": 96, "steps": 4, "gen_length": 8, "temperature": 1.0}
    tokens, _ = tta_bench.generate(toy, torch.tensor([[1, 2]]), seed=42, **options)
    same, _ = tta_bench.generate(toy, torch.tensor([[1, 2]]), seed=np.int64(42), **options)
    assert torch.equal(tokens, same)
    tokens[0, 0] = 9


def test_row_keys_must_fit_the_prompts(toy: ToyDenoiser) -> None:
    with pytest.raises(ValueError, match="2 keys for 1 prompts"):
        tta_bench.generate(toy, torch.tensor([[1]]), mask_id=96, row_keys=["a", "b"])


def test_a_model_without_mask_id_needs_one() -> None:
    with pytest.raises(ValueError, match="give mask_id"):
        tta_bench.generate(SimpleNamespace(), PROMPT, "tta")
