"""Choosing by likelihood, worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tta_bench.analysis.choices import accuracy_table, checked_rules, choose, differ
from tta_bench.analysis.proportions import tango_limits, wilson_limits


def record(groups: list[list[float]], right: int = 0, **more: Any) -> dict[str, Any]:
    """A record with choices of two tokens and bytes each, unless ``more`` says otherwise."""
    sizes = [2] * len(groups)
    told = {"problem": "p", "cluster": None, "groups": groups, "right": right, "n_tokens": sizes, "n_bytes": sizes}
    return told | more


def test_the_largest_is_chosen_and_lengths_change_it() -> None:
    one = record([[-4.0, -4.0], [-6.0, -6.0]], n_tokens=[1, 3], n_bytes=[2, 6])
    assert choose(one, "none").place == 0
    assert choose(one, "tokens").place == choose(one, "bytes").place == 1
    assert choose(one, "tokens").margin == pytest.approx(2.0)
    assert choose(one, "bytes").margin == pytest.approx(1.0)


def test_of_equals_the_first() -> None:
    assert choose(record([[-1.0, -1.0], [-1.0, -1.0]]), "none").place == 0


def test_the_error_of_a_margin_is_that_of_paired_draws() -> None:
    noisy = record([[-1.0, -9.0, -5.0], [-2.0, -10.0, -6.0], [-50.0, -50.0, -50.0]])
    assert (choose(noisy, "none").margin, choose(noisy, "none").error) == (1.0, 0.0)
    assert not choose(noisy, "none").near
    unlike = choose(record([[-1.0, -3.0], [-3.0, -2.0]]), "none")
    assert unlike.margin == pytest.approx(0.5)
    assert unlike.error == pytest.approx(np.std([2.0, -1.0], ddof=1) / math.sqrt(2))
    assert unlike.near


def test_single_tokens_are_exact_and_a_single_draw_tells_no_error() -> None:
    assert choose(record([[-1.0], [-2.0]], n_tokens=[1, 1]), "none").error == 0.0
    assert math.isnan(choose(record([[-1.0], [-2.0]]), "none").error)
    (row,) = accuracy_table([record([[-1.0], [-2.0]])] * 3, ["none"]).to_dict("records")
    assert math.isnan(row["near"])


def test_accuracy_has_wilsons_interval_and_chance() -> None:
    sharp, flat = [[-1.0, -1.0], [-5.0, -5.0]], [[-1.0, -3.0], [-3.0, -2.0]]
    records = [record(sharp), record(sharp, right=1), record(flat), record([*sharp, [-9.0, -9.0]])]
    row = accuracy_table(records, ["none"]).iloc[0]
    assert (row["accuracy"], row["n_problems"], row["near"]) == (0.75, 4, 1)
    assert (row["low"], row["high"]) == wilson_limits(3, 4)
    assert row["chance"] == pytest.approx((3 / 2 + 1 / 3) / 4)


def test_clusters_widen_the_interval() -> None:
    sharp = [[-1.0, -1.0], [-5.0, -5.0]]
    rights = [0, 0, 0, 1, 1, 1]
    alone = accuracy_table([record(sharp, right, problem=f"{i}") for i, right in enumerate(rights)], ["none"]).iloc[0]
    told = [record(sharp, right, problem=f"{i}", cluster=f"{i // 3}") for i, right in enumerate(rights)]
    assert np.ptp(accuracy_table(told, ["none"])[["low", "high"]].iloc[0]) > alone["high"] - alone["low"]
    assert "sign flips of clusters" in differ(told, told[::-1], "none").method


def test_two_results_are_compared_problem_by_problem() -> None:
    sharp = [[-1.0, -1.0], [-5.0, -5.0]]
    first = [record(sharp, right) for right in (0, 0, 1, 1, 1, 1, 1)]
    second = [record(sharp, right) for right in (0, 1, 0, 0, 0, 0, 0)]
    found = differ(first, second, "none")
    assert (found.first, found.second) == pytest.approx((2 / 7, 6 / 7))
    assert (found.only_first, found.only_second) == (1, 5)
    assert found.p_value == pytest.approx(2 * (1 + 6) / 2**6)
    assert found.delta.value == pytest.approx(4 / 7)
    assert (found.delta.ci_low, found.delta.ci_high) == tango_limits(1, 5, 7)


def test_rules() -> None:
    assert checked_rules(None) == ("none", "tokens", "bytes")
    assert checked_rules("bytes") == ("bytes",)
    with pytest.raises(ValueError, match="normalise=words: must be one of none, tokens, bytes, or null"):
        checked_rules("words")
