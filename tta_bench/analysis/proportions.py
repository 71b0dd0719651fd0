"""Score intervals for problems that are right or wrong: good at small n and near 0 and 100 %, where t intervals are not."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.optimize import brentq

from tta_bench.analysis.stats import Estimate, mcnemar, problem_means

FEW = 100
"""Below this number of problems, t intervals of proportions are rough."""


def proportion_interval(scores: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Share of problems solved, of scores (n,) that are 0 or 1, with Wilson's score interval.

    Raises:
        ValueError: another score.

    Reference:
        Wilson, JASA 22, 1927.
    """
    values = problem_means(scores)
    if not np.isin(values, (0, 1)).all():
        raise ValueError("a score interval needs one score of 0 or 1 per problem")
    found = stats.binomtest(int(values.sum()), len(values)).proportion_ci(confidence, method="wilson")
    return Estimate(float(values.mean()), float(found.low), float(found.high))


def difference_interval(baseline: ArrayLike, candidate: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Candidate - baseline of scores (n,) that are 0 or 1 on the same problems, with Tango's score interval.

    It has a width also where no problem tells the two apart.

    Raises:
        ValueError: another score, or different problems.

    Reference:
        Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample design",
        Statistics in Medicine 17, 1998.
    """
    table = mcnemar(baseline, candidate)
    b, c = table.baseline_only, table.candidate_only
    n = table.both + b + c + table.neither
    z = float(stats.norm.ppf(0.5 + confidence / 2))
    observed = (c - b) / n

    def beyond(delta: float, sign: int) -> float:
        """0 where delta is the limit: the distance of the observed difference from it is z standard errors under it."""
        q = constrained(b, c, n, delta)
        return (c - b - n * delta) + sign * z * math.sqrt(n * max(2 * q + delta * (1 - delta), 0.0))

    step = 1e-12
    low = -1.0 if observed - step <= -1 else brentq(beyond, -1.0, observed - step, args=(-1,), xtol=1e-14)
    high = 1.0 if observed + step >= 1 else brentq(beyond, observed + step, 1.0, args=(1,), xtol=1e-14)
    return Estimate(observed, float(low), float(high))


def constrained(b: int, c: int, n: int, delta: float) -> float:
    """Maximum-likelihood probability that only the baseline is right, if the true difference is ``delta`` (Tango, eq. 8)."""
    linear = -(b + c) + delta * (2 * n + b - c)
    root = math.sqrt(max(linear**2 + 8 * n * b * delta * (1 - delta), 0.0))
    return max((root - linear) / (4 * n), 0.0, -delta)
