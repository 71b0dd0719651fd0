"""What figures draw, and the frames that they draw it from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.analysis.folders import write_run
from tests.analysis.test_report import make_run
from tta_bench.analysis import drawings, figures, lifetimes, quality_curves
from tta_bench.analysis.effects import Sweep
from tta_bench.analysis.evolution import evolution
from tta_bench.analysis.figures.accuracy import pass_ticks
from tta_bench.analysis.load import Pair, Run, Study
from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.representative import CloseUp, close_ups
from tta_bench.analysis.signals import Moment
from tta_bench.analysis.stats import mean_interval
from tta_bench.analysis.summary import summarize
from tta_bench.analysis.uncertainty_quality import Items, judge

PLAN = TestPlan(n_resamples=99, n_bootstrap=200)


def points(line) -> list[tuple[float, float]]:
    return list(zip(map(float, line.get_xdata()), map(float, line.get_ydata()), strict=True))


def labelled(axis) -> dict[str, list[tuple[float, float]]]:
    return {str(line.get_label()): points(line) for line in axis.get_lines() if not str(line.get_label()).startswith("_")}


def test_ticks_are_the_passes_where_they_are_few_and_whole_else_powers_of_two() -> None:
    assert pass_ticks(pd.Series([4, 8, 8, 12.0])) == [4, 8, 12]
    assert pass_ticks(pd.Series([1.6, 8, 21.5])) == [1, 2, 4, 8, 16, 32]
    assert pass_ticks(pd.Series([1.6, 8, 96])) == [1, 4, 16, 64]


def test_accuracy_figure_draws_the_scores_with_their_intervals() -> None:
    runs = [
        make_run(f"{name}{steps}", {"name": name}, np.arange(20) < n, steps=steps)
        for name, steps, n in (("low_confidence", 4, 8), ("tta", 4, 9), ("tta", 8, 12))
    ]
    summary = summarize(Study("s", (Pair(runs[0], runs[1]), Pair(runs[0], runs[2])), 20, 1), PLAN)
    axis = figures.accuracy_versus_passes(drawings.accuracy_frame(summary)).axes[0]
    drawn = labelled(axis)
    assert drawn["low_confidence"] == [(4, pytest.approx(40))]
    assert drawn["tta"] == [(4, pytest.approx(45)), (8, pytest.approx(60))]
    band = axis.collections[-1].get_paths()[0].vertices[:, 1]
    expected = mean_interval((np.arange(20) < 12).astype(float))
    assert (band.max(), band.min()) == pytest.approx(
        (100 * expected.ci_high, 100 * summary.loc[summary["sampler"] == "tta", "score_ci_low"].min())
    )


class Traced(Run):
    """A run whose traces are given."""

    def __new__(cls, *_: object, **__: object) -> Traced:
        return object.__new__(cls)

    def trace(self, problems, replicates=None):
        return self.config["trace"]

    def token_trace(self, problems, replicates=None):
        return self.config["tokens"]


def traced(
    trace: pd.DataFrame | None = None, tokens: pd.DataFrame | None = None, sampler: str = "tta", task: str = "toy"
) -> CloseUp:
    config = {"task": {"name": task}, "sampler": {"name": sampler}, "trace": trace, "tokens": tokens}
    flips = pd.DataFrame({"problem": ["a", "b"], "replicate": 0, "flips": [0.0, 0.5], "key": ["a/0", "b/0"]})
    return CloseUp(Traced("r", config, flips), ("a", "b"))


def test_evolution_figure_draws_the_means_of_right_and_wrong() -> None:
    trace = pd.DataFrame(
        {
            "key": ["a", "a", "b", "b", "c", "c"],
            "problem": ["a", "a", "b", "b", "c", "c"],
            "unit": ["a", "a", "b", "b", "c", "c"],
            "step": [0, 1] * 3,
            "score": [1.0, 1, 0, 0, 0, 0],
            "entropy": [1.0, 2, 3, 4, 5, 6],
            "disagreement": [0.0] * 6,
            "violation": [0.0, 0, 0, 1, 0, 0],
            "remask_ratio": [np.nan, 0.5] * 3,
            "frozen_ratio": [0.0] * 6,
        }
    )
    frame = evolution([traced(trace)], None, PLAN)
    assert list(dict.fromkeys(frame["quantity"])) == ["entropy", "violation", "remask_ratio"]  # the others never move
    figure = figures.uncertainty_evolution(frame)
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["entropy (nats)", "violation", "remasked"]
    entropy, violation, remasked = ([points(line) for line in axis.get_lines()] for axis in figure.axes)
    assert entropy == [[(1, 1), (2, 2)], [(1, 4), (2, 5)]]
    assert violation == [[(1, 0), (2, 0)], [(1, 0), (2, 0.5)]]
    assert remasked == [[(2, 0.5)], [(2, 0.5)]]
    (band,) = figure.axes[0].collections[1].get_paths()
    ends = band.vertices[:, 1]
    assert ends.max() == pytest.approx(mean_interval(np.array([4.0, 6])).ci_high)
    assert ends.min() == 0  # what cannot be negative is not told to be
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["tta, right", "tta, wrong"]
    assert evolution([traced(pd.DataFrame())], None, PLAN).empty


def map_of(title: str = "one", scale: float = 1.0) -> pd.DataFrame:
    """Position 5 is committed, taken back and committed again; position 7 is committed last and frozen."""
    rows = [
        (1, 5, True, True, False, 0.5 * scale),
        (2, 7, True, False, False, 0.25 * scale),
        (3, 5, True, False, False, 1.0 * scale),
        (3, 7, False, False, True, 0.125 * scale),
    ]
    frame = pd.DataFrame(rows, columns=["step", "position", "fresh", "remasked", "frozen", "entropy"])
    return frame.assign(title=title)


def test_the_map_holds_the_entropy_of_what_stands_and_what_happened_to_it() -> None:
    axis = figures.trajectories(map_of()).axes[0]
    drawn = np.ma.filled(axis.images[0].get_array().astype(float), np.nan)
    np.testing.assert_array_equal(drawn, [[0.5, np.nan, 1.0], [np.nan, 0.25, 0.125]])
    left, right, bottom, top = axis.images[0].get_extent()
    assert (left, right, bottom, top) == (0.5, 3.5, 1.5, -0.5)
    assert labelled(axis) == {"committed": [(1, 0), (2, 1), (3, 0)], "taken back": [(1, 0)], "frozen": [(3, 1)]}


def test_all_maps_share_their_colours_and_old_traces_have_no_frozen_tokens() -> None:
    frame = pd.concat([map_of("one"), map_of("two", 0.1), map_of("three")]).drop(columns="frozen")
    figure = figures.trajectories(frame)
    assert {image.get_clim() for axis in figure.axes[:3] for image in axis.images} == {(0.0, 1.0)}
    assert "frozen" not in labelled(figure.axes[0])


TOKENS = pd.DataFrame(
    [
        ("a/0", "a", 10, 0, True, True),  # taken back where it was committed
        ("a/0", "a", 10, 1, True, False),  # stands for good, from step 1 to 3
        ("a/0", "a", 10, 2, False, False),
        ("a/0", "a", 10, 3, False, False),
        ("a/0", "a", 12, 2, True, False),  # taken back one step after its commit
        ("a/0", "a", 12, 3, False, True),
        ("b/0", "b", 4, 0, True, False),
        ("b/0", "b", 4, 1, False, False),
    ],
    columns=["key", "unit", "position", "step", "fresh", "remasked"],
)


def test_lives_begin_with_a_commit_and_end_when_taken_back_or_out_of_sight() -> None:
    found = lifetimes.lives(TOKENS.sample(frac=1, random_state=0))
    assert list(found.itertuples(index=False, name=None)) == [("a", 0, True), ("a", 2, False), ("a", 1, True), ("b", 1, False)]


def test_survival_is_that_of_kaplan_and_meier() -> None:
    """4 at risk at first, of which 1 ends; 3 after a step, of which 1 ends; 1 after two, which is lost from sight."""
    curve = lifetimes.kaplan_meier(lifetimes.lives(TOKENS), PLAN)
    assert curve["value"].tolist() == pytest.approx([3 / 4, 3 / 4 * 2 / 3, 3 / 4 * 2 / 3])
    assert (curve["low"] <= curve["value"]).all()
    assert (curve["value"] <= curve["high"]).all()


def test_survival_agrees_with_statsmodels() -> None:
    from statsmodels.duration.survfunc import SurvfuncRight

    rng = np.random.default_rng(1)
    found = pd.DataFrame({"unit": rng.integers(0, 9, 200), "steps": rng.integers(0, 7, 200), "ended": rng.random(200) < 0.4})
    ours = lifetimes.kaplan_meier(found, PLAN).set_index("step")["value"]
    oracle = SurvfuncRight(found["steps"].to_numpy() + 1, found["ended"].to_numpy().astype(int))  # it knows no time 0
    assert ours[oracle.surv_times - 1].to_numpy() == pytest.approx(oracle.surv_prob)


def test_survival_figure_draws_the_curve_and_the_flips() -> None:
    frame = lifetimes.survival([traced(tokens=TOKENS)], None, PLAN)
    top, bottom = figures.survival(frame).axes
    (line,) = top.get_lines()
    assert points(line) == [(0, 0.75), (1, 0.5), (2, 0.5)]
    (dot,) = bottom.get_lines()
    assert points(dot) == [(0, 0.25)]
    assert lifetimes.survival([traced(tokens=pd.DataFrame())], None, PLAN).empty


def test_commit_order_counts_the_last_commit_of_each_position() -> None:
    frame = lifetimes.commit_order([traced(tokens=TOKENS)], None)
    cells = {(row.position, row.step): row.share for row in frame.itertuples()}
    assert cells == {(1, 1): 0.5, (1, 2): 0.5, (2, 3): 1.0}  # b commits its first position at once, a again in step 2
    axis = figures.commit_order(frame).axes[0]
    np.testing.assert_array_equal(axis.images[0].get_array(), [[0.5, 0], [0.5, 0], [0, 1]])


def test_signal_figure_draws_what_was_judged_at_each_step() -> None:
    rows = [
        {
            "task": task, "sampler": "tta", "run_id": f"{task}-tta{run}", "level": "token", "step": step, "signal": signal,
            "metric": "auroc", "value": value - run / 10,
        }
        for task in ("a", "b")
        for run in (0, 1)
        for signal, value in (("entropy", 0.6), ("holdout probability", 0.8))
        for step in ("2", "3", "end")
    ]  # fmt: skip
    table = pd.DataFrame(rows).assign(value_low=0.5, value_high=0.9)
    figure = figures.signal_quality(drawings.signal_quality_frame(table))
    left, right = figure.axes
    assert [axis.get_title(loc="left") for axis in (left, right)] == ["a: tta", "b: tta"]
    assert labelled(right) == {"entropy": [(2, 0.6), (3, 0.6)], "holdout probability": [(2, 0.8), (3, 0.8)]}
    assert drawings.signal_quality_frame(table[table["step"] == "end"]).empty
    assert drawings.signal_quality_frame(table.assign(level="answer")).empty
    assert drawings.signal_quality_frame(None).empty


def judged_tokens(n: int = 400) -> tuple[CloseUp, Moment]:
    rng = np.random.default_rng(2)
    loss = (rng.random(n) < 0.3).astype(float)
    rows = pd.DataFrame({"loss": loss, "unit": rng.integers(0, 40, n), "entropy": (loss + rng.random(n)).round(1)})
    rows = rows.assign(support=0.9 - 0.5 * rows["entropy"] / 2, disagreement=0.0)
    return traced(), Moment("token", "end", rows, ())


def test_risk_and_coverage_are_those_of_the_curve_and_its_area() -> None:
    one, moment = judged_tokens()
    frame = quality_curves.risk_coverage([(one, moment)], PLAN)
    assert set(frame["signal"]) == {"random", "best", "entropy", "token probability"}  # what is constant ranks nothing
    wrong = moment.rows["loss"].mean()
    curve = frame[frame["signal"] == "entropy"].set_index("coverage")
    assert curve.loc[1.0, "risk"] == pytest.approx(wrong)
    assert frame.loc[frame["signal"] == "random", "risk"].to_numpy() == pytest.approx(wrong)
    assert frame.loc[(frame["signal"] == "best") & (frame["coverage"] < 1 - wrong), "risk"].max() == 0
    area = judge(Items.of(moment.rows["loss"], n_resamples=2), moment.rows["entropy"], ["aurc"])["aurc"].estimate.value
    assert np.trapezoid(curve["risk"], curve.index) / 0.98 == pytest.approx(area, abs=0.01)
    assert ((curve["risk_low"] <= curve["risk"]) & (curve["risk"] <= curve["risk_high"])).all()
    figure = figures.risk_coverage(frame)
    drawn = labelled(figure.axes[0])
    assert [y for _, y in drawn["entropy"]] == pytest.approx(curve["risk"].tolist())
    right = moment.rows.assign(loss=0.0)
    assert quality_curves.risk_coverage([(one, Moment("token", "end", right, ()))], PLAN).empty


def test_reliability_is_the_share_right_in_bins_of_equal_mass() -> None:
    one, moment = judged_tokens()
    frame = quality_curves.reliability([(one, moment)], PLAN)
    assert (frame["signal"] == "token probability").all()
    assert len(frame) == 10
    assert frame["observed"].mean() == pytest.approx(1 - moment.rows["loss"].mean())
    assert frame["expected"].mean() == pytest.approx(moment.rows["support"].mean())
    axis = figures.reliability(frame).axes[0]
    assert labelled(axis)["token probability"] == [
        (pytest.approx(x), pytest.approx(y)) for x, y in zip(frame["expected"], frame["observed"], strict=True)
    ]


def test_remasking_figure_draws_precision_recall_and_chance() -> None:
    table = pd.DataFrame(
        {
            "task": "toy", "sampler": ["tta", "random_remask"], "settings": ["steps=8", "steps=8"],
            "precision": [0.4, 0.2], "precision_low": [0.3, 0.1], "precision_high": [0.5, 0.3], "chance": [0.22, 0.2],
            "recall": np.nan, "recall_low": np.nan, "recall_high": np.nan,
        }
    )  # fmt: skip
    frame = drawings.remask_quality_frame(table)
    precision, recall = figures.remask_quality(frame).axes
    assert [label.get_text() for label in precision.get_yticklabels()] == ["tta steps=8", "random_remask steps=8"]
    ours, blind, chance = (points(line) for line in precision.get_lines())
    assert (ours, blind) == ([(pytest.approx(40), 0)], [(pytest.approx(20), 1)])
    assert chance == [(pytest.approx(22), 0), (pytest.approx(20), 1)]
    assert "undefined" in recall.texts[0].get_text()
    assert drawings.remask_quality_frame(pd.concat([table] * 30)).empty
    assert drawings.remask_quality_frame(None).empty


def test_response_curves_average_over_the_other_parameters() -> None:
    scores = np.array([[0.0, 1, 1, 1], [0, 0, 1, 1]])
    runs = tuple(make_run(f"r{i}", {"name": "tta"}, scores[:, i]) for i in range(4))
    levels = {"sampler.tta_k": (3, 3, 10, 10), "steps": (4, 8, 4, 8)}
    frame = drawings.response_curves_frame([Sweep("toy", "tta", runs, levels, scores, ("p000", "p001"))], PLAN)
    views, steps = figures.response_curves(frame).axes[:2]
    assert labelled(views) == {"toy": [(0, 25), (1, 100)]}
    assert labelled(steps) == {"toy": [(0, 50), (1, 75)]}
    assert [label.get_text() for label in views.get_xticklabels()] == ["3", "10"]
    assert (views.get_xlabel(), steps.get_xlabel()) == ("tta_k", "steps")


@pytest.mark.figures
def test_figures_are_drawn_from_the_files_beside_them_and_what_is_gone_is_removed(tmp_path: Path) -> None:
    (tmp_path / "flip_rates.svg").write_text("of an earlier report")
    frame = map_of("NA").assign(title="NA")
    files = drawings.draw({"trajectories": frame}, tmp_path)
    assert [file.name for file in files] == ["trajectories.csv", "trajectories.png", "trajectories.pdf", "trajectories.svg"]
    assert not (tmp_path / "flip_rates.svg").exists()
    first = [file.read_bytes() for file in files]
    again = drawings.draw({"trajectories": drawings.read(files[0])}, tmp_path / "again")
    assert [file.read_bytes() for file in again] == first


def test_the_blind_control_of_the_same_settings_is_looked_at_too(tmp_path: Path) -> None:
    from tta_bench.analysis.compare import compare, made
    from tta_bench.analysis.load import load_study

    scores = np.array([[1.0], [0.0], [1.0]])
    for name in ("low_confidence", "tta", "margin"):
        write_run(tmp_path, {"name": name}, scores)
    for window in (2, 3):
        write_run(tmp_path, {"name": "random_remask", "freeze_window": window}, scores)
        write_run(tmp_path, {"name": "tta", "freeze_window": window}, scores)
    found = made(compare(load_study(tmp_path)))
    ids = [one.run.run_id for one in close_ups(found)]
    assert ids == ["toy-low_confidence-test-8-", "toy-tta-test-8-2", "toy-random_remask-test-8-2"]
    assert [one.run.sampler for one in close_ups(found, focus="margin")] == ["low_confidence", "margin"]


def test_long_names_of_rows_are_broken_between_settings_and_get_room() -> None:
    name = "tta " + " ".join(f"parameter_{i}=0.{i}" for i in range(6))
    frame = pd.DataFrame(
        {"task": "t", "comparison": [name, "margin"], "delta": [0.1, 0.0], "significant": False, "alpha": 0.05}
    )
    for kind in ("delta", "adjusted"):
        frame = frame.assign(**{f"{kind}_low": -0.1, f"{kind}_high": 0.2})
    figure, short = figures.differences(frame), figures.differences(frame.assign(comparison=["a", "b"]))
    (label, _) = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert label.replace("\n", " ") == name
    assert max(map(len, label.split("\n"))) <= 40
    assert figure.get_figheight() > short.get_figheight()


def test_levels_are_read_as_they_were_written(tmp_path: Path) -> None:
    frame = pd.DataFrame({"level": ["4", "8", "0.10"], "place": [0, 1, 2]})
    frame.to_csv(tmp_path / "x.csv", index=False)
    assert drawings.read(tmp_path / "x.csv")["level"].tolist() == ["4", "8", "0.10"]


def test_steps_that_few_got_to_are_left_out() -> None:
    long = [("p0", step) for step in range(5)]
    rows = pd.DataFrame([*long, *((f"p{i}", step) for i in range(1, 20) for step in range(3))], columns=["problem", "step"])
    trace = rows.assign(key=rows["problem"], unit=rows["problem"], score=1.0, entropy=1.0)
    frame = evolution([traced(trace)], None, PLAN)
    assert sorted(set(frame["step"])) == [1, 2, 3]


def test_two_runs_of_one_sampler_are_told_apart() -> None:
    from tta_bench.analysis.compare import compare, made

    runs = [make_run(f"r{k}", {"name": "tta", "tta_k": k}, np.arange(6) < k) for k in (3, 5)]
    found = made(compare(Study("x", (Pair(*runs),), 6, 1)))
    assert [one.sampler for one in close_ups(found)] == ["tta (baseline)", "tta (candidate)"]
    summary = summarize(Study("x", (Pair(*runs),), 6, 1), PLAN)
    assert drawings.differences_frame(summary, PLAN)["comparison"].tolist() == ["tta steps=4 tta_k=5"]
    third = make_run("r7", {"name": "tta", "tta_k": 7}, np.arange(6) < 2)
    twice = summarize(Study("x", (Pair(runs[0], third), Pair(runs[1], third)), 6, 1), PLAN)
    assert drawings.differences_frame(twice, PLAN)["comparison"].tolist() == [
        "tta steps=4 tta_k=7 against tta steps=4 tta_k=3",
        "tta steps=4 tta_k=7 against tta steps=4 tta_k=5",
    ]


def test_dollars_in_names_are_no_mathematics_and_nothing_to_rank_is_no_crash() -> None:
    frame = pd.DataFrame({"task": "t", "comparison": ["a $x_{$ b", "$5$"], "delta": 0.1, "significant": False, "alpha": 0.05})
    for kind in ("delta", "adjusted"):
        frame = frame.assign(**{f"{kind}_low": -0.1, f"{kind}_high": 0.2})
    figures.differences(frame).draw_without_rendering()
    one, moment = judged_tokens()
    flat = moment.rows.assign(entropy=0.0, support=1.0)
    assert quality_curves.risk_coverage([(one, Moment("token", "end", flat, ()))], PLAN).empty


def test_every_figure_says_what_it_shows() -> None:
    for name, kind in figures.FIGURES.items():
        assert kind.caption.endswith("."), name
        assert kind.draw.__name__ == name
