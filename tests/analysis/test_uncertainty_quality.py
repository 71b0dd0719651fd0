"""Metrics of uncertainty against scikit-learn, brute force, and two public packages where these are right.

``data/oracles.json`` holds what torch-uncertainty 0.13.0 and lm-polygraph 0.7.0 gave for the inputs in it. The tests named
``..._where_..._is_wrong`` say where we do not follow them, and why.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from tta_bench.analysis import uncertainty_quality as quality
from tta_bench.analysis.uncertainty_quality import METRICS, Items, judge

ORACLES = json.loads((Path(__file__).parent / "data" / "oracles.json").read_text())["cases"]


def case(name: str) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    found = ORACLES[name]
    return np.array(found["uncertainty"]), np.array(found["loss"]), found["values"]


def value(uncertainty: np.ndarray, loss: np.ndarray, metric: str) -> float:
    return judge(Items.of(loss, n_resamples=2), uncertainty, [metric])[metric].estimate.value


def mean_over_orders(uncertainty: np.ndarray, loss: np.ndarray, curve: Any) -> float:
    """A metric that needs a strict order, averaged over many random orders of equal uncertainties."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(4000):
        order = np.lexsort((rng.random(len(loss)), uncertainty))
        found.append(curve(loss[order]))
    return float(np.mean(found))


def risks(sorted_loss: np.ndarray) -> np.ndarray:
    return sorted_loss.cumsum() / np.arange(1, len(sorted_loss) + 1)


@pytest.mark.parametrize("name", ["a_12", "b_200", "c_ties_200"])
def test_auroc_and_average_precision_are_scikit_learns(name: str) -> None:
    u, loss, oracle = case(name)
    assert value(u, loss, "auroc") == pytest.approx(roc_auc_score(loss, u)) == pytest.approx(oracle["lm_polygraph.ROCAUC"])
    expected = average_precision_score(loss, u)
    assert value(u, loss, "average_precision") == pytest.approx(expected) == pytest.approx(oracle["lm_polygraph.PRAUC"])


@pytest.mark.parametrize("name", ["a_12", "b_200", "d_spanning_60"])
def test_aurc_is_lm_polygraphs_risk_coverage_area(name: str) -> None:
    u, loss, oracle = case(name)
    assert value(u, loss, "aurc") == pytest.approx(oracle["lm_polygraph.RCC_AUC"])


def test_aurc_where_lm_polygraph_is_wrong() -> None:
    """It scales losses to 0..1 first, so that its area is not that of the risk; all right and all wrong look the same."""
    u, loss, oracle = case("d_continuous_60")
    assert value(u, loss, "aurc") == pytest.approx(risks(loss[np.argsort(u)]).mean())
    assert oracle["lm_polygraph.RCC_AUC"] != pytest.approx(value(u, loss, "aurc"), abs=0.05)
    for name, risk in (("f_all_correct_20", 0.0), ("g_all_wrong_20", 1.0)):
        u, loss, oracle = case(name)
        assert value(u, loss, "aurc") == pytest.approx(risk)
        assert oracle["lm_polygraph.RCC_AUC"] == 0.5


@pytest.mark.parametrize("name", ["a_12", "b_200"])
@pytest.mark.parametrize("metric", ["aurc", "augrc"])
def test_torch_uncertaintys_trapezoid_and_our_mean_are_of_one_curve(name: str, metric: str) -> None:
    """Theirs is the trapezoid over k / N, k = 1..N, divided by 1 - 1 / N; the published definition is the mean over k."""
    u, loss, oracle = case(name)
    curve = risks(loss[np.argsort(u)]) if metric == "aurc" else loss[np.argsort(u)].cumsum() / len(loss)
    assert value(u, loss, metric) == pytest.approx(curve.mean())
    trapezoid = ((curve[1:] + curve[:-1]) / 2).mean()
    assert oracle[f"torch_uncertainty.{metric.upper()}"] == pytest.approx(trapezoid)


def test_augrc_where_torch_uncertainty_is_wrong() -> None:
    """All wrong is 1/2 + 1/(2N) for the mean over k, which theirs gives as well; with one item theirs is nan."""
    u, loss, oracle = case("g_all_wrong_20")
    assert value(u, loss, "augrc") == pytest.approx(0.525) == pytest.approx(oracle["torch_uncertainty.AUGRC"])
    u, loss, oracle = case("h_one_wrong")
    assert value(u, loss, "augrc") == 1
    assert oracle["torch_uncertainty.AUGRC"] is None


