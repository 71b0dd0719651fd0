"""Writing so that what was said to be written is there after a kill or a power cut."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some of your quota",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EROFS: "make it writable, or choose another output_dir",
    errno.EACCES: "make it writable, or choose another output_dir",
    errno.EPERM: "make it writable, or choose another output_dir",
}


class StoreError(RuntimeError):
    """A folder that does not hold what it should, or cannot be written to."""


@contextmanager
def storing(folder: Path) -> Iterator[None]:
    """Turn an error of the operating system into a sentence.

    Raises:
        StoreError: with the folder, the reason and the remedy.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise StoreError(
                f"{folder}: was deleted or moved while it was written to ({error.strerror}); run the same command again to do "
                "what is missing"
            ) from error
        remedy = REMEDIES.get(error.errno or 0, "see the reason")
        raise StoreError(
            f"{folder}: cannot be written to ({error.strerror or error}); what was stored before is intact. "
            f"Remedy: {remedy}, then run the same command again"
        ) from error


def append_durably(file: Path, data: bytes) -> None:
    """Add ``data`` at the end of a file and wait until the disk has it; if that fails, the file is as long as before.

    Raises:
        OSError: it cannot be written.
    """
    new = not file.exists()
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        size = os.fstat(descriptor).st_size
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        except BaseException:
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)
    if new:
        sync_folder(file.parent)


def cut_torn_line(file: Path) -> None:
    """Cut a last line that has no line end: the process that wrote it was killed. Nothing is done where there is no file."""
    if not file.exists():
        return
    with file.open("r+b") as stream:
        end = stream.seek(0, 2)
        place, tail = end, b""
        while place > 0 and b"\n" not in tail:
            place = max(0, place - (1 << 16))
            stream.seek(place)
            tail = stream.read(end - place)
        whole = place + tail.rfind(b"\n") + 1
        if whole < end:
            stream.truncate(whole)


def write_atomically(file: Path, data: bytes) -> None:
    """Write ``data`` beside ``file`` and rename it into place: a reader sees the old content or the new, never half of it."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(file.parent)


def make_folder(folder: Path) -> None:
    """Make a folder, and have the disk know that it is there."""
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the disk has the names of a folder's files."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
