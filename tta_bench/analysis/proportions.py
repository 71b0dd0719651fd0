"""Score intervals for problems that are right or wrong: good at small n and near 0 and 100 %, where t intervals are not."""

from __future__ import annotations

import math

from scipy import stats
from scipy.optimize import brentq


def wilson_limits(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval for k of n problems solved.

    Reference:
        Wilson, JASA 22, 1927.
    """
    found = stats.binomtest(k, n).proportion_ci(confidence, method="wilson")
    return float(found.low), float(found.high)


def tango_limits(b: int, c: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Tango's score interval for (c - b) / n: of n problems b are solved by the baseline only, c by the candidate only.

    It has a width also where no problem tells the two apart.

    Reference:
        Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample design",
        Statistics in Medicine 17, 1998.
    """
    z = float(stats.norm.ppf(0.5 + confidence / 2))
    observed = (c - b) / n

    def beyond(delta: float, sign: int) -> float:
        """0 where delta is the limit: the observed difference is z standard errors under delta away from it."""
        q = constrained(b, c, n, delta)
        return (c - b - n * delta) + sign * z * math.sqrt(n * max(2 * q + delta * (1 - delta), 0.0))

    step = 1e-12
    low = -1.0 if observed - step <= -1 else brentq(beyond, -1.0, observed - step, args=(-1,), xtol=1e-14)
    high = 1.0 if observed + step >= 1 else brentq(beyond, observed + step, 1.0, args=(1,), xtol=1e-14)
    return float(low), float(high)


def constrained(b: int, c: int, n: int, delta: float) -> float:
    """Maximum-likelihood probability that only the baseline is right, if the true difference is ``delta`` (Tango, eq. 8)."""
    linear = -(b + c) + delta * (2 * n + b - c)
    root = math.sqrt(max(linear**2 + 8 * n * b * delta * (1 - delta), 0.0))
    return max((root - linear) / (4 * n), 0.0, -delta)
