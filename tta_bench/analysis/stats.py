"""Paired statistics. The unit is the problem: replicates (seeds) are averaged within it first.

Pure functions from arrays to dataclasses; n problems, r replicates, m candidates, R resamples. Sample sizes and detectable
effects are in ``power``, intervals for few problems in ``proportions``, the Bayesian view in ``posterior``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.weightstats import ttost_paired

from tta_bench.analysis.power import minimum_detectable_effect
from tta_bench.analysis.proportions import tango_limits, wilson_limits

Verdict = Literal["better", "worse", "equivalent", "inconclusive"]
Floats = NDArray[np.float64]
Rng = int | np.random.Generator

RESAMPLES = 9999
ROUNDING = 1e-12
"""Statistics closer than this are ties, so that rounding cannot make a pattern seem more extreme than itself."""
CELLS = 10_000_000
"""Numbers held at a time while resampling, 80 MB of them."""


@dataclass(frozen=True)
class Estimate:
    """A value with its interval.

    Attributes:
        value: NaN where it is undefined.
        ci_low, ci_high: NaN where there is no interval.
        note: why something is undefined, or what a reader should know.
    """

    value: float
    ci_low: float
    ci_high: float
    note: str = ""


@dataclass(frozen=True)
class PairedComparison:
    """What a candidate gains over a baseline on the same problems.

    Attributes:
        delta: mean of candidate - baseline over the problems.
        ci_low, ci_high: t interval of delta; from cluster sums where there are clusters.
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


def paired_differences(baseline: ArrayLike, candidate: ArrayLike) -> Floats:
    """candidate - baseline per problem (n,), replicates averaged first."""
    a, b = problem_means(baseline), problem_means(candidate)
    if a.shape != b.shape:
        raise ValueError(f"baseline has {len(a)} problems, candidate {len(b)}: a paired comparison needs the same problems")
    return b - a


def paired_comparison(
    baseline: ArrayLike,
    candidate: ArrayLike,
    *,
    margin: float = 0.02,
    alpha: float = 0.05,
    clusters: ArrayLike | None = None,
    rng: Rng = 0,
) -> PairedComparison:
    """Compare two samplers on the same problems.

    Args:
        baseline: scores (n,) or (n, r).
        candidate: scores (n,) or (n, r'), rows in the same order of problems.
        margin: differences smaller than this do not matter; fixed before the run.
        alpha: level of the test; the interval has coverage 1 - alpha.
        clusters: (n,) labels of problems that are not independent (a shared passage or template); None: all are.
        rng: seed or generator of the permutations.

    Raises:
        ValueError: different problems, NaN scores, or a margin that is not positive.
    """
    d = paired_differences(baseline, candidate)
    found = sign_flips(d[:, None], clusters=clusters, rng=rng)
    return compared(d, float(found.p_value[0]), margin=margin, alpha=alpha, clusters=clusters)


def compared(
    differences: ArrayLike, p_value: float, *, margin: float, alpha: float = 0.05, clusters: ArrayLike | None = None
) -> PairedComparison:
    """The comparison that differences (n,) and the p-value found for them make."""
    d = problem_means(differences)
    if not d.any():
        check_margin(margin)
        return PairedComparison(0.0, 0.0, 0.0, 1.0, "equivalent", np.nan, len(d), "identical outputs")
    delta = mean_interval(d, 1 - alpha, clusters)
    found = verdict(d, p_value, margin=margin, alpha=alpha, clusters=clusters)
    mde = minimum_detectable_effect(standard_error(d, clusters), alpha=alpha)
    return PairedComparison(delta.value, delta.ci_low, delta.ci_high, p_value, found, mde, len(d), delta.note)


def mean_interval(scores: ArrayLike, confidence: float = 0.95, clusters: ArrayLike | None = None) -> Estimate:
    """Mean over problems with its t interval, NaN where a single problem, or cluster, leaves nothing to estimate it from."""
    values = problem_means(scores)
    mean = float(values.mean())
    groups = len(values) if clusters is None else len(np.unique(np.asarray(clusters)))
    if groups == 1:
        what = "problem" if clusters is None else "cluster"
        return Estimate(mean, np.nan, np.nan, f"a single {what}: no interval can be estimated")
    half = float(stats.t.ppf(0.5 + confidence / 2, groups - 1) * standard_error(values, clusters))
    return Estimate(mean, mean - half, mean + half)


