"""A run on disk: a frozen configuration, a manifest, and records that are only ever added to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import yaml
from filelock import FileLock, Timeout
from pyarrow.parquet import read_schema

from tta_bench.rng import digest
from tta_bench.runner.difference import identity
from tta_bench.runner.disk import StoreError, append_durably, cut_torn_line, make_folder, storing, sync_folder, write_atomically

Record = dict[str, Any]

SCHEMA_VERSION = 2
"""Of config.yaml, manifest.json and records.jsonl. Raised when a reader of the old form would misread the new one; ``upgraded``
then reads the old one. Version 1 had no ``data``, ``prompt`` and ``error`` in its records and no ``environments``."""

NEW_FIELDS = {"data", "prompt", "error", "cluster", "filled", "drew", "cut", "lacking"}
"""Of records that not all of them have: what was not recorded reads as None."""

TOKEN = "token."
"""Begins the names of a trace's columns that hold a list over the tokens on the canvas."""

UNJUDGED = -1
"""In a trace, in place of the right token's id where it is not known which is right."""

MANY_PARTS, LARGE_PART = 64, 4 << 20
"""So many trace files make one, those of so many bytes excepted."""


LIKELIHOOD = "likelihood"
"""In an output folder, where it is kept how probable models find the choices of tasks."""

JUDGED = "perplexity"
"""In a run's folder, where it is kept how probable other models, or its own, find its answers."""


Words = dict[str, dict[str, Any]]
"""Texts of tokens by id, and what traced problems ask and expect; see ``words.words_of``."""

NO_WORDS: Words = {"tokens": {}, "problems": {}}


class BusyError(StoreError):
    """Another process is at work on the run."""


def record_key(problem_id: str, replicate: int) -> str:
    """The key of a record; also the key of its random numbers."""
    return f"{problem_id}/{replicate}"


def text_digest(text: str) -> str:
    """16 hex digits over an answer."""
    return f"{digest(text, size=8):016x}"


def upgraded(record: Record) -> Record:
    """A record of any version as the current one: what older versions did not record is None."""
    if not record.keys() >= {"schema", "key", "problem", "replicate"}:
        raise ValueError("it lacks schema, key, problem or replicate")
    if record["schema"] > SCHEMA_VERSION:
        raise ValueError(f"schema {record['schema']} is newer than {SCHEMA_VERSION}, the newest this version knows; upgrade")
    return record if record.keys() >= NEW_FIELDS else dict.fromkeys(NEW_FIELDS) | record


