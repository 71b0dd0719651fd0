from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tta_bench import cli
from tta_bench.commands import doctor
from tta_bench.commands.doctor import Patient
from tta_bench.models.checkpoint import ModelSettings
from tta_bench.runner import batch
from tta_bench.runner.preview import Preview
from tta_bench.runner.settings import comparison
from tta_bench.runner.study import model_source


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    found = comparison(cli.compose(["task=json", "n_problems=12", "steps=2", f"output_dir={tmp_path}"]))
    return Patient(found, model_source(ModelSettings("mini"), "cpu", "float32").get())


def test_a_healthy_machine_passes_every_check(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["doctor", "task=json", "n_problems=12", "steps=2", f"output_dir={tmp_path}"]
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    assert "All 9 checks are fine." in said
    assert "0 of 12 answers differ" in said
    assert [line.split("  ")[0] for line in said.splitlines() if line.startswith(("ok", "BAD"))] == ["ok"] * 9
    assert not list(tmp_path.rglob("records.jsonl"))


def test_answers_that_depend_on_the_batch_are_counted(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    decode = Patient.decode_spec

    def flips(self: Patient, spec: Any, size: int) -> Preview:
        found = decode(self, spec, size)
        if size == 8:
            found.records[3]["tokens"][0] += 1
        return found

    monkeypatch.setattr(Patient, "decode_spec", flips)
    finding = doctor.batch_invariance(patient)
    assert not finding.fine
    assert "1 of 12 answers differ" in finding.detail
    assert "batch_size" in finding.remedy


def test_tta_that_is_not_the_baseline_without_its_parts_is_found(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.same_as_baseline(patient).fine
    spec, hotter = Patient.spec, {"tta": {}, "low_confidence": {"temperature": 5.0}}
    monkeypatch.setattr(Patient, "spec", lambda self, sampler, _, seed: spec(self, sampler, hotter[sampler], seed))
    assert not doctor.same_as_baseline(patient).fine


def test_a_draw_from_the_global_generator_is_found(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.repeats(patient).fine
    monkeypatch.setattr("tta_bench.runner.preview.decode_batch", lambda *a: scrambled(batch.decode_batch(*a)))
    assert not doctor.repeats(patient).fine


def scrambled(done: Any) -> Any:
    for record in done[0]:
        record["tokens"] = [int(torch.randint(100, ())), *record["tokens"][1:]]
    return done


def test_a_difference_where_there_is_none_is_found(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.against_itself(patient).fine
    scores = iter([[0.0] * 12, [1.0] * 12])
    monkeypatch.setattr(Preview, "scores", property(lambda _: next(scores)))
    finding = doctor.against_itself(patient)
    assert not finding.fine
    assert "+100.0 points" in finding.detail


def test_little_memory_and_more_threads_than_cores_are_found(patient: Patient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "usable_cores", lambda: 0)
    assert not doctor.environment_of(patient.comparison)().fine
    monkeypatch.setattr(doctor, "LITTLE_DISK", 1 << 60)
    assert not doctor.memory().fine
    assert not doctor.disk(patient.comparison).fine


def test_a_finding_tells_its_remedy_and_the_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(doctor, "LITTLE_DISK", 1 << 60)
    assert cli.main(["doctor", "task=json", "n_problems=4", "steps=2", f"output_dir={tmp_path}"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "less than 1 GB is free: choose another output_dir" in said
    assert "2 of 9 checks found something." in said


def test_a_mistake_is_refused(capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["doctor", "device=abacus"]) == 2
    assert "device=abacus" in capsys.readouterr().err


@pytest.mark.parametrize("answers", [[False, False], [True, True]], ids=["excludes nobody", "outlives its process"])
def test_locks_that_do_not_work_are_found(answers: list[bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = iter(answers)
    monkeypatch.setattr(doctor.RunFolder, "busy", lambda _: next(seen))
    finding = doctor.locks(tmp_path)
    assert not finding.fine
    assert "only one process at a time" in finding.remedy


def test_locks_of_this_machine_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "file_system", lambda _: "nfs4")
    finding = doctor.locks(tmp_path)
    assert finding.fine
    assert "between machines" in finding.detail
    assert list(tmp_path.iterdir()) == []
