"""Settings are searched on dev, one is confirmed on test."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.analysis.folders import write_run
from tests.quick import QUICK
from tests.runner.processes import fork
from tta_bench import cli
from tta_bench.commands.tune import chosen
from tta_bench.commands.tune_table import table_of
from tta_bench.runner.store import RunFolder
from tta_bench.tuning.search import Trial

WORDS = ("task=json", "n_problems=6", "trials=4", "baseline_steps=4", *QUICK)
SPACE = ("sampler.remask_top_pct=interval(0,0.6)", "steps=2,4,6")


def tune(folder: Path, *words: str) -> int:
    return cli.main(["tune", *WORDS, *words, f"output_dir={folder}"])


def table(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / "reports" / "default" / name)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searched")
    assert tune(folder, *SPACE) == 0
    return folder


def test_the_front_is_what_no_other_setting_beats(searched: Path) -> None:
    trials = table(searched, "dev/trials.csv")
    done = trials[trials["state"] == "done"].to_dict("records")
    assert len(done) == len({row["settings"] for row in done}) == 4
    points = {(row["forward_passes"], row["score"]) for row in done}
    front = {a for a in points if not any(b != a and b[0] <= a[0] and b[1] >= a[1] for b in points)}
    listed = table(searched, "dev/pareto.csv")
    assert set(zip(listed["forward_passes"], listed["score"], strict=True)) == front
    assert listed["forward_passes"].is_monotonic_increasing
    for row in done:
        records = RunFolder(searched / "runs" / row["run_id"]).records().values()
        assert row["score"] == pytest.approx(sum(record["score"] for record in records) / 6, abs=1e-6)
        words = dict(word.split("=") for word in row["settings"].split())
        config = RunFolder(searched / "runs" / row["run_id"]).config()
        assert config["split"] == "dev"
        assert config["steps"] == int(words["steps"])
        assert config["sampler"]["remask_top_pct"] == float(words["sampler.remask_top_pct"])


def test_the_best_within_the_bound_is_confirmed_against_the_baseline(searched: Path) -> None:
    trials, test = table(searched, "dev/trials.csv"), table(searched, "summary.csv")
    within = trials[(trials["state"] == "done") & (trials["forward_passes"] <= 4)]
    best = within.sort_values(["score", "forward_passes", "trial"], ascending=[False, True, True]).iloc[0]
    assert test["sampler"].tolist() == ["low_confidence", "tta"]
    configs = [RunFolder(searched / "runs" / run_id).config() for run_id in (*test["run_id"], best["run_id"])]
    assert [config["split"] for config in configs] == ["test", "test", "dev"]
    assert configs[0]["steps"] == 4
    assert {**configs[1], "split": "dev"} == configs[2]
    told = RunFolder(searched / "runs" / test["run_id"][1]).manifest()["selection"]
    assert told["on_dev"] == best["run_id"]
    assert len(told["scores"]) == 4
    study = json.loads((searched / "reports" / "default" / "study.json").read_text())
    assert study["notes"][0].startswith("chosen on dev among 4 settings, the best of those with at most 4 forward passes")
    assert study["notes"][0] in (searched / "reports" / "default" / "report.html").read_text()
    splits = [RunFolder(path).config()["split"] for path in (searched / "runs").iterdir()]
    assert (splits.count("test"), splits.count("dev")) == (2, 5)


def test_given_again_nothing_is_done(searched: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    before = (searched / "reports" / "default" / "dev" / "trials.csv").read_bytes()
    monkeypatch.setattr("tta_bench.runner.study.load", lambda *_: pytest.fail("a model was loaded"))
    assert tune(searched, *reversed(SPACE), "choose=null") == 0
    assert (searched / "reports" / "default" / "dev" / "trials.csv").read_bytes() == before
    assert "4 to be tried by tpe, 4 done already" in capsys.readouterr().out


def test_a_fixed_setting_that_only_some_settings_use_makes_another_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first sampler decides for itself how many steps it takes, the second does not."""
    folders: list[Path] = []
    monkeypatch.setattr("tta_bench.commands.tune.tune", lambda asked, _: folders.append(asked.folder) or 0)
    for steps in (4, 16, 4):
        assert tune(tmp_path, "sampler=threshold,tta", f"steps={steps}", "baseline_steps=8") == 0
    assert folders[0] != folders[1]
    assert folders[0] == folders[2]


