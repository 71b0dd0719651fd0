from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats as scipy_stats

from tta_bench.analysis import power, stats

SCORES = arrays(float, st.tuples(st.integers(3, 40)), elements=st.sampled_from([0.0, 0.5, 1.0]))


def binary_pair(both: int, b: int, c: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Baseline and candidate scores with b problems right for the baseline only and c for the candidate only."""
    counts = (both, b, c, neither)
    return np.repeat([1.0, 1, 0, 0], counts), np.repeat([1.0, 0, 1, 0], counts)


def test_sign_flip_equals_exact_mcnemar() -> None:
    """b = 10, c = 3: p = 2 P(Bin(13, 1/2) <= 3) = 0.09228515625."""
    comparison = stats.paired_comparison(*binary_pair(20, 10, 3, 7))
    assert comparison.p_value == 0.09228515625
    assert comparison.delta == pytest.approx(-7 / 40)


def test_sign_flip_is_scipys_exact_permutation_test() -> None:
    d = np.random.default_rng(7).normal(0.4, 1, size=10)
    expected = scipy_stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    assert stats.sign_flip_p(d) == pytest.approx(expected)


def test_t_interval_is_scipys() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 60))
    expected = scipy_stats.ttest_rel(b, a).confidence_interval(0.95)
    found = stats.paired_comparison(a, b)
    assert (found.ci_low, found.ci_high) == pytest.approx((expected.low, expected.high))


def test_max_t_equals_brute_force_over_all_sign_patterns() -> None:
    d = np.random.default_rng(1).normal(0.3, 1, size=(8, 3))
    root = np.sqrt(len(d))
    patterns = np.array(list(itertools.product([1, -1], repeat=8)))
    t = np.array([(s[:, None] * d).mean(0) / (s[:, None] * d).std(0, ddof=1) * root for s in patterns])
    expected = [(np.abs(t).max(axis=1) >= abs(t[0, j]) - 1e-9).mean() for j in range(3)]
    np.testing.assert_allclose(stats.max_t(np.zeros(8), d), expected)


def test_max_t_with_one_candidate_is_unadjusted() -> None:
    a, b = np.random.default_rng(2).random((2, 9))
    assert stats.max_t(a, b[:, None])[0] == stats.paired_comparison(a, b).p_value


@given(a=SCORES, seed=st.integers(0, 9))
@settings(max_examples=40)
def test_invariants(a: np.ndarray, seed: int) -> None:
    b = np.random.default_rng(seed).permutation(a)
    forward, backward = stats.paired_comparison(a, b), stats.paired_comparison(b, a)
    assert backward.delta == pytest.approx(-forward.delta)
    assert (backward.ci_low, backward.ci_high) == pytest.approx((-forward.ci_high, -forward.ci_low))
    assert backward.p_value == pytest.approx(forward.p_value, abs=0.03)
    shifted = stats.paired_comparison(a + 3, b + 3)
    assert shifted.p_value == pytest.approx(forward.p_value)
    order = np.random.default_rng(seed + 1).permutation(len(a))
    assert stats.paired_comparison(a[order], b[order]).p_value == pytest.approx(forward.p_value, abs=0.03)
    one, two = stats.max_t(a, b[:, None]), stats.max_t(a, np.stack([b, b], axis=1))
    np.testing.assert_allclose(two, [one[0]] * 2)


def test_the_seed_changes_the_resample() -> None:
    a, b = np.random.default_rng(3).random((2, 40))
    assert stats.paired_comparison(a, b, rng=1).p_value != stats.paired_comparison(a, b, rng=2).p_value
    assert stats.paired_comparison(a, b, rng=1).p_value == stats.paired_comparison(a, b, rng=1).p_value


def test_identical_outputs_are_said_so() -> None:
    found = stats.paired_comparison([1.0, 0, 1], [1.0, 0, 1])
    assert (found.p_value, found.delta, found.verdict, found.note) == (1.0, 0.0, "equivalent", "identical outputs")
    adjusted = stats.max_t(np.array([1.0, 0, 1]), np.array([[1.0, 0], [0, 1], [1, 0]]))
    assert adjusted[0] == 1.0


def test_replicates_are_averaged_within_the_problem() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.random((2, 30, 5))
    assert stats.paired_comparison(a, b) == stats.paired_comparison(a.mean(axis=1), b.mean(axis=1))


@pytest.mark.parametrize(
    ("delta", "spread", "expected"),
    [(0.3, 0.1, "better"), (-0.3, 0.1, "worse"), (0.001, 0.01, "equivalent"), (0.02, 0.5, "inconclusive")],
)
def test_verdicts(delta: float, spread: float, expected: str) -> None:
    noise = np.linspace(-1, 1, 100) * spread
    assert stats.paired_comparison(np.zeros(100), delta + noise).verdict == expected


def test_minimum_detectable_effect_inverts_the_sample_size_formula() -> None:
    """omega^2 = 1/9 and delta = 0.03 need n = 969 (Miller 2024)."""
    d = np.concatenate([np.full(485, 1.0), np.full(484, -1.0)])
    d = d / d.std(ddof=1) / 3
    assert power.minimum_detectable_effect(stats.standard_error(d)) == pytest.approx(0.03, abs=2e-5)


def test_power_at_the_minimum_detectable_effect_is_80_percent() -> None:
    rng = np.random.default_rng(5)
    n, repeats = 60, 400
    d = rng.normal(size=(repeats, n))
    effect = power.minimum_detectable_effect(1 / np.sqrt(n))
    found = np.mean([abs(row.mean()) / row.std(ddof=1) * np.sqrt(n) > scipy_stats.t.ppf(0.975, n - 1) for row in d + effect])
    assert found == pytest.approx(0.8, abs=0.06)


def test_zero_padding_changes_nothing() -> None:
    d = np.random.default_rng(6).normal(size=(9, 2))
    np.testing.assert_allclose(stats.sign_flips(np.vstack([d, np.zeros((5, 2))])).p_adjusted, stats.sign_flips(d).p_adjusted)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([1.0], [1.0, 0.0], "same problems"),
        ([], [], "at least one"),
        ([np.nan, 1], [1, 0], "NaN"),
        (np.zeros((2, 2, 2)), np.zeros((2, 2, 2)), "shape"),
    ],
)
def test_bad_input_is_refused(a: object, b: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stats.paired_comparison(a, b)


def test_max_t_wants_a_matrix() -> None:
    with pytest.raises(ValueError, match=r"\(problems, candidates\)"):
        stats.max_t(np.zeros(4), np.ones(4))


def test_a_margin_must_be_positive() -> None:
    with pytest.raises(ValueError, match="margin=0"):
        stats.paired_comparison([0.0, 1], [1.0, 1], margin=0)


def test_one_problem_has_no_interval_and_no_verdict() -> None:
    found = stats.paired_comparison([0.0], [1.0])
    assert np.isnan(found.ci_low)
    assert np.isnan(found.mde)
    assert found.verdict == "inconclusive"


@pytest.mark.slow
@pytest.mark.parametrize("replicates", [1, 5])
@pytest.mark.parametrize("n", [50, 200])
def test_coverage_and_family_wise_error_by_simulation(n: int, replicates: int) -> None:
    """Binary scores with problem effects and no difference: coverage within 1.5 points of 95 %, family-wise error <= 5 %."""
    rng, repeats, m = np.random.default_rng(n + replicates), 2000, 4
    covered, rejected = 0, 0
    for _ in range(repeats):
        chance = rng.beta(1, 1, size=n)
        draws = (rng.random((m + 1, n, replicates)) < chance[None, :, None]).mean(axis=2)
        interval = stats.mean_interval(draws[1] - draws[0])
        covered += interval.ci_low <= 0 <= interval.ci_high
        rejected += stats.max_t(draws[0], draws[1:].T, n_resamples=499, rng=rng).min() < 0.05
    monte_carlo = 3 * np.sqrt(0.05 * 0.95 / repeats)
    assert covered / repeats == pytest.approx(0.95, abs=0.015)
    assert rejected / repeats <= 0.05 + monte_carlo


def test_planned_effects_and_sample_sizes_are_millers() -> None:
    assert power.sample_size(0.03, between=1 / 9, noise=0.0) == 969
    assert 100 * power.planned_mde(198, between=1 / 9, noise=1 / 6, replicates=1) == pytest.approx(13.27, abs=0.005)
    assert 100 * power.planned_mde(198, between=1 / 9, noise=1 / 6, replicates=10) == pytest.approx(7.57, abs=0.005)
    assert power.planned_mde(969, noise=0.0) <= 0.03 < power.planned_mde(968, noise=0.0)
    assert power.planned_mde(50, noise=(0.2, 0.0), replicates=(2, 5)) == power.planned_mde(50, noise=(0.1, 0.0))
    for wrong, message in (({"noise": -1.0}, "variances must be >= 0"), ({"replicates": 0}, "replicates >= 1")):
        with pytest.raises(ValueError, match=message):
            power.planned_mde(10, **wrong)
    with pytest.raises(ValueError, match="n_problems=0"):
        power.planned_mde(0)
    with pytest.raises(ValueError, match="delta=0"):
        power.sample_size(0)
