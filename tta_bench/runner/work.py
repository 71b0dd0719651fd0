"""What is on disk of a run, and what is missing of what is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tta_bench.runner.disk import StoreError
from tta_bench.runner.store import Record, RunFolder, record_key
from tta_bench.tasks.base import Problem, problem_digest


@dataclass
class Tally:
    """Which keys of a run have a record, and which an error."""

    good: set[str] = field(default_factory=set)
    bad: set[str] = field(default_factory=set)

    @property
    def any(self) -> bool:
        """Whether the run has any records, errors included."""
        return bool(self.good or self.bad)

    def add(self, record: Record) -> None:
        """Count the latest record of a key."""
        mine, other = (self.bad, self.good) if record["error"] else (self.good, self.bad)
        mine.add(record["key"])
        other.discard(record["key"])


@dataclass(frozen=True)
class Work:
    """What a visit has to do.

    Attributes:
        missing: (key, problem, replicate) to be generated: not done yet, or failed before.
        unscored: records whose text is there but not their score, each with its problem.
        n_done: records that were asked for and are there.
        tally: of all keys of the run, asked for or not.
        alike: by problem a record for which nothing random was drawn, so that every replicate of it is the same.
    """

    missing: list[tuple[str, Problem, int]]
    unscored: list[tuple[Record, Problem]]
    n_done: int
    tally: Tally
    alike: dict[str, Record] = field(default_factory=dict)


def find_work(folder: RunFolder, problems: Sequence[Problem], replicates: int) -> Work:
    """Compare what is asked for with what is on disk.

    Raises:
        StoreError: a problem is not the one that its record is about.
    """
    digests = {p.id: problem_digest(p) for p in problems}
    by_id = {p.id: p for p in problems}
    tally = Tally()
    unscored: dict[str, tuple[Record, Problem]] = {}
    alike: dict[str, Record] = {}
    for record in folder.lines():
        tally.add(record)
        expected = digests.get(record["problem"])
        if expected is None or record["replicate"] >= replicates:
            continue  # not asked for now
        if record["data"] not in (None, expected):
            raise StoreError(
                f"{folder.path}: problem {record['problem']} is not the one that was recorded under this name; "
                "raise the task's version when its problems change, or do the run afresh with --fresh"
            )
        if record["error"] and record["error"]["stage"] == "score":
            unscored[record["key"]] = record, by_id[record["problem"]]
        elif unscored:
            unscored.pop(record["key"], None)
        if nothing_random(record):
            alike[record["problem"]] = record
    wanted = ((record_key(p.id, r), p, r) for r in range(replicates) for p in problems)
    missing = [place for place in wanted if place[0] not in tally.good and place[0] not in unscored]
    return Work(missing, list(unscored.values()), len(problems) * replicates - len(missing) - len(unscored), tally, alike)


def nothing_random(record: Record) -> bool:
    """Whether another replicate of a record's problem would be the same: it is an answer that took no random number."""
    return record.get("drew") is False and not record["error"]


def replicated(record: Record, key: str, replicate: int) -> Record:
    """The record of another replicate of a problem, where all are the same; ``copy_of`` names the one that was decoded."""
    return record | {"key": key, "replicate": replicate, "copy_of": record.get("copy_of", record["key"])}