def test_intervals_are_of_clusters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two problems of each passage that score alike tell no more than one."""
    once = np.array([[1.0, 1, 0, 0, 1, 0], [1, 1, 1, 0, 1, 1]])[:, :, None]
    rows: list[Any] = []
    for name, twice in (("apart", 1), ("together", 2)):
        scores = once.repeat(twice, axis=1)
        labels = [f"passage {i // twice}" for i in range(scores.shape[1])]
        runs = [write_run(tmp_path / name, {"name": n}, s, clusters=labels) for n, s in zip("ab", scores, strict=True)]
        baseline = SimpleNamespace(run_id=runs[0], sampler=SimpleNamespace(name="a"), steps=8)
        problems = [SimpleNamespace(id=f"test-{i:06d}") for i in range(scores.shape[1])]
        first: Any = SimpleNamespace(
            baseline=baseline, problems=problems, output_dir=tmp_path / name, n_problems=len(problems), replicates=1
        )
        monkeypatch.setattr("tta_bench.commands.tune_table.dev_means", lambda *_, **__: (0.5, 8.0, 0))
        found = table_of([Trial(0, ("sampler=b",), "done", 0.8, 8.0, runs[1])], first)
        rows.append(found.filter(regex="score|delta"))
    pd.testing.assert_frame_equal(rows[0], rows[1])
    assert rows[0]["delta_ci_low"][1] < rows[0]["delta"][1]


@pytest.mark.slow
def test_all_that_was_tried_can_be_analysed(searched: Path) -> None:
    assert cli.main(["analyze", str(searched / "reports" / "default" / "dev"), *QUICK]) == 0
    assert len(table(searched, "dev/summary.csv")) == 5


@pytest.mark.slow
def test_a_search_that_was_stopped_goes_on_as_if_it_had_not_been(
    searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from tta_bench.runner import execute

    decode, calls = execute.decode_batch, []

    def stop_at(number: int) -> Any:
        def decode_or_stop(*given: Any) -> Any:
            calls.append(1)
            if len(calls) == number:
                raise KeyboardInterrupt
            return decode(*given)

        return decode_or_stop

    words = (*SPACE, "choose=null", "batch_size=4")
    monkeypatch.setattr(execute, "decode_batch", stop_at(6))
    assert tune(tmp_path, *words) == cli.INTERRUPTED
    assert "Go on with: tta-bench tune task=json" in capsys.readouterr().err
    assert tune(tmp_path, *words) == 0
    assert "(taken over)" in capsys.readouterr().out
    assert len(calls) == 2 * 5 + 1  # the batch that was stopped was begun twice
    assert table(tmp_path, "dev/trials.csv").equals(table(searched, "dev/trials.csv"))
    assert not (tmp_path / "reports" / "default" / "study.json").exists()


BAD = [
    (["split=test"], "split=test: a search looks at its problems again and again, so it is done on dev"),
    (["select=best_on_dev"], "select=best_on_dev: tune chooses by"),
    (["sampler.tta_kk=3,5"], "sampler tta has no parameter 'tta_kk'; did you mean tta_k"),
    (["sampler.remask_top_pct=interval(0,1.5)"], "remask_top_pct=1.5: must be a share"),
    (["trial=3"], "did you mean trials"),
    (["max_passes=cheap"], "max_passes=cheap: must be a number, baseline, or null"),
    (["choose=worst"], "choose=worst: must be a whole number, at least 0, or best, or null"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_bad_input_is_refused_before_anything_runs(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    searches = any(sign in words[0] for sign in (",", "(", "steps=3"))
    given = ["task=json", *words, *([] if searches else ["steps=2,4"]), f"output_dir={tmp_path}"]
    assert cli.main(["tune", *given]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
    assert not list(tmp_path.iterdir())


def test_trials_that_fail_are_told_and_the_search_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Six steps cannot be shared among four blocks, which only this one combination asks for.

    Nor can the seven of the baseline, which is asked for none.
    """
    words = ["block_length=null,10", "gen_length=40", "steps=4,6", "n_problems=2", "baseline_steps=7"]
    assert tune(tmp_path, *words, "choose=null") == 0
    said = capsys.readouterr()
    assert "block_length=10 steps=6  FAILED: steps=6: must be divisible by the number of blocks, 4" in said.out
    assert "1 of 4 trials failed" in said.err
    trials = table(tmp_path, "dev/trials.csv")
    assert sorted(trials["state"]) == ["baseline", "done", "done", "done", "failed"]
    assert "must be divisible" in trials.set_index("state")["failure"]["failed"]


