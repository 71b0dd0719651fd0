"""What is known before anything is done: what is there, why something is redone, whether it could be compared."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.quick import QUICK
from tta_bench import cli
from tta_bench.runner import environment
from tta_bench.runner import execute as execution
from tta_bench.runner.difference import changes, flat
from tta_bench.runner.environment import COMPARED, UNKNOWN, differences, environments, with_environment
from tta_bench.runner.settings import comparison
from tta_bench.runner.store import RunFolder

VERSION_1 = Path(__file__).parent / "data" / "version_1"
WORDS = ("task=json", "n_problems=5", "steps=4", *QUICK)


def run(folder: Path, *words: str) -> int:
    return cli.main(["run", *WORDS, *words, f"output_dir={folder}"])


def manifests(folder: Path) -> dict[str, dict[str, Any]]:
    return {path.name: RunFolder(path).manifest() for path in sorted((folder / "runs").iterdir())}


def test_what_is_new_says_what_tells_it_from_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(tmp_path, "sampler.tta_k=3") == 0
    assert "new:" not in capsys.readouterr().out
    assert run(tmp_path, "sampler.tta_k=7") == 0
    said = capsys.readouterr().out
    assert said.count("new: sampler.tta_k differs: 7, was 3 (from json-tta-") == 1
    assert "5 of 10 answers are in" in said


def test_changes_name_their_keys() -> None:
    old, new = {"a": {"b": 1, "c": 2}, "model": {"name": "x", "fingerprint": "f"}}, {"a": {"b": 3}, "d": None}
    assert changes(flat(old), flat(new)) == [
        "a.b differs: 3, was 1", "a.c differs: absent, was 2", "d differs: None, was absent",
        "model.fingerprint differs: absent, was f",
    ]  # fmt: skip
    assert changes(flat(old), flat(old)) == []


def test_fresh_moves_the_old_runs_aside_and_does_all_again(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(tmp_path) == 0
    before = manifests(tmp_path)
    capsys.readouterr()
    assert run(tmp_path, "--fresh") == 0
    said = capsys.readouterr().out
    assert said.count("5 generated") == said.count("moved aside") == 2
    assert sorted(manifests(tmp_path)) == sorted(before)
    moved = sorted((tmp_path / "replaced").iterdir())
    assert [RunFolder(path).manifest() for path in moved] == list(before.values())


def test_an_interruption_of_a_fresh_run_goes_on_without_starting_afresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tta_bench.runner.execute.decode_batch", interrupt)
    assert run(tmp_path, "--fresh", "name='my study'") == 130
    assert f"Go on with: tta-bench run {' '.join(WORDS)} 'name='\"'\"'my study'\"'\"'' output_dir=" in capsys.readouterr().err


def test_runs_of_version_1_load_and_go_on(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    shutil.copytree(VERSION_1, tmp_path, dirs_exist_ok=True)
    assert cli.main(["analyze", str(tmp_path)]) == 0
    assert "60.0" in capsys.readouterr().out
    # All that is asked for is there: nothing is done, nothing is written.
    assert run(tmp_path) == 0
    assert "10 of 10 answers are in" in capsys.readouterr().out
    assert all(manifest["schema"] == 1 for manifest in manifests(tmp_path).values())
    # More is made by other code than the old records were, so it takes a word to mix them.
    more = [word.replace("n_problems=5", "n_problems=7") for word in WORDS]
    assert cli.main(["run", *more, f"output_dir={tmp_path}"]) == 2
    assert "code: 0.1.0+" in capsys.readouterr().err
    assert cli.main(["run", *more, f"output_dir={tmp_path}", "analysis.allow_differences=true"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "2 generated" in said
    assert "\N{DAGGER} Compared by way of exception" in said
    for manifest in manifests(tmp_path).values():
        assert (manifest["schema"], manifest["n_records"], len(manifest["environments"])) == (2, 7, 2)
        assert "status" not in manifest["environments"][0]


def test_other_conditions_are_refused_before_anything_is_generated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert run(tmp_path) == 0
    capsys.readouterr()
    torch.set_num_threads(torch.get_num_threads() + 1)
    with monkeypatch.context() as patch:
        patch.setattr("tta_bench.runner.execute.decode_batch", lambda *_: pytest.fail("something was generated"))
        assert run(tmp_path, "sampler.tta_k=3") == 2
    said = capsys.readouterr().err
    n = torch.get_num_threads()
    assert f"differ in threads: {n - 1} / {n}" in said
    assert "--fresh" in said
    # What needs nothing done can be reported under any conditions.
    assert run(tmp_path) == 0
    assert run(tmp_path, "sampler.tta_k=3", "analysis.allow_differences=true") == 0
    capsys.readouterr()
    # Told again by the analysis, of a study and of a folder.
    for place in ("reports/default", "."):
        summary = tmp_path / ("reports/default" if place != "." else "reports/all") / "summary.csv"
        code = cli.main(["analyze", str(tmp_path / place)])
        said = capsys.readouterr()
        assert code == (1 if place == "." else 2)  # the study has nothing else to show
        assert f"threads: {n - 1} / {n}" in said.out + said.err
        assert place != "." or "incomparable" in summary.read_text()
        assert cli.main(["analyze", str(tmp_path / place), "analysis.allow_differences=true"]) == 0
        assert "\N{DAGGER}" in capsys.readouterr().out
        assert "threads" in summary.read_text()


def test_environments_differ_in_what_results_depend_on() -> None:
    one = environment.describe("cpu", "float32", "tta_bench.sampling.presets.tta.tta", "tta_bench.tasks.json_record.JsonRecord")
    assert json.loads(json.dumps(one)) == one
    assert differences([one], [one]) == []
    assert differences([], [one]) == []
    for key, value in (("threads", 99), ("device", "cuda (H100)"), ("dtype", "bfloat16"), ("code", "x")):
        (found,) = differences([one], [one | {key: value}])
        assert found == f"{key}: {one[key]} / {value}"
    newer = one | {"packages": one["packages"] | {"torch": "9"}}
    assert differences([one], [newer]) == [f"torch: {one['packages']['torch']} / 9"]
    assert differences([one, newer], [one, newer]) == [f"torch: {one['packages']['torch']} and 9 within each of them"]
    assert differences([one | {"python": "3.99"}], [one]) == []
    assert differences([one], [one | {"task_code": "other"}]) == [f"task_code: {one['task_code']} / other"]
    edited = one | {"sampler_code": "other"}
    assert "the sampler's source was changed" in differences([one, edited], [one])[0]
    assert differences([one], [edited]) == []  # samplers are what is compared
    assert with_environment([one], one) == [one]
    assert with_environment([one], newer) == [one, newer]
    assert environments({}) == [UNKNOWN]
    assert len(differences(environments({}), [one])) == len(COMPARED)


def test_the_code_digest_covers_what_generates_and_not_the_samplers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "tta_bench"
    shutil.copytree(environment.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    monkeypatch.setattr(environment, "PACKAGE", copy)
    original = environment.code_digest.__wrapped__()
    (copy / "sampling" / "presets" / "tta.py").write_text("")
    (copy / "analysis" / "stats.py").write_text("")
    (copy / "tasks" / "mine.py").write_text("")
    assert environment.code_digest.__wrapped__() == original
    (copy / "sampling" / "commit.py").write_text("")
    assert environment.code_digest.__wrapped__() != original


def test_other_scorers_are_seen_by_the_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert run(tmp_path) == 0
    monkeypatch.setattr("tta_bench.commands.score.source_digest", lambda _: "another scorer")
    assert cli.main(["score", "json-tta", str(tmp_path)]) == 0
    capsys.readouterr()
    assert cli.main(["analyze", str(tmp_path / "reports" / "default")]) == 2
    assert "task_code: " in capsys.readouterr().err
    # Both scored again are comparable.
    assert cli.main(["score", "json-low", str(tmp_path)]) == 0
    assert cli.main(["analyze", str(tmp_path / "reports" / "default")]) == 0


def test_a_kill_before_the_first_record_leaves_no_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("tta_bench.runner.execute.decode_batch", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert run(tmp_path) == 130
    (begun,) = manifests(tmp_path).values()
    assert (begun["status"], begun["environments"]) == ("interrupted", [])
    torch.set_num_threads(torch.get_num_threads() + 1)
    assert run(tmp_path) == 0


def test_a_visit_that_makes_nothing_leaves_the_environment_as_it_was(tmp_path: Path) -> None:
    assert run(tmp_path) == 0
    (folder, *_) = (tmp_path / "runs").iterdir()
    made = RunFolder(folder).manifest()
    # Killed between its last record and its last word, and visited under other conditions.
    (folder / "manifest.json").write_text(json.dumps(made | {"status": "running"}))
    torch.set_num_threads(torch.get_num_threads() + 1)
    assert run(tmp_path) == 0
    after = RunFolder(folder).manifest()
    assert (after["status"], after["threads"], after["environments"]) == ("done", made["threads"], made["environments"])


def test_a_study_reports_its_own_runs_whoever_uses_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = tmp_path / "reports" / "default"
    execute = execution.execute

    def meanwhile(*arguments: Any, **options: Any) -> int:
        (report / "study.json").write_text("{}")
        return execute(*arguments, **options)

    monkeypatch.setattr("tta_bench.runner.study.execute", meanwhile)
    assert run(tmp_path) == 0
    assert "tta" in (report / "summary.csv").read_text()


def test_fresh_is_refused_whole_while_another_process_is_at_work(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(tmp_path) == 0
    before = manifests(tmp_path)
    busy = RunFolder(tmp_path / "runs" / next(name for name in before if "tta" in name))
    with busy.claimed():
        assert run(tmp_path, "--fresh") == 1
    assert "to share its work, give the same command without --fresh" in capsys.readouterr().err
    assert manifests(tmp_path) == before
    assert cli.main(["run", "--fresh", "-m", "n_problems=3,6", f"output_dir={tmp_path}"]) == 2
    assert manifests(tmp_path) == before


def test_names_in_brackets_and_links_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "er")
    assert run(tmp_path, "name='[/x]'", f"report_dir={tmp_path}/link/r") == 0
    assert cli.main(["plan", *WORDS, "name='[/x]'", f"output_dir={tmp_path}"]) == 0
    assert cli.main(["analyze", str(tmp_path / "link" / "r")]) == 0


def test_no_sampler_borrows_from_another() -> None:
    # Its source would be in no digest.
    for file in (environment.PACKAGE / "sampling" / "presets").glob("*.py"):
        assert "tta_bench.sampling.presets" not in file.read_text(), file


def test_zero_has_one_sign(tmp_path: Path) -> None:
    runs = {
        comparison(
            cli.compose([*WORDS, f"cfg_scale={zero}", f"baseline.temperature={zero}", f"output_dir={tmp_path}"])
        ).baseline.run_id
        for zero in ("0.0", "-0.0")
    }
    assert len(runs) == 1
