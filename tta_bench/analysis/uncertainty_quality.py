"""Does an uncertainty tell what is wrong? Of N items (tokens or answers), each with an uncertainty and a loss in 0..1.

Items of one problem are not independent, so whole problems are resampled. Equal uncertainties are averaged over every order
of the items that share them: nothing depends on the order of the rows. What is undefined is NaN, with a note that says why.

All metrics are functions of how many items, and how much loss, lie in each of G groups of equal uncertainty, in ascending
order. That makes them exact under ties, and lets R resamples be evaluated at once, as arrays (R, G).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from tta_bench.analysis.stats import CELLS, Estimate, Floats, Rng, in_chunks, percentile_interval, resampled_counts

ALL_RIGHT, ALL_WRONG = "undefined: every item is right", "undefined: every item is wrong"
CONSTANT = "the signal is constant: it ranks nothing"
N_BINS = 10
"""Of equal mass, for calibration."""


@dataclass(frozen=True)
class Ranking:
    """Groups of items with equal uncertainty, in ascending order of it.

    Attributes:
        n: (R, G) items in each.
        loss: (R, G) their summed loss.
        best: (R, K) items for each different loss, ascending.
        losses: (K,) the different losses.
    """

    n: Floats
    loss: Floats
    best: Floats
    losses: Floats

    @property
    def total(self) -> Floats:
        """(R,) items."""
        return np.asarray(self.n.sum(axis=1))

    @property
    def wrong(self) -> Floats:
        """(R,) summed loss."""
        return np.asarray(self.loss.sum(axis=1))


Metric = Callable[[Ranking], Floats]


def auroc(ranking: Ranking) -> Floats:
    """(R,) probability that a wrong item has a higher uncertainty than a right one, ties counted half. For losses 0 and 1."""
    right = ranking.n - ranking.loss
    below = right.cumsum(axis=1) - right / 2
    return ratio((ranking.loss * below).sum(axis=1), ranking.wrong * right.sum(axis=1))


def average_precision(ranking: Ranking) -> Floats:
    """(R,) area under precision over recall of the wrong items, most uncertain first; a step for each different uncertainty."""
    caught, seen = (values[:, ::-1].cumsum(axis=1) for values in (ranking.loss, ranking.n))
    return ratio((ratio(caught, seen, empty=0.0) * ranking.loss[:, ::-1]).sum(axis=1), ranking.wrong)


def aurc(ranking: Ranking) -> Floats:
    """(R,) area under risk over coverage: the mean, over k = 1..N, of the mean loss of the k most certain items.

    Reference:
        Geifman et al., "Bias-reduced uncertainty estimation", ICLR 2019.
    """
    return risk_sums(ranking.n, ranking.loss, 0.0) / ranking.total


def excess_aurc(ranking: Ranking) -> Floats:
    """(R,) AURC minus that of the best possible order of the same items."""
    return aurc(ranking) - risk_sums(ranking.best, ranking.best * ranking.losses, 0.0) / ranking.total


def augrc(ranking: Ranking) -> Floats:
    """(R,) area under generalized risk over coverage: the mean, over k = 1..N, of the loss of the k most certain items over N.

    Reference:
        Traub et al., "Overcoming common flaws in the evaluation of selective classification systems", NeurIPS 2024.
    """
    before = ranking.loss.cumsum(axis=1) - ranking.loss
    return (ranking.n * before + ranking.loss * (ranking.n + 1) / 2).sum(axis=1) / ranking.total**2


def rejection_ratio(share: float) -> Metric:
    """The prediction rejection ratio up to a share of rejected items: how much of what a perfect order gains is gained.

    (A - A_random) / (A_best - A_random), A the mean loss of what is kept, averaged over 0, 1, .. floor(share N) - 1 rejected.
    1 is perfect, 0 is random.

    Reference:
        Malinin & Gales, "Uncertainty estimation in autoregressive structured prediction", ICLR 2021; up to a share as in
        Vashurin et al., TACL 2025.
    """

    def metric(ranking: Ranking) -> Floats:
        rejected = np.floor(share * ranking.total + 1e-9)
        kept = ranking.total - rejected
        at_random = ratio(ranking.wrong, ranking.total) * rejected
        ours = risk_sums(ranking.n, ranking.loss, kept)
        best = risk_sums(ranking.best, ranking.best * ranking.losses, kept)
        return ratio(ours - at_random, best - at_random)

    return metric


METRICS: dict[str, Metric] = {
    "auroc": auroc,
    "average_precision": average_precision,
    "aurc": aurc,
    "e_aurc": excess_aurc,
    "augrc": augrc,
    "prr_50": rejection_ratio(0.5),
    "prr_100": rejection_ratio(1.0),
}

NEEDS_BOTH = {"auroc", "average_precision", "prr_50", "prr_100"}
"""Metrics that are undefined where everything is right, or everything wrong."""
NEEDS_BINARY = {"auroc", "average_precision"}
"""Metrics of losses that are 0 or 1."""


def risk_sums(n: Floats, loss: Floats, above: Floats | float) -> Floats:
    """Sum over k of the mean loss of the first k items, for k from ``above`` + 1 to N, expected over orders within groups.

    Args:
        n: (R, G) items of each group, in order.
        loss: (R, G) their summed loss.
        above: (R,) or a number.

    Returns:
        (R,). Within a group of m items and loss l, after M items and loss L, the k-th item adds l / m + (L - l M / m) / k.
    """
    end = n.cumsum(axis=1)
    begin = end - n
    before = loss.cumsum(axis=1) - loss
    first = np.maximum(begin, np.broadcast_to(np.asarray(above, dtype=float).reshape(-1, 1), n.shape))
    counted = np.maximum(end - first, 0.0)
    mean = ratio(loss, n, empty=0.0)
    up_to = np.concatenate(([0.0], (1 / np.arange(1, end.max() + 1)).cumsum()))  # harmonic numbers: items are counted whole
    inverse = up_to[end.astype(int)] - up_to[np.minimum(first, end).astype(int)]
    return np.asarray((counted * mean + (before - mean * begin) * inverse).sum(axis=1))


def ratio(top: Floats, bottom: Floats, empty: float = np.nan) -> Floats:
    """top / bottom, ``empty`` where bottom is 0."""
    return np.divide(top, bottom, out=np.full(np.broadcast(top, bottom).shape, empty), where=np.abs(bottom) > 1e-12)


@dataclass(frozen=True)
class Judged:
    """A metric of a signal: the estimate, and its values in the resamples (R,), for paired differences."""

    estimate: Estimate
    drawn: Floats


@dataclass(frozen=True)
class Items:
    """N items with their losses, and the problems that they belong to.

    Attributes:
        loss: (N,) in 0..1; 1 is wrong.
        members: (N,) number of the problem, 0..C-1.
        counts: (R, C) how often each problem is drawn in each resample.
        confidence: of the intervals.
    """

    loss: Floats
    members: np.ndarray
    counts: Floats
    confidence: float = 0.95

    @staticmethod
    def of(
        loss: ArrayLike,
        clusters: ArrayLike | None = None,
        *,
        n_resamples: int = 1000,
        confidence: float = 0.95,
        rng: Rng = 0,
    ) -> Items:
        """Draw the resamples that all signals are judged by.

        Args:
            loss: (N,) in 0..1.
            clusters: (N,) labels of the problems that items belong to; None: each is one of its own.
            n_resamples: of the problems.
            confidence: of the intervals.
            rng: seed or generator.

        Raises:
            ValueError: no items, or a loss outside 0..1.
        """
        values = np.asarray(loss, dtype=float)
        if values.ndim != 1 or not len(values):
            raise ValueError(f"loss has shape {values.shape}: give (items,), at least one")
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError("loss: must lie in 0..1; leave out what could not be judged, and say so")
        labels = np.arange(len(values)) if clusters is None else np.asarray(clusters)
        if labels.shape != values.shape:
            raise ValueError(f"clusters have shape {labels.shape}: give one label for each of the {len(values)} items")
        names, members = np.unique(labels, return_inverse=True)
        counts = np.concatenate(list(resampled_counts(len(names), n_resamples, rng)))
        return Items(values, members, counts, confidence)

    @property
    def n_clusters(self) -> int:
        return self.counts.shape[1]

    @property
    def once(self) -> Floats:
        """(1, C): every problem, as it was found."""
        return np.ones((1, self.n_clusters))

    def grouped(self, groups: np.ndarray, values: Floats) -> Callable[[Floats], Floats]:
        """Sums of values (N,) by group (N,), as a function from counts (R, C) to (R, G)."""
        n_groups = int(groups.max()) + 1
        if n_groups * self.n_clusters <= len(values):  # few groups: summed by problem once
            places = self.members * n_groups + groups
            by_problem = np.bincount(places, values, minlength=self.n_clusters * n_groups).reshape(self.n_clusters, n_groups)
            return lambda counts: counts @ by_problem
        order = np.argsort(groups, kind="stable")
        starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
        members, sorted_values = self.members[order], values[order]
        return lambda counts: np.add.reduceat(counts[:, members] * sorted_values, starts, axis=1)

    def ranked(self, groups: np.ndarray) -> Callable[[Floats], Ranking]:
        """The ranking by groups (N,) of equal uncertainty, in ascending order, as a function of counts (R, C)."""
        ones = np.ones_like(self.loss)
        losses, places = np.unique(self.loss, return_inverse=True)
        n, loss, best = self.grouped(groups, ones), self.grouped(groups, self.loss), self.grouped(places, ones)
        return lambda counts: Ranking(n(counts), loss(counts), best(counts), losses)

    def undefined(self, why: str) -> Judged:
        """Nothing, and why."""
        return Judged(Estimate(np.nan, np.nan, np.nan, why), np.full(len(self.counts), np.nan))

    def why_undefined(self, metric: str) -> str:
        """Empty where a metric is defined."""
        if metric in NEEDS_BINARY and not np.isin(self.loss, (0, 1)).all():
            return "undefined: losses are not just 0 and 1"
        if metric in NEEDS_BOTH and self.loss.max() == self.loss.min():
            return ALL_RIGHT if self.loss[0] == 0 else ALL_WRONG if self.loss[0] == 1 else "undefined: every loss is the same"
        return ""

    def estimate(self, value: float, drawn: Floats) -> Estimate:
        """A value with the percentile interval of its resamples (R,)."""
        if self.n_clusters == 1:
            return Estimate(value, np.nan, np.nan, "a single problem: no interval can be estimated")
        return percentile_interval(value, drawn, self.confidence)


def judge(items: Items, uncertainty: ArrayLike, metrics: Sequence[str] = tuple(METRICS)) -> dict[str, Judged]:
    """How well an uncertainty (N,) finds the items with a loss, by several metrics.

    Args:
        items: their losses, problems and resamples.
        uncertainty: (N,), higher is more doubtful.
        metrics: names in ``METRICS``.

    Raises:
        ValueError: an unknown metric, or not one number per item.
    """
    unknown = [name for name in metrics if name not in METRICS]
    if unknown:
        raise ValueError(f"metric={unknown[0]}: must be one of {', '.join(METRICS)}")
    u = np.asarray(uncertainty, dtype=float)
    if u.shape != items.loss.shape:
        raise ValueError(f"uncertainty has shape {u.shape}: give one number for each of the {len(items.loss)} items")
    absent = int(np.isnan(u).sum())
    lacking = f"missing for {absent} of {len(u)} items"
    why = {name: lacking if absent else items.why_undefined(name) for name in metrics}
    found = {name: items.undefined(reason) for name, reason in why.items()}
    defined = [name for name in metrics if not why[name]]
    groups = np.unique(u, return_inverse=True)[1]
    n_groups = int(groups.max()) + 1
    if defined == ["auroc"] and items.n_clusters * n_groups <= CELLS:
        drawn = {"auroc": resampled_auroc(items, groups, n_groups)}
    else:
        ranked = items.ranked(groups)
        drawn = in_parts(lambda counts: measured(ranked(counts), defined), items.counts, 10 * len(u))
    points = measured(items.ranked(groups)(items.once), defined)
    for name in defined:
        estimate = items.estimate(float(points[name][0]), drawn[name])
        if n_groups == 1:
            estimate = replace(estimate, note=CONSTANT)
        found[name] = Judged(estimate, drawn[name])
    return found


def measured(ranking: Ranking, metrics: Sequence[str]) -> dict[str, Floats]:
    """Metrics (R,) of a ranking."""
    return {name: METRICS[name](ranking) for name in metrics}


def in_parts(values: Callable[[Floats], dict[str, Floats]], counts: Floats, width: int) -> dict[str, Floats]:
    """Functions of counts (R, C), evaluated for as many rows at a time as memory for ``width`` numbers a row allows."""
    parts, done = [], 0
    for rows in in_chunks(len(counts), width):
        parts.append(values(counts[done : done + rows]))
        done += rows
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def resampled_auroc(items: Items, groups: np.ndarray, n_groups: int) -> Floats:
    """``auroc`` (R,) in all resamples: a quadratic form in how often each problem is drawn."""
    places, shape = items.members * n_groups + groups, (items.n_clusters, n_groups)
    right, wrong = (
        np.bincount(places, values, minlength=shape[0] * shape[1]).reshape(shape) for values in (1 - items.loss, items.loss)
    )
    pairs = (right.cumsum(axis=1) - right / 2) @ wrong.T
    counts = items.counts
    return ratio(((counts @ pairs) * counts).sum(axis=1), (counts @ right.sum(axis=1)) * (counts @ wrong.sum(axis=1)))


def difference(items: Items, one: Judged, other: Judged) -> Estimate:
    """one - other, with a paired interval: both were judged in the same resamples."""
    value = one.estimate.value - other.estimate.value
    if np.isnan(value):
        return Estimate(np.nan, np.nan, np.nan, one.estimate.note or other.estimate.note)
    return items.estimate(value, one.drawn - other.drawn)


def calibration(items: Items, probability: ArrayLike, *, n_bins: int = N_BINS) -> dict[str, Judged]:
    """Brier score and expected calibration error of probabilities (N,) that items are right.

    The calibration error has bins of equal mass; items with equal probabilities are shared among bins, not sorted into them.
    It comes out too large where there are few items in a bin, and larger still in a resample. Its interval is therefore the
    basic one (twice the value minus the quantiles), which takes that off, and is approximate.

    Raises:
        ValueError: a probability outside 0..1, or bins that cannot be.
    """
    p = np.asarray(probability, dtype=float)
    if n_bins < 1:
        raise ValueError(f"n_bins={n_bins}: must be at least 1")
    if np.isnan(p).any():
        return {name: items.undefined(f"missing for {np.isnan(p).sum()} of {len(p)} items") for name in ("brier", "ece")}
    if not ((p >= -1e-6) & (p <= 1 + 1e-6)).all():
        raise ValueError(f"probability reaches from {p.min()} to {p.max()}: must lie in 0..1")
    right = 1 - items.loss
    values, groups = np.unique(p, return_inverse=True)
    n, correct = items.grouped(groups, np.ones_like(p)), items.grouped(groups, right)
    everything = np.zeros(len(p), dtype=int)
    size, squares = items.grouped(everything, np.ones_like(p)), items.grouped(everything, (p - right) ** 2)

    def values_of(counts: Floats) -> dict[str, Floats]:
        rows = zip(n(counts), correct(counts), strict=True)
        return {
            "brier": np.asarray((squares(counts) / size(counts))[:, 0]),
            "ece": np.array([binned_error(values, mass, hits, n_bins) for mass, hits in rows]),
        }

    drawn, points = in_parts(values_of, items.counts, 4 * len(p)), values_of(items.once)
    found = {name: Judged(items.estimate(float(points[name][0]), values), values) for name, values in drawn.items()}
    ece = found["ece"].estimate
    low, high = (max(0.0, 2 * ece.value - end) for end in (ece.ci_high, ece.ci_low))
    if items.n_clusters > 1:
        found["ece"] = replace(found["ece"], estimate=replace(ece, ci_low=low, ci_high=high))
    return found


def binned_error(p: Floats, n: Floats, correct: Floats, n_bins: int) -> float:
    """Mean over items of |mean probability - share right| of their bin; (G,) probabilities, items and right items."""
    expected, observed = binned(p, n, correct, n_bins)
    return float(np.abs(expected - observed).sum() / n.sum())


def binned(p: Floats, n: Floats, correct: Floats, n_bins: int) -> tuple[Floats, Floats]:
    """Summed probability and right items in each of ``n_bins`` bins of equal mass (n_bins,)."""
    end = np.concatenate(([0.0], n.cumsum()))
    edges = np.linspace(0.0, end[-1], n_bins + 1)
    sums = (np.concatenate(([0.0], values.cumsum())) for values in (p * n, correct))
    expected, observed = (np.diff(np.interp(edges, end, values)) for values in sums)
    return expected, observed


def reliability_curve(probability: ArrayLike, correct: ArrayLike, *, n_bins: int = N_BINS) -> tuple[Floats, Floats]:
    """Mean probability and share right in bins of equal mass (n_bins,), for a reliability diagram."""
    values, groups = np.unique(np.asarray(probability, dtype=float), return_inverse=True)
    n = np.bincount(groups).astype(np.float64)
    hits = np.bincount(groups, np.asarray(correct, dtype=float)).astype(np.float64)
    expected, observed = binned(values, n, hits, n_bins)
    return expected / (n.sum() / n_bins), observed / (n.sum() / n_bins)


def risk_coverage_curve(uncertainty: ArrayLike, loss: ArrayLike) -> tuple[Floats, Floats]:
    """Coverage k / N and the mean loss of the k most certain items (N,), expected over orders of equal uncertainties."""
    u, losses = np.asarray(uncertainty, dtype=float), np.asarray(loss, dtype=float)
    groups = np.unique(u, return_inverse=True)[1]
    n = np.bincount(groups).astype(float)
    total = np.interp(
        np.arange(1, len(u) + 1),
        np.concatenate(([0.0], n.cumsum())),
        np.concatenate(([0.0], np.bincount(groups, losses).cumsum())),
    )
    k = np.arange(1, len(u) + 1)
    return k / len(u), total / k
