"""How long committed tokens stand, and when positions get the token that they end with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.representative import CloseUp
from tta_bench.analysis.stats import mean_interval, percentile_interval, resampled_counts


def lives(tokens: pd.DataFrame) -> pd.DataFrame:
    """A row for each token that was committed: how many steps it stood, and whether it was then taken back.

    Args:
        tokens: a row for each key, step and standing token; columns key, unit, position, step, fresh, remasked.

    Returns:
        columns unit, steps (from its commit to the step that took it back, or to the last one in which it was seen), ended.
        A token that was never seen to be committed counts from where it was first seen.
    """
    rows = tokens.sort_values(["key", "position", "step"], kind="stable")
    first = rows["fresh"] | (rows["key"] != rows["key"].shift()) | (rows["position"] != rows["position"].shift())
    found = (
        rows.assign(life=first.cumsum())
        .groupby("life")
        .agg(unit=("unit", "first"), start=("step", "min"), end=("step", "max"), ended=("remasked", "any"))
    )
    return pd.DataFrame({"unit": found["unit"], "steps": found["end"] - found["start"], "ended": found["ended"]})


def kaplan_meier(found: pd.DataFrame, plan: TestPlan) -> pd.DataFrame:
    """Share of tokens that stand longer than so many steps, as if none were lost from sight, with bootstrap intervals.

    Args:
        found: of ``lives``. Tokens of one unit are not independent, so whole units are resampled.
        plan: resamples, level and seed.

    Returns:
        columns step (from 0), value, low, high.

    Reference:
        Kaplan & Meier, "Nonparametric estimation from incomplete observations", JASA 53, 1958.
    """
    units, members = np.unique(found["unit"].to_numpy(object), return_inverse=True)
    steps = found["steps"].to_numpy(int)
    n_steps = int(steps.max()) + 1
    cells = members * n_steps + steps
    size = len(units) * n_steps
    ended, lost = (
        np.bincount(cells[chosen], minlength=size).reshape(len(units), n_steps).astype(float)
        for chosen in (found["ended"].to_numpy(bool), ~found["ended"].to_numpy(bool))
    )
    at_risk = (ended + lost)[:, ::-1].cumsum(axis=1)[:, ::-1]

    def curve(counts: np.ndarray) -> np.ndarray:
        n = counts @ at_risk
        return np.cumprod(1 - np.divide(counts @ ended, n, out=np.zeros_like(n), where=n > 0), axis=1)

    drawn = np.concatenate([curve(counts) for counts in resampled_counts(len(units), plan.n_bootstrap, plan.seed)])
    rows = []
    for step, value in enumerate(curve(np.ones((1, len(units))))[0]):
        limits = percentile_interval(float(value), drawn[:, step], 1 - plan.alpha)
        rows.append({"step": step, "value": float(value), "low": limits.ci_low, "high": limits.ci_high})
    return pd.DataFrame(rows)


def survival(shown: Sequence[CloseUp], replicates: int | None, plan: TestPlan) -> pd.DataFrame:
    """Survival of committed tokens and flips of positions; empty where no tokens were traced.

    Returns:
        columns task, sampler, quantity (survival or flips), step, value, low, high.
    """
    parts = []
    for one in shown:
        tokens = one.run.token_trace(one.problems, replicates)
        if tokens.empty:
            continue
        curve = kaplan_meier(lives(tokens), plan).assign(quantity="survival")
        flips = one.run.values("flips", one.problems, replicates)
        known = ~np.isnan(flips).all(axis=1)
        parts.append(curve.assign(task=one.task, sampler=one.sampler))
        if known.any():
            clusters = one.run.clusters(one.problems)
            means = np.nanmean(flips[known], axis=1)
            found = mean_interval(means, 1 - plan.alpha, None if clusters is None else clusters[known])
            row = {"step": 0, "value": found.value, "low": found.ci_low, "high": found.ci_high, "quantity": "flips"}
            parts.append(pd.DataFrame([row | {"task": one.task, "sampler": one.sampler}]))
    columns = ["task", "sampler", "quantity", "step", "value", "low", "high"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame()


def commit_order(shown: Sequence[CloseUp], replicates: int | None) -> pd.DataFrame:
    """At which step each position got the token that it ends with; empty where no tokens were traced.

    Returns:
        columns task, sampler, position (from 1: among those that are decoded), step (from 1), share of the answers that have
        the position. Shares of 0 are left out.
    """
    traces = [(one, one.run.token_trace(one.problems, replicates)) for one in shown]
    parts = [last_commits(tokens).assign(task=one.task, sampler=one.sampler) for one, tokens in traces if len(tokens)]
    columns = ["task", "sampler", "position", "step", "share"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame()


def last_commits(tokens: pd.DataFrame) -> pd.DataFrame:
    """Shares by position and step, of the token trace of one run."""
    last = tokens[tokens["fresh"]].groupby(["key", "position"], as_index=False)["step"].max()
    place = last.groupby("key")["position"].rank(method="first").astype(int)
    counts = last.assign(position=place, step=last["step"] + 1).groupby(["position", "step"]).size()
    share = counts / counts.groupby(level="position").transform("sum")
    return share.rename("share").reset_index()
