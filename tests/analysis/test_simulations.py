"""Error rates, coverage and power by simulation, with problem effects and replicates. Run with: make test-slow.

Seeds are fixed, and every tolerance is what the simulation's own Monte Carlo error asks for on top of what is promised.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tta_bench.analysis import power, stats
from tta_bench.analysis.uncertainty_quality import Items, judge

pytestmark = pytest.mark.slow
SIZES = [(50, 1), (50, 5), (200, 1), (200, 5)]


def draws(rng: np.random.Generator, n: int, replicates: int, samplers: int, gain: float = 0.0, own: float = 0.15) -> np.ndarray:
    """(samplers, n, replicates) scores of 0 and 1: each problem has its own chance, shared by all samplers.

    Each sampler does better or worse on a problem by ``own``, which is nothing in the mean; ``gain`` is added for all but the
    first.
    """
    chance = own + 0.05 + (0.9 - 2 * own) * rng.random(n)
    better = rng.choice([-own, own], size=(samplers, n))
    shift = np.where(np.arange(samplers) > 0, gain, 0.0)[:, None]
    return (rng.random((samplers, n, replicates)) < (chance + better + shift)[:, :, None]).astype(float)


def error(share: float, repeats: int) -> float:
    """Three standard errors of a share that was simulated."""
    return 3 * np.sqrt(share * (1 - share) / repeats)


@pytest.mark.parametrize(("n", "replicates"), SIZES)
def test_family_wise_error_under_the_null(n: int, replicates: int) -> None:
    """At most 5 %, of 6 candidates that are as good as the baseline."""
    rng, repeats = np.random.default_rng(n + replicates), 1500
    rejected = {"max-T": 0, "Holm": 0, "unadjusted": 0}
    for _ in range(repeats):
        base, *others = draws(rng, n, replicates, 7).mean(axis=2)
        found = stats.sign_flips(np.stack(others, axis=1) - base[:, None], n_resamples=399, rng=rng)
        rejected["max-T"] += found.p_adjusted.min() < 0.05
        rejected["Holm"] += stats.holm(found.p_value).min() < 0.05
        rejected["unadjusted"] += found.p_value.min() < 0.05
    assert rejected["max-T"] / repeats <= 0.05 + error(0.05, repeats)
    assert rejected["Holm"] / repeats <= 0.05 + error(0.05, repeats)
    assert rejected["unadjusted"] / repeats > 0.09  # which is why there is an adjustment


@pytest.mark.parametrize(("n", "replicates"), SIZES)
@pytest.mark.parametrize("gain", [0.0, 0.05])
@pytest.mark.parametrize("method", ["t", "bca"])
def test_coverage_is_within_1_5_points(n: int, replicates: int, gain: float, method: str) -> None:
    """Of 95 % intervals of the paired difference."""
    rng, repeats = np.random.default_rng(7 * n + replicates), 4000 if method == "t" else 2000
    interval: Callable[[np.ndarray], stats.Estimate] = (
        stats.mean_interval if method == "t" else lambda d: stats.bca_interval(d, n_resamples=999, rng=rng)
    )
    covered = 0
    for _ in range(repeats):
        base, other = draws(rng, n, replicates, 2, gain).mean(axis=2)
        found = interval(other - base)
        covered += found.ci_low <= gain <= found.ci_high
    assert covered / repeats == pytest.approx(0.95, abs=0.015 + error(0.95, repeats) / 3)


@pytest.mark.parametrize(("n", "replicates"), [(200, 1), (200, 5), (400, 2)])
def test_power_is_what_the_formula_says(n: int, replicates: int) -> None:
    """Within 3 points, for the variances that the simulation has."""
    rng, repeats = np.random.default_rng(n), 2000
    # The difference of two independent +-0.15; p(1 - p) averaged over chances 0.05..0.95.
    between = 2 * 0.15**2
    chance = 0.2 + 0.6 * np.random.default_rng(0).random(200_000)
    noise = float(np.mean([(chance + own) * (1 - chance - own) for own in (-0.15, 0.15)]))
    gain = power.planned_mde(n, between=between, noise=noise, replicates=replicates)
    found = 0
    for _ in range(repeats):
        base, other = draws(rng, n, replicates, 2).mean(axis=2)
        # Added to the mean exactly, so that no score is clipped.
        d = other - base + gain
        found += stats.sign_flip_p(d, n_resamples=399, rng=rng) < 0.05
    predicted = power.predicted_power(gain, n, between=between, noise=noise, replicates=replicates)
    assert predicted == pytest.approx(0.8, abs=1e-3)
    assert found / repeats == pytest.approx(predicted, abs=0.03 + error(0.8, repeats) / 3)


def test_pooled_seeds_are_no_problems() -> None:
    """Negative control: replicates taken for problems of their own reject far too often, averaged ones do not."""
    rng, repeats, n, replicates = np.random.default_rng(3), 1500, 50, 5
    rejected = {"averaged": 0, "pooled": 0}
    for _ in range(repeats):
        base, other = draws(rng, n, replicates, 2, own=0.3)
        rejected["averaged"] += stats.sign_flip_p((other - base).mean(axis=1), n_resamples=399, rng=rng) < 0.05
        rejected["pooled"] += stats.sign_flip_p((other - base).ravel(), n_resamples=399, rng=rng) < 0.05
    assert rejected["averaged"] / repeats <= 0.05 + error(0.05, repeats)
    assert rejected["pooled"] / repeats > 0.08


def test_clustered_problems_need_clustered_errors() -> None:
    """Forty passages of five questions: problem-wise intervals cover too little, clustered ones what they promise."""
    rng, repeats = np.random.default_rng(5), 3000
    labels = np.arange(40).repeat(5)
    covered = {"clustered": 0, "problem by problem": 0}
    rejected = 0
    for _ in range(repeats):
        d = 0.3 * rng.normal(size=40)[labels] + 0.3 * rng.normal(size=200)
        for name, clusters in (("clustered", labels), ("problem by problem", None)):
            found = stats.mean_interval(d, clusters=clusters)
            covered[name] += found.ci_low <= 0 <= found.ci_high
        rejected += stats.sign_flip_p(d, clusters=labels, n_resamples=199, rng=rng) < 0.05
    assert covered["clustered"] / repeats == pytest.approx(0.95, abs=0.015 + error(0.95, repeats) / 3)
    assert covered["problem by problem"] / repeats < 0.85
    assert rejected / repeats <= 0.05 + error(0.05, repeats)


def test_mean_over_tasks_covers() -> None:
    rng, repeats = np.random.default_rng(6), 3000
    covered = 0
    for _ in range(repeats):
        tasks = [rng.normal(shift, spread, size=n) for shift, spread, n in ((0.1, 1, 30), (-0.1, 2, 200), (0.3, 0.5, 80))]
        found = stats.mean_over_tasks(tasks)
        covered += found.ci_low <= 0.1 <= found.ci_high
    assert covered / repeats == pytest.approx(0.95, abs=0.015 + error(0.95, repeats) / 3)


def test_the_unpaired_test_has_almost_no_power() -> None:
    """Scores that mostly depend on the problem: the paired test finds what an unpaired z-test hardly ever does."""
    rng, repeats, n = np.random.default_rng(8), 800, 200
    found = {"paired": 0, "unpaired": 0}
    for _ in range(repeats):
        chance = np.clip(rng.beta(0.1, 0.1, size=n), 0, 0.95)
        base, other = ((rng.random((n, 5)) < (chance + gain)[:, None]).mean(axis=1) for gain in (0.0, 0.03))
        found["paired"] += stats.sign_flip_p(other - base, n_resamples=299, rng=rng) < 0.05
        z = (other.mean() - base.mean()) / np.sqrt(base.var(ddof=1) / n + other.var(ddof=1) / n)
        found["unpaired"] += abs(z) > 1.96
    assert found["paired"] / repeats > 0.6
    assert found["unpaired"] / repeats < 0.1


@pytest.mark.parametrize("n", [20, 50, 99])
def test_score_intervals_cover_near_the_edge(n: int) -> None:
    """Paired proportions where both solve nearly everything."""
    rng, repeats = np.random.default_rng(n), 3000
    cells = np.array([0.93, 0.01, 0.05, 0.01])
    covered = 0
    for _ in range(repeats):
        counts = rng.multinomial(n, cells)
        pair = np.repeat([[1.0, 1], [1, 0], [0, 1], [0, 0]], counts, axis=0)
        found = stats.difference_interval(pair[:, 0], pair[:, 1])
        covered += found.ci_low <= 0.04 <= found.ci_high
    assert covered / repeats > 0.95 - 0.015 - error(0.95, repeats)


def test_auroc_intervals_cover_with_dependent_tokens() -> None:
    """Eighty problems of twelve tokens that share how hard their problem is; the truth is taken from 400,000 tokens."""
    rng, repeats = np.random.default_rng(9), 600

    def tokens(problems: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        hard = rng.normal(size=problems).repeat(12)
        wrong = (rng.random(len(hard)) < 1 / (1 + np.exp(2 - 1.5 * hard))).astype(float)
        return wrong, wrong + 0.8 * hard + rng.normal(size=len(hard)), np.arange(problems).repeat(12)

    wrong, u, members = tokens(33_000)
    truth = judge(Items.of(wrong, n_resamples=1), u, ["average_precision", "auroc"])["auroc"].estimate.value
    covered = {"by problem": 0, "by token": 0}
    for _ in range(repeats):
        wrong, u, members = tokens(80)
        for name, clusters in (("by problem", members), ("by token", None)):
            found = judge(Items.of(wrong, clusters, n_resamples=400, rng=rng), u, ["auroc"])["auroc"].estimate
            covered[name] += found.ci_low <= truth <= found.ci_high
    assert covered["by problem"] / repeats == pytest.approx(0.95, abs=0.015 + error(0.95, repeats))
    assert covered["by token"] / repeats < covered["by problem"] / repeats - 0.025