@pytest.mark.parametrize("name", ["a_12", "b_200", "d_continuous_60", "d_spanning_60"])
@pytest.mark.parametrize(("metric", "share"), [("prr_50", "0.5"), ("prr_100", "1.0")])
def test_prr_is_lm_polygraphs_but_for_its_sampled_baseline(name: str, metric: str, share: str) -> None:
    """Theirs estimates the random area with 1,000 shuffles; its expectation is the mean quality, which we use."""
    u, loss, oracle = case(name)
    area, best, at_random = (
        oracle[f"lm_polygraph.{part}@{share}"] for part in ("PredictionRejectionArea", "PRR_oracle", "PRR_random")
    )
    quality_of = 1 - (loss - loss.min()) / (loss.max() - loss.min())
    assert value(u, loss, metric) == pytest.approx((area - quality_of.mean()) / (best - quality_of.mean()))
    assert at_random == pytest.approx(quality_of.mean(), abs=0.01)
    assert value(u, loss, metric) == pytest.approx(oracle[f"lm_polygraph.PRR_normalized@{share}"], abs=0.012)


def test_prr_where_lm_polygraph_is_wrong() -> None:
    """All right or all wrong: it says 0.5, where there is nothing to gain; the ratio is undefined."""
    for name, why in (("f_all_correct_20", quality.ALL_RIGHT), ("g_all_wrong_20", quality.ALL_WRONG)):
        u, loss, oracle = case(name)
        assert oracle["lm_polygraph.PRR_normalized@1.0"] == 0.5
        found = judge(Items.of(loss, n_resamples=2), u, ["prr_100"])["prr_100"].estimate
        assert np.isnan(found.value)
        assert found.note == why


def test_ties_where_both_packages_are_wrong() -> None:
    """Theirs depends on the order of rows with equal uncertainties; ours is the mean over all orders."""
    u, loss, _ = case("c_ties_200")
    found = ORACLES["c_ties_200"]
    for name in ("torch_uncertainty.AURC", "torch_uncertainty.AUGRC", "lm_polygraph.RCC_AUC"):
        assert len(set(found["permuted"][name])) > 1
    over_orders = found["over_1000_random_row_orders"]
    for ours, theirs in (("aurc", "lm_polygraph.RCC_AUC"),):
        told = over_orders[theirs]
        assert abs(value(u, loss, ours) - told["mean"]) < 4 * told["standard_error"]
    shuffled = np.random.default_rng(0).permutation(len(u))
    for metric in METRICS:
        assert value(u[shuffled], loss[shuffled], metric) == pytest.approx(value(u, loss, metric), abs=1e-12)


def test_ties_are_averaged_over_every_order() -> None:
    rng = np.random.default_rng(1)
    u, loss = rng.integers(0, 4, size=30).astype(float), rng.integers(0, 2, size=30).astype(float)
    n, kept = len(u), 15
    curves = {
        "aurc": lambda x: risks(x).mean(),
        "augrc": lambda x: x.cumsum().mean() / n,
        "prr_50": lambda x: (
            (risks(x)[kept:].sum() - loss.mean() * kept) / (risks(np.sort(x))[kept:].sum() - loss.mean() * kept)
        ),
    }
    for metric, curve in curves.items():
        assert value(u, loss, metric) == pytest.approx(mean_over_orders(u, loss, curve), abs=0.004)


def test_excess_aurc_is_0_for_the_best_order_and_continuous_losses_too() -> None:
    loss = np.random.default_rng(0).random(40)
    assert value(loss, loss, "e_aurc") == pytest.approx(0, abs=1e-12)
    assert value(loss, loss, "prr_100") == pytest.approx(1)
    assert value(-loss, loss, "e_aurc") > 0.1


