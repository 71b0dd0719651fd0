from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats as scipy_stats
from statsmodels.stats.multitest import multipletests

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
    """Swapping the sides turns the sign, adding a constant to both and reordering the problems changes nothing."""
    b = np.random.default_rng(seed).permutation(a)
    found, swapped = stats.paired_comparison(a, b), stats.paired_comparison(b, a)
    moved, order = stats.paired_comparison(a + 3.5, b + 3.5), np.random.default_rng(seed + 1).permutation(len(a))
    reordered = stats.paired_comparison(a[order], b[order])
    for name in ("delta", "ci_low", "ci_high", "mde"):
        values = [getattr(one, name) for one in (found, moved, reordered)]
        np.testing.assert_allclose(values, values[0], atol=1e-12)
    assert (swapped.delta, swapped.ci_low) == pytest.approx((-found.delta, -found.ci_high))
    assert found.p_value == swapped.p_value == moved.p_value
    if np.count_nonzero(a != b) < 12:  # exact: not one pattern fewer
        assert reordered.p_value == found.p_value
    opposite = {"better": "worse", "worse": "better"}
    assert swapped.verdict == opposite.get(found.verdict, found.verdict)


@given(seed=st.integers(0, 50), copies=st.integers(1, 3), n=st.integers(3, 30))
@settings(max_examples=30)
def test_a_duplicated_candidate_leaves_max_t_as_it_is(seed: int, copies: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    base, others = rng.random(n), rng.random((n, 3))
    alone = stats.max_t(base, others, n_resamples=199)
    doubled = stats.max_t(base, np.column_stack([others, *[others[:, 0]] * copies]), n_resamples=199)
    np.testing.assert_array_equal(doubled[:3], alone)
    assert (doubled[3:] == alone[0]).all()


@given(seed=st.integers(0, 50), n=st.integers(2, 40))
@settings(max_examples=30)
def test_adjusted_p_values_are_never_below_unadjusted_ones(seed: int, n: int) -> None:
    d = np.random.default_rng(seed).integers(-1, 2, size=(n, 4)).astype(float)
    found = stats.sign_flips(d, n_resamples=299)
    assert (found.p_adjusted >= found.p_value).all()
    assert ((found.p_value > 0) & (found.p_adjusted <= 1)).all()
    assert (stats.holm(found.p_value) >= found.p_value).all()


def test_the_seed_changes_the_resamples_and_nothing_else_does() -> None:
    rng = np.random.default_rng(0)
    a, b, d = rng.random(60), rng.random(60) + 0.05, rng.normal(size=(60, 3))
    seeds = range(4)
    for draw in (
        lambda seed: stats.paired_comparison(a, b, rng=seed).p_value,
        lambda seed: float(stats.max_t(a, d, rng=seed)[0]),
        lambda seed: stats.bca_interval(b - a, rng=seed).ci_low,
    ):
        assert len({draw(seed) for seed in seeds}) > 1
        assert draw(3) == draw(3) == draw(np.random.default_rng(3))
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    stats.paired_comparison(a, b)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


def test_identical_outputs_are_said_to_be() -> None:
    """t would be nan and p 0: identical outputs are p = 1."""
    a = np.array([0.0, 1, 1, 0])
    found = stats.paired_comparison(a, a)
    assert (found.delta, found.p_value, found.verdict, found.note) == (0, 1, "equivalent", "identical outputs")
    assert stats.mcnemar(a, a).p_value == 1
    assert stats.mcnemar(a, a).note == "identical outputs"
    assert stats.sign_flips(np.zeros((5, 2))).p_adjusted.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("table", "p"),
    [
        ((101, 121, 59, 33), 0.000004),
        ((101, 70, 59, 33), 0.378688),
        ((101, 30, 60, 33), 0.00206),
        ((20, 10, 3, 7), 0.09228515625),
    ],
)
def test_reference_exact_mcnemar(table: tuple[int, int, int, int], p: float) -> None:
    found = stats.mcnemar(*binary_pair(*table))
    assert found.p_value == pytest.approx(p, abs=5e-7)
    assert (found.both, found.baseline_only, found.candidate_only, found.neither) == table


def test_reference_mcnemar_of_10_and_3_is_the_sign_flip_enumeration() -> None:
    a, b = binary_pair(20, 10, 3, 7)
    assert stats.mcnemar(a, b).p_value == 0.09228515625
    assert stats.paired_comparison(a, b).p_value == 0.09228515625


