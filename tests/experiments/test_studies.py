"""Saved studies: each has a page, composes, and runs in little."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tta_bench import cli
from tta_bench.analysis.tables import REFUSED

ROOT = Path(__file__).parents[2]
STUDIES = sorted(path.stem for path in (ROOT / "conf" / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_has_a_page_with_its_command(name: str) -> None:
    said = (ROOT / "experiments" / name / "README.md").read_text()
    assert re.search(rf"`tta-bench run experiment={name}[` ]", said)
    head = (ROOT / "conf" / "experiment" / f"{name}.yaml").read_text().splitlines()
    assert head[1] == f"# tta-bench run experiment={name}"


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_composes_whole_and_in_little(name: str) -> None:
    found = []
    for words in ([], ["settings=quick"]):
        jobs, multirun, _ = cli.expand([f"experiment={name}", *words], multirun=False)
        assert multirun
        found.append(cli.read(cli.compose(jobs[-1])))
    whole, little = found
    assert (whole.name, whole.report_dir) == (name, Path("outputs/reports") / name)
    assert little.report_dir == Path("outputs/reports") / f"quick_{name}"
    assert little.n_problems < whole.n_problems
    assert [run.run_id for run in little.runs] == [run.run_id for run in whole.runs], "records are shared with the whole study"
    assert little.effort == whole.effort, "a record made in little has the traces that the whole study needs"


def test_settings_win_over_a_study_and_the_command_line_over_both() -> None:
    words = ["experiment=demo", "settings=quick"]
    assert cli.compose(words)["n_problems"] < cli.compose(words[:1])["n_problems"] == 200
    assert cli.compose([*words, "n_problems=7"])["n_problems"] == 7
    words = ["experiment=signals", "settings=recommended", "model=llada_8b_instruct"]
    found = cli.compose(words)
    assert (found["steps"], cli.compose(words[:1])["steps"]) == (found["model"]["recommended"]["steps"], 8)
    assert cli.compose([*words, "steps=4"])["steps"] == 4


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_every_study_runs_in_little(name: str, tmp_path: Path) -> None:
    assert cli.main(["run", f"experiment={name}", "settings=quick", f"output_dir={tmp_path}"]) == 0
    summary = pd.read_csv(tmp_path / "reports" / f"quick_{name}" / "summary.csv")
    sweep = yaml.safe_load((ROOT / "conf" / "experiment" / f"{name}.yaml").read_text())["hydra"]["sweeper"]["params"]
    assert set(summary["task"]) == set(sweep["task"].split(","))
    baselines = set(summary["baseline_run_id"].dropna())
    assert (summary["verdict"].notna() | summary["run_id"].isin(baselines)).all()
    assert not summary["verdict"].isin(REFUSED).any()
    assert summary["caveat"].isna().all()
    manifests = [json.loads(path.read_text()) for path in tmp_path.glob("runs/*/manifest.json")]
    assert set(summary["run_id"]) == {path.name for path in (tmp_path / "runs").iterdir()}
    assert [manifest["status"] for manifest in manifests] == ["done"] * len(manifests)
    records = [line for path in tmp_path.glob("runs/*/records.jsonl") for line in path.read_text().splitlines()]
    assert len(records) == len(manifests) * summary["n_problems"].max()
    assert not any(json.loads(record).get("error") for record in records)