@given(st.integers(0, 200))
@settings(max_examples=30)
def test_invariants(seed: int) -> None:
    """A rising function of the uncertainty changes nothing; turning it round mirrors AUROC; row order does not matter."""
    rng = np.random.default_rng(seed)
    u, loss = rng.integers(0, 8, size=25).astype(float), rng.integers(0, 2, size=25).astype(float)
    loss[:2] = [0, 1]
    order = rng.permutation(25)
    for metric in METRICS:
        base = value(u, loss, metric)
        assert value(np.exp(u), loss, metric) == pytest.approx(base)
        assert value(u[order], loss[order], metric) == pytest.approx(base)
    assert value(-u, loss, "auroc") == pytest.approx(1 - value(u, loss, "auroc"))


@pytest.mark.parametrize("bins", [10, 15])
def test_equal_mass_ece_is_torch_uncertaintys_and_brier_scikit_learns(bins: int) -> None:
    """300 items, so that bins hold whole items; theirs is in float32."""
    found = ORACLES["e_300"]
    p, right = np.array(found["probability"]), np.array(found["correct"], dtype=float)
    ours = quality.calibration(Items.of(1 - right, n_resamples=2), p, n_bins=bins)
    theirs = found["values"][f"torch_uncertainty.AdaptiveCalibrationError(multiclass,l1)@{bins}"]
    assert ours["ece"].estimate.value == pytest.approx(theirs, abs=1e-6)
    assert ours["brier"].estimate.value == pytest.approx(brier_score_loss(right, p))
    assert ours["brier"].estimate.value == pytest.approx(found["values"]["torch_uncertainty.BrierScore(num_classes=1)"])


def test_ece_with_ties_where_torch_uncertainty_is_wrong() -> None:
    """It sorts equal confidences into different bins by their row; ours shares them, so that rows do not matter."""
    found = ORACLES["e_ties_300"]
    name = "torch_uncertainty.AdaptiveCalibrationError(multiclass,l1)@10"
    assert len(set(found["permuted"][name])) > 1
    p, right = np.array(found["probability"]), np.array(found["correct"], dtype=float)
    order = np.random.default_rng(0).permutation(len(p))

    def ece(x: np.ndarray, y: np.ndarray) -> float:
        return quality.calibration(Items.of(1 - y, n_resamples=2), x)["ece"].estimate.value

    assert ece(p, right) == pytest.approx(ece(p[order], right[order]), abs=1e-12)


def test_calibrated_probabilities_have_little_error() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(20_000)
    right = (rng.random(20_000) < p).astype(float)
    found = quality.calibration(Items.of(1 - right, n_resamples=2), p)
    assert found["ece"].estimate.value < 0.015
    mean, share = quality.reliability_curve(p, right)
    np.testing.assert_allclose(mean, share, atol=0.04)
    overconfident = quality.calibration(Items.of(1 - right, n_resamples=2), np.sqrt(p))
    assert overconfident["ece"].estimate.value > 0.1


def test_resamples_are_exact_recomputations() -> None:
    """Every metric in a resample is the metric of the rows that were drawn, each as often as it was."""
    rng = np.random.default_rng(2)
    members = np.repeat(np.arange(12), 4)
    u, loss = rng.integers(0, 9, size=48).astype(float), rng.integers(0, 2, size=48).astype(float)
    items = Items.of(loss, members, n_resamples=6, rng=5)
    drawn = judge(items, u)
    alone = {metric: judge(items, u, [metric])[metric].drawn for metric in METRICS}
    for r, counts in enumerate(items.counts):
        rows = np.repeat(np.arange(48), counts[members].astype(int))
        for metric in METRICS:
            expected = value(u[rows], loss[rows], metric)
            assert drawn[metric].drawn[r] == pytest.approx(expected, abs=1e-12), metric
            assert alone[metric][r] == pytest.approx(expected, abs=1e-12), metric
    again = Items.of(loss, members, n_resamples=6, rng=6)
    assert (again.counts != items.counts).any()


def test_intervals_are_over_problems_not_items() -> None:
    """Four copies of an item in one problem tell as much as one; as problems of their own they would seem to tell more."""
    rng = np.random.default_rng(0)
    u, loss = rng.random(80), (rng.random(80) < 0.4).astype(float)
    u4, loss4, members = u.repeat(4), loss.repeat(4), np.arange(80).repeat(4)

    def width(*arguments: Any) -> float:
        found = judge(
            Items.of(*arguments, n_resamples=1000), arguments[0] * 0 + (u4 if len(arguments[0]) == 320 else u), ["auroc"]
        )
        return found["auroc"].estimate.ci_high - found["auroc"].estimate.ci_low

    once, clustered, pooled = width(loss), width(loss4, members), width(loss4)
    assert clustered == pytest.approx(once, rel=0.08)
    assert pooled < 0.65 * once


