"""Ranks: processes that a launcher started together (``accelerate launch``, ``torchrun``) share the problems of every run.

Rank 0 is the program: it claims a run, deals out what is missing of it, writes the manifest and reports. The others do
what they are dealt and add their records to the same file, one process at a time. They talk through the launcher's key-value
store, in short messages, and ask it again and again rather than wait inside it, so that a signal is heard.
"""

from __future__ import annotations

import os
import pickle
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tta_bench.runner.disk import StoreError
from tta_bench.runner.environment import Environment
from tta_bench.runner.execute import News, Place, TooManyFailuresError, Unwatched, Visit, here
from tta_bench.runner.settings import Comparison
from tta_bench.runner.store import Record, RunFolder
from tta_bench.runner.study import model_source
from tta_bench.runner.work import find_work

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

PAUSE_SECONDS = 0.05
"""Between two questions to the store."""

GOODBYE_SECONDS = 5.0
"""Rank 0 waits for the others no longer than this; they may be dead."""

COUNTERS = ("made", "failed", "passes")


class RankError(RuntimeError):
    """Something failed in another rank; the message has its traceback."""


class CalledOffError(Exception):
    """Rank 0 has given up the run that this rank was dealt a share of."""


@dataclass(frozen=True)
class Ranks:
    """The processes that were started together.

    Attributes:
        rank: of this process, from 0.
        size: how many there are.
    """

    rank: int
    size: int

    @cached_property
    def store(self) -> Store:
        """The launcher's key-value store."""
        from torch.distributed.rendezvous import rendezvous

        return next(rendezvous("env://"))[0]

    def tell(self, key: str, message: object) -> None:
        """Leave a message under a key that nobody else uses."""
        self.store.set(key, pickle.dumps(message))  # type: ignore[arg-type]  # it takes bytes

    def hear(self, key: str, check_stop: Callable[[], None]) -> Any:
        """The message under a key, as soon as it is there; ``check_stop`` is called meanwhile and may raise."""
        while not self.store.check([key]):
            check_stop()
            time.sleep(PAUSE_SECONDS)
        return pickle.loads(self.store.get(key))


def ranks_here() -> Ranks | None:
    """The ranks that this process is one of, by the variables that launchers set; None where it is alone.

    Has torch use the GPU of this rank.

    Raises:
        ValueError: there are more ranks on this machine than GPUs.
    """
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == 1 or not {"RANK", "LOCAL_RANK", "MASTER_ADDR"} <= os.environ.keys():
        return None
    import torch

    local, n_gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if n_gpus and local >= n_gpus:
        raise ValueError(f"LOCAL_RANK={local}: this machine has {n_gpus} GPU(s); start no more processes on it than that")
    if n_gpus:
        torch.cuda.set_device(local)
    return Ranks(int(os.environ["RANK"]), size)


@dataclass(frozen=True)
class Deal:
    """What is to be done of a run.

    Attributes:
        comparison: that asks for it.
        run_id: of the run.
        shares: by rank the ids of its problems.
    """

    comparison: Comparison
    run_id: str
    shares: Mapping[int, Sequence[str]]


@dataclass(frozen=True)
class Crew:
    """The other ranks, as rank 0 sees them in its whole life.

    Attributes:
        ranks: all of them.
        deals: numbers of what was dealt so far.
    """

    ranks: Ranks
    deals: list[int]

    def next(self, deal: Deal | None) -> int:
        """Tell what is to be done next, None for nothing any more; returns its number."""
        self.deals.append(len(self.deals))
        self.ranks.tell(f"deal/{self.deals[-1]}", deal)
        return self.deals[-1]

    def dismiss(self) -> None:
        """Let the others go, and wait a little for them: the store may live in this process."""
        self.next(None)
        until = time.monotonic() + GOODBYE_SECONDS
        gone = [f"gone/{rank}" for rank in range(1, self.ranks.size)]
        while not self.ranks.store.check(gone) and time.monotonic() < until:
            time.sleep(PAUSE_SECONDS)

    def on(self, comparison: Comparison) -> Helpers:
        """What helps with the runs of a comparison."""
        return Helpers(self, comparison)


