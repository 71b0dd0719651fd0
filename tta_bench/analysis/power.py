"""How many problems a difference needs to be found, and how small a difference a number of problems finds."""

from __future__ import annotations

import numpy as np
from scipy import stats


def quantiles(alpha: float, power: float, sides: int = 2) -> float:
    """z_{1 - alpha / sides} + z_power.

    Raises:
        ValueError: a probability is not between 0 and 1.
    """
    for name, value in (("alpha", alpha), ("power", power)):
        if not 0 < value < 1:
            raise ValueError(f"{name}={value}: must lie between 0 and 1")
    return float(stats.norm.ppf(1 - alpha / sides) + stats.norm.ppf(power))


def minimum_detectable_effect(standard_error: float, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """The true difference that is found with ``power`` at the standard error that was measured (two-sided ``alpha``).

    Reference:
        Miller, "Adding error bars to evals", arXiv:2411.00640 (power analysis).
    """
    return quantiles(alpha, power) * standard_error


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
    return float(quantiles(alpha, power) * np.sqrt(variance(between, noise, replicates) / n_problems))


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
    return int(np.ceil(quantiles(alpha, power) ** 2 * variance(between, noise, replicates) / delta**2))


def predicted_power(
    delta: float,
    n_problems: int,
    *,
    between: float = 1 / 9,
    noise: float | tuple[float, float] = 1 / 6,
    replicates: int | tuple[int, int] = 1,
    alpha: float = 0.05,
) -> float:
    """The probability that ``n_problems`` find a true difference ``delta`` (two-sided ``alpha``, normal approximation)."""
    z = abs(delta) / np.sqrt(variance(between, noise, replicates) / n_problems)
    critical = stats.norm.ppf(1 - alpha / 2)
    return float(stats.norm.sf(critical - z) + stats.norm.cdf(-critical - z))


def variance(between: float, noise: float | tuple[float, float], replicates: int | tuple[int, int]) -> float:
    """omega^2 + sigma_A^2 / K_A + sigma_B^2 / K_B: of one problem's observed difference."""
    noises, counts = np.broadcast_to(noise, 2), np.broadcast_to(replicates, 2)
    if between < 0 or (noises < 0).any() or (counts < 1).any():
        raise ValueError(f"between={between}, noise={noise}, replicates={replicates}: variances must be >= 0, replicates >= 1")
    return float(between + (noises / counts).sum())


def mcnemar_sample_size(p12: float, psi: float, *, alpha: float = 0.05, power: float = 0.8, sides: int = 2) -> float:
    """How many pairs McNemar's test needs, not rounded: the next whole number has at least this power.

    Args:
        p12: the smaller share of pairs that tell the two apart.
        psi: the larger of these shares over the smaller.
        alpha: level.
        power: probability to find the difference.
        sides: 1 or 2.

    Raises:
        ValueError: the shares are impossible.

    Reference:
        Connor, "Sample size for testing differences in proportions for the paired-sample design", Biometrics 43, 1987.
    """
    discordant, difference = p12 * (psi + 1), p12 * (psi - 1)
    if not (p12 > 0 and psi > 1 and discordant <= 1):
        raise ValueError(f"p12={p12}, psi={psi}: needs p12 > 0, psi > 1 and p12 (psi + 1) <= 1")
    if sides not in (1, 2):
        raise ValueError(f"sides={sides}: must be 1 or 2")
    z_alpha, z_power = stats.norm.ppf(1 - alpha / sides), stats.norm.ppf(power)
    root = z_alpha * np.sqrt(discordant) + z_power * np.sqrt(discordant - difference**2)
    return float((root / difference) ** 2)
