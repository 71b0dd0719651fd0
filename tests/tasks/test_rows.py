from __future__ import annotations

import json
from pathlib import Path

import datasets
import pandas as pd
import pytest

from tta_bench.tasks import rows
from tta_bench.tasks.rows import Source, is_named

ROWS = [{"prompt": f"{i}?", "target": str(i)} for i in range(4)]


def lines(found: list[dict]) -> str:
    return "".join(json.dumps(row) + "\n" for row in found)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "main").mkdir()
    (tmp_path / "other").mkdir()
    pd.DataFrame(ROWS[:1]).to_parquet(tmp_path / "main" / "test-00000-of-00002.parquet")
    pd.DataFrame(ROWS[1:2]).to_parquet(tmp_path / "main" / "test-00001-of-00002.parquet")
    (tmp_path / "main" / "train.jsonl").write_text(lines(ROWS[2:]))
    (tmp_path / "other" / "test.jsonl").write_text(lines(ROWS[3:]))
    (tmp_path / ".test.jsonl").write_text("hidden")
    return tmp_path


def test_every_form_of_a_data_set_gives_the_same_rows(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(lines(ROWS) + "\n")
    (tmp_path / "b.json").write_text(json.dumps(ROWS))
    (tmp_path / "bom.jsonl").write_bytes(b"\xef\xbb\xbf" + lines(ROWS).encode())
    pd.DataFrame(ROWS).to_parquet(tmp_path / "c.parquet")
    datasets.Dataset.from_list(ROWS).save_to_disk(tmp_path / "d")
    datasets.DatasetDict({"test": datasets.Dataset.from_list(ROWS)}).save_to_disk(tmp_path / "e")
    for place in ("a.jsonl", "b.json", "bom.jsonl", "c.parquet", "d", "e"):
        assert list(Source(str(tmp_path / place)).rows("test")) == ROWS, place
    with pytest.raises(ValueError, match="has no split 'dev'; it has test"):
        Source(str(tmp_path / "e")).rows("dev")


def test_a_folder_is_read_as_hubs_lay_it_out(folder: Path) -> None:
    assert list(Source(str(folder), subset="main").rows("test")) == ROWS[:2]
    assert list(Source(str(folder), subset="other").rows("test")) == ROWS[3:]
    assert list(Source(str(folder)).rows("train")) == ROWS[2:]
    with pytest.raises(ValueError, match=r"no file of it .* has 'validation' in its name; data files there: main/test-00000"):
        Source(str(folder)).rows("validation")


def test_a_subset_that_is_not_there_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"task.subset=mian: no file of .* has that in its name, nor a folder"):
        Source(str(folder), subset="mian").rows("test")
    assert list(Source(str(folder / "main"), subset="main").rows("test")) == ROWS[:2]  # the folder of the subset itself


def test_a_file_of_one_split_does_not_serve_another(tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text(lines(ROWS))
    with pytest.raises(ValueError, match=r"has 'train' in its name; data files there: test\.jsonl"):
        Source(str(tmp_path)).rows("train")


def test_a_hub_is_asked_as_a_folder_would_be(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``load_dataset`` takes a folder in place of an id, which is as near as one gets without a network."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "cache")
    assert list(Source(hub=str(folder / "other")).rows("test")) == ROWS[3:]
    with pytest.raises(ValueError, match=r"task.hub=nobody/nothing: test cannot be had .* give task.path=FOLDER"):
        Source(hub="nobody/nothing").rows("test")
    with pytest.raises(ValueError, match=r"task.path=null: must name a file or folder"):
        Source().rows("test")


@pytest.mark.parametrize(
    ("file", "name", "named"),
    [
        ("test.jsonl", "test", True), ("main/test-00000-of-00001.parquet", "test", True), ("g_test_first.jsonl", "test", True),
        ("latest.jsonl", "test", False), ("test/a.jsonl", "test", True), ("train.jsonl", "test", False),
    ],
)  # fmt: skip
def test_which_file_is_meant(file: str, name: str, *, named: bool) -> None:
    assert is_named(Path(file), name) is named


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b'{"prompt": 1}\n\n{"prompt": \n', r"a.jsonl, line 3: cannot be read as JSON"),
        ("a.jsonl", b'{"prompt": 1}\n[1]\n', "row 2: must be an object with columns, is list"),
        ("a.jsonl", b"\xff\xfe\n", "line 1: cannot be read as JSON"),
        ("a.jsonl", b"\n \n", "a.jsonl: is empty"),
        ("a.json", b'{"prompt": 1}', "must hold a list of objects, holds dict; one object a line is .jsonl"),
        ("a.json", b"[", "a.json: cannot be read as JSON"),
        ("a.parquet", b"nothing", "cannot be read as parquet"),
        ("a.csv", b"a,b", "must end in .jsonl, .json, .parquet"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=said):
        Source(str(tmp_path / name)).rows("test")


def test_no_such_place(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is neither a file nor a folder"):
        Source(str(tmp_path / "nothing")).rows("test")
    with pytest.raises(ValueError, match="data files there: none"):
        Source(str(tmp_path)).rows("test")


def test_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(lines(ROWS))
    first = Source(str(file)).rows("test")
    assert Source(str(file)).rows("dev")[0] is first[0]  # remembered
    file.write_text(lines(ROWS[:1]))
    assert len(Source(str(file)).rows("test")) == 1
    assert rows.file_rows.cache_info().maxsize
