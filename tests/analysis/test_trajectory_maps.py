from __future__ import annotations

from pathlib import Path

from tests.quick import QUICK
from tta_bench import cli
from tta_bench.analysis.load import load_study
from tta_bench.analysis.representative import decodings_of_one_problem


def test_the_problem_shown_is_one_that_tells_the_two_apart(tmp_path: Path) -> None:
    assert cli.main(["run", "task=json", "n_problems=12", "steps=6", *QUICK, f"output_dir={tmp_path}"]) == 0
    (pair,) = load_study(tmp_path / "reports" / "default").pairs
    scores = [run.values("score", list(run.problems))[:, 0] for run in (pair.baseline, pair.candidate)]
    differ = pair.baseline.problems[scores[0] != scores[1]]
    assert len(differ)
    found = decodings_of_one_problem(pair, list(pair.baseline.problems))
    assert [(run.sampler, problem) for run, problem, _ in found] == [("low_confidence", differ[0]), ("tta", differ[0])]
    assert [one["score"].iloc[0] for *_, one in found] == [s[scores[0] != scores[1]][0] for s in scores]
    assert list((tmp_path / "reports" / "default" / "figures").glob("trajectories.*"))


def test_without_token_traces_there_is_no_map(tmp_path: Path) -> None:
    words = ["run", "task=json", "n_problems=2", "steps=2", "token_traces=0", *QUICK, f"output_dir={tmp_path}"]
    assert cli.main(words) == 0
    (pair,) = load_study(tmp_path / "reports" / "default").pairs
    assert decodings_of_one_problem(pair, list(pair.baseline.problems)) == []
    assert not list((tmp_path / "reports" / "default" / "figures").glob("trajectories.*"))
