"""Doing a run: what is on disk stays, what is missing is generated, scored and appended, batch by batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Protocol

import pandas as pd

from tta_bench.runner.batch import Item, LoadedModel, Probe, batches, check_model, decode_batch
from tta_bench.runner.disk import StoreError
from tta_bench.runner.environment import Environment, describe, environments, with_environment
from tta_bench.runner.failure import TimeLimitError, check_alarms, failure, scored, time_limit
from tta_bench.runner.isolate import Isolation, automatic_batch_size
from tta_bench.runner.prompts import encode
from tta_bench.runner.spec import RunSpec
from tta_bench.runner.store import SCHEMA_VERSION, TOKEN, OpenRun, Record, RunFolder
from tta_bench.runner.words import words_of
from tta_bench.runner.work import Work, find_work, nothing_random, replicated
from tta_bench.tasks.base import Problem, Task, problem_digest
from tta_bench.types import StepInfo

NO_TRACE = pd.DataFrame()

GROUP_RECORDS, GROUP_SECONDS = 64, 1.0
"""Records of small batches are stored together, as soon as there are so many or so much time has passed: waiting for the disk
must not cost more than deciding. A kill loses what is not stored yet, and it is made again."""


Place = tuple[str, Problem, int]
"""What is to be generated: key, problem, replicate."""


class TooManyFailuresError(RuntimeError):
    """More problems of a run failed than may."""


class Watch(Protocol):
    """Is told what a run does."""

    def reused(self, n: int) -> None:
        """So many records were there."""

    def started(self) -> None:
        """The model is there; generation begins."""

    def step(self, info: StepInfo) -> None:
        """A batch made a step."""

    def finished(self, records: Sequence[Record]) -> None:
        """These records are on disk, errors included."""

    def others(self, news: News) -> None:
        """Other processes that share the run have stored this."""


@dataclass(frozen=True)
class News:
    """What other processes have stored: records, errors among them, forward passes."""

    made: int = 0
    failed: int = 0
    passes: int = 0


class Help(Protocol):
    """Other processes that share a run."""

    def deal(
        self, run_id: str, missing: Sequence[Place], check_stop: Callable[[], None]
    ) -> tuple[list[Place], list[Environment]]:
        """Deal out what is missing; returns what is left for this process, and where the others will be at work."""

    def begin(self) -> None:
        """Have them begin."""

    def news(self) -> News:
        """What they have stored since this was asked the last time."""

    def gather(self, check_stop: Callable[[], None]) -> None:
        """Wait until all is done; raises what ended one of them."""

    def call_off(self, check_stop: Callable[[], None]) -> None:
        """Have them stop after the batch at work, and wait until they have; raises what ended one of them, but no
        ``TooManyFailuresError``."""


class Unwatched:
    """A ``Watch`` that does not look."""

    def reused(self, n: int) -> None: ...

    def started(self) -> None: ...

    def step(self, info: StepInfo) -> None: ...

    def finished(self, records: Sequence[Record]) -> None: ...

    def others(self, news: News) -> None: ...


@dataclass(frozen=True)
class Effort:
    """How a run is done. Nothing here changes a record, but for rounding: in bfloat16 an answer may depend on the batch.

    Attributes:
        batch_size: problems decoded together; None finds out (``automatic_batch_size``).
        max_failures: problems that may fail in a visit before it is given up, in all processes that share it together.
        time_limit: seconds that a problem may take, n times as long for a batch of n; None sets no limit.
        token_traces: problems, the first of the split, of which the trace tells every token.
        probe_folds: also ask for the probability that each of these tokens has when it is hidden, in so many folds and with
            as many evaluations a step, which no record counts; 0 does not.
        probe_shadow: also ask for the probability that a shadow gives it, with one evaluation more.
    """

    batch_size: int | None = None
    max_failures: int = 10
    time_limit: float | None = None
    token_traces: int = 0
    probe_folds: int = 0
    probe_shadow: bool = False

    def __post_init__(self) -> None:
        if self.probe_folds == 1 or self.probe_folds < 0:
            raise ValueError(
                f"probe_folds={self.probe_folds}: must be 0, or at least 2; one fold would hide every token at once"
            )


@dataclass
class ModelSource:
    """Loads a model when it is first needed, and keeps it.

    Attributes:
        load: loads it.
        loaded: the model; None before the first ``get`` and after ``forget``.
    """

    load: Callable[[], LoadedModel]
    loaded: LoadedModel | None = None

    def get(self) -> LoadedModel:
        """The model."""
        if self.loaded is None:
            self.loaded = self.load()
        return self.loaded

    def forget(self) -> None:
        """Have it loaded again for the next ``get``."""
        self.loaded = None


def execute(
    spec: RunSpec,
    task: Task,
    problems: Sequence[Problem],
    replicates: int,
    *,
    output_dir: Path,
    model: ModelSource,
    effort: Effort | None = None,
    watch: Watch | None = None,
    wait: Callable[[], None] | None = None,
    check_stop: Callable[[], None] = lambda: None,
    help: Help | None = None,
) -> int:
    """Bring a run up to ``problems`` x ``replicates``. What failed before is tried again.

    Args:
        spec: the run.
        task: scores the answers.
        problems: to be done.
        replicates: seeds of each problem.
        output_dir: ``runs/<run_id>`` lies in it.
        model: asked only if something is to be generated.
        effort: batches, failures, time.
        watch: told about progress.
        wait: see ``RunFolder.claimed``.
        check_stop: called after every batch; may raise KeyboardInterrupt.
        help: of other processes; None does all of it in this one.

    Returns:
        How many records were made now, errors included; the others were there.

    Raises:
        BusyError: another process is at work on the run, and ``wait`` is None.
        StoreError: the folder cannot be written to, or holds something else.
        TooManyFailuresError: see ``Effort``.
    """
    watch, effort = watch or Unwatched(), effort or Effort()
    check_alarms(effort.time_limit)
    folder = RunFolder(output_dir / "runs" / spec.run_id)
    with folder.claimed(wait):
        run = folder.open(spec.config(), shared=help is not None)
        work = find_work(folder, problems, replicates)
        watch.reused(work.n_done)
        traced = frozenset(problem.id for problem in problems[: effort.token_traces])
        visit = Visit(spec, task, run, work, model, effort, watch, check_stop, traced, help)
        n_todo = len(work.missing) + len(work.unscored)
        if not n_todo:
            if folder.manifest().get("status") != "done":  # killed between its last record and its last word
                visit.write_manifest(visit.outcome)
            return 0
        visit.write_manifest("running")
        try:
            visit.do()
        except StoreError:  # the manifest cannot be written either; its lock tells that nobody is at work
            raise
        except BaseException as error:
            visit.recount()
            # A launcher that has a pre-empted job queued again ends the process with SystemExit.
            visit.write_manifest("interrupted" if isinstance(error, KeyboardInterrupt | SystemExit) else "failed")
            raise
        visit.write_manifest(visit.outcome)
        return n_todo


def here(spec: RunSpec) -> Environment:
    """The environment in which this process makes records of a run."""
    return describe(spec.device, spec.dtype, spec.sampler.target, spec.task.target, spec.constraint.targets)


@dataclass
class Visit:
    """One process doing the work of one run."""

    spec: RunSpec
    task: Task
    run: OpenRun
    work: Work
    model: ModelSource
    effort: Effort
    watch: Watch
    check_stop: Callable[[], None]
    traced: frozenset[str]
    help: Help | None = None
    failed: int = 0
    isolation: Isolation | None = None
    held: list[tuple[Sequence[Record], pd.DataFrame]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.stored = time.monotonic()
        self.began, self.earlier = time.time(), self.run.folder.manifest()
        self.problems = {key: problem for key, problem, _ in self.work.missing}
        self.here = here(self.spec)
        self.environments = environments(self.earlier) if self.work.tally.any else []
        self.words = self.run.folder.words()

    @property
    def outcome(self) -> str:
        """The status after all was gone through."""
        return "incomplete" if self.work.tally.bad else "done"

    def do(self) -> None:
        """Score what is not scored yet, generate what is missing. Whatever ends it, what is held is stored."""
        try:
            for record, problem in self.work.unscored:
                self.keep([self.scored(record, problem)], NO_TRACE)
            if self.work.missing and self.help:
                self.generate_together(self.help)
            elif self.work.missing:
                self.generate(self.work.missing)
        except StoreError:
            raise
        except BaseException:
            self.store()
            raise
        self.store()

    def generate_together(self, help: Help) -> None:
        """Generate a part of what is missing, while other processes do the rest. None of them goes on after an error in one:
        the claim on the run, which is the same for all, ends with this process's part."""
        try:
            self.generate_shared(help)
        except Exception:
            help.call_off(self.check_stop)
            self.watch.others(help.news())
            raise

    def generate_shared(self, help: Help) -> None:
        """Deal out what is missing, generate a part of it, wait for the others."""
        mine, places = help.deal(self.spec.run_id, self.work.missing, self.check_stop)
        for place in [*places, self.here]:  # told before the first record, so that no record is without
            self.environments = with_environment(self.environments, place)
        self.write_manifest("running")
        help.begin()
        self.generate(mine)
        self.store()
        help.gather(self.listen)
        self.listen()
        self.recount()

    def recount(self) -> None:
        """Count what other processes have stored besides."""
        for record in self.run.folder.lines() if self.help else ():
            self.work.tally.add(record)

    def listen(self) -> None:
        """Hear what other processes have stored, and see whether to go on."""
        if self.help:
            news = self.help.news()
            self.failed += news.failed
            self.watch.others(news)
        self.check_failures()
        self.check_stop()

    def check_failures(self) -> None:
        """Give the run up once more has failed, here and in other processes, than may.

        Raises:
            TooManyFailuresError: see ``Effort``.
        """
        if self.failed <= self.effort.max_failures:
            return
        self.store()
        *_, error = (record["error"] for record in self.run.folder.lines() if record["error"])
        raise TooManyFailuresError(
            f"{self.spec.run_id}: {self.failed} problems failed, more than max_failures={self.effort.max_failures}; "
            f"the last: {error['type']}: {error['message']} (tta-bench show {self.spec.run_id} has the tracebacks). "
            "Remove the cause, or raise max_failures, and run the same command again"
        )

    def generate(self, missing: Sequence[Place]) -> None:
        """Generate what is missing, one replicate after the other; what is known from an earlier one is not decoded again."""
        for _, places in groupby(missing, key=itemgetter(2)):
            open_ = [place for place in places if not self.known(*place)]
            if open_:
                self.decode_all(open_)

    def known(self, key: str, problem: Problem, replicate: int) -> bool:
        """Keep the record of a replicate that equals another, if there is such a one."""
        same = self.work.alike.get(problem.id)
        if same is None:
            return False
        self.keep([replicated(same, key, replicate)], NO_TRACE)
        return True

    def decode_all(self, places: Sequence[tuple[str, Problem, int]]) -> None:
        """Generate the answers named by key, problem and replicate."""
        check_model(self.spec, self.model.get(), shadow=self.effort.probe_shadow)
        items = list(self.encoded(self.model.get(), places))
        if self.isolation is None:
            size = self.effort.batch_size or automatic_batch_size(self.spec, items, self.model.get())
            self.isolation = Isolation(self.decode, size, pinned=self.spec.batch_size is not None)
        self.watch.started()
        for batch in batches(items, self.isolation.size):
            for records, trace in self.isolation.outcomes(batch):
                self.keep([self.scored(record, self.problems[record["key"]]) for record in records], trace)

    def encoded(self, loaded: LoadedModel, places: Sequence[tuple[str, Problem, int]]) -> Iterator[Item]:
        """Missing items as token ids; what cannot be encoded has an error record."""
        for key, problem, replicate in places:
            try:
                manner = self.spec.manner(loaded.end_ids, loaded.context)
                prompt = encode(problem, loaded.tokenizer, loaded.mask_id, self.spec.gen_length, manner)
            except Exception as error:
                head = {"key": key, "problem": problem.id, "replicate": replicate, "data": problem_digest(problem)}
                self.keep([head | failure(error, "encode")], NO_TRACE)
            else:
                yield Item(key, problem, replicate, prompt, problem.id in self.traced)

    def decode(self, batch: Sequence[Item]) -> tuple[list[Record], pd.DataFrame]:
        """Generate a batch within its time."""
        limit, loaded = self.effort.time_limit, self.model.get()
        try:
            with time_limit(None if limit is None else limit * len(batch)):
                probe = Probe(self.effort.probe_folds, self.effort.probe_shadow)
                return decode_batch(self.spec, self.task, batch, loaded, self.watch.step, probe)
        except TimeLimitError:
            self.model.forget()  # it was stopped in the middle: what that left behind in the model is unknown
            raise

    def scored(self, record: Record, problem: Problem) -> Record:
        """A record with its score; with an error, if the scorer failed, that leaves the answer in place."""
        return scored(record, self.task, problem, self.effort.time_limit)

    def keep(self, records: Sequence[Record], trace: pd.DataFrame) -> None:
        """Take the records of a batch, store what has come together if it is time to, and see whether to go on."""
        self.held.append((records, trace))
        self.failed += sum(1 for record in records if record["error"])
        self.work.alike.update({record["problem"]: record for record in records if nothing_random(record)})
        if sum(len(part) for part, _ in self.held) >= GROUP_RECORDS or time.monotonic() - self.stored >= GROUP_SECONDS:
            self.store()
        self.listen()

    def store(self) -> None:
        """Store what is held. Interrupted in the middle, it is not held any more: better made again than stored twice."""
        held, self.held, self.stored = self.held, [], time.monotonic()
        if not held:
            return
        if self.here not in self.environments:  # told before the first record, so that no record is without
            self.environments = with_environment(self.environments, self.here)
            self.write_manifest("running")
        records = [record for part, _ in held for record in part]
        traces = [trace for _, trace in held if len(trace)]
        trace = pd.concat(traces) if traces else NO_TRACE
        if f"{TOKEN}token" in trace:
            self.tell_words(trace)  # before the trace, so that no trace is without
        self.run.append(records, trace)
        for record in records:
            self.work.tally.add(record)
        self.watch.finished(records)

    def tell_words(self, trace: pd.DataFrame) -> None:
        """Write the words that a trace of tokens needs, if there are new ones among them."""
        loaded = self.model.get()
        manner = self.spec.manner(loaded.end_ids, loaded.context)
        words = words_of(trace, self.problems, loaded.tokenizer, manner)
        if any(words[kind].keys() - self.words[kind].keys() for kind in words):
            self.words = self.run.add_words(words)

    def write_manifest(self, status: str) -> None:
        """Write what ran, where, with what, how long."""
        earlier, isolation = self.earlier, self.isolation
        self.run.write_manifest(
            {
                **earlier,
                "schema": SCHEMA_VERSION,
                "status": status,
                "run_id": self.spec.run_id,
                "config_hash": self.spec.config_hash,
                "model_fingerprint": self.spec.fingerprint,
                **(self.environments[-1] if self.environments else self.here),
                "environments": self.environments,
                "mask_id": self.model.loaded.mask_id if self.model.loaded else earlier.get("mask_id"),
                "end_ids": list(self.model.loaded.end_ids) if self.model.loaded else earlier.get("end_ids"),
                "batch_size": isolation.size if isolation else earlier.get("batch_size"),
                "batch_backoffs": earlier.get("batch_backoffs", 0) + (isolation.backoffs if isolation else 0),
                "started": earlier.get("started", datetime.fromtimestamp(self.began, UTC).isoformat(timespec="seconds")),
                "updated": datetime.now(UTC).isoformat(timespec="seconds"),
                "seconds": round(earlier.get("seconds", 0.0) + time.time() - self.began, 3),
                "n_records": len(self.work.tally.good),
                "n_errors": len(self.work.tally.bad),
            }
        )
