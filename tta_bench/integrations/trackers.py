"""Trackers of experiments, Weights & Biases and Trackio, told of runs while they are made.

Both have the same verbs: ``init`` begins a run, whose ``log`` and ``finish`` are called. Where what they are told goes, to a
server or to a folder, their own environment variables say.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from tta_bench.catalog import unknown

if TYPE_CHECKING:
    from tta_bench.runner.execute import News, Watch
    from tta_bench.runner.store import Record
    from tta_bench.types import StepInfo

NAMES = ("trackio", "wandb")


@dataclass(frozen=True)
class Tracking:
    """Who is told of runs.

    Attributes:
        name: of ``NAMES``.
        project: that runs belong to there.
    """

    name: str
    project: str

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise ValueError(f"tracker={self.name}: {unknown('tracker', self.name, ('none', *NAMES))}")
        if not self.project:
            raise ValueError("tracker_project: must be a name")
        if find_spec(self.name) is None:
            raise ValueError(f'tracker={self.name} needs {self.name}: pip install "tta_bench[{self.name}]"')


@dataclass
class Tracker:
    """A tracker that can fail, but not make anything else fail.

    Attributes:
        tracking: which, and where.
        broken: whether it failed, after which it is told nothing more in this process.
    """

    tracking: Tracking
    broken: bool = False

    def tell(self, what: Callable[[], Any]) -> Any:
        """Do something with the tracker; None where it fails, or did before."""
        if self.broken:
            return None
        try:
            return what()
        # Whatever goes wrong in somebody else's library, a network or a server, a run of hours must not end for it.
        except Exception as error:
            self.broken = True
            print(
                f"tta-bench: warning: tracker={self.tracking.name} failed and is told nothing more, the runs go on: "
                f"{type(error).__name__}: {error}",
                file=sys.stderr,
            )
            return None

    def begin(self, run_id: str, group: str, config: Mapping[str, Any], folder: str) -> Any:
        """A run of the tracker."""
        os.environ.setdefault("WANDB_CONSOLE", "off")  # progress bars are no output to be kept
        tracking = self.tracking
        told = {"project": tracking.project, "name": run_id, "group": group, "config": dict(config), "resume": "allow"}
        # By its id a run that goes on is found; trackio goes by the name, and writes to a place of its own.
        own = {"id": run_id, "dir": folder} if tracking.name == "wandb" else {}
        return self.tell(lambda: import_module(tracking.name).init(**told, **own))


tracker = cache(Tracker)
"""The one of this process, so that what is broken stays so."""


@dataclass
class Tracked:
    """A ``Watch`` that tells a tracker what it sees, and another watch as well.

    Attributes:
        watch: the other.
        tracker: that is told.
        begin: begins a run of the tracker; called with the first records, so that what is only looked at is no run there.
    """

    watch: Watch
    tracker: Tracker
    begin: Callable[[], Any]
    run: Any = None
    done: int = 0
    failed: int = 0
    scores: list[float] = field(default_factory=list)

    def reused(self, n: int) -> None:
        """So many records were there."""
        self.done += n
        self.watch.reused(n)

    def started(self) -> None:
        """The model is there; generation begins."""
        self.watch.started()

    def step(self, info: StepInfo) -> None:
        """A batch made a step."""
        self.watch.step(info)

    def finished(self, records: Sequence[Record]) -> None:
        """These records are on disk, errors included."""
        self.watch.finished(records)
        good = [record for record in records if not record["error"]]
        self.done += len(good)
        self.failed += len(records) - len(good)
        self.scores += [float(record["score"]) for record in good]
        self.run = self.run or self.begin()
        if self.run is not None:
            score = {"score_so_far": sum(self.scores) / len(self.scores)} if self.scores else {}
            told = {"records": self.done, "errors": self.failed, **score}
            self.tracker.tell(lambda: self.run.log(told))

    def others(self, news: News) -> None:
        """Other processes that share the run have stored this."""
        self.watch.others(news)
        self.done += news.made - news.failed
        self.failed += news.failed

    def end(self, summary: Callable[[], Mapping[str, float]]) -> None:
        """The run is gone through; its summary is the last that the tracker is told."""
        if self.run is not None:
            self.tracker.tell(lambda: self.run.log({f"summary/{key}": value for key, value in summary().items()}))
            self.tracker.tell(self.run.finish)


@contextmanager
def tracked(
    tracking: Tracking | None, watch: Watch, begin: Callable[[Tracker], Any], summary: Callable[[], Mapping[str, float]]
) -> Iterator[Watch]:
    """Tell a tracker of one run while the context lasts.

    Args:
        tracking: None tells nobody.
        watch: that watches the run besides.
        begin: begins a run of the tracker.
        summary: of the run when it ends, however it ends.
    """
    if tracking is None:
        yield watch
        return
    teller = tracker(tracking)
    told = Tracked(watch, teller, lambda: begin(teller))
    try:
        yield told
    finally:
        told.end(summary)
