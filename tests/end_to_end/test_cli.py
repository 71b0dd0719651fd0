from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from tests.quick import QUICK
from tta_bench import catalog, cli
from tta_bench.analysis.summary import TIMING_COLUMNS


def run(*words: str) -> int:
    return cli.main(["run", *words])


def quick(*words: str) -> int:
    """As ``run``, in tests that look at other things than the numbers of the analysis."""
    return run(*QUICK, *words)


@pytest.mark.parametrize("command", [["tta-bench"], [sys.executable, "-m", "tta_bench"]])
def test_help_is_quick(command: list[str]) -> None:
    command = [str(Path(sys.executable).parent / command[0]), *command[1:]]
    subprocess.run(command, capture_output=True, check=True)  # compiles the byte code
    began = time.perf_counter()
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert time.perf_counter() - began < 1.5
    assert "tta-bench run experiment=demo" in shown


BAD = [
    (["sampler=ttta"], "unknown sampler 'ttta'; did you mean tta"),
    (["baseline=low_confidenc"], "did you mean low_confidence"),
    (["task=sudokku"], "unknown task 'sudokku'; did you mean sudoku"),
    (["experiment=dem"], "unknown experiment 'dem'; did you mean demo"),
    (["n_problem=3"], "did you mean n_problems"),
    (["sampler.tta_kk=3"], "sampler tta has no parameter 'tta_kk'; did you mean tta_k"),
    (["sampler.threshold=0.5"], "sampler tta has no parameter 'threshold'; it belongs to t2m, threshold, wino"),
    (["sampler.tta_k=0"], "tta_k=0: must be at least 1"),
    (["sampler.tta_k=three"], "sampler.tta_k='three'"),
    (["sampler.remask_top_pct=1.5"], "remask_top_pct=1.5: must be a share"),
    (["sampler.tta_temperature_range=[0.3,0.0]"], "tta_temperature_range=[0.3, 0.0]: the first must not exceed"),
    (["sampler.alpha_entropy=-1"], "alpha_entropy=-1.0: must be a number >= 0"),
    (["steps=5", "block_length=8"], "steps=5: must be divisible by the number of blocks, 3"),
    (["steps=0"], "steps=0: must be a whole number, at least 1"),
    (["steps=4.5"], "steps=4.5: must be a whole number"),
    (["eos_policy=end"], "eos_policy=end: must be one of allow, forbid, stop"),
    (["sampler=threshold", "sampler.threshold=2"], "threshold=2.0: must be a probability"),
    (["sampler=dream_entropy", "sampler.top_p=0"], "top_p=0.0: must be a probability"),
    (["sampler=remdm_loop", "sampler.t_on=0.01"], "must satisfy 1 > t_on > t_off > 0"),
    (["sampler=klass", "sampler.kl_threshold=-1"], "kl_threshold=-1.0: must be a number >= 0"),
    (["sampler=more_steps", "sampler.times=0"], "times=0: must be at least 1"),
    (["gen_length=0", "task=json"], "gen_length=0: must be a whole number, at least 1"),
    (["n_problems=0"], "n_problems=0"),
    (["n_problems=100000"], "n_problems=100000: task sudoku has 1000 problems in a split; choose 1 to 1000"),
    (["split=validation"], "split=validation: must be one of train, dev, test"),
    (["device=abacus"], "device=abacus"),
    (["dtype=float12"], "dtype=float12"),
    (["model.name_or_path=/nowhere"], "model=/nowhere: must be 'mini', an existing checkpoint folder"),
    (["model.name_or_path=some/model"], "give model.revision"),
    (["analysis.margin=0"], "analysis.margin=0.0: must lie between"),
    (["analysis.n_resamples=5"], "analysis.n_resamples=5: must be at least 99"),
    (["analysis.margin=abc"], "analysis.margin='abc'"),
    (["-m", "analysis.margin=0.02,0.05"], "analysis: its settings are fixed before a study"),
    (["sampler=low_confidence"], "is the same run as the baseline"),
    (["sampler=random", "sampler.tta_k=5"], "sampler random has no parameter 'tta_k'; it belongs to tta"),
    (["sampler._target_=foo.bar"], "_target_=foo.bar"),
    (["+controls.mine.remask_top_k=1"], "sampler: its settings ['remask_top_k'] name no _target_"),
    (["cfg_scale=null"], "cfg_scale=None: must be a number"),
    (["cfg_scale=nan"], "cfg_scale=nan: must be a number"),
    (["steps=inf"], "steps=inf: must be a whole number"),
    (["steps.foo=1"], "steps.foo"),
    (["sampler.remask_top_k=true"], "sampler.remask_top_k=True: must be a number"),
    (["task=arithmetic", "task.digits=[1,1]"], "only 7 different problems"),
    (["device=meta"], "device=meta: must be auto, cpu"),
    (["output_dir=null", "report_dir=x"], "output_dir=None: must name a folder"),
    (["sampler.tta_k=3,5"], "several values need a sweep; add -m"),
    (["-m", "sampler.tta_k=3,0"], "tta_k=0: must be at least 1"),
    (["-m", "n_problems=3,5"], "n_problems: is swept over 3, 5"),
    (["batch_size=0"], "batch_size=0: must be a whole number, at least 1, or auto"),
    (["batch_size=many"], "batch_size=many: must be a whole number, at least 1, or auto"),
    (["max_failures=-1"], "max_failures=-1: must be a whole number, at least 0"),
    (["time_limit=0"], "time_limit=0.0: must be above 0, or null for none"),
    (["analysis.allow_missing=maybe"], "analysis.allow.missing='maybe'"),
    (["output_dir=/proc/version/x"], "output_dir=/proc/version/x: cannot be written to"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_bad_input_is_refused_before_a_model_is_loaded(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("tta_bench.runner.study.load", lambda *_: pytest.fail("a model was loaded"))
    folder = [] if any("output_dir" in word or "report_dir" in word for word in words) else [f"output_dir={tmp_path}"]
    assert run(*words, *folder) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
    assert not (tmp_path / "runs").exists()


def test_a_checkpoint_folder_without_weights_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert run(f"model.name_or_path={tmp_path}") == 2
    assert "has no weights" in capsys.readouterr().err


def test_unknown_command_suggests(capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["analyse"]) == 2
    assert "did you mean analyze" in capsys.readouterr().err


def table(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "summary.csv")


def test_a_sweep_does_its_baseline_once_and_a_second_visit_nothing(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["-m", "sampler.tta_k=3,5", "sampler.remask_top_pct=0.05,0.1", "n_problems=8", "steps=4", f"output_dir={tmp_path}"]
    assert quick(*words) == 0
    first = capsys.readouterr().out
    assert first.count("8 generated") == 5
    runs = sorted(p.name for p in (tmp_path / "runs").iterdir())
    assert len(runs) == 5
    report = tmp_path / "reports" / "default"
    assert {"summary.csv", "summary.md", "summary.tex", "report.html", "figures", "study.json"} <= {
        p.name for p in report.iterdir()
    }
    assert {"accuracy_versus_passes.svg", "uncertainty_evolution.svg"} <= {p.name for p in (report / "figures").iterdir()}
    summary = table(report)
    assert summary["sampler"].tolist() == ["low_confidence"] + ["tta"] * 4
    assert "report.html" in first
    before = (report / "summary.csv").read_bytes()
    assert quick(*words) == 0
    again = capsys.readouterr().out
    assert "generated" not in again
    assert "40 of 40 answers are in" in again
    assert (report / "summary.csv").read_bytes() == before
    assert quick(*[w if not w.startswith("sampler.tta_k") else "sampler.tta_k=3,5,7" for w in words]) == 0
    assert capsys.readouterr().out.count("8 generated") == 2


def test_the_same_seed_gives_the_same_table(tmp_path: Path) -> None:
    tables = []
    for name in ("a", "b"):
        assert quick("task=listops", "n_problems=12", "steps=4", f"output_dir={tmp_path / name}") == 0
        summary = table(tmp_path / name / "reports" / "default")
        tables.append(summary.drop(columns=list(TIMING_COLUMNS)).to_csv())
    assert tables[0] == tables[1]


def test_every_sampler_runs_by_its_name_in_the_study_of_rivals(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert quick("experiment=rivals", "task=json", "n_problems=3", "token_traces=0", f"output_dir={tmp_path}") == 0
    summary = table(tmp_path / "reports" / "rivals").set_index("sampler")
    rivals = sorted(set(catalog.names("sampler")) - {"tta_best", "tta_rules"})  # tta with other parameters
    assert sorted(summary.index) == rivals
    assert summary.loc["self_consistency", "forward_passes"] == 40
    assert summary.loc["more_steps", "forward_passes"] == 16
    assert summary.loc["threshold", "forward_passes"] < 8
    # All runs of the folder, paired by their settings: open samplers, which have no steps, find their baseline too.
    capsys.readouterr()
    assert cli.main(["analyze", str(tmp_path), *QUICK]) == 0
    assert sorted(table(tmp_path / "reports" / "all")["sampler"]) == rivals


def test_a_parameter_may_fit_only_the_samplers_that_are_swept(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["sampler.threshold=0.5", "n_problems=3", "steps=4", f"output_dir={tmp_path}"]
    assert quick("-m", "sampler=threshold,t2m", *words) == 0
    assert table(tmp_path / "reports" / "default")["sampler"].tolist() == ["low_confidence", "threshold", "t2m"]
    capsys.readouterr()
    assert quick("-m", "sampler=threshold,factor", *words) == 2
    assert "sampler factor has no parameter 'threshold'; it belongs to t2m, threshold, wino" in capsys.readouterr().err


def test_two_baselines_give_two_comparisons(tmp_path: Path) -> None:
    assert quick("-m", "baseline=low_confidence,random", "n_problems=5", "steps=4", f"output_dir={tmp_path}") == 0
    assert table(tmp_path / "reports" / "default")["sampler"].tolist() == ["low_confidence", "tta", "random", "tta"]


def test_rows_say_what_was_swept(tmp_path: Path) -> None:
    assert quick("-m", "task.holes=6,12", "n_problems=5", "steps=4", f"output_dir={tmp_path}") == 0
    settings = table(tmp_path / "reports" / "default")["settings"].tolist()
    assert settings == ["steps=4 sudoku.holes=6"] * 2 + ["steps=4 sudoku.holes=12"] * 2


def test_the_plan_of_the_tests_is_kept_with_the_study(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert quick("analysis.margin=0.3", "n_problems=12", "steps=4", f"output_dir={tmp_path}") == 0
    report = tmp_path / "reports" / "default"
    before = (report / "summary.md").read_text()
    assert "+-30 points" in before
    assert cli.main(["analyze", str(report)]) == 0
    assert (report / "summary.md").read_text() == before
    capsys.readouterr()
    assert cli.main(["analyze", str(report), *QUICK, "analysis.margin=0.1"]) == 0
    assert "differ from those fixed before the runs" in capsys.readouterr().out


def test_the_sweep_leaves_nothing_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert quick("-m", "sampler.tta_k=2,3", "n_problems=3", "steps=2") == 0
    assert [p.name for p in tmp_path.iterdir()] == ["outputs"]


def test_controls_are_compared_as_well(tmp_path: Path) -> None:
    assert quick("+sampler@controls.random=random_remask", "n_problems=5", "steps=4", f"output_dir={tmp_path}") == 0
    assert table(tmp_path / "reports" / "default")["sampler"].tolist() == ["low_confidence", "tta", "random_remask"]


def test_analyze_repeats_the_report_without_torch(tmp_path: Path) -> None:
    few = QUICK[:2]  # resamples; all tables are made
    assert run("n_problems=6", "steps=4", *few, f"output_dir={tmp_path}") == 0
    report = tmp_path / "reports" / "default"
    before = (report / "summary.csv").read_bytes()
    (report / "summary.csv").unlink()
    code = (
        "import sys; from tta_bench.cli import main; from tta_bench.analysis.figures import style\n"
        "style.UNDATED = {'svg': {'Date': None}}  # one kind of file is enough\n"
        "code = main(['analyze', *sys.argv[1:]])\n"
        "assert 'torch' not in sys.modules, 'torch was loaded'\n"
        "sys.exit(code)"
    )
    subprocess.run([sys.executable, "-c", code, str(report)], check=True, capture_output=True)
    assert (report / "summary.csv").read_bytes() == before
    assert cli.main(["analyze", str(tmp_path), *few]) == 0
    assert (tmp_path / "reports" / "all" / "summary.csv").read_bytes() == before


def test_analyze_of_nothing_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["analyze", str(tmp_path)]) == 2
    assert "holds neither" in capsys.readouterr().err


def test_an_interruption_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tta_bench.runner.execute.decode_batch", interrupt)
    assert run("n_problems=5", "steps=4", f"output_dir={tmp_path}") == 130
    assert f"Go on with: tta-bench run n_problems=5 steps=4 output_dir={tmp_path}" in capsys.readouterr().err
    monkeypatch.undo()
    assert quick("n_problems=5", "steps=4", f"output_dir={tmp_path}") == 0


# With all their tasks, and all studies, slow: tests/experiments/test_studies.py.
@pytest.mark.parametrize("name", ["demo", "signals", "tta_vs_random"])
def test_saved_studies_run(name: str, tmp_path: Path) -> None:
    judged = 4 if name == "signals" else 0
    words = ["n_problems=2", "analysis.n_resamples=99", "analysis.n_bootstrap=200", f"analysis.n_judged={judged}"]
    assert run(f"experiment={name}", "task=json", *words, f"output_dir={tmp_path}") == 0
    assert len(table(tmp_path / "reports" / name)) > 1
