"""Paired statistics. The unit is the problem: replicates (seeds) are averaged within it first.

Pure functions from arrays to dataclasses; n problems, r replicates, m candidates, R resamples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Verdict = Literal["better", "worse", "equivalent", "inconclusive"]
Floats = NDArray[np.float64]
Rng = int | np.random.Generator

RESAMPLES = 9999
ROUNDING = 1e-12
"""Statistics closer than this are ties, so that rounding cannot make a pattern seem more extreme than itself."""


@dataclass(frozen=True)
class Estimate:
    """A value with its interval."""

    value: float
    ci_low: float
    ci_high: float


@dataclass(frozen=True)
class PairedComparison:
    """What a candidate gains over a baseline on the same problems.

    Attributes:
        delta: mean of candidate - baseline over the problems.
        ci_low, ci_high: t interval of delta.
        p_value: two-sided sign-flip permutation test.
        verdict: against the margin, see ``verdict``.
        mde: smallest difference found with 80 % power at this n and spread (two-sided alpha).
        n_problems: problems compared.
        note: what a reader should know, for instance "identical outputs".
    """

    delta: float
    ci_low: float
    ci_high: float
    p_value: float
    verdict: Verdict
    mde: float
    n_problems: int
    note: str = ""


def problem_means(scores: ArrayLike) -> Floats:
    """Scores (n,) or (n, r) to one mean per problem (n,).

    Raises:
        ValueError: not one or two axes, empty, or with NaN.
    """
    values = np.asarray(scores, dtype=float)
    if values.ndim not in (1, 2) or values.size == 0:
        raise ValueError(f"scores have shape {values.shape}: give (problems,) or (problems, replicates), with at least one")
    if not np.isfinite(values).all():
        raise ValueError(
            f"{int((~np.isfinite(values)).sum())} scores are NaN or infinite: leave those problems out, and say so"
        )
    return values if values.ndim == 1 else values.mean(axis=1)


def mean_interval(scores: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Mean over problems with its t interval; the interval is NaN for a single problem."""
    values = problem_means(scores)
    mean = float(values.mean())
    if len(values) == 1:
        return Estimate(mean, np.nan, np.nan)
    half = float(stats.t.ppf(0.5 + confidence / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return Estimate(mean, mean - half, mean + half)


def paired_comparison(
    baseline: ArrayLike, candidate: ArrayLike, *, margin: float = 0.02, alpha: float = 0.05, rng: Rng = 0
) -> PairedComparison:
    """Compare two samplers on the same problems.

    Args:
        baseline: scores (n,) or (n, r).
        candidate: scores (n,) or (n, r'), rows in the same order of problems.
        margin: differences smaller than this do not matter; fixed before the run.
        alpha: level of the test; the interval has coverage 1 - alpha.
        rng: seed or generator of the permutations.

    Raises:
        ValueError: different problems, NaN scores, or a margin that is not positive.
    """
    differences = paired_differences(baseline, candidate)
    delta = mean_interval(differences, 1 - alpha)
    p_value = sign_flip_p(differences, rng=rng)
    if not differences.any():
        return PairedComparison(0.0, 0.0, 0.0, 1.0, "equivalent", np.nan, len(differences), "identical outputs")
    found = verdict(differences, p_value, margin=margin, alpha=alpha)
    mde = minimum_detectable_effect(differences, alpha=alpha)
    return PairedComparison(delta.value, delta.ci_low, delta.ci_high, p_value, found, mde, len(differences))


def paired_differences(baseline: ArrayLike, candidate: ArrayLike) -> Floats:
    """candidate - baseline per problem, replicates averaged first."""
    a, b = problem_means(baseline), problem_means(candidate)
    if a.shape != b.shape:
        raise ValueError(f"baseline has {len(a)} problems, candidate {len(b)}: a paired comparison needs the same problems")
    return b - a


def sign_flip_p(differences: ArrayLike, *, n_resamples: int = RESAMPLES, rng: Rng = 0) -> float:
    """Two-sided p-value of mean 0 under random signs; exact where there are no more patterns than resamples."""
    d = np.asarray(differences, dtype=float)
    return float(_max_sign_flip(d[:, None], n_resamples, rng)[0])


def max_t(baseline: ArrayLike, candidates: ArrayLike, *, n_resamples: int = RESAMPLES, rng: Rng = 0) -> Floats:
    """p-values of m candidates against one baseline, adjusted for their number (family-wise, two-sided).

    Args:
        baseline: (n,) scores.
        candidates: (n, m) scores.
        n_resamples: sign patterns drawn; all 2^n are used where there are no more.
        rng: seed or generator.

    Returns:
        (m,) adjusted p-values.

    Reference:
        Westfall & Young, "Resampling-based multiple testing", 1993 (single-step max-T); the signs of a problem are
        flipped together in all candidates, which keeps their correlation.
    """
    base, others = np.asarray(baseline, dtype=float), np.asarray(candidates, dtype=float)
    if base.ndim != 1 or others.ndim != 2 or len(base) != len(others):
        raise ValueError(f"baseline {base.shape}, candidates {others.shape}: give (problems,) and (problems, candidates)")
    d = others - base[:, None]
    return max_t_of_differences(d, n_resamples=n_resamples, rng=rng)


def max_t_of_differences(differences: ArrayLike, *, n_resamples: int = RESAMPLES, rng: Rng = 0) -> Floats:
    """``max_t`` on differences (n, m). A comparison that lacks a problem has a 0 there, which no sign changes."""
    return _max_sign_flip(np.asarray(differences, dtype=float), n_resamples, rng)


def _max_sign_flip(d: Floats, n_resamples: int, rng: Rng) -> Floats:
    """Adjusted p-values for differences (n, m).

    The statistic is |sum d| / sqrt(sum d^2). Signs leave the sum of squares alone, so it rises with |t| and, unlike t, is
    never infinite. Columns without any difference have statistic 0 and p-value 1.
    """
    if not np.isfinite(d).all():
        raise ValueError("differences contain NaN or infinity: leave those problems out, and say so")
    moving = d[np.any(d != 0, axis=1)]
    size = np.sqrt((d**2).sum(axis=0))
    scaled = moving / np.where(size > 0, size, 1.0)
    observed = np.abs(scaled.sum(axis=0))
    exact = 2 ** len(moving) <= n_resamples + 1 if len(moving) < 60 else False
    signs = all_signs(len(moving)) if exact else random_signs(len(moving), n_resamples, rng)
    exceeded = np.zeros(d.shape[1], dtype=int)
    total = 0
    for chunk in signs:
        largest = np.abs(chunk @ scaled).max(axis=1, initial=0.0)
        exceeded += (largest[:, None] >= observed - ROUNDING).sum(axis=0)
        total += len(chunk)
    return exceeded / total if exact else (1 + exceeded) / (1 + total)


def all_signs(n: int) -> list[Floats]:
    """Every pattern of n signs, as one (2^n, n) array."""
    patterns = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    return [(1 - 2 * patterns).astype(np.float64)]


def random_signs(n: int, count: int, rng: Rng, chunk: int = 1000) -> list[Floats]:
    """``count`` random patterns of n signs, in arrays of at most ``chunk`` rows."""
    generator = np.random.default_rng(rng)
    sizes = [chunk] * (count // chunk) + [count % chunk] * (count % chunk > 0)
    return [(1 - 2 * generator.integers(0, 2, size=(size, n))).astype(np.float64) for size in sizes]


def verdict(differences: ArrayLike, p_value: float, *, margin: float, alpha: float = 0.05) -> Verdict:
    """What may be said of a candidate.

    equivalent: the 1 - 2 alpha interval of the difference lies within +- margin (two one-sided tests), however small p is;
    better / worse: otherwise, p < alpha; inconclusive: neither.
    """
    if not margin > 0:
        raise ValueError(f"margin={margin}: must be above 0, the smallest difference that matters")
    near = mean_interval(differences, 1 - 2 * alpha)
    if -margin < near.ci_low and near.ci_high < margin:
        return "equivalent"
    if p_value < alpha:
        return "better" if near.value > 0 else "worse"
    return "inconclusive"


def minimum_detectable_effect(differences: ArrayLike, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """(z_{1 - alpha/2} + z_power) x standard error: the true difference that this n finds with ``power``.

    Reference: Miller, "Adding error bars to evals", arXiv:2411.00640 (power analysis). NaN for a single problem.
    """
    d = np.asarray(differences, dtype=float)
    if len(d) < 2:
        return float("nan")
    z = stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(power)
    return float(z * d.std(ddof=1) / np.sqrt(len(d)))


def planned_mde(
    n_problems: int,
    *,
    between: float = 1 / 9,
    noise: float | tuple[float, float] = 1 / 6,
    replicates: int | tuple[int, int] = 1,
    alpha: float = 0.05,
    power: float = 0.8,
) -> float:
    """The smallest true difference that ``n_problems`` find with ``power`` (two-sided ``alpha``), before they are done.

    Args:
        n_problems: to be compared.
        between: omega^2, variance over problems of the true difference.
        noise: sigma^2, variance of a score within a problem, from seed to seed; of baseline and candidate where they differ.
        replicates: K, seeds of each problem; of baseline and candidate where they differ.
        alpha: level.
        power: probability to find it.

    Raises:
        ValueError: no problems or replicates, or a negative variance.

    Reference:
        Miller, "Adding error bars to evals", arXiv:2411.00640, the sample-size formula solved for the difference.
    """
    if n_problems < 1:
        raise ValueError(f"n_problems={n_problems}: must be at least 1")
    z = stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(power)
    return float(z * np.sqrt(_variance(between, noise, replicates) / n_problems))


def sample_size(
    delta: float,
    *,
    between: float = 1 / 9,
    noise: float | tuple[float, float] = 1 / 6,
    replicates: int | tuple[int, int] = 1,
    alpha: float = 0.05,
    power: float = 0.8,
) -> int:
    """How many problems find a true difference ``delta`` with ``power``; the inverse of ``planned_mde``."""
    if delta == 0:
        raise ValueError("delta=0: no number of problems finds a difference of nothing")
    z = stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(power)
    return int(np.ceil(z**2 * _variance(between, noise, replicates) / delta**2))


def _variance(between: float, noise: float | tuple[float, float], replicates: int | tuple[int, int]) -> float:
    """omega^2 + sigma_A^2 / K_A + sigma_B^2 / K_B."""
    noises, counts = np.broadcast_to(noise, 2), np.broadcast_to(replicates, 2)
    if between < 0 or (noises < 0).any() or (counts < 1).any():
        raise ValueError(f"between={between}, noise={noise}, replicates={replicates}: variances must be >= 0, replicates >= 1")
    return float(between + (noises / counts).sum())
