from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.analysis.folders import write_run
from tta_bench import cli
from tta_bench.analysis import figures, stats
from tta_bench.analysis.budgets import at_equal_passes
from tta_bench.analysis.compare import Compared, compare, made
from tta_bench.analysis.describe import Describer, describer
from tta_bench.analysis.drawings import accuracy_frame
from tta_bench.analysis.load import AnalysisError, Study, load_study
from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.report import write_report
from tta_bench.analysis.standings import fields_of, focused, standings, standings_table

PLAN = TestPlan(n_resamples=499, n_bootstrap=300)
N = 80
RNG = np.random.default_rng(0)


def scores(share: float) -> np.ndarray:
    return (RNG.random((N, 1)) < share).astype(float)


def at(passes: int) -> np.ndarray:
    return np.full((N, 1), passes)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    """Five samplers: three at 4, 8 and 16 steps, one with a pace at 3 and 6 passes, one at 12 passes only."""
    folder = tmp_path_factory.mktemp("standings")
    found = {}
    for name, gain in (("low_confidence", 0.0), ("tta", 0.1), ("random_remask", 0.4)):
        for steps in (4, 8, 16):
            found[name, steps] = scores(0.3 + gain + steps / 60)
            write_run(folder, {"name": name}, found[name, steps], steps=steps)
    for pace, passes in ((0.5, 3), (0.9, 6)):
        found["threshold", passes] = scores(0.2 + passes / 10)
        run_id = write_run(folder, {"name": "threshold", "threshold": pace}, found["threshold", passes], passes=at(passes))
        config = folder / "runs" / run_id / "config.yaml"
        config.write_text(config.read_text().replace("steps: 8", "steps: null"))
    found["dear", 12] = scores(0.5)
    write_run(folder, {"name": "dear"}, found["dear", 12], passes=at(12))
    return folder, found


@pytest.fixture(scope="module")
def looked(written: tuple[Path, dict[str, np.ndarray]]) -> tuple[list[Compared], Study, Describer]:
    study = load_study(written[0])
    return made(compare(study)), study, describer(study)


@pytest.fixture(scope="module")
def frame(looked: tuple[list[Compared], Study, Describer]) -> pd.DataFrame:
    section = standings(fields_of(*looked), PLAN)
    assert section
    return section.frame


def test_every_sampler_is_listed_at_what_it_can_do_with_a_budget(
    frame: pd.DataFrame, written: tuple[Path, dict[str, np.ndarray]]
) -> None:
    found, table = written[1], frame.set_index(["sampler", "budget"])
    assert set(frame["budget"]) == {4, 8, 16}
    share = np.log2(4 / 3) / np.log2(6 / 3)
    between = (1 - share) * found["threshold", 3] + share * found["threshold", 6]
    expected = {
        ("low_confidence", 8): (found["low_confidence", 8], 8, "measured"),
        ("threshold", 4): (between, 4, "between 3 and 6"),
        ("threshold", 8): (found["threshold", 6], 6, "its largest budget is 6"),
        ("threshold", 16): (found["threshold", 6], 6, "its largest budget is 6"),
        ("dear", 16): (found["dear", 12], 12, "its largest budget is 12"),
    }
    for place, (values, passes, how) in expected.items():
        row = table.loc[place]
        assert row["score"] == pytest.approx(values.mean()), place
        assert (row["forward_passes"], row["measured"]) == (passes, how)
        assert row["settings"] == ""
        d = (values - found["low_confidence", place[1]])[:, 0]
        if place[0] != "low_confidence":
            assert row["delta"] == pytest.approx(d.mean())
            assert row["delta_low"] == pytest.approx(stats.mean_interval(d).ci_low)
    assert ("dear", 8) not in table.index  # its cheapest needs more
    assert set(table.loc["low_confidence", "verdict"]) == {"baseline"}


def test_one_family_of_tests(frame: pd.DataFrame, written: tuple[Path, dict[str, np.ndarray]]) -> None:
    compared = frame[frame["verdict"] != "baseline"]
    found = written[1]
    exact = compared[compared["measured"] == "measured"]
    assert len(compared) == 3 * 3 + 1
    for _, row in exact.iterrows():
        d = found[row["sampler"], row["budget"]] - found["low_confidence", row["budget"]]
        assert row["p_adjusted"] >= stats.sign_flips(d, n_resamples=499, rng=0).p_value[0] - 0.03
    assert (compared["p_adjusted"] >= compared["p_value"] - 1e-12).all()
    best = compared.set_index(["sampler", "budget"]).loc[("random_remask", 8)]
    assert best["verdict"] == "better"


def test_one_in_focus_meets_each_of_the_others(
    looked: tuple[list[Compared], Study, Describer], written: tuple[Path, dict[str, np.ndarray]]
) -> None:
    section = focused(fields_of(*looked), looked[1], TestPlan(n_resamples=499, focus="threshold"))
    assert section
    table, found = section.frame.set_index(["rival", "budget"]), written[1]
    assert len(table) == 3 * 3 + 1
    row = table.loc[("random_remask", 8)]
    assert row["delta"] == pytest.approx((found["threshold", 6] - found["random_remask", 8]).mean())
    assert (row["forward_passes"], row["rival_passes"]) == (6, 8)
    assert table.loc[("dear", 16), "rival_passes"] == 12
    with pytest.raises(AnalysisError, match=r"analysis.focus=wino: is no sampler of this study; it has dear, low_confidence"):
        focused(fields_of(*looked), looked[1], TestPlan(focus="wino"))
    assert focused(fields_of(*looked), looked[1], TestPlan()) is None


