"""Intervals that hold together: all of a family's true differences lie in theirs with the stated confidence."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from tta_bench.analysis.stats import RESAMPLES, ROUNDING, Floats, Rng, random_signs


def simultaneous_intervals(
    sums: ArrayLike, counts: ArrayLike, confidence: float = 0.95, *, n_resamples: int = RESAMPLES, rng: Rng = 0
) -> tuple[Floats, Floats]:
    """Limits (m,) each of m mean differences, by inverting the max-T sign-flip test.

    A difference d0 is within the limits if |sum (d - d0)| <= c sqrt(sum (d - d0)^2), a quadratic in d0. Under random signs the
    largest of all m such statistics stays below c with the stated probability. The test that ``p_adjusted`` is from uses the
    same statistic at d0 = 0; here c is found from differences about their means, so that near the level the two can disagree.
    For one comparison it is about the t interval.

    Args:
        sums: (u, m) differences, summed over the problems of each of u independent units.
        counts: (u, m) how many problems these are; 0 where a comparison lacks a unit.
        confidence: of all intervals together.
        n_resamples: sign patterns.
        rng: seed or generator.

    Returns:
        Lower and upper limits, infinite where there are too few units for any.

    Reference:
        Westfall & Young, "Resampling-based multiple testing", 1993, section 2.6 (simultaneous intervals from max-T).
    """
    s, n = np.asarray(sums, dtype=float), np.asarray(counts, dtype=float)
    centred = s - n * (s.sum(axis=0) / n.sum(axis=0))
    size = np.sqrt((centred**2).sum(axis=0))
    scaled = np.where(size > ROUNDING, centred / np.where(size > ROUNDING, size, 1.0), 0.0)
    largest = np.concatenate([np.abs(signs @ scaled).max(axis=1) for signs in random_signs(len(s), n_resamples, rng)])
    place = min(len(largest), int(np.ceil(confidence * (len(largest) + 1)))) - 1
    c = float(np.sort(largest)[place])
    total, number = s.sum(axis=0), n.sum(axis=0)
    # (total - number d)^2 <= c^2 (a - 2 b d + e d^2), where a, b, e are sums over units.
    a, b, e = (s**2).sum(axis=0), (s * n).sum(axis=0), (n**2).sum(axis=0)
    square, linear, constant = number**2 - c**2 * e, total * number - c**2 * b, total**2 - c**2 * a
    root = np.sqrt(np.clip(linear**2 - square * constant, 0.0, None))
    bounded = square > ROUNDING * number**2
    divisor = np.where(bounded, square, 1.0)
    return np.where(bounded, (linear - root) / divisor, -np.inf), np.where(bounded, (linear + root) / divisor, np.inf)
