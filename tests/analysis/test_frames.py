from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

import tta_bench
from tests.analysis.folders import write_run
from tests.commands.runs import make_run
from tta_bench.analysis.load import AnalysisError, load_study
from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.report import write_report

SCORES = np.array([[1.0, 0.0], [0.0, 0.0], [1.0, np.nan]])
QUICK = TestPlan(n_resamples=99, n_bootstrap=200)


def write_sweep(output: Path) -> list[str]:
    """A baseline and tta with two numbers of views, three problems, two replicates; one answer failed in each."""
    return [
        write_run(output, {"name": "low_confidence"}, SCORES, text="a"),
        write_run(output, {"name": "tta", "tta_k": 3, "range": [0.0, 0.5]}, SCORES, text="b"),
        write_run(output, {"name": "tta", "tta_k": 5, "range": [0.0, 1.0]}, SCORES, text="c"),
    ]


def write_traces(output: Path, run_id: str, *, tokens: bool) -> None:
    """Two steps of the first problem's first replicate."""
    frame = pd.DataFrame({"key": "test-000000/0", "step": [0, 1], "entropy": [0.5, 0.25]})
    if tokens:
        lists = {"position": [[4], [4, 6]], "token": [[7], [7, 8]], "gold": [[7], [7, 9]], "entropy": [[0.5], [0.2, 0.3]]}
        lists |= {name: [[True], [False, True]] for name in ("fresh", "remaskable", "remasked")}
        frame = frame.assign(**{f"token.{name}": values for name, values in lists.items()})
    folder = output / "runs" / run_id / "traces"
    folder.mkdir()
    frame.to_parquet(folder / "a.parquet")


def test_every_record_is_a_row_and_settings_that_differ_are_columns(tmp_path: Path) -> None:
    ids = write_sweep(tmp_path)
    frame = tta_bench.results(tmp_path)
    assert len(frame) == 3 * SCORES.size
    first = ["task", "model", "sampler", "settings", "split", "steps", "range", "tta_k", "run_id"]
    assert sorted(frame.columns[:9]) == sorted(first)
    assert list(frame.columns[9:16]) == ["problem", "replicate", "score", "forward_passes", "seconds", "text", "error"]
    by_run = frame.groupby("run_id")
    assert by_run["text"].first().reindex(ids).tolist() == ["a", "b", "c"]
    words = ["steps=8", "steps=8 range=[0.0,0.5] tta_k=3", "steps=8 range=[0.0,1.0] tta_k=5"]
    assert by_run["settings"].first().reindex(ids).tolist() == words
    assert by_run["tta_k"].first().reindex(ids).astype(object).fillna(0).tolist() == [0, 3, 5]
    np.testing.assert_array_equal(by_run.get_group(ids[0])["score"].to_numpy().reshape(SCORES.shape), SCORES)
    failed = frame[frame["score"].isna()]
    assert failed["error"].tolist() == ["ModelOutputError: NaN"] * 3
    assert failed[["problem", "replicate"]].drop_duplicates().to_numpy().tolist() == [["test-000002", 1]]
    assert frame["error"].isna().sum() == 15
    write_run(tmp_path, {"name": "p2"}, np.ones((2, 1)))  # in which nothing failed
    assert tta_bench.results(tmp_path)["error"].isna().sum() == 17


def test_an_answer_whose_scorer_failed_keeps_its_text_and_the_last_line_of_a_key_counts(tmp_path: Path) -> None:
    run_id = write_run(tmp_path, {"name": "tta"}, np.array([[1.0]]), text="first")
    file = tmp_path / "runs" / run_id / "records.jsonl"
    error = {"stage": "score", "type": "ValueError", "message": "no", "traceback": ""}
    again = json.loads(file.read_text()) | {"text": "2nd", "score": None, "error": error}
    file.write_text(file.read_text() + json.dumps(again) + "\n")
    (row,) = tta_bench.results(tmp_path).to_dict("records")
    assert (row["text"], row["error"]) == ("2nd", "ValueError: no")
    assert np.isnan(row["score"])


def test_a_setting_with_the_name_of_a_column_does_not_hide_it(tmp_path: Path) -> None:
    for value in (0.1, 0.2):
        write_run(tmp_path, {"name": "tta", "score": value}, np.array([[1.0]]))
    frame = tta_bench.results(tmp_path)
    assert frame["score"].tolist() == [1.0, 1.0]
    assert sorted(frame["setting.score"]) == [0.1, 0.2]


def test_a_report_folder_has_the_problems_and_replicates_of_its_study(tmp_path: Path) -> None:
    base, candidate, other = write_sweep(tmp_path)
    report = tmp_path / "reports" / "r"
    report.mkdir(parents=True)
    study = {
        "name": "r", "runs": "../../runs", "n_problems": 2, "replicates": 1, "tests": vars(QUICK), "pairs": [[base, candidate]],
        "problems": [["test-000000", "test-000002"]], "problems_of": {base: 0},
    }  # fmt: skip
    (report / "study.json").write_text(json.dumps(study))
    frame = tta_bench.results(report)
    assert set(frame["run_id"]) == {base, candidate}
    assert frame.groupby("run_id")["problem"].apply(list).tolist() == [["test-000000", "test-000002"]] * 2
    assert set(frame["replicate"]) == {0}
    assert len(tta_bench.results(tmp_path / "runs" / other)) == SCORES.size
    (report / "study.json").write_text(json.dumps(study | {"problems": [], "problems_of": {}, "replicates": None}))
    assert len(tta_bench.results(report)) == 2 * SCORES.size  # of older versions, which did not name them


