"""Comparisons at equal compute: what a baseline would score at the candidate's forward passes, whole curves, Pareto fronts.

A curve is a sampler at several budgets: m of them, with their mean forward passes (m,) and the scores (n, m) of the same n
problems. Between budgets the score is interpolated linearly in log2(passes), problem by problem, so that the uncertainty of
what was measured carries over; that the curve is straight there remains an assumption.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tta_bench.analysis.stats import Estimate, Floats, Rng, resampled_counts

ALPHA, SLACK = 3.0, 5.0
"""Penalty and tolerated loss of accuracy (points) of ``accuracy_under_parallelism``."""


@dataclass(frozen=True)
class Curve:
    """A sampler at several budgets, in ascending order.

    Attributes:
        passes: (m,) mean forward passes, different from each other.
        scores: (n, m) per problem, replicates averaged.
    """

    passes: Floats
    scores: Floats

    def __post_init__(self) -> None:
        if self.scores.ndim != 2 or self.scores.shape[1:] != self.passes.shape or not len(self.scores):
            raise ValueError(f"passes {self.passes.shape}, scores {self.scores.shape}: give (budgets,) and (problems, budgets)")
        if not (np.diff(self.passes) > 0).all() or not (self.passes > 0).all():
            raise ValueError(f"passes={self.passes.tolist()}: must be above 0 and rise")

    def at(self, passes: float) -> tuple[Floats, str]:
        """Scores (n,) at a budget, and how they were found: measured, between two budgets, or at the nearest."""
        x, near = self.passes, np.isclose(self.passes, passes, rtol=1e-9)
        if near.any():
            return self.scores[:, near.argmax()], "measured"
        if passes < x[0] or passes > x[-1]:
            place = 0 if passes < x[0] else len(x) - 1
            return self.scores[:, place], f"nearest measured: {x[place]:g}"
        above = int(np.searchsorted(x, passes))
        share = np.log2(passes / x[above - 1]) / np.log2(x[above] / x[above - 1])
        between = (1 - share) * self.scores[:, above - 1] + share * self.scores[:, above]
        return between, f"between {x[above - 1]:g} and {x[above]:g}"


def height_between(baseline: Curve, candidate: Curve) -> tuple[Floats, tuple[float, float]]:
    """The mean height of a candidate's curve over a baseline's, per problem (n,), over log2(passes) in their common range.

    That is the area between the curves divided by its width, in the unit of a score. The mean over problems, and its paired
    interval, follow as for any difference.

    Returns:
        (n,) heights, and the range in passes.

    Raises:
        ValueError: the curves are of different problems, or have no range in common.
    """
    if len(baseline.scores) != len(candidate.scores):
        raise ValueError(f"baseline has {len(baseline.scores)} problems, candidate {len(candidate.scores)}: must be the same")
    low = max(baseline.passes[0], candidate.passes[0])
    high = min(baseline.passes[-1], candidate.passes[-1])
    if not low < high:
        raise ValueError(
            f"baseline measured from {baseline.passes[0]:g} to {baseline.passes[-1]:g} passes, candidate from "
            f"{candidate.passes[0]:g} to {candidate.passes[-1]:g}: curves need a common range; sweep steps"
        )
    knots = np.unique(np.concatenate(([low, high], baseline.passes, candidate.passes)))
    knots = knots[(knots >= low) & (knots <= high)]
    gaps = np.stack([candidate.at(x)[0] - baseline.at(x)[0] for x in knots], axis=1)
    widths = np.diff(np.log2(knots))
    return ((gaps[:, 1:] + gaps[:, :-1]) / 2) @ widths / widths.sum(), (float(low), float(high))


def on_front(passes: ArrayLike, scores: ArrayLike) -> np.ndarray:
    """Which of m points no other beats: none costs no more, scores no less, and is better in one of them.

    Args:
        passes: (..., m).
        scores: (..., m).

    Returns:
        (..., m) bool.
    """
    x, y = np.asarray(passes, dtype=float), np.asarray(scores, dtype=float)
    cheaper, better = x[..., :, None] - x[..., None, :], y[..., None, :] - y[..., :, None]
    beaten = (cheaper >= 0) & (better >= 0) & ((cheaper > 0) | (better > 0))
    return ~beaten.any(axis=-1)


def front_probability(
    passes: ArrayLike, scores: ArrayLike, *, clusters: ArrayLike | None = None, n_resamples: int = 2000, rng: Rng = 0
) -> Floats:
    """How often each of m runs is on the Pareto front when the problems are resampled.

    Args:
        passes: (n, m) forward passes of n problems.
        scores: (n, m).
        clusters: (n,) labels of problems that are not independent, drawn together; None where all are.
        n_resamples: of the bootstrap.
        rng: seed or generator.

    Returns:
        (m,) shares.
    """
    x, y = np.asarray(passes, dtype=float), np.asarray(scores, dtype=float)
    total = np.zeros(x.shape[1])
    for counts in resampled_counts(len(x), n_resamples, rng, clusters):
        # Rounded: sums in another order must not decide between equal runs.
        total += on_front(*(np.round(counts @ side / counts.sum(axis=1, keepdims=True), 12) for side in (x, y))).sum(axis=0)
    return total / n_resamples


def accuracy_under_parallelism(
    tokens_per_pass: ArrayLike, accuracy: ArrayLike, best: ArrayLike, *, alpha: float = ALPHA, slack: float = SLACK
) -> Floats:
    """AUP: the area under accuracy over tokens per forward pass, weighted by how much accuracy was kept.

    With points in order of parallelism rho_1 < ... < rho_m, accuracies y in per cent and those below y_1 - ``slack`` left out:
    rho_1 y_1 + sum over i of (rho_i - rho_{i-1}) (y_i W(y_i) + y_{i-1} W(y_{i-1})) / 2,
    with W(y) = min(exp(-alpha (1 - y / best)), 1).

    Args:
        tokens_per_pass: (..., m).
        accuracy: (..., m) in 0..1.
        best: (...) the highest accuracy reached on the task by any sampler, in 0..1, above 0.
        alpha: penalty.
        slack: points.

    Returns:
        (...).

    Reference:
        Qian et al., "d3LLM", arXiv:2601.07568, eq. for AUP.
    """
    rho, y = np.broadcast_arrays(np.asarray(tokens_per_pass, dtype=float), 100 * np.asarray(accuracy, dtype=float))
    top = 100 * np.asarray(best, dtype=float)[..., None]
    order = np.argsort(rho, axis=-1, kind="stable")
    rho, y = (np.take_along_axis(values, order, axis=-1) for values in (rho, y))
    weighted = y * np.minimum(np.exp(-alpha * (1 - y / top)), 1.0)
    kept = y >= y[..., :1] - slack - 1e-9  # a loss of just so many points is no more than that, however it is rounded
    area = rho[..., 0] * y[..., 0]
    last_rho, last = rho[..., 0], weighted[..., 0]
    for i in range(1, rho.shape[-1]):  # what is left out has no place in the sum: its neighbours are joined
        area = area + np.where(kept[..., i], (rho[..., i] - last_rho) * (weighted[..., i] + last) / 2, 0.0)
        last_rho, last = (np.where(kept[..., i], new[..., i], old) for new, old in ((rho, last_rho), (weighted, last)))
    return np.asarray(area)


def parallelism_estimates(
    curves: dict[str, tuple[Floats, Floats]],
    tokens: Floats,
    *,
    clusters: ArrayLike | None = None,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    rng: Rng = 0,
) -> dict[str, tuple[Estimate, Floats]]:
    """AUP of several samplers on the same problems, with percentile intervals from one resampling of the problems.

    Args:
        curves: for each sampler forward passes (n, m) and scores (n, m) at its m budgets.
        tokens: (n,) positions that were filled.
        clusters: (n,) labels of problems that are not independent, drawn together; None where all are.
        confidence: of the intervals.
        n_resamples: of the bootstrap.
        rng: seed or generator.

    Returns:
        For each sampler its estimate and its resampled values (R,), those of a resample in the same place for all samplers, so
        that differences can be taken.
    """

    def values(counts: Floats) -> dict[str, Floats]:
        size = counts.sum(axis=-1, keepdims=True)
        accuracy = {name: counts @ scores / size for name, (_, scores) in curves.items()}
        best = np.max(np.concatenate(list(accuracy.values()), axis=-1), axis=-1)
        rates = {name: (counts @ tokens)[:, None] / (counts @ passes) for name, (passes, _) in curves.items()}
        return {
            name: np.where(best > 0, accuracy_under_parallelism(rates[name], accuracy[name], np.maximum(best, 1e-9)), 0.0)
            for name in curves
        }

    point = values(np.ones((1, len(tokens))))
    parts = [values(counts) for counts in resampled_counts(len(tokens), n_resamples, rng, clusters)]
    found = {}
    for name in curves:
        drawn = np.concatenate([part[name] for part in parts])
        low, high = np.quantile(drawn, [0.5 - confidence / 2, 0.5 + confidence / 2])
        found[name] = Estimate(float(point[name][0]), float(low), float(high)), drawn
    return found
