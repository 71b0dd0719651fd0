"""Adding to a folder what is missing in it, record by record: measurements that a model makes without decoding."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import pandas as pd

from tta_bench.runner.disk import StoreError
from tta_bench.runner.environment import Environment, environments, with_environment
from tta_bench.runner.execute import TooManyFailuresError
from tta_bench.runner.failure import failure
from tta_bench.runner.isolate import out_of_memory, release_memory
from tta_bench.runner.progress import RunWatch
from tta_bench.runner.store import SCHEMA_VERSION, OpenRun, Record
from tta_bench.runner.work import Tally

Value = TypeVar("Value")


@dataclass(frozen=True)
class Item:
    """One record to be made.

    Attributes:
        head: what it says whatever becomes of it: key, problem, replicate, data.
        measure: makes the rest, ``forward_passes`` among it.
    """

    head: Record
    measure: Callable[[], Record]


@dataclass
class Rows:
    """How many rows a model evaluates together.

    Attributes:
        size: halved when memory runs out, and not raised again.
    """

    size: int

    def fitting(self, evaluate: Callable[[int], Value]) -> Value:
        """What ``evaluate`` gives with as many rows as fit into memory."""
        while True:
            try:
                return evaluate(self.size)
            except Exception as error:
                if self.size == 1 or not out_of_memory(error):
                    raise
            # Outside the handler: the traceback kept what the rows had allocated.
            self.size //= 2
            release_memory()


def evaluate_all(
    run: OpenRun,
    items: Sequence[Item],
    tally: Tally,
    named: Mapping[str, Any],
    here: Environment,
    *,
    watch: RunWatch,
    max_failures: int,
    check_stop: Callable[[], None],
) -> None:
    """Make and store every item's record; each is on the disk before the next one is made.

    Args:
        run: the folder, claimed and open.
        items: what is missing.
        tally: of the records that are there; brought up to date.
        named: what the manifest says of the folder's identity.
        here: the environment of this process.
        watch: told about progress.
        max_failures: items that may fail before it is given up.
        check_stop: called after every record; may raise KeyboardInterrupt.

    Raises:
        StoreError: the folder cannot be written to.
        TooManyFailuresError: more items failed than may.
    """
    earlier, began, failed = run.folder.manifest(), time.time(), 0
    places = with_environment(environments(earlier) if tally.any else [], here) if items else environments(earlier)

    def write_manifest(status: str) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        counts = {"n_records": len(tally.good), "n_errors": len(tally.bad)}
        times = {"started": earlier.get("started", now), "updated": now}
        seconds = {"seconds": round(earlier.get("seconds", 0.0) + time.time() - began, 3)}
        told = {"schema": SCHEMA_VERSION, "status": status, **named, **places[-1], "environments": places}
        run.write_manifest(earlier | told | times | seconds | counts)

    def outcome() -> str:
        return "incomplete" if tally.bad else "done"

    if not items:
        if earlier.get("status") != outcome():  # killed between its last record and its last word
            write_manifest(outcome())
        return
    write_manifest("running")
    watch.started()
    try:
        for item in items:
            record = made(item)
            run.append([record], pd.DataFrame())
            tally.add(record)
            watch.evaluated(record.get("forward_passes", 0))
            watch.finished([record])
            failed += bool(record["error"])
            if failed > max_failures:
                raise TooManyFailuresError(
                    f"{run.folder.path}: {failed} failed, more than max_failures={max_failures}; the last, {record['key']}: "
                    f"{record['error']['type']}: {record['error']['message']}. Remove the cause, or raise max_failures, and "
                    "run the same command again"
                )
            check_stop()
    except StoreError:
        raise
    except BaseException as error:
        write_manifest("interrupted" if isinstance(error, KeyboardInterrupt) else "failed")
        raise
    write_manifest(outcome())


def made(item: Item) -> Record:
    """An item's record, with an error if it could not be made."""
    began = time.perf_counter()
    try:
        found = item.measure()
    except Exception as error:
        return item.head | failure(error, "evaluate")
    return item.head | found | {"seconds": time.perf_counter() - began, "error": None}
