from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tta_bench.runner.disk import StoreError, check_writable
from tta_bench.runner.store import RunFolder


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    found = RunFolder(tmp_path / "run")
    found.path.mkdir()
    return found


CONFIG = {"model": {"name": "a", "fingerprint": "f"}, "steps": 4}


def add(folder: RunFolder, *keys: str) -> None:
    run = folder.open(CONFIG)
    run.append([{"key": key, "score": 1.0} for key in keys], pd.DataFrame({"key": list(keys), "step": 0}))


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


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"output_dir=.*file/x: cannot be written to"):
        check_writable(tmp_path / "file" / "x", "output_dir")
