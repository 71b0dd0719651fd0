"""The bound against all orders of an enumerable model, and pseudo-likelihood against one token at a time."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import tta_bench
from tests.models.checkpoints import MASK, dream, llada
from tests.toy import TableModel
from tta_bench.likelihood import stratified

PROMPT, ANSWER = torch.tensor([9, 10, 30]), torch.tensor([12, 40, 8, 21])


def conditional(model: Any, tokens: torch.Tensor, hidden: tuple[int, ...]) -> dict[int, float]:
    """Log-probabilities of hidden tokens given the others, over all tokens but the mask."""
    ids = tokens.clone()
    ids[list(hidden)] = MASK
    with torch.no_grad():
        logits = model(ids[None]).logits[0]
    if model.shift_logits:
        logits = torch.cat((logits[:1], logits[:-1]))
    logits[:, MASK] = -torch.inf
    log_p = logits.log_softmax(dim=-1)
    return {i: float(log_p[i, tokens[i]]) for i in hidden}


@pytest.mark.parametrize("make", [llada, dream])
def test_the_bound_is_unbiased(make: Any) -> None:
    """Its expectation is the mean over all orders of the log-likelihood that an order gives."""
    model = make()
    tokens, start, n = torch.cat((PROMPT, ANSWER)), len(PROMPT), len(ANSWER)
    known: dict[tuple[int, ...], dict[int, float]] = {}
    orders = []
    for order in itertools.permutations(range(start, start + n)):
        total = 0.0
        for i, position in enumerate(order):
            hidden = tuple(sorted(order[i:]))
            known.setdefault(hidden, conditional(model, tokens, hidden))
            total += known[hidden][position]
        orders.append(total)
    expected = float(np.mean(orders))
    found = tta_bench.log_likelihood_bound(model, PROMPT, ANSWER, mc_num=4000, batch_size=8, seed=1)
    assert found.n_tokens == n
    assert found.forward_passes == 4000
    assert abs(found.value - expected) < 4 * found.standard_error
    assert found.standard_error < 0.05 * abs(expected)


def test_stratifying_the_mask_counts_lowers_the_variance() -> None:
    model = llada()
    values = {
        size: [
            tta_bench.log_likelihood_bound(model, PROMPT, ANSWER, mc_num=16, batch_size=size, seed=s).value for s in range(40)
        ]
        for size in (1, 16)
    }
    assert np.std(values[16]) < 0.8 * np.std(values[1])
    assert abs(np.mean(values[16]) - np.mean(values[1])) < 4 * np.std(values[1]) / math.sqrt(40)


@pytest.mark.parametrize(("n", "rows"), [(4, 4), (5, 3), (3, 8), (7, 7), (1, 2), (10, 4)])
def test_every_mask_count_is_as_likely_in_every_row(n: int, rows: int) -> None:
    class Fixed:
        def __init__(self, k: int) -> None:
            self.k, self.numbers = k, np.random.default_rng(0)

        def integers(self, _: int) -> int:
            return self.k

        def random(self, shape: tuple[int, int]) -> np.ndarray:
            return self.numbers.random(shape)

    counts = np.stack([stratified(Fixed(k), n, rows).sum(axis=1) for k in range(n)])  # type: ignore[arg-type]
    assert all(sorted(column) == list(range(1, n + 1)) for column in counts.T)
    spread = np.sort(counts, axis=1)
    assert (np.diff(spread, axis=1) <= math.ceil(n / rows)).all()


def test_an_answer_of_one_token_is_exact_at_once() -> None:
    model = llada()
    found = tta_bench.log_likelihood_bound(model, PROMPT, ANSWER[:1], mc_num=1)
    expected = conditional(model, torch.cat((PROMPT, ANSWER[:1])), (3,))[3]
    assert found.value == pytest.approx(expected, rel=1e-5)
    assert math.isnan(found.standard_error)


def test_positions_that_do_not_depend_on_each_other_are_exact() -> None:
    torch.manual_seed(0)
    table = torch.randn(7, 20)
    answer = torch.tensor([3, 9, 11, 4])
    kept = torch.tensor([i for i in range(20) if i != 19])
    expected = sum(float(table[3 + i, kept].log_softmax(-1)[token]) for i, token in enumerate(answer.tolist()))
    found = tta_bench.log_likelihood_bound(TableModel(table), torch.tensor([1, 2, 3]), answer, mc_num=400, mask_id=19)
    assert abs(found.value - expected) < 4 * found.standard_error
    assert tta_bench.pseudo_log_likelihood(
        TableModel(table), torch.tensor([1, 2, 3, *answer]), start=3, mask_id=19
    ).value == pytest.approx(expected, rel=1e-5)


class Watched(torch.nn.Module):
    """A model that remembers its inputs."""

    shift_logits = False

    def __init__(self) -> None:
        super().__init__()
        self.model = llada()
        self.config, self.inputs = self.model.config, []

    def forward(self, input_ids: torch.Tensor) -> SimpleNamespace:
        self.inputs.append(input_ids)
        return self.model(input_ids)


def test_guidance_hides_the_prompt_and_costs_twice() -> None:
    watched = Watched()
    found = tta_bench.log_likelihood_bound(watched, PROMPT, ANSWER, mc_num=8, batch_size=4, cfg_scale=0.5)
    assert found.forward_passes == 16 == sum(len(ids) for ids in watched.inputs)
    for ids in watched.inputs:
        conditioned, free = ids[:4], ids[4:]
        assert (conditioned[:, :3] == PROMPT).all()
        assert (free[:, :3] == MASK).all()
        assert torch.equal(conditioned[:, 3:], free[:, 3:])
        assert ((conditioned[:, 3:] == MASK).sum(dim=1) >= 1).all()
    plain = tta_bench.log_likelihood_bound(watched, PROMPT, ANSWER, mc_num=8, batch_size=4)
    assert found.value != pytest.approx(plain.value)


def test_the_same_seed_gives_the_same_bound_whatever_the_global_generator() -> None:
    torch.manual_seed(5)
    first = tta_bench.log_likelihood_bound(llada(), PROMPT, ANSWER, mc_num=16, seed=2)
    torch.manual_seed(6)
    assert tta_bench.log_likelihood_bound(llada(), PROMPT, ANSWER, mc_num=16, seed=2).value == first.value
    assert tta_bench.log_likelihood_bound(llada(), PROMPT, ANSWER, mc_num=16, seed=3).value != first.value


@pytest.mark.parametrize("make", [llada, dream])
@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_pseudo_likelihood_hides_one_token_at_a_time(make: Any, batch_size: int) -> None:
    model, tokens = make(), torch.cat((PROMPT, ANSWER))
    found = tta_bench.pseudo_log_likelihood(model, tokens, start=3, batch_size=batch_size)
    expected = [conditional(model, tokens, (i,))[i] for i in range(3, 7)]
    assert found.token_log_probabilities == pytest.approx(expected, rel=1e-4)
    assert found.value == pytest.approx(sum(expected), rel=1e-4)
    assert found.perplexity == pytest.approx(math.exp(-sum(expected) / 4), rel=1e-4)
    assert found.forward_passes == 4


def test_no_scored_token_is_visible() -> None:
    watched = Watched()
    tta_bench.pseudo_log_likelihood(watched, torch.cat((PROMPT, ANSWER)), start=3)
    (ids,) = watched.inputs
    assert (ids == MASK).nonzero().tolist() == [[i, 3 + i] for i in range(4)]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda m: tta_bench.log_likelihood_bound(m, PROMPT, ANSWER, mc_num=10, batch_size=4), "mc_num=10: must be a multiple"),
        (lambda m: tta_bench.log_likelihood_bound(m, PROMPT, ANSWER[:0]), r"answer: must be a LongTensor of shape \(L,\)"),
        (lambda m: tta_bench.log_likelihood_bound(m, PROMPT, torch.tensor([9, MASK])), f"answer: holds the mask token {MASK}"),
        (lambda m: tta_bench.log_likelihood_bound(m, PROMPT[None], ANSWER), "prompt: must be a LongTensor"),
        (lambda m: tta_bench.log_likelihood_bound(m, PROMPT, ANSWER, cfg_scale=-1.0), "cfg_scale"),
        (lambda m: tta_bench.pseudo_log_likelihood(m, ANSWER, start=4), "start=4: must be a position of the 4 tokens"),
        (lambda m: tta_bench.pseudo_log_likelihood(m, ANSWER, batch_size=0), "batch_size=0"),
        (lambda m: tta_bench.pseudo_log_likelihood(m, torch.tensor([9, MASK])), f"hold the mask token {MASK}"),
        (lambda m: tta_bench.pseudo_log_likelihood(m, [1, 2]), "got list"),
    ],
)
def test_bad_input_is_named(call: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        call(llada())


def test_a_trained_model_finds_right_answers_more_likely(mini: tuple) -> None:
    model, words = mini
    won = 0
    for problem in tta_bench.tasks.load("arithmetic").problems("dev")[:10]:
        right = str(problem.target)
        wrong = right[:2] + str((int(right[2]) + 1) % 10) + right[3:]
        prompt = words.encode(problem.prompt, return_tensors="pt")[0]
        answers = [torch.tensor([*words.encode(text), words.eos_token_id]) for text in (right, wrong)]
        bounds = [tta_bench.log_likelihood_bound(model, prompt, answer, mc_num=32).value for answer in answers]
        assert max(bounds) <= 0
        won += bounds[0] > bounds[1]
    assert won >= 9


CHOICES = [torch.tensor(ids) for ids in ([12, 40, 8, 21], [12, 41, 8, 21], [12, 40])]


def test_the_bound_of_a_choice_is_the_bound_of_an_answer() -> None:
    model = llada()
    alone = tta_bench.log_likelihood_bound(model, PROMPT, ANSWER, mc_num=2000, batch_size=8)
    found = tta_bench.choice_bounds(model, PROMPT, [ANSWER], mc_num=2000, batch_size=64)
    assert abs(found.values[0] - alone.value) < 4 * math.hypot(alone.standard_error, found.standard_errors[0])
    assert found.n_tokens == (4,)


def test_choices_of_one_length_hide_the_same_places_and_no_pattern_is_evaluated_twice() -> None:
    watched = Watched()
    found = tta_bench.choice_bounds(watched, PROMPT, CHOICES, mc_num=64, batch_size=100)
    first, second, short = [ids[:, 3:] == MASK for ids in watched.inputs]
    assert torch.equal(first, second)
    assert len(short) == 3  # of two places one, the other, or both are hidden
    assert found.forward_passes == sum(len(ids) for ids in watched.inputs) == 2 * len(first.unique(dim=0)) + 3
    assert all((ids[:, :3] == PROMPT).all() for ids in watched.inputs)


def test_neither_batches_nor_the_order_of_choices_change_a_bound() -> None:
    options = {"mc_num": 24, "seed": 3, "key": "a"}
    found = tta_bench.choice_bounds(llada(), PROMPT, CHOICES, batch_size=5, **options)
    turned = tta_bench.choice_bounds(llada(), PROMPT, CHOICES[::-1], batch_size=16, **options)
    assert found.values == pytest.approx(turned.values[::-1], rel=1e-5)
    other = tta_bench.choice_bounds(llada(), PROMPT, CHOICES, **options | {"key": "b"})
    assert found.values[0] != pytest.approx(other.values[0], rel=1e-5)


def test_common_draws_make_a_difference_of_choices_sharper() -> None:
    """The common places of two choices cancel, whatever the draws; with draws of their own they do not."""
    torch.manual_seed(0)
    model, (one, other, _) = TableModel(3 * torch.randn(7, 50)), CHOICES

    def gaps(key: str) -> float:
        values = []
        for seed in range(60):
            options = {"mc_num": 8, "seed": seed, "mask_id": 49}
            if key == "common":
                first, second = tta_bench.choice_bounds(model, PROMPT, [one, other], **options).values
            else:
                first, second = (
                    tta_bench.choice_bounds(model, PROMPT, [ids], key=f"{i}", **options).values[0]
                    for i, ids in enumerate((one, other))
                )
            values.append(first - second)
        return float(np.var(values))

    assert gaps("common") < 0.6 * gaps("own")


def test_a_choice_of_one_token_is_exact_with_any_draws() -> None:
    for mc_num in (1, 20):
        found = tta_bench.choice_bounds(llada(), PROMPT, [ANSWER[:1], ANSWER[1:2]], mc_num=mc_num)
        assert found.standard_errors == (0.0, 0.0)
        assert found.forward_passes == 2
        expected = conditional(llada(), torch.cat((PROMPT, ANSWER[:1])), (3,))[3]
        assert found.values[0] == pytest.approx(expected, rel=1e-5)


def test_one_draw_has_no_standard_error() -> None:
    assert math.isnan(tta_bench.choice_bounds(llada(), PROMPT, [ANSWER], mc_num=1).standard_errors[0])


def test_pseudo_likelihood_of_some_positions() -> None:
    tokens = torch.cat((PROMPT, ANSWER))
    every = tta_bench.pseudo_log_likelihood(llada(), tokens, start=3).token_log_probabilities
    some = tta_bench.pseudo_log_likelihood(llada(), tokens, start=3, positions=[4, 6])
    assert some.token_log_probabilities == pytest.approx((every[1], every[3]), rel=1e-5)
    assert some.forward_passes == 2


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda m: tta_bench.choice_bounds(m, PROMPT, CHOICES, mc_num=0), "mc_num=0: must be at least 1"),
        (lambda m: tta_bench.choice_bounds(m, PROMPT, CHOICES, batch_size=0), "batch_size=0: must be at least 1"),
        (lambda m: tta_bench.choice_bounds(m, PROMPT, []), "choices: must be at least one"),
        (lambda m: tta_bench.choice_bounds(m, PROMPT, [ANSWER, ANSWER[:0]]), "choice 2: must be a LongTensor"),
        (lambda m: tta_bench.choice_bounds(m, PROMPT, [torch.tensor([MASK])]), f"choice 1: holds the mask token {MASK}"),
        (
            lambda m: tta_bench.pseudo_log_likelihood(m, ANSWER, positions=[]),
            r"positions=\[\]: must be ascending, from start=0",
        ),
        (lambda m: tta_bench.pseudo_log_likelihood(m, ANSWER, positions=[2, 1]), r"positions=\[2, 1\]: must be ascending"),
        (lambda m: tta_bench.pseudo_log_likelihood(m, ANSWER, start=1, positions=[0]), r"positions=\[0\]: .* start=1 to 3"),
    ],
)
def test_bad_input_of_choices_is_named(call: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        call(llada())
