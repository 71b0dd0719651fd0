from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tta_bench.analysis import equal_compute, stats
from tta_bench.analysis.equal_compute import Curve


def straight(passes: list[float], slopes: np.ndarray) -> Curve:
    """Scores that rise by ``slopes`` (n,) with every doubling of the passes."""
    x = np.array(passes, dtype=float)
    return Curve(x, slopes[:, None] * np.log2(x)[None, :])


def test_between_budgets_the_score_is_linear_in_log_passes() -> None:
    slopes = np.array([0.1, 0.3])
    curve = straight([4, 16, 64], slopes)
    for passes in (5, 8, 20, 33.5):
        scores, how = curve.at(passes)
        np.testing.assert_allclose(scores, slopes * np.log2(passes))
        assert how == ("between 4 and 16" if passes < 16 else "between 16 and 64")
    assert curve.at(16)[1] == "measured"


@pytest.mark.parametrize(("passes", "nearest", "place"), [(2, "4", 0), (100, "64", 2)])
def test_beyond_what_was_measured_the_nearest_budget_is_taken_and_said(passes: float, nearest: str, place: int) -> None:
    curve = straight([4, 16, 64], np.array([0.1, 0.3]))
    scores, how = curve.at(passes)
    assert how == f"nearest measured: {nearest}"
    np.testing.assert_array_equal(scores, curve.scores[:, place])


def test_interpolation_carries_the_spread_between_problems() -> None:
    """Half way between two budgets the mean of both scores is compared, problem by problem."""
    rng = np.random.default_rng(0)
    base = Curve(np.array([4.0, 16.0]), rng.integers(0, 2, size=(80, 2)).astype(float))
    candidate = rng.integers(0, 2, size=80).astype(float)
    found = stats.paired_comparison(base.at(8)[0], candidate)
    by_hand = candidate - base.scores.mean(axis=1)
    assert found.delta == pytest.approx(by_hand.mean())
    assert found.ci_high - found.delta == pytest.approx(stats.mean_interval(by_hand).ci_high - by_hand.mean())


def test_the_height_between_straight_curves_is_exact() -> None:
    """On 4..64 the mean of log2 x is 4, so slopes that differ by 0.1 are 0.4 apart, whatever budgets were measured."""
    base, ours = straight([2, 8, 64], np.array([0.1, 0.2])), straight([4, 32, 128], np.array([0.2, 0.3]))
    heights, span = equal_compute.height_between(base, ours)
    np.testing.assert_allclose(heights, [0.4, 0.4])
    assert span == (4, 64)


@given(seed=st.integers(0, 30))
@settings(max_examples=20)
def test_heights_turn_with_the_sides_and_ignore_constants(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one = Curve(np.array([4.0, 8, 16]), rng.random((5, 3)))
    other = Curve(np.array([6.0, 20]), rng.random((5, 2)))
    forward, backward = equal_compute.height_between(one, other)[0], equal_compute.height_between(other, one)[0]
    np.testing.assert_allclose(forward, -backward)
    moved = equal_compute.height_between(Curve(one.passes, one.scores + 2), Curve(other.passes, other.scores + 2))[0]
    np.testing.assert_allclose(moved, forward)


def test_curves_without_a_common_range_are_refused() -> None:
    with pytest.raises(ValueError, match="baseline measured from 4 to 8 passes, candidate from 16 to 32"):
        equal_compute.height_between(straight([4, 8], np.ones(2)), straight([16, 32], np.ones(2)))
    with pytest.raises(ValueError, match="must be the same"):
        equal_compute.height_between(straight([4, 8], np.ones(2)), straight([4, 8], np.ones(3)))
    with pytest.raises(ValueError, match="must be above 0 and rise"):
        straight([8, 4], np.ones(2))


def test_the_front_is_what_brute_force_finds() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        x, y = rng.integers(1, 5, size=8), rng.integers(0, 5, size=8)
        expected = [not any(x[j] <= x[i] and y[j] >= y[i] and (x[j] < x[i] or y[j] > y[i]) for j in range(8)) for i in range(8)]
        assert equal_compute.on_front(x, y).tolist() == expected


def test_front_probabilities() -> None:
    """A run that is cheapest is always there, one that is dearer and worse never, equal runs share their fate."""
    base = np.tile([0.0, 1.0], 100)
    scores = np.stack([base, np.zeros(200), 1 - base, 1 - base], axis=1)
    passes = np.tile([4.0, 8, 8, 8], (200, 1))
    found = equal_compute.front_probability(passes, scores, n_resamples=500, rng=1)
    assert found[0] == 1
    assert found[1] == 0
    assert found[2] == found[3]
    # Better than the cheap one when more of the resampled problems are zeros there: about half.
    assert 0.2 < found[2] < 0.8
    assert (equal_compute.front_probability(passes, scores, n_resamples=500, rng=2) != found).any()


def test_clustered_problems_make_the_front_less_sure() -> None:
    base = np.random.default_rng(0).integers(0, 2, size=(40, 1)).astype(float)
    scores = np.repeat(np.hstack([base * 0.0 + 0.5, base]), 10, axis=0)
    passes = np.tile([4.0, 8.0], (400, 1))
    alone, together = (
        equal_compute.front_probability(passes, scores, clusters=clusters, n_resamples=1000)[1]
        for clusters in (None, np.arange(40).repeat(10))
    )
    assert abs(together - 0.5) < abs(alone - 0.5)


def test_aup_is_the_published_sum() -> None:
    """Three budgets, the last of which lost more than 5 points and is left out."""
    found = equal_compute.accuracy_under_parallelism([1.0, 2.0, 4.0, 8.0], [0.80, 0.79, 0.76, 0.5], 0.82)
    w = [y * np.exp(-3 * (1 - y / 82)) for y in (80, 79, 76)]
    assert found == pytest.approx(80 + (2 - 1) * (w[1] + w[0]) / 2 + (4 - 2) * (w[2] + w[1]) / 2)
    shuffled = equal_compute.accuracy_under_parallelism([4.0, 1.0, 8.0, 2.0], [0.76, 0.80, 0.5, 0.79], 0.82)
    assert shuffled == pytest.approx(found)


def test_aup_without_loss_is_the_area() -> None:
    assert equal_compute.accuracy_under_parallelism([1.0, 4.0], [0.5, 0.5], 0.5) == pytest.approx(4 * 50)


def test_aup_of_two_samplers_is_resampled_together() -> None:
    rng = np.random.default_rng(0)
    passes, tokens = np.tile([4.0, 8.0], (60, 1)), np.full(60, 16.0)
    scores = rng.integers(0, 2, size=(60, 2)).astype(float)
    found = equal_compute.parallelism_estimates({"a": (passes, scores), "b": (passes, scores)}, tokens, n_resamples=200)
    np.testing.assert_array_equal(found["a"][1], found["b"][1])
    estimate = found["a"][0]
    assert estimate.ci_low < estimate.value < estimate.ci_high
    y = scores.mean(axis=0)
    assert estimate.value == pytest.approx(equal_compute.accuracy_under_parallelism([4.0, 2.0], y, y.max()))
    other = equal_compute.parallelism_estimates({"a": (passes, scores)}, tokens, n_resamples=200, rng=1)
    assert (other["a"][1] != found["a"][1]).any()
