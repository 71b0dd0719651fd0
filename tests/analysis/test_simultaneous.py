from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.analysis.folders import write_run
from tta_bench.analysis import figures, stats
from tta_bench.analysis.drawings import differences_frame
from tta_bench.analysis.load import load_study
from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.simultaneous import simultaneous_intervals
from tta_bench.analysis.summary import summarize


def limits(d: np.ndarray, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    return simultaneous_intervals(d, np.ones_like(d), confidence)


def test_one_comparison_has_about_its_t_interval() -> None:
    d = np.random.default_rng(0).normal(0.1, 1.0, (200, 1))
    low, high = limits(d)
    alone = stats.mean_interval(d[:, 0])
    assert (low[0], high[0]) == pytest.approx((alone.ci_low, alone.ci_high), abs=0.01)


def test_the_limits_are_where_the_statistic_is_critical() -> None:
    d = np.random.default_rng(1).normal(0.1, 1.0, (50, 4))
    low, high = limits(d)
    for end in (low, high):
        statistic = np.abs((d - end).sum(axis=0)) / np.sqrt(((d - end) ** 2).sum(axis=0))
        assert statistic == pytest.approx(statistic[0])  # the same c for all
    assert ((low < d.mean(axis=0)) & (d.mean(axis=0) < high)).all()


def test_more_comparisons_are_wider_and_copies_are_not() -> None:
    d = np.random.default_rng(2).normal(0.1, 1.0, (200, 20))
    one, many, copies = (np.subtract(*limits(x)[::-1])[0] for x in (d[:, :1], d, np.repeat(d[:, :1], 20, axis=1)))
    assert many > 1.3 * one
    assert copies == pytest.approx(one)


def test_units_that_a_comparison_lacks_do_not_count() -> None:
    d = np.random.default_rng(3).normal(0.1, 1.0, (100, 1))
    padded, counts = np.vstack((d, np.zeros((50, 1)))), np.vstack((np.ones((100, 1)), np.zeros((50, 1))))
    found = simultaneous_intervals(padded, counts)
    assert np.concatenate(found) == pytest.approx(np.concatenate(limits(d)), abs=0.01)


def test_clusters_are_units() -> None:
    """Doubling every problem within its cluster changes nothing."""
    d = np.random.default_rng(4).normal(0.1, 1.0, (60, 3))
    doubled = simultaneous_intervals(2 * d, np.full_like(d, 2))
    assert np.concatenate(doubled) == pytest.approx(np.concatenate(limits(d)))


def test_equal_outputs_and_too_few_units() -> None:
    low, high = limits(np.column_stack((np.zeros(40), np.random.default_rng(5).normal(size=40))))
    assert (low[0], high[0]) == (0, 0)
    low, high = limits(np.array([[1.0], [0.0]]))
    assert (low[0], high[0]) == (-np.inf, np.inf)


@pytest.mark.slow
def test_all_hold_together() -> None:
    """In 95 % of studies no true difference lies outside: scores of 0 and 1, six samplers, one of them 5 points better."""
    rng, repeats, held = np.random.default_rng(6), 1500, 0
    true = np.array([0.05, 0, 0, 0, 0, 0])
    for _ in range(repeats):
        chance = 0.2 + 0.6 * rng.random((150, 1))
        base = rng.random((150, 1)) < chance
        d = (rng.random((150, 6)) < chance + true) - base.astype(float)
        low, high = simultaneous_intervals(d, np.ones_like(d), n_resamples=399, rng=rng)
        held += bool(((low <= true) & (true <= high)).all())
    assert held / repeats == pytest.approx(0.95, abs=0.015 + 3 * np.sqrt(0.95 * 0.05 / repeats))


def study(folder: Path) -> pd.DataFrame:
    rng = np.random.default_rng(7)
    base = (rng.random((60, 1)) < 0.5).astype(float)
    write_run(folder, {"name": "low_confidence"}, base)
    write_run(folder, {"name": "tta"}, np.maximum(base, (rng.random((60, 1)) < 0.7).astype(float)))
    write_run(folder, {"name": "margin"}, (rng.random((60, 1)) < 0.5).astype(float))
    return summarize(load_study(folder), TestPlan(n_resamples=999))


def test_the_summary_and_its_forest_plot(tmp_path: Path) -> None:
    summary = study(tmp_path)
    rows = summary[summary["delta"].notna()].sort_values("delta", ascending=False)
    assert list(rows["sampler"]) == ["tta", "margin"]
    assert (rows["delta_adjusted_low"] < rows["delta_ci_low"]).all()
    assert (rows["delta_adjusted_high"] > rows["delta_ci_high"]).all()
    assert ((rows["p_adjusted"] < 0.05) == (rows["delta_adjusted_low"] > 0)).all()
    figure = figures.differences(differences_frame(summary, TestPlan()))
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["tta steps=8", "margin steps=8"]
    filled, hollow = axis.lines[:2]
    assert (list(filled.get_xdata()), list(filled.get_ydata())) == ([pytest.approx(100 * rows["delta"].iloc[0])], [0])
    assert list(hollow.get_ydata()) == [1]
    adjusted, alone = axis.collections[:2]
    for lines, kind in ((adjusted, "adjusted"), (alone, "ci")):
        ends = np.array([segment[:, 0] for segment in lines.get_segments()])
        assert ends == pytest.approx(100 * rows[[f"delta_{kind}_low", f"delta_{kind}_high"]].to_numpy())


def test_there_is_no_forest_plot_of_nothing_or_of_too_much(tmp_path: Path) -> None:
    summary = study(tmp_path)
    assert differences_frame(summary[summary["delta"].isna()], TestPlan()).empty
    assert differences_frame(pd.concat([summary] * 30), TestPlan()).empty
