"""Risk against coverage, and reliability, of the uncertainty at the end of a decoding, with bands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.representative import CloseUp
from tta_bench.analysis.signals import PROBABILITIES, SIGNALS, Moment, moments
from tta_bench.analysis.stats import Floats
from tta_bench.analysis.uncertainty_quality import N_BINS, Items, Ranking, binned, ratio

COVERAGES = np.linspace(0.02, 1, 50)
"""Shares that are kept, at which risk is told."""

N_RESAMPLES = 200
"""Of bands: as many as a picture needs."""


def ends(shown: Sequence[CloseUp], replicates: int | None) -> list[tuple[CloseUp, Moment]]:
    """The items at the end of each candidate's decodings: its tokens and its answers, as far as they were traced."""
    found = [(one, moment) for one in shown for moment in moments(one.run, one.problems, replicates)]
    return [(one, moment) for one, moment in found if moment.step == "end"]


def told(rows: pd.DataFrame) -> list[str]:
    """The signals that rank the items."""
    known = [name for name in SIGNALS if name in rows and rows[name].notna().all()]
    return [name for name in known if np.ptp(rows[name].to_numpy(float)) > 0]


def items_of(rows: pd.DataFrame, plan: TestPlan) -> Items:
    """Their losses and problems, and the resamples of the bands."""
    loss, units = rows["loss"].to_numpy(float), rows["unit"].to_numpy(object)
    return Items.of(loss, units, n_resamples=N_RESAMPLES, confidence=1 - plan.alpha, rng=plan.seed)


def risk_coverage(found: Sequence[tuple[CloseUp, Moment]], plan: TestPlan) -> pd.DataFrame:
    """Mean loss among the most certain items, by how many are kept, expected over orders of equal uncertainties.

    Returns:
        columns task, sampler, level, signal, coverage, risk, risk_low, risk_high; signals ``random`` and ``best`` besides.
        Answers that are all right, or all wrong, are left out.

    Reference:
        Geifman & El-Yaniv, "Selective classification for deep neural networks", NeurIPS 2017; the area below the curve is the
        AURC of the table of uncertainty quality.
    """
    parts = []
    for one, moment in found:
        rows = moment.rows
        if rows["loss"].min() == rows["loss"].max() or not told(rows):
            continue
        items = items_of(rows, plan)
        for signal, doubt in doubts(rows):
            groups = np.unique(doubt, return_inverse=True)[1]
            ranked = items.ranked(groups)
            value, drawn = risks(ranked(items.once))[0], risks(ranked(items.counts))
            low, high = np.quantile(drawn, [plan.alpha / 2, 1 - plan.alpha / 2], axis=0)
            named = {"task": one.task, "sampler": one.sampler, "level": moment.level, "signal": signal}
            columns = {"coverage": COVERAGES, "risk": value, "risk_low": low, "risk_high": high}
            parts.append(pd.DataFrame(named | columns))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def doubts(rows: pd.DataFrame) -> Iterator[tuple[str, Floats]]:
    """Each signal's uncertainty (N,), and those of an arbitrary and of a perfect order."""
    yield "random", np.zeros(len(rows))
    yield "best", rows["loss"].to_numpy(float)
    for name in told(rows):
        values = rows[name].to_numpy(float)
        yield SIGNALS[name], 1 - values if name in PROBABILITIES else values


def risks(ranking: Ranking) -> Floats:
    """(R, coverages) mean loss of the share that is kept."""
    kept = ranking.total[:, None] * COVERAGES
    found = np.empty(kept.shape)
    for row, (n, loss) in enumerate(zip(ranking.n, ranking.loss, strict=True)):
        ends = np.concatenate(([0.0], n.cumsum()))
        found[row] = np.interp(kept[row], ends, np.concatenate(([0.0], loss.cumsum())))
    return ratio(found, kept)


def reliability(found: Sequence[tuple[CloseUp, Moment]], plan: TestPlan) -> pd.DataFrame:
    """Share of right tokens against their probability, in bins of equal mass.

    Returns:
        columns task, sampler, signal, expected, observed, observed_low, observed_high.
    """
    parts = []
    for one, moment in found:
        if moment.level != "token":
            continue
        rows, items = moment.rows, items_of(moment.rows, plan)
        for name in (name for name in told(rows) if name in PROBABILITIES):
            values, groups = np.unique(rows[name].to_numpy(float), return_inverse=True)
            n, right = items.grouped(groups, np.ones(len(rows))), items.grouped(groups, 1 - items.loss)
            expected, observed = shares(values, n(items.once)[0], right(items.once)[0])
            pairs = zip(n(items.counts), right(items.counts), strict=True)
            drawn = np.array([shares(values, mass, hits)[1] for mass, hits in pairs])
            low, high = np.quantile(drawn, [plan.alpha / 2, 1 - plan.alpha / 2], axis=0)
            columns = {"expected": expected, "observed": observed, "observed_low": low, "observed_high": high}
            parts.append(pd.DataFrame({"task": one.task, "sampler": one.sampler, "signal": SIGNALS[name]} | columns))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def shares(values: Floats, n: Floats, right: Floats) -> tuple[Floats, Floats]:
    """Mean probability and share right in each bin (n_bins,)."""
    expected, observed = binned(values, n, right, N_BINS)
    return expected / (n.sum() / N_BINS), observed / (n.sum() / N_BINS)
