"""The tables of a report, on runs whose answers are known."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from rich.console import Console

from tests.analysis.folders import write_run
from tta_bench.analysis import effects as effects_module
from tta_bench.analysis import figures, stats
from tta_bench.analysis.across_tasks import across_tasks
from tta_bench.analysis.budgets import at_equal_passes, pareto, whole_curves
from tta_bench.analysis.claims import COUNTS, measured_columns
from tta_bench.analysis.compare import Compared, compare, made
from tta_bench.analysis.describe import Describer, describer
from tta_bench.analysis.drawings import response_maps_frame
from tta_bench.analysis.effects import effects, sweeps
from tta_bench.analysis.load import Run, Study, load_run, load_study
from tta_bench.analysis.plan import Allowances, TestPlan
from tta_bench.analysis.remasking import remasking, tally
from tta_bench.analysis.report import write_report
from tta_bench.analysis.section import Section, readable
from tta_bench.analysis.selection import selection
from tta_bench.analysis.signals import uncertainty
from tta_bench.analysis.summary import SUMMARY_METHODS, summarize
from tta_bench.analysis.tables import headings, print_table, readable_rows

PLAN = TestPlan(n_resamples=499, n_bootstrap=300)
N = 60


def scores(seed: int, share: float, replicates: int = 1, n: int = N) -> np.ndarray:
    """(n, r) of 0 and 1."""
    return (np.random.default_rng(seed).random((n, replicates)) < share).astype(float)


def looked_at(folder: Path, allow: Allowances | None = None) -> tuple[list[Compared], Study, Describer]:
    study = load_study(folder, allow=allow or Allowances())
    return made(compare(study)), study, describer(study)


def equal(folder: Path, allow: Allowances | None = None) -> pd.DataFrame:
    section = at_equal_passes(*looked_at(folder, allow), PLAN)
    assert section
    return section.frame.set_index("run_id")


@pytest.fixture
def curves(tmp_path: Path) -> dict[str, np.ndarray]:
    """A baseline at 4, 8 and 16 passes, and a threshold sampler that takes 6 or 64 passes."""
    found = {f"base{steps}": scores(steps, 0.3 + steps / 40) for steps in (4, 8, 16)}
    for steps in (4, 8, 16):
        write_run(tmp_path, {"name": "low_confidence"}, found[f"base{steps}"], steps=steps)
        found[f"tta{steps}"] = scores(100 + steps, 0.4 + steps / 40)
        write_run(tmp_path, {"name": "tta"}, found[f"tta{steps}"], steps=steps)
    found["doubled"] = scores(9, 0.6)
    write_run(tmp_path, {"name": "doubled"}, found["doubled"], steps=4, passes=np.full((N, 1), 6))
    write_run(tmp_path, {"name": "dear"}, found["doubled"], steps=16, passes=np.full((N, 1), 64))
    return found


def test_a_candidate_is_compared_at_its_own_passes(tmp_path: Path, curves: dict[str, np.ndarray]) -> None:
    found = equal(tmp_path)
    row = found.loc["toy-doubled-test-4-"]
    share = np.log2(6 / 4)
    matched = (1 - share) * curves["base4"] + share * curves["base8"]
    d = (curves["doubled"] - matched)[:, 0]
    assert row["baseline"] == "between 4 and 8"
    assert row["baseline_score"] == pytest.approx(matched.mean())
    by_hand = stats.mean_interval(d)
    assert (row["delta"], row["delta_low"]) == pytest.approx((by_hand.value, by_hand.ci_low))
    assert row["baseline_budgets"] == "4 8 16"


@pytest.mark.usefixtures("curves")
def test_what_was_measured_is_the_summary_again(tmp_path: Path) -> None:
    found = equal(tmp_path)
    summary = summarize(load_study(tmp_path), PLAN).set_index("run_id")
    for steps in (4, 8, 16):
        run_id = f"toy-tta-test-{steps}-"
        assert found.loc[run_id, "baseline"] == "measured"
        assert found.loc[run_id, "delta"] == pytest.approx(summary.loc[run_id, "delta"])
        assert summary.loc[run_id, "equal_passes_delta"] == pytest.approx(summary.loc[run_id, "delta"])
    assert summary.loc["toy-doubled-test-4-", "equal_passes_delta"] == pytest.approx(found.loc["toy-doubled-test-4-", "delta"])


def test_beyond_the_curve_nothing_is_tested(tmp_path: Path, curves: dict[str, np.ndarray]) -> None:
    row = equal(tmp_path).loc["toy-dear-test-16-"]
    assert row["baseline"] == "nearest measured: 16"
    assert row["delta"] == pytest.approx((curves["doubled"] - curves["base16"]).mean())
    assert np.isnan(row["p_adjusted"])
    assert row["verdict"] == ""


@pytest.mark.usefixtures("curves")
def test_a_budget_made_with_other_code_is_not_on_the_curve(tmp_path: Path) -> None:
    """Whichever budget it is, each candidate keeps its own baseline."""
    for name in ("toy-low_confidence-test-4-", "toy-tta-test-4-", "toy-doubled-test-4-"):
        file = tmp_path / "runs" / name / "manifest.json"
        file.write_text(file.read_text().replace("0.1.0+0", "0.1.0+1"))
    found = equal(tmp_path)
    assert found.loc["toy-tta-test-8-", ["baseline", "baseline_budgets"]].tolist() == ["measured", "8 16"]
    assert found.loc["toy-tta-test-4-", ["baseline", "baseline_budgets"]].tolist() == ["measured", "4"]
    assert found.loc["toy-doubled-test-4-", "baseline"] == "nearest measured: 4"


@pytest.mark.usefixtures("curves")
def test_a_short_run_does_not_shrink_the_curve(tmp_path: Path) -> None:
    file = tmp_path / "runs" / "toy-low_confidence-test-8-" / "records.jsonl"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:10]))
    found = equal(tmp_path)
    assert found.loc["toy-tta-test-4-", "n_problems"] == N
    assert found.loc["toy-tta-test-4-", "baseline_budgets"] == "4 16"
    allowed = equal(tmp_path, Allowances(missing=True))
    assert allowed.loc["toy-tta-test-4-", "n_problems"] == 10


def test_a_sweep_of_two_parameters_is_no_curve(tmp_path: Path) -> None:
    for a in (1, 2):
        for b in (1, 2):
            passes = np.full((N, 1), 2 * a + b)
            folder = write_run(tmp_path, {"name": "low_confidence", "a": a, "b": b}, scores(a + b, 0.5), steps=8, passes=passes)
            config = tmp_path / "runs" / folder / "config.yaml"
            config.write_text(config.read_text().replace("steps: 8", "steps: null"))
    write_run(tmp_path, {"name": "tta"}, scores(3, 0.5), steps=4)
    found, study, describe = looked_at(tmp_path)
    section = at_equal_passes(found, study, describe, PLAN)
    assert section
    # Each stands alone: the candidate's 4 passes meet the one that costs 4, and are measured against no line between others.
    budgets = section.frame.set_index("baseline_run_id")["baseline_budgets"].to_dict()
    assert {name: float(text) for name, text in budgets.items()} == {
        f"toy-low_confidence-test-8-{a}-{b}": 2 * a + b for a in (1, 2) for b in (1, 2)
    }


def test_whole_curves(tmp_path: Path, curves: dict[str, np.ndarray]) -> None:
    found, study, describe = looked_at(tmp_path)
    section = whole_curves(found, study, describe, PLAN)
    assert section
    (row,) = section.frame.to_dict("records")
    gaps = [curves[f"tta{s}"] - curves[f"base{s}"] for s in (4, 8, 16)]
    heights = (gaps[0] / 2 + gaps[1] + gaps[2] / 2)[:, 0] / 2
    assert row["height"] == pytest.approx(heights.mean())
    assert row["height_high"] == pytest.approx(stats.mean_interval(heights).ci_high)
    assert (row["passes_from"], row["passes_to"], row["budgets"]) == (4, 16, "4 8 16")
    assert row["aup_low"] <= row["aup"] <= row["aup_high"]
    assert row["aup_difference"] == pytest.approx(row["aup"] - row["baseline_aup"])
    assert row["run_id"].split() == [f"toy-tta-test-{s}-" for s in (4, 8, 16)]


def test_pareto_front(tmp_path: Path, curves: dict[str, np.ndarray]) -> None:
    section = pareto(*looked_at(tmp_path), PLAN)
    assert section
    frame = section.frame.set_index("run_id")
    assert not frame.loc["toy-dear-test-16-", "on_front"]
    assert frame["front_probability"].between(0, 1).all()
    assert frame.loc["toy-tta-test-16-", "score"] == pytest.approx(curves["tta16"].mean())


def test_tasks_weigh_the_same_whatever_their_size(tmp_path: Path) -> None:
    for task, n, gain in (("small", 30, 0.3), ("large", 90, 0.0)):
        base = scores(1, 0.4, n=n)
        write_run(tmp_path, {"name": "low_confidence"}, base, task=task)
        write_run(tmp_path, {"name": "tta"}, np.maximum(base, scores(2, gain, n=n)), task=task)
        write_run(tmp_path, {"name": "only"}, base, task=task) if task == "small" else None
    found, *_ = looked_at(tmp_path)
    section = across_tasks(found, PLAN)
    assert section
    (row,) = section.frame.to_dict("records")
    deltas = {one.pair.candidate.task: one.differences.d.mean() for one in found if one.pair.candidate.sampler == "tta"}
    assert row["delta"] == pytest.approx((deltas["small"] + deltas["large"]) / 2)
    assert (row["n_problems"], set(row["tasks"].split())) == (120, {"small", "large"})


def test_constraints_are_told_apart_across_tasks_and_in_effects(tmp_path: Path) -> None:
    word = {"name": "mine", "target": "rules.mine", "n": 3}
    for task in ("small", "large"):
        write_run(tmp_path, {"name": "low_confidence"}, scores(1, 0.5), task=task)
        for i, constraint in enumerate(("none", word, word | {"n": 4})):
            run_id = write_run(tmp_path, {"name": "tta", "seen": i}, scores(2 + i, 0.5), task=task)
            file = tmp_path / "runs" / run_id / "config.yaml"
            config = yaml.safe_load(file.read_text())
            del config["sampler"]["seen"]
            file.write_text(yaml.safe_dump(config | {"constraint": constraint}))
    found, study, _ = looked_at(tmp_path)
    section = across_tasks(found, PLAN)
    assert section
    texts = ["none", "rules.mine(n=3)", "rules.mine(n=4)"]
    assert sorted(section.frame["settings"]) == [f"steps=8 constraint={text}" for text in texts]
    for sweep in sweeps(found, study):
        assert {name: sorted(levels) for name, levels in sweep.levels.items()} == {"constraint": texts}


@pytest.fixture
def swept(tmp_path: Path) -> Path:
    """Three values of k by two of pct; k helps, more so at the larger pct."""
    rng = np.random.default_rng(0)
    chance = rng.random(400)
    write_run(tmp_path, {"name": "low_confidence"}, (chance > 0.7).astype(float)[:, None])
    for k in (1, 3, 5):
        for pct in (0.1, 0.3):
            gain = 0.02 * (k - 1) * (1 + (pct > 0.2))
            write_run(tmp_path, {"name": "tta", "tta_k": k, "pct": pct}, (chance > 0.7 - gain).astype(float)[:, None])
    return tmp_path


def test_main_effects_and_interactions(swept: Path) -> None:
    found, study, _ = looked_at(swept)
    section = effects(found, study, PLAN)
    assert section
    frame = section.frame.set_index(["factor", "level"])
    solved = {(k, pct): load_run(swept / "runs" / f"toy-tta-test-8-{k}-{pct}").grid("score")[:, 0]
              for k in (1, 3, 5) for pct in (0.1, 0.3)}  # fmt: skip
    main = frame.loc[("tta_k", "5")]
    d = np.mean([solved[5, pct] - solved[1, pct] for pct in (0.1, 0.3)], axis=0)
    assert (main["effect"], main["n_matched"], main["reference"]) == (pytest.approx(d.mean()), 2, "1")
    assert main["effect_high"] == pytest.approx(stats.mean_interval(d).ci_high)
    assert main["p_adjusted"] < 0.05
    mixed = frame.loc[("pct x tta_k", "0.3 x 5")]
    d = (solved[5, 0.3] - solved[1, 0.3]) - (solved[5, 0.1] - solved[1, 0.1])
    assert mixed["effect"] == pytest.approx(d.mean())
    assert "exploratory" in mixed["adjustment"]


def test_the_heat_map_is_marked_exploratory_and_shows_the_means(swept: Path) -> None:
    found, study, _ = looked_at(swept)
    (sweep,) = sweeps(found, study)
    table = effects_module.response(sweep, "tta_k", "pct")
    assert (list(table.index), list(table.columns)) == ([1, 3, 5], [0.1, 0.3])
    assert table.loc[5, 0.3] == pytest.approx(load_run(swept / "runs" / "toy-tta-test-8-5-0.3").grid("score").mean())
    figure = figures.exploratory_response(response_maps_frame([sweep]))
    assert "Exploratory" in figure.get_suptitle()
    texts = {text.get_text() for text in figure.axes[0].texts}
    assert f"{100 * table.loc[3, 0.1]:.1f}" in texts
    assert sweep.title == "tta on toy, test, m"


def test_a_sweep_with_holes_uses_matched_runs_only(swept: Path) -> None:
    for name in ("toy-tta-test-8-1-0.3", "toy-tta-test-8-3-0.1"):
        for file in (swept / "runs" / name).iterdir():
            file.unlink()
        (swept / "runs" / name).rmdir()
    found, study, _ = looked_at(swept)
    section = effects(found, study, PLAN)
    assert section
    frame = section.frame.set_index(["factor", "level"])
    assert frame.loc[("tta_k", "5"), "n_matched"] == 1  # at 0.1 only
    assert ("tta_k", "3") not in frame.index  # 1 and 3 meet at no pct
    assert not (frame["kind"] == "interaction").any()


def test_settings_that_change_together_are_one_factor(tmp_path: Path) -> None:
    """As the constraint and the weight of violations: without the weight the sampler does not look at the constraint."""
    write_run(tmp_path, {"name": "low_confidence"}, scores(0, 0.4))
    solved = {}
    for gamma, check in ((0.0, "none"), (0.3, "task")):
        for k in (1, 3):
            solved[gamma, k] = scores(k, 0.4 + gamma)
            write_run(tmp_path, {"name": "tta", "check": check, "gamma": gamma, "tta_k": k}, solved[gamma, k])
    found, study, _ = looked_at(tmp_path)
    section = effects(found, study, PLAN)
    assert section
    main = section.frame[section.frame["kind"] == "main"].set_index("factor")
    assert set(main.index) == {"check and gamma", "tta_k"}
    row = main.loc["check and gamma"]
    assert (row["level"], row["reference"], row["n_matched"]) == ("0.3", "0.0", 2)
    assert row["effect"] == pytest.approx(np.mean([(solved[0.3, k] - solved[0.0, k]).mean() for k in (1, 3)]))


def test_the_choice_on_dev_is_confirmed_on_test(tmp_path: Path) -> None:
    shares = {1: (0.5, 0.5), 3: (0.8, 0.6), 5: (0.6, 0.9)}
    for place, split in enumerate(("dev", "test")):
        write_run(tmp_path, {"name": "low_confidence"}, scores(place, 0.4, n=100), split=split)
        for k, share in shares.items():
            write_run(tmp_path, {"name": "tta", "tta_k": k}, scores(10 * k + place, share[place], n=100), split=split)
    found, _, describe = looked_at(tmp_path)
    section = selection(found, describe, PLAN)
    assert section
    (row,) = section.frame.to_dict("records")
    assert row["run_id"] == "toy-tta-test-8-3"  # best on dev, not on test
    assert (row["n_candidates"], row["n_tested"], row["n_problems"]) == (3, 3, 100)
    assert row["shrinkage"] == pytest.approx(row["delta_dev"] - row["delta"])
    assert row["p_value"] == row["p_adjusted"]
    for file in (tmp_path / "runs" / "toy-tta-test-8-3").iterdir():
        file.unlink()
    (tmp_path / "runs" / "toy-tta-test-8-3").rmdir()
    found, _, describe = looked_at(tmp_path)
    section = selection(found, describe, PLAN)
    assert section
    assert "was not run on test" in section.frame["note"][0]


def test_clusters_widen_every_interval(tmp_path: Path) -> None:
    """Twelve passages of five questions that are solved together."""
    base, other = (scores(seed, 0.5, n=12).repeat(5, axis=0) for seed in (1, 2))
    labels: list[str | None] = [f"passage {i // 5}" for i in range(60)]
    for folder, clusters in (("alone", None), ("together", labels)):
        write_run(tmp_path / folder, {"name": "low_confidence"}, base, clusters=clusters)
        write_run(tmp_path / folder, {"name": "tta"}, other, clusters=clusters)
    rows = {
        folder: summarize(load_study(tmp_path / folder), replace(PLAN, bayes=True)).iloc[1] for folder in ("alone", "together")
    }
    widths = {name: row["delta_ci_high"] - row["delta_ci_low"] for name, row in rows.items()}
    assert widths["together"] > 1.8 * widths["alone"]
    assert rows["together"]["p_value"] > rows["alone"]["p_value"]
    assert rows["together"]["n_clusters"] == 12
    # What has no clustered form is left out rather than wrong.
    assert rows["together"][["p_mcnemar", "delta_tango_low", "posterior_better"]].isna().all()
    assert rows["alone"][["p_mcnemar", "delta_tango_low", "posterior_better"]].notna().all()


def test_replicates_that_do_not_count_change_nothing(tmp_path: Path) -> None:
    base = np.hstack([scores(1, 0.5), scores(2, 0.5)])
    write_run(tmp_path, {"name": "low_confidence"}, base, passes=np.tile([8, 16], (N, 1)))
    write_run(tmp_path, {"name": "tta"}, scores(3, 0.5))
    study = replace(load_study(tmp_path, allow=Allowances(missing=True)), replicates=1)
    row = summarize(study, PLAN).iloc[1]
    assert (row["forward_passes"], row["baseline_passes"], row["replicates"]) == (8, 8, 1)


def test_seconds_of_one_batch_are_one_measurement(tmp_path: Path) -> None:
    write_run(tmp_path, {"name": "low_confidence"}, scores(1, 0.5))
    write_run(tmp_path, {"name": "tta"}, scores(2, 0.5))
    batches = {"toy-low_confidence-test-8-": [0.02, 0.026, 0.018], "toy-tta-test-8-": [0.05, 0.08, 0.04]}
    for name, took in batches.items():
        file = tmp_path / "runs" / name / "records.jsonl"
        lines = file.read_text().splitlines()
        seconds = np.repeat(took, N // 3)
        timed = [line.replace('"seconds":0.01', f'"seconds":{s}') for line, s in zip(lines, seconds, strict=True)]
        file.write_text("".join(f"{line}\n" for line in timed))
    row = summarize(load_study(tmp_path), PLAN).iloc[1]
    by_batch = stats.ratio_interval(*batches.values())
    assert row["seconds_ratio"] == pytest.approx(by_batch.value)
    assert row["seconds_ratio_high"] == pytest.approx(by_batch.ci_high, rel=0.02)  # C / (C - 1) counts batches, not problems
    assert by_batch.ci_high > 1.2 * by_batch.value


def test_the_remasking_tally_counts_by_hand() -> None:
    """One answer of three positions over three steps; gold is 1 1 1."""
    rows = [  # step, position, token, remaskable, remasked
        (0, 0, 2, False, False), (0, 1, 1, False, False),
        (1, 0, 2, True, True), (1, 1, 1, True, False), (1, 2, 2, False, False),
        (2, 0, 1, False, False), (2, 1, 1, True, True), (2, 2, 2, True, False),
        (3, 0, 1, True, False), (3, 1, 2, False, False), (3, 2, 2, True, True),
        (4, 0, 1, False, False), (4, 1, 2, False, False), (4, 2, 2, False, False),
    ]  # fmt: skip
    tokens = pd.DataFrame(rows, columns=["step", "position", "token", "remaskable", "remasked"])
    tokens = tokens.assign(key="a/0", problem="a", unit="a", gold=1, loss=(tokens["token"] != 1).astype(float))
    sums = {name: float(values[0]) for name, values in tally(tokens.sample(frac=1, random_state=0)).sums.items()}
    # Taken back: position 0 at step 1 (wrong, became right), 1 at 2 (right, became wrong), 2 at 3 (wrong, stayed wrong).
    assert (sums["remasked"], sums["remasked_wrong"], sums["remasked_right"]) == (3, 2, 1)
    assert (sums["became_right"], sums["became_wrong"], sums["net"]) == (1, 1, 0)
    assert (sums["remaskable"], sums["remaskable_wrong"]) == (6, 3)
    # A blind choice of one would have hit a wrong token with 1/2 at each of the three steps.
    assert sums["expected_wrong"] == pytest.approx(1.5)
    ratios = tally(tokens).ratios(np.ones((1, 1)))
    assert ratios["precision"][0] == pytest.approx(2 / 3)
    assert ratios["recall"][0] == pytest.approx(2 / 3)
    assert ratios["lift"][0] == pytest.approx(4 / 3)


def test_studies_without_traces_have_no_tables_of_them(tmp_path: Path) -> None:
    write_run(tmp_path, {"name": "low_confidence"}, scores(1, 0.5))
    write_run(tmp_path, {"name": "tta"}, scores(2, 0.5))
    found = looked_at(tmp_path)
    assert uncertainty(*found, PLAN) is None
    assert remasking(*found, PLAN) is None


def test_every_number_of_a_report_is_claimed(swept: Path, tmp_path: Path) -> None:
    report = write_report(load_study(swept), tmp_path / "report", replace(PLAN, bayes=True, texts=True))
    claimed = json.loads((tmp_path / "report" / "claims.json").read_text())
    known = {(claim["table"], claim["row"], claim["column"]): claim for claim in claimed["claims"]}
    own = report.summary[[name for name in report.summary if not name.startswith("equal_passes_")]]
    tables = [Section("summary", "", own, SUMMARY_METHODS), *report.sections]
    assert {section.name for section in tables} == {"summary", "equal_passes", "pareto", "effects", "texts"}
    n_numbers = 0
    for section in tables:
        for column in measured_columns(section.frame):
            assert column in COUNTS or section.methods[column]
            for place, value in enumerate(section.frame[column]):
                if not pd.isna(value):
                    assert known[section.name, place, column]["value"] == pytest.approx(float(value))
                    n_numbers += 1
    assert n_numbers == len(known) == len(claimed["claims"])
    delta = known["summary", 1, "delta"]
    assert delta["run_ids"] == ["toy-tta-test-8-1-0.1", "toy-low_confidence-test-8-"]
    assert (delta["n"], delta["replicates"]) == (400, 1)
    assert claimed["tests"][delta["test"]] == SUMMARY_METHODS["delta"]
    assert delta["code_version"] == claimed["code_version"]
    assert delta["ci"] == pytest.approx(report.summary.loc[1, ["delta_ci_low", "delta_ci_high"]].tolist())
    assert claimed["runs"]["toy-tta-test-8-1-0.1"][0]["code"] == "0.1.0+0"


def test_a_table_for_reading_hides_ids_and_joins_intervals() -> None:
    frame = pd.DataFrame({"task": ["a", "b"], "x": [0.5, np.nan], "x_low": [0.4, np.nan], "x_high": [0.6, np.nan],
                          "n": [3, 4], "p_value": [1e-9, 0.25], "run_id": ["r", "s"], "empty": [np.nan, np.nan]})  # fmt: skip
    names, rows = readable(Section("s", "S", frame, {}, brief="task == 'a'"))
    assert names == ["task", "x", "n", "p value"]
    assert rows == [["a", "0.500 [0.400, 0.600]", "3", "<0.001"]]
    assert readable(Section("s", "S", frame, {}))[1][1] == ["b", "", "4", "0.250"]


@pytest.mark.usefixtures("curves")
@pytest.mark.parametrize("width", [120, 100, 70])
def test_a_terminal_cuts_no_cell(tmp_path: Path, width: int) -> None:
    """Whatever its width: what is cut off an asterisk or a verdict would say something else."""
    summary = summarize(load_study(tmp_path), PLAN)
    console = Console(width=width, file=io.StringIO(), color_system=None)
    print_table(summary, console, title="t", note="")
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= width
    cells = ["t", *headings(summary), *(cell for row in readable_rows(summary) for cell in row)]
    assert sorted("".join(text.split())) == sorted("".join("".join(cells).split()))
    if width == 120:
        assert len(text.splitlines()) == 2 + len(summary)


def test_runs_are_told_apart_by_what_differs_or_is_set_in_some_only() -> None:
    def run(task: str, options: dict, **sampler: object) -> Run:
        config = {
            "model": {"name": "mini"}, "task": {"name": task, **options}, "steps": 4,
            "sampler": {"name": "low_confidence", "temperature": 0.0, **sampler},
        }  # fmt: skip
        return Run("", config, pd.DataFrame())

    plain, cached = run("json", {"length": 3}), run("json", {"length": 3}, cache="dual")
    other = run("sudoku", {"holes": 24})
    describe = Describer([plain, plain, cached, other])
    everywhere = Describer([cached])
    assert everywhere(cached) == "steps=4 cache=dual"  # what a pass costs is told even where nothing differs
    # What only one task can have tells nothing apart.
    assert [describe(found) for found in (plain, cached, other)] == ["steps=4", "steps=4 cache=dual", "steps=4"]