def test_reference_chi_square_mcnemar() -> None:
    """[[101, 121], [59, 33]]: 20.67222 (p 5.450095e-06) with correction, 21.35556 (3.815136e-06) without."""
    pair = binary_pair(101, 121, 59, 33)
    for correction, statistic, p in ((True, 20.67222, 5.450095e-06), (False, 21.35556, 3.815136e-06)):
        found = stats.mcnemar(*pair, exact=False, correction=correction).p_value
        assert found == pytest.approx(p, rel=1e-6)
        assert scipy_stats.chi2.isf(found, 1) == pytest.approx(statistic, abs=5e-6)


def test_mcnemar_refuses_pooled_replicates() -> None:
    with pytest.raises(ValueError, match="one score of 0 or 1"):
        stats.mcnemar(np.array([[1, 0], [1, 1]]), np.ones((2, 2)))


def test_bca_is_scipys() -> None:
    """Both are resampled: the ends agree within their Monte Carlo error."""
    x = np.random.default_rng(0).exponential(size=60)
    expected = scipy_stats.bootstrap((x,), np.mean, n_resamples=40_000, rng=1, method="BCa").confidence_interval
    found = stats.bca_interval(x, n_resamples=40_000, rng=2)
    assert (found.ci_low, found.ci_high) == pytest.approx((expected.low, expected.high), abs=0.01)
    # It is shifted towards the long tail; a t interval is not.
    assert found.ci_high - found.value > 1.15 * (found.value - found.ci_low)


def test_bca_of_constants_has_no_interval_and_says_so() -> None:
    found = stats.bca_interval(np.ones(9))
    assert np.isnan(found.ci_low)
    assert "all values are the same" in found.note


def test_bca_does_not_depend_on_what_is_done_beside_it() -> None:
    d = np.random.default_rng(0).normal(size=(30, 3))
    beside, alone = stats.bca_intervals(d, n_resamples=300)[1], stats.bca_interval(d[:, 1], n_resamples=300)
    assert (beside.ci_low, beside.ci_high) == pytest.approx((alone.ci_low, alone.ci_high), abs=1e-12)