def standard_error(values: ArrayLike, clusters: ArrayLike | None = None) -> float:
    """Of the mean of values (n,), NaN for a single problem or cluster.

    With clusters, C of them: sqrt(C / (C - 1) x sum over clusters of (sum of residuals)^2) / n. Each problem in a cluster of
    its own gives s / sqrt(n).

    Reference:
        Miller, "Adding error bars to evals", arXiv:2411.00640, clustered standard errors; the factor C / (C - 1) as in Liang
        and Zeger, 1986.
    """
    x = np.asarray(values, dtype=float)
    sums = x - x.mean() if clusters is None else cluster_sums(x - x.mean(), clusters)
    c = len(sums)
    return float(np.sqrt(c / (c - 1) * (sums**2).sum()) / len(x)) if c > 1 else float("nan")


def cluster_sums(values: ArrayLike, clusters: ArrayLike) -> Floats:
    """Sums (C,) or (C, m) of values (n,) or (n, m) over the rows of each cluster.

    Raises:
        ValueError: not one label for each row.
    """
    x, labels = np.asarray(values, dtype=float), np.asarray(clusters)
    if labels.shape != x.shape[:1]:
        raise ValueError(f"clusters have shape {labels.shape}: give one label for each of the {len(x)} problems")
    _, members = np.unique(labels, return_inverse=True)
    sums = np.zeros((int(members.max()) + 1, *x.shape[1:]))
    np.add.at(sums, members, x)
    return sums


def bca_interval(
    values: ArrayLike,
    confidence: float = 0.95,
    *,
    clusters: ArrayLike | None = None,
    n_resamples: int = RESAMPLES,
    rng: Rng = 0,
) -> Estimate:
    """``bca_intervals`` of one set of values (n,) or (n, r)."""
    x = problem_means(values)[:, None]
    return bca_intervals(x, confidence, clusters=clusters, n_resamples=n_resamples, rng=rng)[0]


def bca_intervals(
    values: ArrayLike,
    confidence: float = 0.95,
    *,
    clusters: ArrayLike | None = None,
    n_resamples: int = RESAMPLES,
    rng: Rng = 0,
) -> list[Estimate]:
    """Means over problems with their bias-corrected and accelerated bootstrap intervals, all from the same resamples.

    Args:
        values: (n, m).
        confidence: coverage.
        clusters: (n,) labels; whole clusters are resampled.
        n_resamples: of the bootstrap.
        rng: seed or generator of the resamples.

    Returns:
        m estimates; without an interval, and with a note on why, where every problem (or cluster) says the same.

    Reference:
        Efron, "Better bootstrap confidence intervals", JASA 82, 1987. For a mean, the jackknife has a closed form.
    """
    x = np.asarray(values, dtype=float)
    if x.ndim != 2 or not x.size or not np.isfinite(x).all():
        raise ValueError(f"values have shape {x.shape}: give (problems, m), at least one, all finite")
    labels = np.arange(len(x)) if clusters is None else clusters
    sums, sizes = cluster_sums(x, labels), cluster_sums(np.ones(len(x)), labels)
    if len(sums) == 1:
        return [Estimate(float(mean), np.nan, np.nan, "a single unit: no interval can be estimated") for mean in x.mean(axis=0)]
    left_out = (x.sum(axis=0) - sums) / (len(x) - sizes)[:, None]
    counts = resampled_counts(len(sums), n_resamples, rng)
    means = np.concatenate([(drawn @ sums) / (drawn @ sizes)[:, None] for drawn in counts])
    return [bca(float(x[:, i].mean()), means[:, i], left_out[:, i], confidence) for i in range(x.shape[1])]


def bca(value: float, drawn: Floats, left_out: Floats, confidence: float) -> Estimate:
    """An estimate with its BCa interval, from its values in resamples (R,) and with each unit left out (C,)."""
    spread = left_out.mean() - left_out
    if not (np.abs(spread) > ROUNDING).any():
        return Estimate(value, np.nan, np.nan, "all values are the same: no interval can be estimated")
    n = len(drawn)
    below = ((drawn < value - ROUNDING).sum() + (drawn <= value + ROUNDING).sum()) / (2 * n)
    bias = stats.norm.ppf(np.clip(below, 1 / (2 * n), 1 - 1 / (2 * n)))
    acceleration = (spread**3).sum() / (6 * (spread**2).sum() ** 1.5)
    z = bias + stats.norm.ppf([0.5 - confidence / 2, 0.5 + confidence / 2])
    low, high = np.quantile(drawn, stats.norm.cdf(bias + z / (1 - acceleration * z)))
    return Estimate(value, float(low), float(high))


