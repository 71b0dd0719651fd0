from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import norm
from statsmodels.stats.proportion import proportion_confint

from tests.analysis.test_stats import binary_pair
from tta_bench.analysis import proportions, stats

TABLES = [(43, 0, 1, 0), (53, 16, 9, 8), (20, 3, 9, 8), (5, 5, 0, 2), (10, 1, 0, 0)]


@pytest.mark.parametrize(("n", "k"), [(20, 0), (20, 3), (50, 50), (99, 40)])
def test_wilson_is_statsmodels(n: int, k: int) -> None:
    found = stats.proportion_interval(np.repeat([1.0, 0.0], [k, n - k]))
    assert (found.ci_low, found.ci_high) == pytest.approx(proportion_confint(k, n, method="wilson"), abs=1e-12)


@pytest.mark.parametrize("table", TABLES)
def test_the_constrained_estimate_maximises_the_likelihood(table: tuple[int, int, int, int]) -> None:
    _, b, c, _ = table
    n = sum(table)
    for delta in (-0.3, -0.05, 0.1, 0.4):

        def loss(q: float, delta: float = delta) -> float:
            cells = np.array([q, q + delta, 1 - 2 * q - delta])
            counts = np.array([b, c, n - b - c])
            return np.inf if (cells < 0).any() else -(counts[counts > 0] * np.log(cells[counts > 0] + 1e-300)).sum()

        low, high = max(0.0, -delta), (1 - delta) / 2
        best = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x
        assert proportions.constrained(b, c, n, delta) == pytest.approx(best, abs=2e-5)


@pytest.mark.parametrize("table", TABLES)
def test_tangos_limits_are_where_the_score_statistic_is_critical(table: tuple[int, int, int, int]) -> None:
    _, b, c, _ = table
    n, z = sum(table), norm.ppf(0.975)
    found = stats.difference_interval(*binary_pair(*table))
    assert found.value == pytest.approx((c - b) / n)
    for delta, sign in ((found.ci_low, 1), (found.ci_high, -1)):
        q = proportions.constrained(b, c, n, delta)
        assert (c - b - n * delta) / np.sqrt(n * (2 * q + delta * (1 - delta))) == pytest.approx(sign * z, abs=1e-6)


def test_tangos_interval_turns_with_the_sides() -> None:
    forward = stats.difference_interval(*binary_pair(20, 3, 9, 8))
    backward = stats.difference_interval(*binary_pair(20, 9, 3, 8))
    assert (backward.ci_low, backward.ci_high) == pytest.approx((-forward.ci_high, -forward.ci_low))


def test_no_discordant_problem_leaves_a_width() -> None:
    """Where the t interval has none: z^2 / (n + z^2) to either side."""
    n, z = 40, norm.ppf(0.975)
    found = stats.difference_interval(*binary_pair(20, 0, 0, 20))
    assert (found.ci_low, found.ci_high) == pytest.approx((-(z**2) / (n + z**2), z**2 / (n + z**2)), abs=1e-4)
    assert stats.difference_interval(*binary_pair(0, 20, 0, 0)).ci_low == -1


def test_scores_between_0_and_1_are_refused() -> None:
    with pytest.raises(ValueError, match="0 or 1"):
        stats.proportion_interval([0.5, 1.0])
    with pytest.raises(ValueError, match="0 or 1"):
        stats.difference_interval([0.5, 1.0], [1.0, 1.0])


def test_at_small_n_it_covers_where_t_does_not() -> None:
    """30 problems, of which the two differ in few: 2,000 draws, seeded."""
    rng = np.random.default_rng(0)
    chances, repeats = [0.9, 0.02, 0.06, 0.02], 2000
    covered = {"score": 0, "t": 0}
    for _ in range(repeats):
        a, b = binary_pair(*rng.multinomial(30, chances))
        found = {"score": stats.difference_interval(a, b), "t": stats.mean_interval(b - a)}
        for name, interval in found.items():
            covered[name] += interval.ci_low <= 0.04 <= interval.ci_high
    assert covered["score"] / repeats > 0.935
    assert covered["t"] / repeats < 0.9
