from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from tta_bench.sampling.uncertainty import disagreement, draw, entropy, mutual_information, probabilities


def test_entropy_of_the_uniform_and_of_a_certain_distribution() -> None:
    p = torch.tensor([[0.25] * 4, [1.0, 0, 0, 0]])
    torch.testing.assert_close(entropy(p), torch.tensor([math.log(4), 0.0]))


def test_mutual_information_is_zero_for_equal_views_and_log_2_for_opposite_ones() -> None:
    same = torch.tensor([[[0.3, 0.7]], [[0.3, 0.7]]])
    opposite = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    assert mutual_information(same).item() == pytest.approx(0, abs=1e-7)
    assert mutual_information(opposite).item() == pytest.approx(math.log(2))


def test_disagreement_counts_distinct_tokens() -> None:
    draws = torch.tensor([[1, 1, 1, 4], [1, 2, 2, 3], [1, 3, 2, 2], [1, 4, 1, 1], [1, 1, 1, 0]])
    assert disagreement(draws).tolist() == [0.0, 0.75, 0.25, 1.0]
    assert disagreement(draws[:1]).tolist() == [0.0] * 4


def test_disagreement_equals_the_naive_count() -> None:
    draws = torch.from_numpy(np.random.default_rng(0).integers(0, 6, size=(5, 200)))
    naive = [(len(set(column)) - 1) / 4 for column in draws.T.tolist()]
    assert disagreement(draws).tolist() == pytest.approx(naive)


@pytest.mark.parametrize("temperature", [0.1, 0.7, 1.0])
def test_draws_follow_the_tempered_softmax(temperature: float) -> None:
    logits = torch.tensor([0.3, -1.0, 0.0, 0.25, -torch.inf, 0.1])
    n = 40_000
    uniform = torch.from_numpy(np.random.default_rng(1).random(n))
    tokens = draw(logits.expand(n, -1), temperature, uniform)
    expected = n * torch.softmax(logits.double() / temperature, dim=-1).numpy()
    counts = np.bincount(tokens.numpy(), minlength=6)
    assert counts[4] == 0
    keep = expected > 5
    statistic = ((counts[keep] - expected[keep]) ** 2 / expected[keep]).sum()
    assert stats.chi2.sf(statistic, keep.sum() - 1) > 1e-3
    wrong = n * torch.softmax(logits.double() / (1.3 * temperature), dim=-1).numpy()
    assert stats.chi2.sf(((counts[keep] - wrong[keep]) ** 2 / wrong[keep]).sum(), keep.sum() - 1) < 1e-6


def test_draw_never_takes_an_impossible_token_at_the_ends() -> None:
    logits = torch.tensor([[-torch.inf, 0.0, 0.0, -torch.inf]] * 3)
    uniform = torch.tensor([0.0, 1 - 2**-53, 0.5], dtype=torch.float64)
    assert draw(logits, 1.0, uniform).tolist() == [1, 2, 2]


def test_draw_at_temperature_0_takes_the_first_of_equals() -> None:
    assert draw(torch.tensor([[0.0, 2.0, 2.0]]), 0.0, None).tolist() == [1]


def test_probabilities_are_at_least_float32() -> None:
    assert probabilities(torch.zeros(1, 2, dtype=torch.bfloat16)).dtype == torch.float32
    assert probabilities(torch.zeros(1, 2, dtype=torch.float64)).dtype == torch.float64