@dataclass(frozen=True)
class RunFolder:
    """``<output_dir>/runs/<run_id>``."""

    path: Path

    @contextmanager
    def claimed(self, wait: Callable[[], None] | None = None) -> Iterator[None]:
        """Hold the run, for the one process that writes to it. The operating system lets go of it when the process dies.

        Args:
            wait: called again and again while another process holds it, and may raise to give up; None gives up at once.

        Raises:
            BusyError: another process holds it, and ``wait`` is None.
        """
        # Not in the folder: who moves or deletes the folder must not take the lock away with it.
        with storing(self.path):
            make_folder(self._lock.parent)
        lock = FileLock(self._lock)
        while not lock.is_locked:
            try:
                lock.acquire(timeout=0.2)  # somebody may just be looking whether it is held
            except Timeout as error:
                if wait is None:
                    raise BusyError(f"{self.path}: another process is at work on this run; wait for it or stop it") from error
                wait()
            except OSError:
                with storing(self.path):
                    raise
        try:
            yield
        finally:
            lock.release()

    @property
    def _lock(self) -> Path:
        return self.path.parent.parent / "locks" / self.path.name

    def busy(self) -> bool:
        """Whether a process is at work on the run."""
        if not self._lock.exists():
            return False
        try:
            with self.claimed():
                return False
        except BusyError:
            return True
        except StoreError:  # a lock that we cannot open, in somebody else's folder
            return False

    def open(self, config: dict[str, Any], *, shared: bool = False) -> OpenRun:
        """Make the folder ready to be written to by the process that has claimed it.

        Args:
            config: frozen at the first visit; later visits must bring the same.
            shared: whether others join it.

        Raises:
            StoreError: the folder belongs to another configuration, or cannot be written to.
        """
        with storing(self.path):
            make_folder(self.path)
            self._freeze(config)
            cut_torn_line(self.path / "records.jsonl")  # its work is done again
            return OpenRun(self, self.path.stat().st_ino, shared)

    def join(self) -> OpenRun:
        """The folder as another process, that shares its work, has opened it."""
        with storing(self.path):
            return OpenRun(self, self.path.stat().st_ino, shared=True)

    def _freeze(self, config: dict[str, Any]) -> None:
        if not self.config():
            write_atomically(self.path / "config.yaml", yaml.safe_dump(config, sort_keys=False).encode())
        elif _identity(self.config()) != _identity(config):
            raise StoreError(
                f"{self.path / 'config.yaml'}: holds another configuration than its run id says; "
                "move the folder away and run again"
            )

    def config(self) -> dict[str, Any]:
        """The frozen configuration, empty where none was written yet."""
        return read_mapping(self.path / "config.yaml", yaml.safe_load)

    def manifest(self) -> dict[str, Any]:
        """The manifest, empty where none was written yet."""
        return read_mapping(self.path / "manifest.json", json.loads)

    def words(self) -> Words:
        """The words to the token traces; none where they were not written, as in older runs."""
        return NO_WORDS | read_mapping(self.path / "words.json", json.loads)

    def lines(self) -> Iterator[Record]:
        """Every line of records.jsonl in the order of writing, one at a time. A last line that a kill tore is left out.

        Raises:
            StoreError: a line is no record; the message names it.
        """
        file = self.path / "records.jsonl"
        if not file.exists():
            return
        with file.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                if not line.endswith(b"\n"):
                    return
                try:
                    record = upgraded(orjson.loads(line))
                except (ValueError, AttributeError) as error:
                    raise StoreError(f"{file}, line {number}: not a record ({error}); restore or delete the line") from error
                yield record

    def records(self) -> dict[str, Record]:
        """The last record of every key, errors included."""
        return {record["key"]: record for record in self.lines()}

    def traces(self) -> pd.DataFrame:
        """Per-step statistics: a row for every key and step. A batch that was done twice counts once."""
        return self._parts(lambda name: not name.startswith(TOKEN))

    def token_traces(self) -> pd.DataFrame:
        """Per-step statistics of single tokens: a row for every key, step and token, as far as they were kept.

        ``frozen`` is 0 or 1, and NaN in older traces, which do not tell.
        """
        rows = self._parts(lambda name: name in ("key", "step") or name.startswith(TOKEN))
        lists = [str(name) for name in rows if str(name).startswith(TOKEN)]
        if not lists:
            return pd.DataFrame()
        rows = rows[rows[lists[0]].notna()]
        lengths = rows[lists[0]].map(len).to_numpy(int)
        columns = {name: np.repeat(rows[name].to_numpy(), lengths) for name in ("key", "step")}
        # What one visit kept and another did not, is NaN in the rows of the other.
        kept = {
            name: [
                values if isinstance(values, np.ndarray) else np.full(n, np.nan)
                for values, n in zip(rows[name], lengths, strict=True)
            ]
            for name in lists
        }
        flat = {name.removeprefix(TOKEN): np.concatenate([[], *values]) for name, values in kept.items()}
        return pd.DataFrame({"frozen": np.nan} | columns | flat).astype(
            dict.fromkeys(("position", "token", "gold"), int) | dict.fromkeys(("fresh", "remaskable", "remasked"), bool)
        )

    def _parts(self, wanted: Callable[[str], bool]) -> pd.DataFrame:
        """The columns of all trace files that are wanted, rows that are there twice once."""
        while True:
            try:
                files = sorted((self.path / "traces").glob("*.parquet"))
                parts = [pd.read_parquet(file, columns=[n for n in read_schema(file).names if wanted(n)]) for file in files]
            except FileNotFoundError:  # a run at work has just made one file of several
                continue
            return pd.concat(parts).drop_duplicates(["key", "step"], keep="last") if parts else pd.DataFrame()

    def retire(self) -> Path:
        """Move a claimed run to ``<output_dir>/replaced``, so that it is done afresh and nothing is lost; returns where to."""
        with storing(self.path):
            place = self.path.parent.parent / "replaced" / f"{self.path.name}.{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"
            make_folder(place.parent)
            self.path.rename(place)
            sync_folder(self.path.parent)
        return place