def test_clustered_errors_are_the_pairwise_definition() -> None:
    """SE^2 = C / (C - 1) / n^2 x sum of e_i e_j over pairs of problems in one cluster."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 12, size=70)
    x = rng.normal(size=12)[labels] + rng.normal(size=70)
    e, c = x - x.mean(), len(set(labels.tolist()))
    pairs = sum(e[i] * e[j] for i in range(70) for j in range(70) if labels[i] == labels[j])
    assert stats.standard_error(x, labels) == pytest.approx(np.sqrt(c / (c - 1) * pairs) / 70)
    assert stats.standard_error(x, np.arange(70)) == pytest.approx(stats.standard_error(x))
    assert stats.standard_error(x, labels) > 1.3 * stats.standard_error(x)
    half = scipy_stats.t.ppf(0.975, c - 1) * stats.standard_error(x, labels)
    assert stats.mean_interval(x, clusters=labels).ci_high == pytest.approx(x.mean() + half)


def test_signs_of_a_cluster_are_flipped_together() -> None:
    d, labels = np.array([0.3, 0.1, -0.2, 0.5, 0.4, 0.1]), np.array(list("aabbcc"))
    sums = np.array([d[labels == name].sum() for name in "abc"])
    patterns = np.array(list(itertools.product([1, -1], repeat=3)))
    expected = (np.abs(patterns @ sums) >= abs(sums.sum()) - 1e-12).mean()
    assert stats.sign_flip_p(d, clusters=labels) == expected
    assert stats.paired_comparison(np.zeros(6), d, clusters=labels).p_value == expected
    with pytest.raises(ValueError, match="one label for each of the 6 problems"):
        stats.sign_flip_p(d, clusters=labels[:3])


def test_the_cluster_bootstrap_draws_whole_clusters() -> None:
    counts = np.concatenate(list(stats.resampled_counts(6, 50, 0, np.array(list("aabbcc")))))
    assert (counts[:, ::2] == counts[:, 1::2]).all()
    assert (counts.sum(axis=1) == 6).all()
    d, labels = np.random.default_rng(3).normal(size=40).repeat(2), np.arange(40).repeat(2)
    wide, narrow = stats.bca_interval(d, clusters=labels), stats.bca_interval(d)
    assert (wide.ci_high - wide.ci_low) / (narrow.ci_high - narrow.ci_low) == pytest.approx(np.sqrt(2), rel=0.06)


def test_tost_is_the_90_percent_interval_within_the_margin() -> None:
    rng = np.random.default_rng(0)
    verdicts = set()
    for shift in np.linspace(-0.1, 0.1, 21):
        d = rng.normal(shift, 0.1, size=40)
        found = stats.tost(d, margin=0.05)
        assert (found.p_value < 0.05) == (found.ci_low > -0.05 and found.ci_high < 0.05)
        assert found.p_lower == pytest.approx(scipy_stats.ttest_1samp(d, -0.05, alternative="greater").pvalue)
        assert found.p_upper == pytest.approx(scipy_stats.ttest_1samp(d, 0.05, alternative="less").pvalue)
        verdicts.add(found.p_value < 0.05)
    assert verdicts == {True, False}
    assert np.isnan(stats.tost(np.zeros(5), margin=0.02).p_value)


def test_equivalence_of_clustered_problems_needs_clustered_errors() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(15).repeat(6)
    d = 0.1 * rng.normal(size=15)[labels]
    alone, clustered = stats.tost(d, margin=0.05), stats.tost(d, margin=0.05, clusters=labels)
    assert alone.p_value < clustered.p_value
    near = stats.mean_interval(d, 0.9, labels)
    assert (clustered.p_value < 0.05) == (near.ci_low > -0.05 and near.ci_high < 0.05)


def test_right_or_wrong_is_equivalent_by_the_score_interval() -> None:
    """Two of 200 differ: the t interval would fit into 2 points, what the data allow does not."""
    a, b = binary_pair(100, 0, 2, 98)
    assert stats.mean_interval(b - a, 0.9).ci_high < 0.025
    assert stats.paired_comparison(a, b, margin=0.025).verdict == "inconclusive"
    assert stats.paired_comparison(*binary_pair(1000, 0, 2, 998), margin=0.02).verdict == "equivalent"


def test_holm_and_benjamini_hochberg() -> None:
    p = [0.01, 0.04, 0.03]
    np.testing.assert_allclose(stats.holm(p), [0.03, 0.06, 0.06])
    np.testing.assert_allclose(stats.benjamini_hochberg(p), [0.03, 0.04, 0.04])
    many = np.random.default_rng(0).random(40) ** 3
    np.testing.assert_allclose(stats.holm(many), multipletests(many, method="holm")[1])
    np.testing.assert_allclose(stats.benjamini_hochberg(many), multipletests(many, method="fdr_bh")[1])
    assert len(stats.holm([])) == 0
    with pytest.raises(ValueError, match="from 0 to 1"):
        stats.holm([0.5, 1.5])


def test_tasks_weigh_the_same() -> None:
    rng = np.random.default_rng(0)
    few, many = rng.normal(1, 1, size=10), rng.normal(0, 1, size=1000)
    found = stats.mean_over_tasks([few, many])
    assert found.value == pytest.approx((few.mean() + many.mean()) / 2)
    se = np.sqrt(few.var(ddof=1) / 10 + many.var(ddof=1) / 1000) / 2
    welch = scipy_stats.ttest_ind(few, many, equal_var=False)
    assert found.ci_high - found.value == pytest.approx(scipy_stats.t.ppf(0.975, welch.df) * se)
    assert "single problem" in stats.mean_over_tasks([[1.0], [0.0, 1.0]]).note
    clustered = stats.mean_over_tasks([few.repeat(2), many], clusters=[np.arange(10).repeat(2), None])
    assert (clustered.ci_low, clustered.ci_high) == pytest.approx((found.ci_low, found.ci_high))


def test_seconds_are_compared_as_ratios() -> None:
    base = np.random.default_rng(0).lognormal(size=50)
    found = stats.ratio_interval(base, 2 * base * np.exp(np.linspace(-0.1, 0.1, 50)))
    assert found.value == pytest.approx(2)
    assert found.ci_low < 2 < found.ci_high
    with pytest.raises(ValueError, match="above 0"):
        stats.ratio_interval([0.0, 1.0], [1.0, 1.0])


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


def test_reference_connors_sample_size() -> None:
    """p12 = .05, psi = 9, power .8: 22 two-sided, 17 one-sided; the published numbers are rounded to the nearest."""
    assert round(power.mcnemar_sample_size(0.05, 9)) == 22
    assert round(power.mcnemar_sample_size(0.05, 9, sides=1)) == 17
    with pytest.raises(ValueError, match="psi > 1"):
        power.mcnemar_sample_size(0.05, 1)


def test_predicted_power_inverts_the_detectable_effect() -> None:
    effect = power.planned_mde(150, replicates=3)
    assert power.predicted_power(effect, 150, replicates=3) == pytest.approx(0.8, abs=1e-4)
    assert power.predicted_power(0.0, 150) == pytest.approx(0.05)
