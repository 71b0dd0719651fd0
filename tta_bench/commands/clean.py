"""``tta-bench clean``: lists what can go, asks, deletes."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from tta_bench.commands.find import find_run, reports_on, run_folders, size_of, understood
from tta_bench.commands.say import say
from tta_bench.runner.disk import StoreError, storing
from tta_bench.runner.store import JUDGED, BusyError, RunFolder

USAGE = "tta-bench clean [RUN ...] [DIR]"

OWN = ("config.yaml", "manifest.json", "records.jsonl", "traces", "words.json", JUDGED)
"""What a run's folder holds; a folder with anything else in it is not proposed."""

PART = ".*.part"
"""Names of files that were being written when their process was killed."""

LEFT = 1


@dataclass(frozen=True)
class Candidate:
    """Something that may be deleted.

    Attributes:
        path: file or folder.
        reason: why it may go.
        run: that it is, or is part of; deleted only while nobody is at work on it. None where it belongs to no run.
        named: whether the run was asked for by its name; else it goes only for as long as it has no records.
    """

    path: Path
    reason: str
    run: RunFolder | None = None
    named: bool = False

    @property
    def is_run(self) -> bool:
        """Whether this is a whole run, not a part of one."""
        return self.run is not None and self.run.path == self.path

    def delete(self) -> None:
        """Delete it.

        Raises:
            BusyError: a process is at work on the run.
            StoreError: it cannot be deleted, or the run has got records since it was listed.
        """
        if self.run is None:
            with storing(self.path):
                remove(self.path)
        elif not self.is_run:
            with self.run.claimed(), storing(self.path):
                self.path.unlink(missing_ok=True)
        else:
            with self.run.claimed(), storing(self.path):
                if not self.named and not empty(self.run):
                    raise StoreError(f"{self.path}: has got records since it was listed")
                remove(self.path)


def main(folder: Path, words: list[str], console: Console) -> int:
    """List what can go, ask, delete; the exit code is 1 if some of it could not be deleted."""
    folder, names = understood(folder, words, USAGE)
    found = named_runs(folder, names) if names else left_over(folder)
    if not found:
        say(console, f"{folder}: there is nothing to clean")
        return 0
    print_candidates(found, console)
    for name in [candidate.path.name for candidate in found if candidate.is_run]:
        for report in reports_on(folder, name):
            say(console, f"warning: {name} is in {report}, a report that cannot be made again before the run is", "yellow")
    say(console, f"Delete these {len(found)}? [y/N] ", end="")
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        console.print()
    if answer.strip().lower() not in ("y", "yes"):
        say(console, "nothing was deleted")
        return 0
    return delete(found, console)


def named_runs(folder: Path, names: Sequence[str]) -> list[Candidate]:
    """The runs that were asked for.

    Raises:
        ValueError: there is no such run, or a process is at work on it.
    """
    runs = list(dict.fromkeys(find_run(folder, name) for name in names))
    for run in runs:
        if run.busy():
            raise ValueError(f"{run.path}: a process is at work on this run; stop it, or leave the run out")
    return [Candidate(run.path, "asked for", run, named=True) for run in runs]


def left_over(folder: Path) -> list[Candidate]:
    """What nobody will miss: runs that were replaced, runs without records, half-written files."""
    replaced = folder / "replaced"
    found = [Candidate(path, "replaced by --fresh") for path in sorted(replaced.iterdir())] if replaced.is_dir() else []
    for run in run_folders(folder):
        if not run.busy():
            found += of_run(run)
    return found


def of_run(run: RunFolder) -> Iterator[Candidate]:
    """The run itself if it has no records, else the files in it that were never finished."""
    if empty(run):
        yield Candidate(run.path, "has no records", run)
        return
    for place in (run.path, run.path / "traces"):
        for file in sorted(place.glob(PART)):
            yield Candidate(file, "half-written", run)


def empty(run: RunFolder) -> bool:
    """Whether a folder is a run's, and holds no record, not even one that cannot be read."""
    if any(path.name not in OWN and not path.match(PART) for path in run.path.iterdir()):
        return False
    records = run.path / "records.jsonl"
    if not records.exists():
        return True
    with records.open("rb") as stream:
        return not stream.readline().endswith(b"\n")  # a torn first line is none


def print_candidates(found: Sequence[Candidate], console: Console) -> None:
    """A line for each, with its size and why it may go."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    sizes = [size_of(candidate.path) for candidate in found]
    for candidate, size in zip(found, sizes, strict=True):
        table.add_row(decimal(size), candidate.reason, str(candidate.path))
    console.print(table, markup=False, highlight=False)
    say(console, f"{decimal(sum(sizes))} in all")


def delete(found: Sequence[Candidate], console: Console) -> int:
    """Delete all; what cannot be deleted is told, and the others go on."""
    n_left = 0
    for candidate in found:
        try:
            candidate.delete()
        except BusyError:
            n_left += 1
            say(console, f"left alone: {candidate.path}: a process is at work on this run now", "yellow")
        except StoreError as error:
            n_left += 1
            say(console, f"left alone: {error}", "yellow")
    say(console, f"deleted {len(found) - n_left} of {len(found)}")
    return LEFT if n_left else 0


def remove(path: Path) -> None:
    """Delete a file, a link (not what it leads to) or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
