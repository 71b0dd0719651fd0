"""Settings are chosen on dev and reported once on test."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from tests.quick import QUICK
from tta_bench import cli
from tta_bench.runner.select import choose
from tta_bench.runner.settings import comparison
from tta_bench.runner.spec import RunSpec
from tta_bench.runner.store import RunFolder

WORDS = (
    "task=json",
    "n_problems=12",
    "steps=4",
    "select=best_on_dev",
    *QUICK,
)


def run(folder: Path, *words: str) -> int:
    return cli.main(["run", *WORDS, *words, f"output_dir={folder}"])


def test_the_best_on_dev_is_reported_on_test_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(tmp_path, "-m", "sampler.tta_k=3,5", "sampler.remask_top_pct=0.1,0.5") == 0
    said = capsys.readouterr().out
    dev = pd.read_csv(tmp_path / "reports" / "default" / "dev" / "summary.csv")
    test = pd.read_csv(tmp_path / "reports" / "default" / "summary.csv")
    assert len(dev) == 5
    assert test["sampler"].tolist() == ["low_confidence", "tta"]
    best = dev[dev["sampler"] == "tta"]["score"].max()
    assert f"({100 * best:.1f} %, best of 4)" in said
    chosen = RunFolder(tmp_path / "runs" / test["run_id"][1])
    selection = chosen.manifest()["selection"]
    assert selection["rule"] == "best_on_dev"
    assert selection["scores"] == pytest.approx(dict(zip(dev["run_id"][1:], dev["score"][1:], strict=True)))
    assert selection["scores"][selection["on_dev"]] == pytest.approx(best)
    on_dev, on_test = (RunFolder(tmp_path / "runs" / i).config() for i in (selection["on_dev"], chosen.path.name))
    assert (on_dev.pop("split"), on_test.pop("split")) == ("dev", "test")
    assert on_dev == on_test
    splits = [RunFolder(path).config()["split"] for path in (tmp_path / "runs").iterdir()]
    assert (splits.count("dev"), splits.count("test")) == (5, 2)
    assert set(selection["settings"]) == {"sampler.tta_k", "sampler.remask_top_pct"}
    told = "".join(f"{key}={value} " for key, value in selection["settings"].items())
    assert f"chosen on dev: {told}" in (tmp_path / "reports" / "default" / "report.html").read_text()


def test_dev_and_test_must_not_be_the_same_file(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / "sums.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"{i}+1=", "target": f"{i + 1}"}) + "\n" for i in range(60)))
    words = [
        "run",
        "task=jsonl",
        f"task.path={file}",
        "select=best_on_dev",
        "n_problems=6",
        "steps=2",
        f"output_dir={tmp_path}",
    ]
    assert cli.main(words) == cli.BAD_INPUT
    said = capsys.readouterr().err
    assert "dev and test of jsonl have 6 problem(s) in common (row-00000)" in said
    assert "task.dev_share=0.3 divides the rows" in said
    assert not (tmp_path / "runs").exists()
    cli.main([*words, "task.dev_share=0.3", *QUICK])
    assert {RunFolder(path).config()["split"] for path in (tmp_path / "runs").iterdir()} == {"dev", "test"}


def test_a_second_choice_tells_that_the_test_split_is_not_fresh(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(tmp_path, "sampler.tta_k=3") == 0
    assert "not fresh" not in capsys.readouterr().out
    assert run(tmp_path, "sampler.tta_k=3") == 0
    said = capsys.readouterr().out
    assert "generated" not in said
    assert "not fresh" not in said
    assert run(tmp_path, "sampler.tta_k=5") == 0
    assert "the test split is not fresh: json-tta-" in capsys.readouterr().out
    assert run(tmp_path, "sampler.tta_k=5") == 0
    assert "the test split is not fresh: json-tta-" in capsys.readouterr().out


def test_one_is_chosen_for_each_baseline(tmp_path: Path) -> None:
    assert run(tmp_path, "-m", "task=json,listops", "sampler.tta_k=3,5") == 0
    test = pd.read_csv(tmp_path / "reports" / "default" / "summary.csv")
    assert test[["task", "sampler"]].to_numpy().tolist() == [
        ["json", "low_confidence"], ["json", "tta"], ["listops", "low_confidence"], ["listops", "tta"],
    ]  # fmt: skip


def test_nothing_is_chosen_from_half_of_the_answers(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    found = comparison(cli.compose([*WORDS, f"output_dir={tmp_path}"]))
    with pytest.raises(ValueError, match=r"has 0 of 12 answers on dev, so nothing can be chosen"):
        choose([found], [found], allow_missing=False)
    assert run(tmp_path, "split=train") == 2
    assert "chooses on dev and reports on test" in capsys.readouterr().err
    assert run(tmp_path, "select=worst") == 2
    assert "select=worst: must be best_on_dev" in capsys.readouterr().err


def test_ties_go_to_fewer_passes_then_to_the_first(tmp_path: Path) -> None:
    words = [*WORDS, "n_problems=1", f"output_dir={tmp_path}"]
    swept = [comparison(cli.compose([*words, f"sampler.tta_k={k}"])) for k in (3, 5, 7)]

    def store(spec: RunSpec, passes: int) -> None:
        folder = RunFolder(tmp_path / "runs" / spec.run_id)
        record = {
            "key": "dev-00000/0",
            "problem": "dev-00000",
            "replicate": 0,
            "score": 1.0,
            "forward_passes": passes,
            "error": None,
        }
        folder.open(spec.config()).append([record], pd.DataFrame())

    for found, passes in zip(swept, (8, 4, 4), strict=True):
        store(found.candidate, passes)
    (choice,) = choose(swept, swept, allow_missing=False)
    assert choice.number == 1
    assert json.loads(json.dumps(choice.scores)) == {found.candidate.run_id: 1.0 for found in swept}
