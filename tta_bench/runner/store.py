"""A run on disk: a frozen configuration, a manifest, and records that are only ever added to."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from filelock import FileLock

from tta_bench.rng import digest

Record = dict[str, Any]


class StoreError(RuntimeError):
    """A run folder that does not hold what it should."""


def record_key(problem_id: str, replicate: int) -> str:
    """The key of a record; also the key of its random numbers."""
    return f"{problem_id}/{replicate}"


@dataclass(frozen=True)
class RunFolder:
    """``<output_dir>/runs/<run_id>``."""

    path: Path

    @property
    def lock(self) -> FileLock:
        """Held by the one process that writes to this run."""
        self.path.mkdir(parents=True, exist_ok=True)
        return FileLock(self.path / ".lock")

    def freeze_config(self, config: dict[str, Any]) -> None:
        """Write the configuration once; later visits must bring the same.

        Raises:
            StoreError: the folder belongs to another configuration.
        """
        file = self.path / "config.yaml"
        if file.exists():
            stored = yaml.safe_load(file.read_text())
            stored["model"]["name"] = config["model"]["name"]
            if stored != config:
                raise StoreError(
                    f"{file}: holds another configuration than its run id says; move the folder away and run again"
                )
            return
        write_atomically(file, yaml.safe_dump(config, sort_keys=False))

    def records(self) -> dict[str, Record]:
        """Every record by key. A last line that a kill tore is left out; ``repair`` removes it."""
        file = self.path / "records.jsonl"
        if not file.exists():
            return {}
        found: dict[str, Record] = {}
        lines = file.read_bytes().split(b"\n")
        for number, line in enumerate(lines[:-1], 1):
            try:
                record = json.loads(line)
            except ValueError as error:
                raise StoreError(f"{file}, line {number}: not a record ({error}); restore or delete the line") from error
            found[record["key"]] = record
        return found

    def repair(self) -> None:
        """Cut a last line that has no line end: the process that wrote it was killed, so its work is done again."""
        file = self.path / "records.jsonl"
        if not file.exists():
            return
        content = file.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with file.open("r+b") as stream:
                stream.truncate(whole)

    def append(self, records: Iterable[Record], trace: pd.DataFrame) -> None:
        """Add the records of one batch; once this returns they survive a power cut. The trace is written first."""
        rows = list(records)
        folder = self.path / "traces"
        folder.mkdir(exist_ok=True)
        part = folder / f"{digest(*(r['key'] for r in rows), size=8):016x}.parquet"
        trace.to_parquet(part.with_suffix(".part"), index=False)
        settle(part.with_suffix(".part"), part)
        with (self.path / "records.jsonl").open("ab") as stream:
            stream.write("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows).encode())
            stream.flush()
            os.fsync(stream.fileno())

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Replace manifest.json in one step, so that a reader never sees half of it."""
        write_atomically(self.path / "manifest.json", json.dumps(manifest, indent=2) + "\n")

    def manifest(self) -> dict[str, Any]:
        """The manifest, empty where none was written yet."""
        file = self.path / "manifest.json"
        return dict(json.loads(file.read_text())) if file.exists() else {}


def write_atomically(file: Path, text: str) -> None:
    """Write ``text`` beside ``file`` and rename it into place."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}.part")
    temporary.write_text(text)
    settle(temporary, file)


def settle(temporary: Path, file: Path) -> None:
    """Rename a finished file into place, so that it is there whole even after a power cut."""
    with temporary.open("rb") as stream:
        os.fsync(stream.fileno())
    temporary.replace(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def check_writable(folder: Path, key: str) -> None:
    """Make ``folder`` and write to it.

    Raises:
        ValueError: that fails; the message names the configuration ``key``.
    """
    probe = folder / f".writable.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise ValueError(f"{key}={folder}: cannot be written to ({error.strerror}); choose another folder") from error