def in_chunks(n_resamples: int, width: int) -> Iterator[int]:
    """Sizes that add up to ``n_resamples``, of which each times ``width`` stays below ``CELLS``."""
    most = max(1, CELLS // max(1, width))
    for done in range(0, n_resamples, most):
        yield min(most, n_resamples - done)


def resampled_counts(n: int, n_resamples: int, rng: Rng, clusters: ArrayLike | None = None) -> Iterator[Floats]:
    """How often each of n problems is drawn in each resample, in arrays (R, n) of a bounded size.

    With clusters, (n,) labels, these are drawn, with all of their problems.
    """
    generator = np.random.default_rng(rng)
    labels = np.arange(n) if clusters is None else np.unique(np.asarray(clusters), return_inverse=True)[1]
    c = int(labels.max()) + 1
    for rows in in_chunks(n_resamples, n):
        drawn = generator.integers(0, c, size=(rows, c)) + c * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * c).reshape(rows, c).astype(float)[:, labels]


@dataclass(frozen=True)
class SignFlips:
    """p-values (m,) of m comparisons, two-sided.

    Attributes:
        p_value: each by itself.
        p_adjusted: by max-T for their number (family-wise), never below p_value.
        n_resamples: sign patterns; all 2^n where exact.
        exact: whether every pattern was used.
    """

    p_value: Floats
    p_adjusted: Floats
    n_resamples: int
    exact: bool


def sign_flips(
    differences: ArrayLike, *, clusters: ArrayLike | None = None, n_resamples: int = RESAMPLES, rng: Rng = 0
) -> SignFlips:
    """Test the means of differences (n, m) against 0 under random signs, and adjust by single-step max-T.

    The signs of a problem are flipped together in all comparisons, which keeps their correlation. The statistic is
    |sum d| / sqrt(sum d^2): signs leave the sum of squares alone, so it rises with |t| and, unlike t, is never infinite.
    Columns without any difference have p-value 1. A comparison that lacks a problem has a 0 there, which no sign changes.
    All patterns are used where there are no more of them than resamples; single comparisons with few problems that differ
    are tested exactly even where the whole family cannot be.

    Args:
        differences: (n, m).
        clusters: (n,) labels; the signs of a cluster are flipped together.
        n_resamples: patterns drawn where there are more.
        rng: seed or generator.

    Raises:
        ValueError: NaN among the differences.

    Reference:
        Westfall & Young, "Resampling-based multiple testing", 1993 (single-step max-T). Random patterns give
        (1 + exceedances) / (1 + R): Phipson & Smyth, 2010.
    """
    d = np.asarray(differences, dtype=float)
    if d.ndim != 2:
        raise ValueError(f"differences have shape {d.shape}: give (problems, comparisons)")
    if not np.isfinite(d).all():
        raise ValueError("differences contain NaN or infinity: leave those problems out, and say so")
    d = d if clusters is None else cluster_sums(d, clusters)
    size = np.sqrt((d**2).sum(axis=0))
    moving = d[np.any(d != 0, axis=1)]
    scaled = moving / np.where(size > 0, size, 1.0)
    exact = few_patterns(len(moving), n_resamples)
    alone, among_all, total = exceedances(scaled, n_resamples, rng, exact=exact)
    if exact:
        return SignFlips(alone / total, among_all / total, total, exact)
    p_value, p_adjusted = (1 + alone) / (1 + total), (1 + among_all) / (1 + total)
    for column in range(d.shape[1]):
        own = scaled[scaled[:, column] != 0, column][:, None]
        if few_patterns(len(own), n_resamples):
            count, _, patterns = exceedances(own, n_resamples, rng, exact=True)
            p_value[column] = count[0] / patterns
    return SignFlips(p_value, np.maximum(p_adjusted, p_value), total, exact)


