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
