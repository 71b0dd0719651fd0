"""What fails becomes a record that says so, the rest of the run is as if nothing had happened, and it is tried again."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.quick import QUICK
from tests.runner.processes import fork
from tta_bench import cli
from tta_bench.models.checkpoint import ModelSettings
from tta_bench.runner import batch as batching
from tta_bench.runner import disk
from tta_bench.runner import execute as execution
from tta_bench.runner.batch import Item, LoadedModel
from tta_bench.runner.disk import StoreError
from tta_bench.runner.execute import Effort, ModelSource, TooManyFailuresError, execute
from tta_bench.runner.isolate import LARGEST_BATCH, automatic_batch_size
from tta_bench.runner.prompts import EncodedPrompt
from tta_bench.runner.settings import Comparison, comparison
from tta_bench.runner.store import OpenRun, RunFolder
from tta_bench.runner.study import model_source
from tta_bench.tasks.json_record import JsonRecord


@pytest.fixture(autouse=True)
def stores_every_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "GROUP_SECONDS", 0.0)


def settings(folder: Path, *overrides: str) -> Comparison:
    return comparison(cli.compose(["task=json", "n_problems=8", "steps=2", *overrides, f"output_dir={folder}"]))


def mini() -> LoadedModel:
    return model_source(ModelSettings("mini"), "cpu", "float32").get()


def do(found: Comparison, model: ModelSource | None = None, **effort: Any) -> int:
    return execute(
        found.candidate, found.task, found.problems, found.replicates, output_dir=found.output_dir,
        model=model or ModelSource(mini), effort=Effort(**{"batch_size": 4, **effort}),
    )  # fmt: skip


def folder(found: Comparison) -> RunFolder:
    return RunFolder(found.output_dir / "runs" / found.candidate.run_id)


def outcome(found: Comparison) -> dict[str, Any]:
    """The last record of every key, without the time it took."""
    return {key: {k: v for k, v in row.items() if k != "seconds"} for key, row in sorted(folder(found).records().items())}


@pytest.fixture
def whole(tmp_path: Path) -> Comparison:
    found = settings(tmp_path / "whole")
    do(found)
    return found


class Poisoned(torch.nn.Module):
    """A model that treats one prompt in a way of its own, alone or in any batch."""

    def __init__(self, prompt: str, poison: Any) -> None:
        super().__init__()
        self.inner, self.config = mini().model, mini().model.config
        ids = mini().tokenizer.encode(prompt)
        self.prompt, self.poison = torch.tensor(ids), poison

    def forward(self, input_ids: torch.Tensor, **options: Any) -> SimpleNamespace:
        logits = self.inner(input_ids, **options).logits
        windows = input_ids.unfold(1, len(self.prompt), 1)
        rows = (windows == self.prompt).all(dim=2).any(dim=1)
        return SimpleNamespace(logits=self.poison(logits, rows) if bool(rows.any()) else logits)


def poisoned(found: Comparison, poison: Any) -> ModelSource:
    loaded = mini()
    return ModelSource(lambda: replace(loaded, model=Poisoned(found.problems[3].prompt, poison)))


def with_nan(logits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    return logits.masked_fill(rows[:, None, None], torch.nan)


def test_nan_logits_are_traced_to_their_problem(tmp_path: Path, whole: Comparison) -> None:
    found = settings(tmp_path)
    guilty = f"{found.problems[3].id}/0"
    assert do(found, poisoned(found, with_nan)) == 8
    records, expected = outcome(found), outcome(whole)
    error = records.pop(guilty)
    assert (error["score"], error["error"]["stage"], error["error"]["type"]) == (None, "generate", "ModelOutputError")
    assert "ModelOutputError" in error["error"]["traceback"]
    assert "must be finite" in error["error"]["message"]
    assert records == {key: row for key, row in expected.items() if key != guilty}
    manifest = folder(found).manifest()
    assert (manifest["status"], manifest["n_records"], manifest["n_errors"]) == ("incomplete", 7, 1)
    # The next visit tries it again, and nothing else.
    assert do(found) == 1
    assert outcome(found) == expected
    manifest = folder(found).manifest()
    assert (manifest["status"], manifest["n_records"], manifest["n_errors"]) == ("done", 8, 0)


def test_a_failing_constraint_is_traced_to_its_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings(tmp_path, "constraint=task")
    guilty, violations = found.problems[5], JsonRecord.violations

    def fails(self: JsonRecord, problem: Any, text: str) -> list[float]:
        if problem.id == guilty.id:
            raise KeyError("missing")
        return violations(self, problem, text)

    monkeypatch.setattr(JsonRecord, "violations", fails)
    do(found)
    errors = {key: row["error"] for key, row in outcome(found).items() if row["error"]}
    assert list(errors) == [f"{guilty.id}/0"]
    assert errors[f"{guilty.id}/0"]["type"] == "ConstraintError"
    assert "KeyError: 'missing'" in errors[f"{guilty.id}/0"]["traceback"]


def test_a_problem_that_takes_too_long_is_stopped_and_the_model_loaded_anew(tmp_path: Path, whole: Comparison) -> None:
    found = settings(tmp_path)
    loads = []

    def slow(logits: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        time.sleep(60)
        return logits

    source = poisoned(found, slow)
    load = source.load
    source.load = lambda: loads.append(1) or load()
    began = time.perf_counter()
    do(found, source, time_limit=0.3)
    assert time.perf_counter() - began < 30
    errors = {key: row["error"] for key, row in outcome(found).items() if row["error"]}
    assert list(errors) == [f"{found.problems[3].id}/0"]
    (error,) = errors.values()
    assert (error["type"], "took longer than 0.3 s" in error["message"]) == ("TimeLimitError", True)
    assert len(loads) > 1
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    do(found)
    assert outcome(found) == outcome(whole)


def test_loading_the_model_does_not_count_against_the_time_limit(tmp_path: Path) -> None:
    found = settings(tmp_path)

    def slowly() -> LoadedModel:
        time.sleep(0.6)
        return mini()

    do(found, ModelSource(slowly), time_limit=0.5)
    assert folder(found).manifest()["n_errors"] == 0


def test_a_message_that_no_file_can_hold_is_written_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings(tmp_path, "n_problems=1")
    monkeypatch.setattr(JsonRecord, "score", lambda *_: (_ for _ in ()).throw(RuntimeError("caf\udce9")))
    do(found)
    (record,) = outcome(found).values()
    assert record["error"]["message"] == "caf\\udce9"


def test_memory_that_runs_out_makes_batches_smaller_and_changes_nothing(
    tmp_path: Path, whole: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = settings(tmp_path)
    decode, sizes = execution.decode_batch, []

    def limited(*arguments: Any) -> Any:
        sizes.append(len(arguments[2]))
        if sizes[-1] > 3:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory")
        return decode(*arguments)

    monkeypatch.setattr(execution, "decode_batch", limited)
    do(found, batch_size=8)
    assert sizes == [8, 4, 2, 2, 2, 2]
    assert outcome(found) == outcome(whole)
    assert (folder(found).manifest()["batch_size"], folder(found).manifest()["batch_backoffs"]) == (2, 2)


def test_a_batch_size_that_is_pinned_is_never_halved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        execution, "decode_batch", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory"))
    )
    words = ["run", "task=json", "n_problems=3", "steps=2", "batch_size=2", "pin_batch_size=true", "max_failures=9", *QUICK]
    assert cli.main([*words, f"output_dir={tmp_path}"]) != 0
    (folder,) = (tmp_path / "runs").glob("json-low_confidence-*")
    run = RunFolder(folder)
    assert {record["error"]["type"] for record in run.lines()} == {"OutOfMemoryError"}
    assert len(list(run.lines())) == 3
    assert (run.manifest()["batch_size"], run.manifest()["batch_backoffs"]) == (2, 0)
    assert run.config()["batch_size"] == 2


def test_a_problem_that_fits_into_no_memory_is_an_error_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings(tmp_path, "n_problems=2")
    monkeypatch.setattr(
        execution, "decode_batch", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory"))
    )
    do(found)
    assert {row["error"]["type"] for row in outcome(found).values()} == {"OutOfMemoryError"}


def test_an_automatic_batch_leaves_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spec, longest = (
        settings(tmp_path).candidate,
        [Item("a/0", settings(tmp_path).problems[0], 0, EncodedPrompt((1,) * 100, 52, False, (0,)))],
    )
    assert (spec.strategy().views.k, mini().model.config.vocab_size) == (5, 99)
    assert automatic_batch_size(spec, longest, mini()) == LARGEST_BATCH
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=2 * 5 * 100 * 99 * 4 * 3 * 10))
    assert automatic_batch_size(spec, longest, mini()) == 8
    assert automatic_batch_size(replace(spec, cfg_scale=0.5), longest, mini()) == 4
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=1))
    assert automatic_batch_size(spec, longest, mini()) == 1


def test_an_answer_whose_scorer_fails_is_kept_and_scored_later_without_a_model(
    tmp_path: Path, whole: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = settings(tmp_path)
    score = JsonRecord.score
    guilty = found.problems[2]

    def fails(self: JsonRecord, problem: Any, text: str) -> float:
        return 7.0 if problem.id == guilty.id else score(self, problem, text)

    monkeypatch.setattr(JsonRecord, "score", fails)
    do(found)
    record = outcome(found)[f"{guilty.id}/0"]
    assert (record["error"]["stage"], record["error"]["message"]) == ("score", "score=7.0: must lie in 0..1")
    assert record["text"] == outcome(whole)[f"{guilty.id}/0"]["text"]
    monkeypatch.undo()
    assert do(found, ModelSource(lambda: pytest.fail("a model was loaded"))) == 1
    assert outcome(found) == outcome(whole)
    assert folder(found).manifest()["status"] == "done"


def test_what_cannot_be_encoded_is_an_error_record(tmp_path: Path, whole: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings(tmp_path)
    encode = execution.encode

    def fails(problem: Any, *more: Any) -> Any:
        if problem.id == found.problems[0].id:
            raise UnicodeError("no such character")
        return encode(problem, *more)

    monkeypatch.setattr(execution, "encode", fails)
    do(found)
    assert outcome(found)[f"{found.problems[0].id}/0"]["error"]["stage"] == "encode"
    monkeypatch.undo()
    do(found)
    assert outcome(found) == outcome(whole)


def test_too_many_failures_end_a_run_and_keep_what_is_done(tmp_path: Path) -> None:
    found = settings(tmp_path)
    everything = ModelSource(lambda: replace(mini(), model=Poisoned("json", with_nan)))
    with pytest.raises(TooManyFailuresError, match=r"3 problems failed, more than max_failures=2.*ModelOutputError"):
        do(found, everything, max_failures=2)
    manifest = folder(found).manifest()
    assert (manifest["status"], manifest["n_errors"]) == ("failed", 3)
    assert do(found) == 8


def test_a_problem_that_changed_under_its_name_is_refused(whole: Comparison) -> None:
    changed = [replace(whole.problems[0], target="something else"), *whole.problems[1:]]
    with pytest.raises(StoreError, match="is not the one that was recorded under this name"):
        execute(
            whole.candidate, whole.task, changed, 1, output_dir=whole.output_dir, model=ModelSource(mini)
        )  # fmt: skip


def test_a_time_limit_where_no_alarm_can_be_set_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(signal, "setitimer")
    with pytest.raises(ValueError, match="time_limit=1: needs the main thread"):
        do(settings(tmp_path), time_limit=1)


def test_a_full_disk_is_a_sentence_and_earlier_records_are_intact(tmp_path: Path, whole: Comparison) -> None:
    found = settings(tmp_path)
    file = folder(found).path / "records.jsonl"
    append = OpenRun.append

    def with_little_room(self: OpenRun, records: Any, trace: Any) -> None:
        # A limit on the size of files stops a write half way, as a full disk does.
        if file.exists():
            resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 300, resource.RLIM_INFINITY))
            trace = execution.NO_TRACE
        append(self, records, trace)

    def run() -> int:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        OpenRun.append = with_little_room  # type: ignore[method-assign]
        try:
            do(found, batch_size=2)
        except StoreError as error:
            print(error)
            return 3
        return 0

    child = fork(run, tmp_path / "said")
    assert child.code() == 3, child.said.read_text()
    said = child.said.read_text()
    assert f"{folder(found).path}: cannot be written to (File too large); what was stored before is intact" in said
    assert "Remedy: raise the limit on the size of files (ulimit -f), then run the same command again" in said
    assert len(file.read_text().splitlines()) == 2
    assert file.read_bytes().endswith(b"\n")
    do(found)
    assert outcome(found) == outcome(whole)


@pytest.mark.parametrize(
    ("number", "remedy"), [(errno.ENOSPC, "free some space"), (errno.EROFS, "make it writable, or choose another output_dir")]
)
def test_an_error_of_the_disk_names_the_remedy(
    number: int, remedy: str, tmp_path: Path, whole: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = settings(tmp_path)
    file = folder(found).path / "records.jsonl"
    write = os.write

    def fails(descriptor: int, data: bytes) -> int:
        if os.path.samestat(os.fstat(descriptor), file.stat()) and file.stat().st_size > 2000:
            write(descriptor, bytes(data)[:100])
            raise OSError(number, os.strerror(number))
        return write(descriptor, data)

    monkeypatch.setattr(disk.os, "write", fails)
    with pytest.raises(StoreError, match=remedy):
        do(found, batch_size=2)
    monkeypatch.undo()
    assert 2 <= len(file.read_text().splitlines()) < 8
    assert file.read_bytes().endswith(b"\n")
    do(found)
    assert outcome(found) == outcome(whole)


@pytest.mark.parametrize("again", [False, True], ids=["deleted", "deleted and made again"])
def test_a_folder_deleted_in_mid_run_is_a_sentence(again: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings(tmp_path)
    decode, calls = batching.decode_batch, []

    def delete_in_the_second(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            place = folder(found).path
            place.rename(tmp_path / "elsewhere")
            if again:
                place.mkdir()
            else:
                shutil.rmtree(tmp_path / "elsewhere")
        return decode(*arguments)

    monkeypatch.setattr(execution, "decode_batch", delete_in_the_second)
    with pytest.raises(StoreError, match="was replaced while" if again else "was deleted or moved while it was written to"):
        do(found)
    monkeypatch.undo()
    assert do(found) == 8


def test_the_command_says_what_failed_and_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    words = [
        "run",
        "task=json",
        "n_problems=8",
        "steps=2",
        *QUICK,
        f"output_dir={tmp_path}",
    ]
    guilty = settings(tmp_path).problems[3]
    decode = batching.decode_batch

    def fails(spec: Any, task: Any, items: Any, *more: Any) -> Any:
        if spec.sampler.name == "tta" and any(item.problem.id == guilty.id for item in items):
            raise ZeroDivisionError("no reason")
        return decode(spec, task, items, *more)

    monkeypatch.setattr(execution, "decode_batch", fails)
    assert cli.main(words) == 1
    said = capsys.readouterr()
    assert "8 generated" in said.out
    assert "1 of them failed" in said.out
    assert "1 of 8 problems missing (1 ZeroDivisionError)" in said.err
    assert "Run the same command again" in said.err
    assert "analysis.allow_missing=true" in said.err
    # By way of exception, on the problems that both have; the table is marked.
    assert cli.main(["analyze", str(tmp_path / "reports" / "default"), "analysis.allow_missing=true"]) == 0
    marked = capsys.readouterr().out
    assert "\N{DAGGER} Compared by way of exception" in " ".join(marked.split())
    assert "n = 7 problems" in " ".join(marked.split())
    monkeypatch.undo()
    assert cli.main(words) == 0
    again = capsys.readouterr().out
    assert "1 failed before and are tried again" in again
    assert "\N{DAGGER}" not in again


def test_a_run_that_fails_altogether_does_not_stop_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    decode = batching.decode_batch

    def fails(spec: Any, *more: Any) -> Any:
        if spec.sampler.name == "random":
            raise ZeroDivisionError("no reason")
        return decode(spec, *more)

    monkeypatch.setattr(execution, "decode_batch", fails)
    words = ["run", "-m", "sampler=random,tta", "task=json", "n_problems=8", "steps=2", "max_failures=2"]
    assert cli.main([*words, *QUICK, f"output_dir={tmp_path}"]) == 1
    said = capsys.readouterr()
    assert said.err.count("3 problems failed, more than max_failures=2; the last: ZeroDivisionError: no reason") == 1
    assert "incomplete" in said.out
    assert "NOT COMPARED: json-random" in " ".join(said.out.split())
    assert "Traceback" not in said.err


def test_records_of_a_newer_version_are_refused(whole: Comparison) -> None:
    file = folder(whole).path / "records.jsonl"
    file.write_text(file.read_text().replace('"schema": 2', '"schema": 99', 1))
    with pytest.raises(StoreError, match=r"line 1: not a record .*schema 99 is newer than 2"):
        do(whole)
