from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from tests.quick import QUICK
from tta_bench import cli
from tta_bench.commands import plan as planning
from tta_bench.commands.plan import Calibration, Pace
from tta_bench.runner.settings import comparison
from tta_bench.runner.survey import survey

WORDS = ("task=json", "n_problems=20", *QUICK)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many problems a run is tried out with is nothing that these tests look at."""
    monkeypatch.setattr(planning, "FIRST_LOOK", 2)
    monkeypatch.setattr(planning, "SECOND_LOOK", 4)


def planned(folder: Path, capsys: pytest.CaptureFixture, *words: str) -> str:
    capsys.readouterr()
    assert cli.main(["plan", *WORDS, *words, f"output_dir={folder}"]) == 0
    return " ".join(capsys.readouterr().out.split())


def test_a_plan_lists_the_runs_and_does_nothing(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    said = planned(tmp_path, capsys, "-m", "steps=4,8", "sampler.tta_k=3,5")
    assert "6 runs for 4 comparison(s): 120 answers, 0 of them on disk." in said
    # (low_confidence + 2 tta) x 20 problems x (4 + 8) passes
    assert "To do: 120 answers, 720 forward passes, about" in said
    assert len(re.findall(r"0/20 80 \d+ s", said)) == len(re.findall(r"0/20 160 \d+ s", said)) == 3
    # (1.960 + 0.842) sqrt(1 / 9 / 20), and 2.498 in place of 1.960 for a quarter of the level
    assert "20.9 points (24.9 if adjusted for 4 comparisons) where answers do not change with the seed" in said
    assert not list(tmp_path.iterdir())


def test_a_plan_knows_what_is_done_and_what_it_showed(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["run", *WORDS, "steps=4", f"output_dir={tmp_path}"]) == 0
    before = sorted(tmp_path.rglob("*"))
    said = planned(tmp_path, capsys, "steps=4")
    assert "40 answers, 40 of them on disk. Nothing is to be done." in said
    said = planned(tmp_path, capsys, "steps=4", "n_problems=80", "sampler.tta_k=3")
    assert "20/80 240" in said
    assert "new: sampler.tta_k differs: 3, was 5" in said
    assert "From what is on disk" not in said
    said = planned(tmp_path, capsys, "steps=4", "n_problems=80")
    effect = re.search(r"From what is on disk of 1 comparison\(s\) it would be ([\d.]+) to \1 points", said)
    assert effect
    assert 0 < float(effect[1]) < 30
    assert sorted(tmp_path.rglob("*")) == before


def test_open_samplers_are_tried_out_to_know_their_passes(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    said = planned(tmp_path, capsys, "sampler=threshold", "steps=8")
    passes = re.search(r"json open threshold 0/20 (\d+) ", said)
    assert passes
    assert 20 <= int(passes[1]) < 160


def test_a_plan_says_what_would_be_refused_and_what_comes_after(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["run", *WORDS, "steps=4", f"output_dir={tmp_path}"]) == 0
    torch.set_num_threads(torch.get_num_threads() + 1)
    said = planned(tmp_path, capsys, "steps=4", "sampler.tta_k=3", "select=best_on_dev")
    assert "tta-bench run would refuse this" in said
    assert "differ in threads" in said
    assert "the best candidate for each baseline is done on test" in said


def test_when_time_is_up_the_rest_is_worked_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [*WORDS, f"output_dir={tmp_path}"]
    found = [comparison(cli.compose([*words, f"steps={steps}", "sampler.tta_k=3"])) for steps in (4, 8)]
    monkeypatch.setattr(planning, "CALIBRATION_SECONDS", -1.0)
    monkeypatch.setattr(planning, "tried", lambda _: Pace(4.0, 0.5))
    first, *others = Calibration().paces(survey(found)).values()
    assert first == Pace(4.0, 0.5)
    assert others == [Pace(4.0, 0.5, False), Pace(8.0, 1.0, False), Pace(8.0, 1.0, False)]


def test_a_mistake_is_refused(capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["plan", "sampler.tta_k=0"]) == 2
    assert "tta_k=0: must be at least 1" in capsys.readouterr().err
