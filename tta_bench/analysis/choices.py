"""Accuracy of choosing by likelihood, what the Monte Carlo error may have changed in it, and two of them compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tta_bench.analysis.stats import (
    Estimate,
    Floats,
    difference_interval,
    mcnemar,
    mean_interval,
    paired_comparison,
    proportion_interval,
)

RULES = {"none": "acc", "tokens": "acc / token", "bytes": "acc_norm"}
"""What the log-likelihood of a choice is divided by: nothing, its number of tokens, its number of bytes; and what the accuracy
is called then."""

NEAR = 2.0
"""Standard errors below which a difference of two choices is not told from chance."""

Record = Mapping[str, Any]


def checked_rules(rule: object) -> tuple[str, ...]:
    """The rules that ``normalise`` asks for: one, or all where it is None.

    Raises:
        ValueError: there is no such rule.
    """
    if rule is None:
        return tuple(RULES)
    if rule not in RULES:
        raise ValueError(f"normalise={rule}: must be one of {', '.join(RULES)}, or null for all of them")
    return (str(rule),)


@dataclass(frozen=True)
class Choice:
    """What is chosen for a problem.

    Attributes:
        place: of the choice, from 0; of equals the first.
        right: whether it is the right one.
        margin: what it is ahead of the second, nats (per token or byte).
        error: standard error of the margin, by the same draws for both; NaN where one group of draws is all there is.
    """

    place: int
    right: bool
    margin: float
    error: float

    @property
    def near(self) -> bool:
        """Whether other draws may well have chosen another one. Choices that are known exactly are not near."""
        return self.error > 0 and self.margin < NEAR * self.error


def choose(record: Record, rule: str) -> Choice:
    """The choice with the largest log-likelihood, divided as the rule says.

    Args:
        record: of a problem, with ``groups`` (C, G).
        rule: of ``RULES``.
    """
    divisor = {"none": np.ones(len(record["groups"])), "tokens": record["n_tokens"], "bytes": record["n_bytes"]}[rule]
    groups = np.array(record["groups"], dtype=float) / np.asarray(divisor, dtype=float)[:, None]
    best, second = np.argsort(-groups.mean(axis=1), kind="stable")[:2]
    gaps = groups[best] - groups[second]
    exact = record["n_tokens"][best] == record["n_tokens"][second] == 1
    error = 0.0 if exact else float(gaps.std(ddof=1) / np.sqrt(len(gaps))) if len(gaps) > 1 else np.nan
    return Choice(int(best), bool(best == record["right"]), float(gaps.mean()), error)


def accuracy_table(records: Sequence[Record], rules: Sequence[str]) -> pd.DataFrame:
    """A row for each rule: accuracy with its interval, and how far the Monte Carlo error reaches.

    Args:
        records: without errors, one for each problem; at least one.
        rules: of ``RULES``.

    Returns:
        Columns rule, accuracy, low, high (shares; Wilson's score interval, or the clustered t interval where problems are
        clustered), n_problems, near (problems whose two best choices differ by less than two standard errors; NaN where a
        standard error is not known), chance (of a blind choice).
    """
    clusters = labels(records)
    chance = float(np.mean([1 / len(record["groups"]) for record in records]))
    rows = []
    for rule in rules:
        found = [choose(record, rule) for record in records]
        right = np.array([choice.right for choice in found], dtype=float)
        estimate = proportion_interval(right) if clusters is None else mean_interval(right, clusters=clusters)
        near = np.nan if any(np.isnan(choice.error) for choice in found) else float(sum(choice.near for choice in found))
        rows.append(
            {
                "rule": rule,
                "accuracy": estimate.value,
                "low": estimate.ci_low,
                "high": estimate.ci_high,
                "n_problems": len(found),
                "near": near,
                "chance": chance,
            }
        )
    return pd.DataFrame(rows)


def labels(records: Sequence[Record]) -> np.ndarray | None:
    """Labels (n,) of problems that are not independent; None where all are."""
    if not any(record["cluster"] for record in records):
        return None
    return np.array([f"cluster {r['cluster']}" if r["cluster"] else f"problem {r['problem']}" for r in records])


@dataclass(frozen=True)
class Difference:
    """Two ways of choosing on the same problems.

    Attributes:
        rule: of ``RULES``.
        first, second: accuracies.
        delta: second - first, with its interval.
        only_first, only_second: problems that only one has right.
        p_value: two-sided.
        method: the test and the interval.
    """

    rule: str
    first: float
    second: float
    delta: Estimate
    only_first: int
    only_second: int
    p_value: float
    method: str


def differ(first: Sequence[Record], second: Sequence[Record], rule: str) -> Difference:
    """Compare two ways of choosing, problem by problem.

    Args:
        first, second: records of the same problems in the same order, without errors.
        rule: of ``RULES``.

    Returns:
        McNemar's exact test and Tango's score interval; where problems are clustered, which neither allows for, the sign-flip
        test and the t interval of cluster sums.
    """
    a, b = (rights(records, rule) for records in (first, second))
    table, clusters = mcnemar(a, b), labels(first)
    if clusters is None:
        delta, p_value, method = difference_interval(a, b), table.p_value, "McNemar's exact test, Tango's score interval"
    else:
        found = paired_comparison(a, b, clusters=clusters)
        delta = Estimate(found.delta, found.ci_low, found.ci_high, found.note)
        p_value, method = found.p_value, "sign flips of clusters, t interval of cluster sums"
    accuracies = float(a.mean()), float(b.mean())
    return Difference(rule, *accuracies, delta, table.baseline_only, table.candidate_only, p_value, method)


def rights(records: Sequence[Record], rule: str) -> Floats:
    """1 where the right choice is made (n,), else 0."""
    return np.array([choose(record, rule).right for record in records], dtype=float)