def few_patterns(n: int, n_resamples: int) -> bool:
    """Whether n signs have no more patterns than would be drawn."""
    return n < 60 and 2**n <= n_resamples + 1


def exceedances(scaled: Floats, n_resamples: int, rng: Rng, *, exact: bool) -> tuple[Floats, Floats, int]:
    """How many sign patterns of ``scaled`` (n, m) reach the observed statistic: each by itself (m,), the largest of all (m,).

    The third value is the number of patterns.
    """
    observed = np.abs(scaled.sum(axis=0)) - ROUNDING
    alone, among_all, total = np.zeros(scaled.shape[1]), np.zeros(scaled.shape[1]), 0
    for signs in all_signs(len(scaled)) if exact else random_signs(len(scaled), n_resamples, rng):
        found = np.abs(signs @ scaled)
        alone += (found >= observed).sum(axis=0)
        among_all += (found.max(axis=1, initial=0.0)[:, None] >= observed).sum(axis=0)
        total += len(signs)
    return alone, among_all, total


def all_signs(n: int) -> Iterator[Floats]:
    """Every pattern of n signs, as one (2^n, n) array."""
    patterns = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    yield (1 - 2 * patterns).astype(np.float64)


def random_signs(n: int, count: int, rng: Rng, chunk: int = 1000) -> Iterator[Floats]:
    """``count`` random patterns of n signs, in arrays of at most ``chunk`` rows."""
    generator = np.random.default_rng(rng)
    chunk = max(1, min(chunk, CELLS // max(n, 1)))
    for done in range(0, count, chunk):
        bits = generator.integers(0, 2, size=(min(chunk, count - done), n), dtype=np.int8)
        yield (1 - 2 * bits).astype(np.float64)


def sign_flip_p(
    differences: ArrayLike, *, clusters: ArrayLike | None = None, n_resamples: int = RESAMPLES, rng: Rng = 0
) -> float:
    """Two-sided p-value of mean 0 of differences (n,) under random signs; exact where there are few patterns."""
    d = np.asarray(differences, dtype=float)[:, None]
    return float(sign_flips(d, clusters=clusters, n_resamples=n_resamples, rng=rng).p_value[0])


def max_t(baseline: ArrayLike, candidates: ArrayLike, *, n_resamples: int = RESAMPLES, rng: Rng = 0) -> Floats:
    """p-values (m,) of m candidates (n, m) against one baseline (n,), adjusted by max-T (``sign_flips``)."""
    base, others = np.asarray(baseline, dtype=float), np.asarray(candidates, dtype=float)
    if base.ndim != 1 or others.ndim != 2 or len(base) != len(others):
        raise ValueError(f"baseline {base.shape}, candidates {others.shape}: give (problems,) and (problems, candidates)")
    return sign_flips(others - base[:, None], n_resamples=n_resamples, rng=rng).p_adjusted


def holm(p_values: ArrayLike) -> Floats:
    """p-values (m,) adjusted by Holm's step-down: family-wise, whatever their dependence."""
    p = checked_p_values(p_values)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return np.minimum(adjusted, 1.0)


def benjamini_hochberg(p_values: ArrayLike) -> Floats:
    """p-values (m,) adjusted for the false discovery rate. For what is labelled exploratory, and nothing else."""
    p = checked_p_values(p_values)
    return np.asarray(stats.false_discovery_control(p)) if len(p) else p


def checked_p_values(p_values: ArrayLike) -> Floats:
    """(m,) numbers from 0 to 1, else a ValueError."""
    p = np.asarray(p_values, dtype=float)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p_values={p}: give (m,) numbers from 0 to 1")
    return p


@dataclass(frozen=True)
class McNemar:
    """Two samplers on problems that are either right or wrong.

    Attributes:
        both: problems that both solve.
        baseline_only: b, those that only the baseline solves.
        candidate_only: c, those that only the candidate solves.
        neither: those that none solves.
        p_value: two-sided.
        note: "identical outputs" where no problem tells them apart.
    """

    both: int
    baseline_only: int
    candidate_only: int
    neither: int
    p_value: float
    note: str = ""


def mcnemar(baseline: ArrayLike, candidate: ArrayLike, *, exact: bool = True, correction: bool = True) -> McNemar:
    """McNemar's test on scores (n,) or (n, 1) that are 0 or 1.

    Args:
        baseline, candidate: scores, in the same order of problems.
        exact: binomial test of b against b + c; else chi-square with one degree of freedom.
        correction: of the chi-square, for continuity.

    Raises:
        ValueError: scores other than 0 and 1; several replicates must not be pooled as if they were problems.

    Reference:
        McNemar, Psychometrika 12, 1947.
    """
    a, b = problem_means(baseline), problem_means(candidate)
    paired_differences(a, b)
    if not (np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all()):
        raise ValueError("McNemar's test needs one score of 0 or 1 per problem: use the sign-flip test on means of replicates")
    table = np.array([[np.sum((a == x) & (b == y)) for y in (1, 0)] for x in (1, 0)])
    (both, b_only), (c_only, neither) = table.tolist()
    if b_only + c_only == 0:
        return McNemar(both, 0, 0, neither, 1.0, "identical outputs")
    p_value = float(statsmodels_mcnemar(table, exact=exact, correction=correction).pvalue)
    return McNemar(both, b_only, c_only, neither, min(1.0, p_value))


def proportion_interval(scores: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Share of problems solved, of scores (n,) or (n, 1) that are 0 or 1, with Wilson's score interval.

    Raises:
        ValueError: another score.
    """
    values = problem_means(scores)
    if not np.isin(values, (0, 1)).all():
        raise ValueError("a score interval needs one score of 0 or 1 per problem")
    return Estimate(float(values.mean()), *wilson_limits(int(values.sum()), len(values), confidence))


def difference_interval(baseline: ArrayLike, candidate: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Candidate - baseline of scores (n,) or (n, 1) that are 0 or 1 on the same problems, with Tango's score interval.

    Raises:
        ValueError: another score, or different problems.
    """
    table = mcnemar(baseline, candidate)
    n = table.both + table.baseline_only + table.candidate_only + table.neither
    return paired_score_interval(table.baseline_only, table.candidate_only, n, confidence)


def paired_score_interval(b: int, c: int, n: int, confidence: float) -> Estimate:
    """Of n problems, b solved by the baseline only and c by the candidate only: (c - b) / n with Tango's score interval."""
    return Estimate((c - b) / n, *tango_limits(b, c, n, confidence))


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided t tests.

    Attributes:
        p_value: the larger of the two; below alpha: equivalent. NaN where no spread, or a single problem, leaves no test.
        p_lower, p_upper: that the mean is not above -margin, not below +margin.
        ci_low, ci_high: the 1 - 2 alpha interval, which lies within +-margin exactly when p_value < alpha.
    """

    p_value: float
    p_lower: float
    p_upper: float
    ci_low: float
    ci_high: float


def tost(differences: ArrayLike, *, margin: float, alpha: float = 0.05, clusters: ArrayLike | None = None) -> Equivalence:
    """Whether the mean of differences (n,) lies within +-margin, with clustered errors where there are clusters.

    Reference:
        Schuirmann, "A comparison of the two one-sided tests procedure", 1987.
    """
    check_margin(margin)
    d = problem_means(differences)
    near = mean_interval(d, 1 - 2 * alpha, clusters)
    error = standard_error(d, clusters)
    if not error > 0:
        return Equivalence(np.nan, np.nan, np.nan, near.ci_low, near.ci_high)
    if clusters is None:
        p, (_, lower, _), (_, upper, _) = ttost_paired(d, np.zeros_like(d), -margin, margin)
        return Equivalence(float(p), float(lower), float(upper), near.ci_low, near.ci_high)
    freedom = len(np.unique(np.asarray(clusters))) - 1
    lower, upper = stats.t.sf((d.mean() + margin) / error, freedom), stats.t.cdf((d.mean() - margin) / error, freedom)
    return Equivalence(float(max(lower, upper)), float(lower), float(upper), near.ci_low, near.ci_high)


def verdict(
    differences: ArrayLike, p_value: float, *, margin: float, alpha: float = 0.05, clusters: ArrayLike | None = None
) -> Verdict:
    """What may be said of a candidate.

    equivalent: the 1 - 2 alpha interval of the difference lies within +- margin (two one-sided tests), however small p is;
    better / worse: otherwise, p < alpha; inconclusive: neither.

    The interval is Tango's score interval where every difference is -1, 0 or 1, as of problems that are right or wrong: a t
    interval is too narrow there, the more so the fewer problems differ. Else it is the t interval.
    """
    check_margin(margin)
    d = problem_means(differences)
    near = mean_interval(d, 1 - 2 * alpha, clusters)
    if clusters is None and np.isin(d, (-1, 0, 1)).all():
        near = paired_score_interval(int((d < 0).sum()), int((d > 0).sum()), len(d), 1 - 2 * alpha)
    if -margin < near.ci_low and near.ci_high < margin:
        return "equivalent"
    if p_value < alpha:
        return "better" if near.value > 0 else "worse"
    return "inconclusive"


def check_margin(margin: float) -> None:
    """Refuse a margin that is not positive."""
    if not margin > 0:
        raise ValueError(f"margin={margin}: must be above 0, the smallest difference that matters")


def mean_over_tasks(
    values: Sequence[ArrayLike], confidence: float = 0.95, clusters: Sequence[ArrayLike | None] | None = None
) -> Estimate:
    """The mean of the tasks' means, each task weighing the same however many problems it has.

    Args:
        values: for each of T tasks the scores or differences of its problems, (n,) or (n, r).
        confidence: coverage of the interval.
        clusters: for each task the labels (n,) of problems that are not independent, None where all are.

    Returns:
        SE = sqrt(sum of SE^2) / T; t interval with Welch and Satterthwaite's degrees of freedom. It tells of new problems of
        these tasks, not of new tasks.
    """
    if not values:
        raise ValueError("values=[]: give at least one task")
    means = [problem_means(task) for task in values]
    labels = [None] * len(means) if clusters is None else list(clusters)
    mean = float(np.mean([task.mean() for task in means]))
    units = np.array([len(x) if c is None else len(np.unique(np.asarray(c))) for x, c in zip(means, labels, strict=True)])
    if units.min() == 1:
        return Estimate(mean, np.nan, np.nan, "a task with a single problem or cluster: no interval can be estimated")
    variances = np.array([standard_error(x, c) ** 2 for x, c in zip(means, labels, strict=True)])
    total = variances.sum()
    if total == 0:
        return Estimate(mean, mean, mean, "no spread within any task")
    freedom = total**2 / (variances**2 / (units - 1)).sum()
    half = float(stats.t.ppf(0.5 + confidence / 2, freedom) * np.sqrt(total) / len(means))
    return Estimate(mean, mean - half, mean + half)


def ratio_interval(
    baseline: ArrayLike, candidate: ArrayLike, confidence: float = 0.95, clusters: ArrayLike | None = None
) -> Estimate:
    """Geometric mean of candidate / baseline over problems, for what is positive with a heavy tail, as seconds are.

    The t interval of the mean log ratio, exponentiated. Replicates (n, r) are averaged first. Problems that were timed
    together, as those of one batch are, are a cluster.

    Raises:
        ValueError: a value is not positive.
    """
    a, b = problem_means(baseline), problem_means(candidate)
    if not ((a > 0).all() and (b > 0).all()):
        raise ValueError(f"the smallest value is {min(a.min(), b.min())}: ratios need values above 0")
    found = mean_interval(paired_differences(np.log(a), np.log(b)), confidence, clusters)
    return Estimate(float(np.exp(found.value)), float(np.exp(found.ci_low)), float(np.exp(found.ci_high)), found.note)


def percentile_interval(value: float, drawn: Floats, confidence: float = 0.95) -> Estimate:
    """A value with the percentile interval of its resamples (R,), those left out, and counted, in which it is undefined."""
    if np.isnan(value):
        return Estimate(value, np.nan, np.nan, "undefined")
    known = drawn[~np.isnan(drawn)]
    if not len(known):
        return Estimate(value, np.nan, np.nan, "undefined in every resample: no interval can be estimated")
    low, high = np.quantile(known, [0.5 - confidence / 2, 0.5 + confidence / 2])
    lost = 1 - len(known) / len(drawn)
    notes = [f"undefined in {100 * lost:.0f} % of the resamples, which are left out"] if lost > 0.005 else []
    notes += ["the same in every resample: an interval without width is no certainty"] if low == high else []
    return Estimate(value, float(low), float(high), "; ".join(notes))
