from __future__ import annotations

import gc
import time
import tracemalloc
from pathlib import Path

import pandas as pd
import pytest

from tests.runner.processes import fork
from tta_bench.runner.disk import StoreError, check_writable
from tta_bench.runner.store import MANY_PARTS, BusyError, RunFolder
from tta_bench.runner.work import find_work
from tta_bench.tasks.base import Problem, problem_digest


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    found = RunFolder(tmp_path / "runs" / "run")
    found.path.mkdir(parents=True)
    return found


CONFIG = {"model": {"name": "a", "fingerprint": "f"}, "steps": 4}


def add(folder: RunFolder, *keys: str) -> None:
    run = folder.open(CONFIG)
    run.append([record(key) for key in keys], pd.DataFrame({"key": list(keys), "step": 0}))


def record(key: str, score: float = 1.0) -> dict:
    return {"key": key, "problem": key.split("/")[0], "replicate": 0, "score": score}


def test_records_come_back_by_key(folder: RunFolder) -> None:
    add(folder, "a/0", "b/0")
    add(folder, "c/0")
    assert list(folder.records()) == ["a/0", "b/0", "c/0"]
    assert len(list((folder.path / "traces").glob("*.parquet"))) == 2


@pytest.mark.parametrize("cut", range(1, 26))
def test_a_torn_last_line_is_cut_and_earlier_records_stay(folder: RunFolder, cut: int) -> None:
    add(folder, "a/0", "b/0")
    file = folder.path / "records.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole[:-cut])
    assert list(folder.records()) == ["a/0"]
    folder.open(CONFIG)
    assert file.read_bytes() == whole.splitlines(keepends=True)[0]
    add(folder, "b/0")
    assert file.read_bytes() == whole


def test_a_broken_line_in_the_middle_is_an_error_that_names_it(folder: RunFolder) -> None:
    add(folder, "a/0")
    file = folder.path / "records.jsonl"
    file.write_bytes(b"{broken\n" + file.read_bytes())
    with pytest.raises(StoreError, match="line 1"):
        folder.records()


def test_the_configuration_is_frozen(folder: RunFolder) -> None:
    folder.open(CONFIG)
    folder.open({"model": {"name": "other name", "fingerprint": "f"}, "steps": 4})
    with pytest.raises(StoreError, match="another configuration"):
        folder.open({**CONFIG, "steps": 5})


def test_many_small_traces_become_one_and_lose_nothing(folder: RunFolder) -> None:
    for i in range(3 * MANY_PARTS):
        add(folder, f"p{i}/0")
    assert len(list((folder.path / "traces").iterdir())) <= MANY_PARTS
    assert sorted(folder.traces()["key"]) == sorted(f"p{i}/0" for i in range(3 * MANY_PARTS))
    # Killed between writing the one and removing the many: rows are there twice and count once.
    folder.traces().to_parquet(folder.path / "traces" / "twice.parquet")
    assert len(folder.traces()) == 3 * MANY_PARTS


def test_the_last_record_of_a_key_counts(folder: RunFolder) -> None:
    add(folder, "a/0", "b/0")
    folder.open(CONFIG).append([record("a/0", 0.0)], pd.DataFrame())
    assert [(key, found["score"]) for key, found in folder.records().items()] == [("a/0", 0.0), ("b/0", 1.0)]


def test_a_number_that_json_does_not_know_is_never_written(folder: RunFolder) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        folder.open(CONFIG).append([record("a/0", float("nan"))], pd.DataFrame())
    assert folder.records() == {}


def test_one_process_holds_a_run_and_others_see_it(folder: RunFolder, tmp_path: Path) -> None:
    assert not folder.busy()
    with folder.claimed():
        other = fork(lambda: 5 if folder.busy() else 0, tmp_path / "said")
        assert other.code() == 5
        with pytest.raises(BusyError, match="another process is at work on this run"), RunFolder(folder.path).claimed():
            pass
        waited: list[int] = []

        def give_up() -> None:
            waited.append(1)
            if len(waited) == 2:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt), RunFolder(folder.path).claimed(give_up):
            pass
    assert not folder.busy()


def test_the_lock_of_a_killed_process_is_free(folder: RunFolder, tmp_path: Path) -> None:
    def hold() -> None:
        with folder.claimed():
            (tmp_path / "held").write_text("")
            time.sleep(60)

    child = fork(hold, tmp_path / "said")
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    assert folder.busy()
    child.kill()
    child.code()
    with folder.claimed():
        pass


def test_a_retired_run_is_moved_whole(folder: RunFolder) -> None:
    add(folder, "a/0")
    place = folder.retire()
    assert not folder.path.exists()
    assert place.parent == folder.path.parent.parent / "replaced"
    assert list(RunFolder(place).records()) == ["a/0"]


def test_a_hundred_thousand_records_are_found_quickly_and_take_little_memory(tmp_path: Path) -> None:
    problems = [Problem(f"dev-{i:05d}", f"json name=bola{i}:", '{"name":"bola"}', 48) for i in range(1000)]
    head = {"prompt": 16 * "0", "text": '{"name":"bola","age":42,"vip":true}', "tokens": list(range(50, 98))}
    tail = {"forward_passes": 8, "nfe": 40, "seconds": 0.0123456789, "score": 1.0, "error": None}
    rows = [
        {"key": f"{p.id}/{r}", "problem": p.id, "replicate": r, "data": problem_digest(p), **head, **tail}
        for r in range(100)
        for p in problems
    ]
    trace = pd.DataFrame({"key": 512 * ["x"], "step": 64 * list(range(8)), **dict.fromkeys("abcdefg", 0.5)})
    folder = RunFolder(tmp_path / "runs" / "many")
    run = folder.open(CONFIG)
    few = 6_400
    began = time.process_time()
    for i in range(0, few, 64):
        run.append(rows[i : i + 64], trace.assign(key=rows[i]["key"]))
    assert (time.process_time() - began) / few < 0.001
    for i in range(few, len(rows), 10_000):
        run.append(rows[i : i + 10_000], pd.DataFrame())
    del rows
    gc.collect()
    began = time.process_time()
    folder.open(CONFIG)
    find_work(folder, problems, 100)  # before the lock is taken, to announce it
    work = find_work(folder, problems, 101)  # with the lock
    assert time.process_time() - began < 2
    assert (work.n_done, len(work.missing)) == (100_000, 1000)
    tracemalloc.start()
    try:
        find_work(folder, problems, 100)
        # Keys, not records: the file has 48 MB.
        assert tracemalloc.get_traced_memory()[1] < 40e6
    finally:
        tracemalloc.stop()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"output_dir=.*file/x: cannot be written to"):
        check_writable(tmp_path / "file" / "x", "output_dir")
