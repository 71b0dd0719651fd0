from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from tta_bench.sampling.uncertainty import disagreement, gumbel, mutual_information


def test_mutual_information_is_zero_for_equal_views_and_log_2_for_opposite_ones() -> None:
    half = torch.tensor([0.5])
    assert mutual_information(half, torch.stack((half, half))).item() == 0
    assert mutual_information(torch.tensor([math.log(2)]), torch.zeros(2, 1)).item() == pytest.approx(math.log(2))


def test_disagreement_counts_distinct_tokens() -> None:
    draws = torch.tensor([[1, 1, 1, 4], [1, 2, 2, 3], [1, 3, 2, 2], [1, 4, 1, 1], [1, 1, 1, 0]])
    assert disagreement(draws).tolist() == [0.0, 0.75, 0.25, 1.0]
    assert disagreement(draws[:1]).tolist() == [0.0] * 4


def test_disagreement_equals_the_naive_count() -> None:
    draws = torch.from_numpy(np.random.default_rng(0).integers(0, 6, size=(5, 200)))
    naive = [(len(set(column)) - 1) / 4 for column in draws.T.tolist()]
    assert disagreement(draws).tolist() == pytest.approx(naive)


def test_gumbel_numbers_have_their_law() -> None:
    found: Tensor = gumbel(torch.from_numpy(np.random.default_rng(0).random(20_000)))
    assert stats.kstest(found.numpy(), stats.gumbel_r.cdf).pvalue > 1e-3
