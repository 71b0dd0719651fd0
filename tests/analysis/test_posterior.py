from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta

from tta_bench.analysis.posterior import posterior_of_difference


def test_probabilities_add_up_and_follow_the_data() -> None:
    d = np.repeat([1.0, 0, -1], [30, 60, 10])
    found = posterior_of_difference(d, margin=0.02)
    assert found.better + found.equivalent + found.worse == pytest.approx(1)
    assert found.better > 0.99
    mirrored = posterior_of_difference(-d, margin=0.02)
    assert mirrored.worse == pytest.approx(found.better, abs=0.01)
    assert found.ci_low < found.mean < found.ci_high


def test_it_is_the_beta_posterior_where_that_is_known() -> None:
    """Differences of 0 and 1 only, a prior of next to nothing: the share of ones is Beta(k, n - k)."""
    d = np.repeat([1.0, 0.0], [12, 28])
    found = posterior_of_difference(d, margin=0.25, prior=1e-6, n_draws=50_000)
    assert found.better == pytest.approx(beta.sf(0.25, 12, 28), abs=0.01)
    assert (found.ci_low, found.ci_high) == pytest.approx(beta.ppf([0.025, 0.975], 12, 28), abs=0.01)


def test_identical_outputs_are_equivalent_the_surer_the_more_problems() -> None:
    few, many = (posterior_of_difference(np.zeros(n), margin=0.02).equivalent for n in (10, 400))
    assert few < 0.6
    assert many > 0.99


def test_seed_and_bad_input() -> None:
    d = np.repeat([1.0, 0.0], [5, 9])
    assert posterior_of_difference(d, margin=0.02, rng=1) == posterior_of_difference(d, margin=0.02, rng=1)
    assert posterior_of_difference(d, margin=0.02, rng=1) != posterior_of_difference(d, margin=0.02, rng=2)
    for wrong, message in (({"margin": 0}, "margin=0"), ({"margin": 0.1, "prior": 0}, "prior=0")):
        with pytest.raises(ValueError, match=message):
            posterior_of_difference(d, **wrong)
    with pytest.raises(ValueError, match="reach 2"):
        posterior_of_difference([2.0, 0.0], margin=0.1)
