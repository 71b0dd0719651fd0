"""Rows of a data set: from a file (JSONL, JSON, parquet), a folder of files, or a hub. What cannot be read is named."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]

SUFFIXES = (".jsonl", ".json", ".parquet")


@dataclass(frozen=True)
class Source:
    """Where rows come from: a path if there is one, else a hub.

    Attributes:
        path: a file, which serves every split; or a folder, in which the files of a split have its name in theirs.
        hub: id of a data set on a hub.
        subset: of the data set (its configuration's name); in a folder, the name of a folder or part of file names.
        revision: of the data set on the hub, a commit.
    """

    path: str | None = None
    hub: str | None = None
    subset: str | None = None
    revision: str | None = None

    def rows(self, split: str) -> tuple[Row, ...]:
        """The rows of a split, as the data set names it.

        Raises:
            ValueError: there is nothing to read, or something in it cannot be read; the message names it.
        """
        if self.path is not None:
            place = Path(self.path)
            files = files_of(place, split, self.subset)
            if files is None:
                return saved_rows(place, split)
            return tuple(row for file in files for row in file_rows(file, file.stat().st_mtime_ns))
        if self.hub is None:
            raise ValueError("task.path=null: must name a file or folder with the problems (this task has no hub id)")
        return hub_rows(self.hub, self.subset, split, self.revision)


def files_of(place: Path, split: str, subset: str | None) -> list[Path] | None:
    """The files of a split, in order; None where the folder was written by ``datasets``' ``save_to_disk``.

    Raises:
        ValueError: there is no such place, or no file that can be meant.
    """
    if place.is_file():
        if place.suffix not in SUFFIXES:
            raise ValueError(f"task.path={place}: must end in {', '.join(SUFFIXES)}")
        return [place]
    if not place.is_dir():
        raise ValueError(f"task.path={place}: is neither a file nor a folder")
    if any((place / name).is_file() for name in ("dataset_dict.json", "state.json")):
        return None
    files = sorted(file for file in place.rglob("*") if file.suffix in SUFFIXES and not file.name.startswith("."))
    there = ", ".join(str(file.relative_to(place)) for file in files[:5]) or "none"
    found = [file for file in files if is_named(file.relative_to(place), split)]
    of_subset = [file for file in found if subset and is_named(file.relative_to(place), subset)]
    if subset and not of_subset and len({file.parent for file in found}) > 1:
        raise ValueError(
            f"task.subset={subset}: no file of {place} has that in its name, nor a folder of it; data files there: {there}"
        )
    found = of_subset or found
    if not found:
        raise ValueError(
            f"task.path={place}: no file of it ({', '.join(SUFFIXES)}) has {split!r} in its name; data files there: {there}. "
            "Name the split as the files do (task.splits), or give one file"
        )
    return found


def is_named(file: Path, name: str) -> bool:
    """Whether a folder of a path, or a word of its file's name, is ``name``: ``main/test-00000-of-00001.parquet`` is test."""
    stem = file.name.partition(".")[0]
    return name in file.parts[:-1] or re.search(rf"(?:^|[-_]){re.escape(name)}(?:[-_]|$)", stem) is not None


@lru_cache(maxsize=16)
def file_rows(file: Path, _changed: int) -> tuple[Row, ...]:
    """The rows of a file, remembered until it changes.

    Raises:
        ValueError: it is empty, or holds something that is no row; the message names file and line.
    """
    rows: Sequence[Any]
    if file.suffix == ".parquet":
        from pyarrow import ArrowException
        from pyarrow.parquet import read_table

        try:
            rows = read_table(file).to_pylist()
        except (ArrowException, OSError) as error:
            raise ValueError(f"{file}: cannot be read as parquet ({error})") from error
    elif file.suffix == ".json":
        rows = parsed(file.read_bytes(), f"{file}")
        if not isinstance(rows, list):
            raise ValueError(f"{file}: must hold a list of objects, holds {type(rows).__name__}; one object a line is .jsonl")
    else:
        lines = file.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
        rows = [parsed(line, f"{file}, line {i}") for i, line in enumerate(lines, 1) if line.strip()]
    for i, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise ValueError(f"{file}, row {i}: must be an object with columns, is {type(row).__name__}")
    if not rows:
        raise ValueError(f"{file}: is empty; a data set has at least one row")
    return tuple(rows)


def parsed(text: bytes, place: str) -> Any:
    """JSON.

    Raises:
        ValueError: it is none; ``place`` names it.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{place}: cannot be read as JSON ({error})") from error


def saved_rows(place: Path, split: str) -> tuple[Row, ...]:
    """The rows of a folder that ``datasets`` wrote."""
    from datasets import DatasetDict, load_from_disk

    found = load_from_disk(place)
    if isinstance(found, DatasetDict):
        if split not in found:
            raise ValueError(f"task.path={place}: has no split {split!r}; it has {', '.join(found)}")
        found = found[split]
    return tuple(found)


@lru_cache(maxsize=16)
def hub_rows(hub: str, subset: str | None, split: str, revision: str | None) -> tuple[Row, ...]:
    """The rows of a data set on a hub.

    Raises:
        ValueError: it cannot be had.
    """
    from datasets import load_dataset

    try:
        return tuple(load_dataset(hub, subset, split=split, revision=revision))
    except Exception as error:
        raise ValueError(
            f"task.hub={hub}: {split} cannot be had ({type(error).__name__}: {str(error)[:300]}). Without a network, download "
            f"the data set elsewhere (hf download --repo-type dataset {hub} --local-dir FOLDER) and give task.path=FOLDER"
        ) from error