def test_traces_are_rows_of_steps_or_tokens_with_their_answers_score(tmp_path: Path) -> None:
    base, three, _ = write_sweep(tmp_path)
    write_traces(tmp_path, base, tokens=False)
    write_traces(tmp_path, three, tokens=True)
    steps = tta_bench.traces(tmp_path)
    assert steps["sampler"].tolist() == ["low_confidence"] * 2 + ["tta"] * 2
    assert steps["entropy"].tolist() == [0.5, 0.25] * 2
    assert steps["score"].tolist() == [1.0] * 4
    assert set(steps["problem"]) == {"test-000000"}
    tokens = tta_bench.traces(tmp_path, per="token")
    assert set(tokens["sampler"]) == {"tta"}
    assert tokens[["step", "position", "token", "gold", "entropy", "tta_k"]].to_numpy().tolist() == [
        [0, 4, 7, 7, 0.5, 3], [1, 4, 7, 7, 0.2, 3], [1, 6, 8, 9, 0.3, 3],
    ]  # fmt: skip


def test_the_summary_is_that_of_the_report(tmp_path: Path) -> None:
    for k in (1, 3, 5):
        scores = np.random.default_rng(k).integers(0, 2, size=(40, 1)).astype(float)
        write_run(tmp_path, {"name": "tta", "tta_k": k} if k > 1 else {"name": "low_confidence"}, scores)
    write_report(load_study(tmp_path), tmp_path / "report", QUICK)
    found = tta_bench.summary(tmp_path, n_resamples=99, n_bootstrap=200)
    written = pd.read_csv(tmp_path / "report" / "summary.csv")
    found.to_csv(tmp_path / "found.csv", index=False, float_format="%.6g")
    assert_frame_equal(pd.read_csv(tmp_path / "found.csv"), written)
    assert found["p_adjusted"].notna().sum() == 2


def test_a_study_keeps_its_plan_and_says_where_another_is_asked_for(tmp_path: Path) -> None:
    base, candidate = (
        write_run(tmp_path, {"name": name}, np.eye(4)[:, :1] * low) for name, low in (("low_confidence", 0), ("tta", 1))
    )
    study = {
        "name": "r", "runs": "runs", "n_problems": 4, "replicates": 1, "tests": vars(QUICK) | {"margin": 0.9},
        "pairs": [[base, candidate]],
    }  # fmt: skip
    (tmp_path / "study.json").write_text(json.dumps(study))
    assert tta_bench.summary(tmp_path)["verdict"].tolist() == ["", "equivalent"]
    with pytest.warns(UserWarning, match=r"differ from those fixed before the runs .*margin=0.9"):
        assert tta_bench.summary(tmp_path, margin=0.01)["verdict"].tolist() == ["", "inconclusive"]
    with pytest.raises(ValueError, match=r"analysis.margin=2: must lie between"):
        tta_bench.summary(tmp_path, margin=2)
    with pytest.raises(ValueError, match=r"baseline=tta: .* is a report folder"):
        tta_bench.summary(tmp_path, baseline="tta")


def test_what_lacks_problems_is_compared_only_on_request(tmp_path: Path) -> None:
    make_run(tmp_path, "a", sampler="low_confidence", n_problems=6)
    make_run(tmp_path, "b", n_problems=5)
    with pytest.raises(AnalysisError, match="1 of 6 problems missing"):
        tta_bench.summary(tmp_path)
    allowed = tta_bench.summary(tmp_path, allow_missing=True)
    assert allowed["n_problems"].tolist() == [5, 5]
    assert "1 of 6 problems missing" in allowed["caveat"][1]
    assert tta_bench.summary(tmp_path, baseline="tta", allow_missing=True)["sampler"].tolist() == ["tta", "low_confidence"]


def test_runs_that_cannot_be_read_are_told_and_left_out(tmp_path: Path) -> None:
    write_run(tmp_path, {"name": "tta"}, np.array([[1.0]]))
    (tmp_path / "runs" / "empty").mkdir()
    with pytest.warns(UserWarning, match="left out: .*empty: holds no config.yaml") as told:
        assert len(tta_bench.results(tmp_path)) == 1
    assert told[0].filename == __file__  # where it was asked for


@pytest.mark.parametrize("function", ["results", "traces", "summary"])
def test_folders_without_runs_are_refused(function: str, tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match="holds neither"):
        getattr(tta_bench, function)(tmp_path / "nothing")
    (tmp_path / "runs" / "empty").mkdir(parents=True)
    with pytest.raises(
        AnalysisError, match="no candidate has" if function == "summary" else "no run in it has records.*\n.*empty"
    ):
        getattr(tta_bench, function)(str(tmp_path))


def test_what_was_not_kept_is_refused(tmp_path: Path) -> None:
    base, *_ = write_sweep(tmp_path)
    write_traces(tmp_path, base, tokens=False)
    with pytest.raises(AnalysisError, match=r"no run has traces of tokens; token_traces=N keeps"):
        tta_bench.traces(tmp_path, per="token")
    with pytest.raises(ValueError, match=r"per='tokens': must be 'step' or 'token'"):
        tta_bench.traces(tmp_path, per="tokens")
    with pytest.raises(AnalysisError, match=r"no run has traces of steps; "):
        tta_bench.traces(tmp_path / "runs" / write_run(tmp_path, {"name": "p2"}, SCORES))


def test_frames_need_no_torch(tmp_path: Path) -> None:
    write_sweep(tmp_path)
    code = (
        "import sys; from tta_bench import results\n"
        "assert len(results(sys.argv[1])) == 18\n"
        "assert not {'torch', 'transformers', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