def test_a_focus_that_is_not_in_the_study_is_refused_before_it_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "analysis.focus=tta_bset", "n_problems=2"]) == 2
    assert "analysis.focus=tta_bset: is no sampler of this study; it has low_confidence, tta" in capsys.readouterr().err


def test_a_grid_of_two_parameters_keeps_its_runs_apart(tmp_path: Path) -> None:
    for steps in (4, 8):
        for name in ("low_confidence", "tta", "random_remask", "margin"):
            write_run(tmp_path, {"name": name}, scores(0.5), steps=steps)
        for sure in (0.5, 0.9):
            passes = at(steps // 2 + int(3 * sure))
            write_run(tmp_path, {"name": "klass", "conf_threshold": sure}, scores(0.5), steps=steps, passes=passes)
    study = load_study(tmp_path)
    section = standings(fields_of(made(compare(study)), study, describer(study)), PLAN)
    assert section
    klass = section.frame[section.frame["sampler"] == "klass"]
    assert klass["settings"].nunique() == klass["run_id"].nunique() > 1
    assert "klass steps=4 conf_threshold=0.5" in standings_table(section.frame, [8, 4])


def test_a_focus_that_is_not_complete_costs_its_table_only(tmp_path: Path) -> None:
    for steps in (4, 8):
        for name in ("low_confidence", "tta", "random_remask", "margin", "entropy", "p2"):
            write_run(tmp_path, {"name": name}, scores(0.5), steps=steps)
            if name == "p2":
                records = tmp_path / "runs" / f"toy-p2-test-{steps}-" / "records.jsonl"
                records.write_text("".join(records.read_text().splitlines(keepends=True)[:-3]))
    study = load_study(tmp_path)
    report = write_report(study, tmp_path / "report", TestPlan(n_resamples=99, n_bootstrap=200, focus="p2"))
    assert "focus" not in {section.name for section in report.sections}
    assert "standings" in {section.name for section in report.sections}
    assert report.n_refused == 2


def test_few_samplers_have_no_standings(tmp_path: Path) -> None:
    for steps in (4, 8):
        for name in ("low_confidence", "tta"):
            write_run(tmp_path, {"name": name}, scores(0.5), steps=steps)
    study = load_study(tmp_path)
    assert standings(fields_of(made(compare(study)), study, describer(study)), PLAN) is None


def test_the_table_for_reading(frame: pd.DataFrame) -> None:
    heading, _, *rows = standings_table(frame, [4, 8]).splitlines()
    assert heading == "| | toy, 4 | toy, 8 |"
    cells = [row.strip("| ").split(" | ") for row in rows]
    assert {row[0] for row in cells} == {"low_confidence", "tta", "random_remask", "threshold"}
    means = [np.mean([float(cell.strip("*")) for cell in row[1:]]) for row in cells]
    assert means == sorted(means, reverse=True)
    best = next(row for row in cells if row[0] == "random_remask")
    assert best[2].startswith("**")
    assert best[2].endswith("**")
    *_, last = standings_table(frame, [8, 16]).splitlines()
    assert last.startswith("| dear | - |")  # has no 8


def test_a_report_writes_them(written: tuple[Path, dict[str, np.ndarray]], tmp_path: Path) -> None:
    study = load_study(written[0])
    report = write_report(study, tmp_path / "report", TestPlan(n_resamples=199, n_bootstrap=200, focus="tta"))
    assert {"standings", "focus"} <= {section.name for section in report.sections}
    page = (tmp_path / "report" / "tables" / "standings.md").read_text()
    assert "| | toy, 8 |" in page
    assert "**" in page
    write_report(Study(study.name, study.pairs[:2]), tmp_path / "report", PLAN)
    assert not (tmp_path / "report" / "tables" / "standings.md").exists()
    assert not (tmp_path / "report" / "tables" / "focus.csv").exists()


def test_settings_that_change_with_the_steps_are_part_of_the_budget(tmp_path: Path) -> None:
    write_run(tmp_path, {"name": "tta"}, scores(0.5), steps=4, passes=at(6))
    for steps, sure, passes in ((4, 0.5, 4), (8, 0.9, 8)):
        write_run(tmp_path, {"name": "low_confidence"}, scores(0.5), steps=steps)
        write_run(tmp_path, {"name": "klass", "conf_threshold": sure}, scores(0.5), steps=steps, passes=at(passes))
    study = load_study(tmp_path, baseline="klass")
    section = at_equal_passes(made(compare(study)), study, describer(study), PLAN)
    assert section
    assert set(section.frame["baseline_budgets"]) == {"4 8"}


def test_of_many_lines_those_on_the_front_have_a_colour() -> None:
    n = 20
    summary = pd.DataFrame(
        {
            "task": "toy", "settings": "steps=4", "sampler": [f"s{i:02d}" for i in range(n)],
            "run_id": [f"r{i}" for i in range(n)],
            "forward_passes": [4.0 + i for i in range(n)], "score": [0.5 if i % 5 else 0.6 + i / 100 for i in range(n)],
            "score_ci_low": 0.4, "score_ci_high": 0.6, "verdict": ["", *["better"] * (n - 1)],
        }
    )  # fmt: skip
    figure = figures.accuracy_versus_passes(accuracy_frame(summary, focus="s07"))
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    named = {str(name) for name in lines if not str(name).startswith("_")}
    assert named == {"s00", "s07", "s05", "s10", "s15"}
    assert len(figure.axes[0].get_lines()) == n
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()][-1] == "15 others"
    assert legend.get_window_extent().width <= figure.bbox.width