@dataclass
class Helpers:
    """Helps with runs, one after the other (see ``execute``)."""

    crew: Crew
    comparison: Comparison
    number: int = -1
    dealt: tuple[int, ...] = ()
    heard: News = field(default_factory=News)

    def deal(
        self, run_id: str, missing: Sequence[Place], check_stop: Callable[[], None]
    ) -> tuple[list[Place], list[Environment]]:
        """Deal out what is missing, by problem; returns what is left for this process, and where the others will be at work.

        Raises:
            RankError: one of them cannot tell where it is.
        """
        ranks, names = self.crew.ranks, list(dict.fromkeys(problem.id for _, problem, _ in missing))
        shares = {rank: share for rank in range(1, ranks.size) if (share := names[rank :: ranks.size])}
        self.number = self.crew.next(Deal(self.comparison, run_id, shares))
        self.dealt, self.heard = tuple(shares), News()
        mine = set(names[:: ranks.size])

        def check() -> None:
            check_stop()
            raise_first(self.told())

        places = [ranks.hear(f"place/{self.number}/{rank}", check) for rank in self.dealt]
        return [place for place in missing if place[1].id in mine], places

    def begin(self) -> None:
        """Have the others begin."""
        self.crew.ranks.tell(f"begin/{self.number}", True)

    def news(self) -> News:
        """What the others have stored since this was asked the last time."""
        if not self.dealt:
            return News()
        now = News(*(self.crew.ranks.store.add(f"{name}/{self.number}", 0) for name in COUNTERS))
        since = News(now.made - self.heard.made, now.failed - self.heard.failed, now.passes - self.heard.passes)
        self.heard = now
        return since

    def gather(self, check_stop: Callable[[], None]) -> None:
        """Wait until the others have done what they were dealt.

        Raises:
            TooManyFailuresError, StoreError, RankError: what ended one of them.
        """
        raise_first(self.wait(check_stop))

    def call_off(self, check_stop: Callable[[], None]) -> None:
        """Have the others stop after the batch at work, and wait until they have.

        Raises:
            StoreError, RankError: what ended one of them. That too much failed is no news any more.
        """
        if self.dealt:
            self.crew.ranks.tell(f"off/{self.number}", True)
        raise_first([error for error in self.wait(check_stop) if not isinstance(error, TooManyFailuresError)])

    def wait(self, check_stop: Callable[[], None]) -> list[Exception | None]:
        """What each of the others has told at its end, as soon as all have."""
        return [self.crew.ranks.hear(f"told/{self.number}/{rank}", check_stop) for rank in self.dealt]

    def told(self) -> list[Exception | None]:
        """What those of the others that have ended have told."""
        ranks, keys = self.crew.ranks, [f"told/{self.number}/{rank}" for rank in self.dealt]
        return [pickle.loads(ranks.store.get(key)) for key in keys if ranks.store.check([key])]


def raise_first(errors: Sequence[Exception | None]) -> None:
    """Raise the first error, if there is one."""
    for error in errors:
        if error is not None:
            raise error


def follow(ranks: Ranks, check_stop: Callable[[], None]) -> None:
    """What every rank but 0 does: its share of one deal after the other, until there is none, or rank 0 is gone."""
    from torch.distributed import DistError

    with suppress(DistError):  # a store that rank 0 keeps ends with it; what became of rank 0, its own exit code tells
        follow_deals(ranks, check_stop)


def follow_deals(ranks: Ranks, check_stop: Callable[[], None]) -> None:
    """Its share of one deal after the other, until there is none.

    Raises:
        DistError: the store is gone.
    """
    number = 0
    while (deal := ranks.hear(f"deal/{number}", check_stop)) is not None:
        if ranks.rank in deal.shares:
            ranks.tell(f"told/{number}/{ranks.rank}", error_of(ranks, number, deal, check_stop))
        number += 1
    ranks.tell(f"gone/{ranks.rank}", True)


def error_of(ranks: Ranks, number: int, deal: Deal, check_stop: Callable[[], None]) -> Exception | None:
    """Do a share, or a part if it is called off; returns the error that ended it, as one that can be sent."""

    def check() -> None:
        check_stop()
        if ranks.store.check([f"off/{number}"]):
            raise CalledOffError

    try:
        do_share(ranks, number, deal, check)
    except CalledOffError:  # what is done is stored, and why it is called off, rank 0 knows
        return None
    except (TooManyFailuresError, StoreError) as error:
        return type(error)(str(error))
    except Exception:
        return RankError(f"rank {ranks.rank} failed:\n{traceback.format_exc()}")
    return None


def do_share(ranks: Ranks, number: int, deal: Deal, check_stop: Callable[[], None]) -> None:
    """Generate the answers to the problems that this rank was dealt."""
    asked, mine = deal.comparison, set(deal.shares[ranks.rank])
    spec = next(spec for spec in asked.runs if spec.run_id == deal.run_id)
    ranks.tell(f"place/{number}/{ranks.rank}", here(spec))
    ranks.hear(f"begin/{number}", check_stop)
    folder = RunFolder(asked.output_dir / "runs" / spec.run_id)
    work = find_work(folder, asked.problems, asked.replicates)
    visit = Visit(
        spec,
        asked.task,
        folder.join(),
        replace(work, missing=[place for place in work.missing if place[1].id in mine], unscored=[]),
        model_source(asked.model, asked.device, spec.dtype),
        asked.effort,
        Counting(ranks, number),
        check_stop,
        frozenset(problem.id for problem in asked.problems[: asked.effort.token_traces]),
    )
    visit.environments = [visit.here]  # rank 0 has written it down
    visit.do()


@dataclass(frozen=True)
class Counting(Unwatched):
    """A ``Watch`` that has rank 0 know what is stored."""

    ranks: Ranks
    number: int

    def finished(self, records: Sequence[Record]) -> None:
        """These records are on disk."""
        failed = sum(1 for record in records if record["error"])
        passes = sum(record.get("forward_passes") or 0 for record in records if "copy_of" not in record)
        for name, n in zip(COUNTERS, (len(records), failed, passes), strict=True):
            self.ranks.store.add(f"{name}/{self.number}", int(n))