def test_signals_are_compared_in_the_same_resamples() -> None:
    rng = np.random.default_rng(0)
    loss = (rng.random(200) < 0.3).astype(float)
    u = loss + rng.normal(size=200)
    items = Items.of(loss, n_resamples=500)
    one, same, other = (judge(items, x, ["auroc"])["auroc"] for x in (u, u * 2, u + 0.1 * rng.normal(size=200)))
    equal = quality.difference(items, one, same)
    assert (equal.value, equal.ci_low, equal.ci_high) == (0, 0, 0)
    close = quality.difference(items, one, other)
    assert close.ci_high - close.ci_low < 0.4 * (one.estimate.ci_high - one.estimate.ci_low)


@pytest.mark.parametrize(
    ("loss", "uncertainty", "metric", "why"),
    [
        ([0.0, 0, 0], [1.0, 2, 3], "auroc", "undefined: every item is right"),
        ([1.0, 1, 1], [1.0, 2, 3], "average_precision", "undefined: every item is wrong"),
        ([0.5, 0.5, 0.5], [1.0, 2, 3], "prr_50", "undefined: every loss is the same"),
        ([0.5, 0.2, 0.0], [1.0, 2, 3], "auroc", "undefined: losses are not just 0 and 1"),
        ([0.0, 1, 0], [np.nan, 2, 3], "aurc", "missing for 1 of 3 items"),
    ],
)
def test_what_is_undefined_says_why(loss: list[float], uncertainty: list[float], metric: str, why: str) -> None:
    found = judge(Items.of(loss, n_resamples=20), uncertainty, [metric])[metric].estimate
    assert np.isnan([found.value, found.ci_low, found.ci_high]).all()
    assert found.note == why


def test_a_constant_signal_ranks_nothing_and_a_single_problem_has_no_interval() -> None:
    loss = [0.0, 1, 0, 1]
    constant = judge(Items.of(loss, n_resamples=50), np.ones(4))["auroc"].estimate
    assert constant.value == 0.5
    assert "constant" in constant.note
    single = judge(Items.of(loss, ["p"] * 4, n_resamples=50), [0.1, 0.4, 0.2, 0.3])["auroc"].estimate
    assert single.value == 1
    assert np.isnan(single.ci_low)
    assert "single problem" in single.note


def test_resamples_without_one_class_are_left_out_and_counted() -> None:
    loss = np.zeros(30)
    loss[0] = 1
    found = judge(Items.of(loss, n_resamples=2000), np.arange(30.0), ["auroc"])["auroc"].estimate
    share = float(found.note.split("undefined in ")[1].split(" %")[0])
    assert share == pytest.approx(100 * (29 / 30) ** 30, abs=4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Items.of([]), "at least one"),
        (lambda: Items.of([2.0]), r"0\.\.1"),
        (lambda: Items.of([0.0, 1.0], ["a"]), "one label for each of the 2"),
        (lambda: judge(Items.of([0.0, 1.0]), [1.0]), "one number for each of the 2"),
        (lambda: judge(Items.of([0.0, 1.0]), [1.0, 2.0], ["f1"]), "metric=f1"),
        (lambda: quality.calibration(Items.of([0.0, 1.0]), [0.5, 1.5]), r"must lie in 0\.\.1"),
        (lambda: quality.calibration(Items.of([0.0, 1.0]), [0.5, 0.6], n_bins=0), "n_bins=0"),
    ],
)
def test_bad_input_is_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_risk_coverage_curve_ends_at_the_mean_loss() -> None:
    rng = np.random.default_rng(0)
    u, loss = rng.integers(0, 5, size=40), rng.integers(0, 2, size=40).astype(float)
    coverage, risk = quality.risk_coverage_curve(u, loss)
    assert coverage[-1] == 1
    assert risk[-1] == pytest.approx(loss.mean())
    assert risk.mean() == pytest.approx(value(u.astype(float), loss, "aurc"))