def read_mapping(file: Path, parse: Callable[[str], Any]) -> dict[str, Any]:
    """A file that holds a mapping, empty where there is no file.

    Raises:
        StoreError: it holds something else.
    """
    if not file.exists():
        return {}
    try:
        return dict(parse(file.read_text()))
    except (ValueError, TypeError, yaml.YAMLError) as error:
        raise StoreError(
            f"{file}: cannot be read ({error}); restore the file, or move its folder away and run again"
        ) from error


def _identity(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration without what may differ between visits to one run: the version of its form, names and places."""
    return {key: value for key, value in identity(config).items() if key != "schema"}


@dataclass(frozen=True)
class OpenRun:
    """A claimed run that is written to.

    Attributes:
        folder: the run.
        inode: of the folder when it was opened.
        shared: whether several processes add records; then they take turns.
    """

    folder: RunFolder
    inode: int
    shared: bool = False

    def append(self, records: Sequence[Record], trace: pd.DataFrame) -> None:
        """Add the records of one batch; once this returns they survive a power cut. The trace is written first.

        Raises:
            StoreError: it cannot be written. The records before are intact.
        """
        with storing(self.folder.path), self._turn():
            self._check_there()
            if len(trace):
                self._add_trace(f"{digest(*(r['key'] for r in records), size=8):016x}", trace)
            rows = [{"schema": 0} | record | {"schema": SCHEMA_VERSION} for record in records]
            text = "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
            append_durably(self.folder.path / "records.jsonl", text.encode())

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Replace manifest.json in one step."""
        with storing(self.folder.path):
            self._check_there()
            write_atomically(self.folder.path / "manifest.json", (json.dumps(manifest, indent=2) + "\n").encode())

    def add_words(self, words: Words) -> Words:
        """Extend words.json in one step; returns all that it holds now."""
        with storing(self.folder.path), self._turn():
            self._check_there()
            known = self.folder.words()
            whole = {kind: {**words[kind], **known[kind]} for kind in NO_WORDS}
            write_atomically(self.folder.path / "words.json", json.dumps(whole, sort_keys=True).encode())
            return whole

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Keep the others from writing, and cut what one of them left half written when it was killed."""
        if not self.shared:
            yield
            return
        lock = self.folder.path.parent.parent / "locks" / f"{self.folder.path.name}.turn"
        with FileLock(lock):
            cut_torn_line(self.folder.path / "records.jsonl")
            yield

    def _check_there(self) -> None:
        """Refuse to go on in a folder that was deleted, or made anew by somebody else."""
        if self.folder.path.stat().st_ino != self.inode:
            raise StoreError(
                f"{self.folder.path}: was replaced while it was written to; run the same command again to do what is missing"
            )

    @cached_property
    def _traces(self) -> Path:
        folder = self.folder.path / "traces"
        make_folder(folder)
        return folder

    def _add_trace(self, name: str, trace: pd.DataFrame) -> None:
        write_atomically(self._traces / f"{name}.parquet", _parquet(trace))
        small = [f for f in sorted(self._traces.glob("*.parquet")) if f.stat().st_size < LARGE_PART]
        if len(small) > MANY_PARTS:
            # Killed half way, rows are there twice, which their reader expects.
            merged = pd.concat([pd.read_parquet(file) for file in small])
            write_atomically(self._traces / f"{digest(*(f.name for f in small), size=8):016x}.parquet", _parquet(merged))
            for file in small:
                file.unlink()


def _parquet(frame: pd.DataFrame) -> bytes:
    return bytes(frame.to_parquet(None, index=False))