@pytest.mark.slow
def test_problems_that_fail_fail_the_trial_and_are_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from tta_bench.runner import execute

    decode = execute.decode_batch

    def fail_some(spec: Any, *given: Any) -> Any:
        if spec.steps == 6:
            raise RuntimeError("out of luck")
        return decode(spec, *given)

    words = ["steps=2,6", "n_problems=2", "choose=null"]
    with monkeypatch.context() as patched:
        patched.setattr(execute, "decode_batch", fail_some)
        assert tune(tmp_path, *words) == cli.FAILED
    assert "lacks answers (tta-bench show json-tta-" in capsys.readouterr().err
    assert tune(tmp_path, *words) == 0
    assert sorted(table(tmp_path, "dev/trials.csv")["state"]) == ["baseline", "done", "done"]


def test_the_choice() -> None:
    def trial(number: int, score: float, passes: float, state: str = "done") -> Trial:
        return Trial(number, (f"steps={number}",), state, score, passes)

    trials = [
        trial(0, 0.5, 4),
        trial(1, 0.7, 8),
        trial(2, 0.7, 6),
        trial(3, 0.7, 6),
        trial(4, 0.9, 9),
        trial(5, 1, 1, "failed"),
    ]
    assert chosen(trials, None, 8).number == 2
    assert chosen(trials, None, 9).number == 4
    assert chosen(trials, 4, 8).number == 4
    with pytest.raises(ValueError, match="choose=5: no trial of this number is done; done are 0, 1, 2, 3, 4"):
        chosen(trials, 5, 8)
    with pytest.raises(ValueError, match=r"takes at most 3 forward passes .* the cheapest takes 4; raise max_passes"):
        chosen(trials, None, 3)


def test_without_optuna_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    assert cli.main(["tune", "steps=2,4"]) == 2
    assert 'pip install "tta_bench[tune]"' in capsys.readouterr().err


@pytest.mark.slow
def test_two_commands_of_which_one_is_killed_again_and_again_make_the_same_table(searched: Path, tmp_path: Path) -> None:
    def work() -> int:
        return tune(tmp_path, *SPACE, "choose=null", "batch_size=1")

    for number, seconds in enumerate((1.5, 2.0, 2.5)):
        child = fork(work, tmp_path / f"said-{number}")
        child.kill(after=seconds)
        assert child.code() in (0, -signal.SIGKILL)
    assert work() == 0
    assert table(tmp_path, "dev/trials.csv").equals(table(searched, "dev/trials.csv"))
    pair = [fork(lambda: tune(tmp_path / "pair", *SPACE, "trials=9"), tmp_path / f"pair-{number}") for number in range(2)]
    assert [child.code() for child in pair] == [0, 0], [child.said.read_text() for child in pair]
    trials = table(tmp_path / "pair", "dev/trials.csv")
    assert len(trials) == trials["settings"].nunique() == 10
    for path in (tmp_path / "pair" / "runs").iterdir():
        assert len(list(RunFolder(path).lines())) == 6, "a record was made twice"
