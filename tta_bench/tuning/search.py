"""A search that several processes share and that survives them: optuna's study in a journal on disk, asked and told.

Every trial is held by a lock of the operating system while a process is at work on it. A trial that is running and held by
nobody belongs to a process that was killed: the next that asks gets it, so that none is lost. What is suggested depends on the
seed, the number of the trial and what was told before, and not on the process: a search that was killed goes on as if it had
not been.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock, Timeout

from tta_bench.rng import digest
from tta_bench.runner.disk import cut_torn_line, make_folder, storing
from tta_bench.tuning.space import Space

if TYPE_CHECKING:
    from optuna import Study
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

OBJECTIVES: dict[str, Literal["maximize", "minimize"]] = {"score": "maximize", "forward_passes": "minimize"}

SEARCHES = ("tpe", "nsga2", "random")

MOST_LISTED = 100_000
"""Settings of a finite space that are looked through for one that was not tried."""

SECONDS_BETWEEN_LOOKS = 0.2
"""While another process is at work on the last trials."""


def check_installed() -> None:
    """Refuse to search without optuna.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise ValueError('tune needs optuna: pip install "tta_bench[tune]"') from error


@dataclass(frozen=True)
class Plan:
    """How a space is searched.

    Attributes:
        space: the settings.
        trials: how many different ones are tried.
        objectives: of ``OBJECTIVES``: the score alone, or both.
        search: one of ``SEARCHES``.
        seed: of the search.
    """

    space: Space
    trials: int
    objectives: tuple[str, ...] = tuple(OBJECTIVES)
    search: str = "tpe"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.objectives not in (("score",), tuple(OBJECTIVES)):
            raise ValueError(f"objectives=[{','.join(self.objectives)}]: must be [score] or [{','.join(OBJECTIVES)}]")
        if self.search not in SEARCHES:
            raise ValueError(f"search={self.search}: must be one of {', '.join(SEARCHES)}")


@dataclass(frozen=True)
class Trial:
    """A setting that was tried.

    Attributes:
        number: in the study.
        words: the setting, as ``key=value``.
        state: running, done or failed.
        score, forward_passes: means on dev; NaN where it is not done.
        run_id: of its run on dev; empty where it is not done.
        failure: why it failed.
        again: whether it is worth trying again, as its problems failed and not its setting.
    """

    number: int
    words: tuple[str, ...]
    state: str
    score: float = math.nan
    forward_passes: float = math.nan
    run_id: str = ""
    failure: str = ""
    again: bool = False


@dataclass(frozen=True)
class Claim:
    """A trial that this process is at work on.

    Attributes:
        number: of it.
        words: its setting.
        taken_over: whether another process began it and was killed.
    """

    number: int
    words: tuple[str, ...]
    taken_over: bool = False


@dataclass(frozen=True)
class Search:
    """A study in a folder of its own.

    Attributes:
        folder: of the journal and the locks.
        plan: what is searched, and how.
        max_passes: forward passes above which a setting counts as out of bounds where the score is the only objective.
    """

    folder: Path
    plan: Plan
    max_passes: float = math.inf

    @cached_property
    def study(self) -> Study:
        """Optuna's study, begun if it is not there.

        Raises:
            StoreError: the folder cannot be written to.
        """
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with storing(self.folder):
            make_folder(self.folder / "locks")
            journal = self.folder / "journal.jsonl"
            with self._alone():
                with FileLock(self.folder / "locks" / "journal"):
                    cut_torn_line(journal)
                lock: Any = JournalLock(self.folder / "locks" / "journal")
                return optuna.create_study(
                    study_name="tune",
                    storage=JournalStorage(JournalFileBackend(str(journal), lock)),
                    directions=[OBJECTIVES[name] for name in self.plan.objectives],
                    load_if_exists=True,
                )

    @cached_property
    def visit(self) -> int:
        """The number of the first trial that is new since this process came."""
        return len(self._frozen())

    def trials(self) -> list[Trial]:
        """The last trial of every setting, by number; repeats left out."""
        found = {trial.words: trial for trial in map(self._told, self._frozen()) if trial}
        return sorted(found.values(), key=lambda trial: trial.number)

    @contextmanager
    def claimed(self, check_stop: Callable[[], None], wait: Callable[[], None]) -> Iterator[Claim | None]:
        """The next trial, held while the context lasts; None when all are done.

        Args:
            check_stop: may raise KeyboardInterrupt while others are waited for.
            wait: called once if others are.

        Raises:
            StoreError: the folder cannot be written to.
        """
        claim, lock = self._next(check_stop, wait)
        try:
            yield claim
        finally:
            if lock:
                lock.release()

    def tell(self, claim: Claim, score: float, forward_passes: float, run_id: str) -> None:
        """A trial's result."""
        with storing(self.folder):
            trial = self._trial(claim.number)
            told: dict[str, Any] = {"score": score, "forward_passes": forward_passes, "run_id": run_id}
            for key, value in told.items():
                trial.set_user_attr(key, value)
            bounded = self.plan.objectives == ("score",) and math.isfinite(self.max_passes)
            if bounded and not self._frozen()[claim.number].constraints:  # told already, if a process was killed here
                trial.set_constraint("max_passes", forward_passes - self.max_passes)
            self.study.sampler = self._sampler(claim.number)
            self.study.tell(claim.number, [told[name] for name in self.plan.objectives])

    def fail(self, claim: Claim, why: str, *, again: bool) -> None:
        """A trial that has no result; ``again`` if it is worth another try when the search is asked to go on."""
        with storing(self.folder):
            self._trial(claim.number).set_user_attr("again", again)
            self._close(claim.number, "failure", why)

    def _next(self, check_stop: Callable[[], None], wait: Callable[[], None]) -> tuple[Claim | None, FileLock | None]:
        told = False
        _ = self.visit  # before the lock is held, which opening the study takes as well
        while True:
            with storing(self.folder), self._alone():
                found = self._taken_over() or self._asked()
                running = any(trial.state == "running" for trial in self.trials())
            if found:
                return found
            if not running:
                return None, None
            if not told:
                wait()
            told = True
            check_stop()
            time.sleep(SECONDS_BETWEEN_LOOKS)

    def _taken_over(self) -> tuple[Claim, FileLock] | None:
        """A trial that a process was killed over. One that did not get its whole setting yet, or repeats another, is ended."""
        for number in [frozen.number for frozen in self._frozen() if frozen.state.name == "RUNNING"]:
            lock = self._held(number)
            if lock is None:
                continue
            frozen = self._frozen()[number]
            if frozen.state.name == "RUNNING":
                words = self.plan.space.words(frozen.params) if self._complete(frozen) else ()
                same = self._repeats(words, number)
                if words and same is None:
                    return Claim(number, words, taken_over=True), lock
                self._close(number, "unborn" if same is None else "repeats", same)
            lock.release()  # or it was told in the meantime
        return None

    def _repeats(self, words: tuple[str, ...], number: int) -> int | None:
        """The earlier trial of a setting that makes another one of no use; one that failed before this visit does not."""
        earlier = [trial for trial in map(self._told, self._frozen()[:number]) if trial and trial.words == words]
        return None if not earlier or self._worth_another(earlier[-1]) else earlier[-1].number

    def _worth_another(self, trial: Trial) -> bool:
        return trial.state == "failed" and trial.again and trial.number < self.visit

    def _asked(self) -> tuple[Claim, FileLock] | None:
        """A new trial; None when enough were asked for."""
        while True:
            tried = {trial.words: trial for trial in self.trials()}
            frozen = self._frozen()
            failed = [trial for trial in tried.values() if self._worth_another(trial)]
            waiting = [trial.number for trial in frozen if trial.state.name == "WAITING"]  # its process was killed here
            if failed and not waiting:
                self.study.enqueue_trial(frozen[failed[0].number].params)
            elif not waiting:
                if len(tried) >= min(self.plan.trials, self.plan.space.size):
                    return None
                if self.plan.space.size <= (MOST_LISTED if repeated(frozen) else self.plan.trials):
                    self.study.enqueue_trial(self._untried(tried, len(frozen)))
            number = min(waiting, default=len(frozen))
            self.study.sampler = self._sampler(number)
            lock = self._held(number)
            assert lock, "nobody holds a trial that is not there"
            asked = self.study.ask({one.key: one.distribution() for one in self.plan.space.dimensions})
            words = self.plan.space.words(asked.params)
            same = self._repeats(words, asked.number)
            if same is None:
                return Claim(asked.number, words), lock
            self._close(asked.number, "repeats", same)
            lock.release()

    def _untried(self, tried: Collection[tuple[str, ...]], number: int) -> dict[str, Any]:
        """A setting of a finite space that was not tried: the first if all will be, else any."""
        space = self.plan.space
        open_ = [one for one in space.settings(MOST_LISTED) if space.words(one) not in tried]
        return open_[0] if space.size <= self.plan.trials else random.Random(self._seed(number)).choice(open_)

    def _complete(self, frozen: FrozenTrial) -> bool:
        """Whether a trial has its whole setting."""
        return len(frozen.params) == len(self.plan.space.dimensions)

    def _told(self, frozen: FrozenTrial) -> Trial | None:
        """A trial as it is told to others; None of one that repeats another, or has no setting."""
        told = frozen.user_attrs
        if "repeats" in told or "unborn" in told or not self._complete(frozen):
            return None
        words = self.plan.space.words(frozen.params)
        if frozen.state.name == "COMPLETE":
            return Trial(frozen.number, words, "done", told["score"], told["forward_passes"], told["run_id"])
        if frozen.state.name == "FAIL":
            return Trial(frozen.number, words, "failed", failure=told.get("failure", ""), again=told.get("again", True))
        return Trial(frozen.number, words, "running")

    def _frozen(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def _trial(self, number: int) -> Any:
        """The trial of a number, to be suggested to and told about, whichever process asked for it."""
        import optuna

        return optuna.trial.Trial(self.study, self._frozen()[number]._trial_id)

    def _close(self, number: int, key: str, value: str | int | None) -> None:
        """End a trial without a result; ``key`` and ``value`` say why."""
        from optuna.trial import TrialState

        self._trial(number).set_user_attr(key, value)
        self.study.tell(number, state=TrialState.FAIL)

    def _seed(self, number: int) -> int:
        """Of a trial, the same whether processes were killed before it or not."""
        rank = sum("unborn" not in trial.user_attrs for trial in self._frozen()[:number])
        return digest(str(self.plan.seed), str(rank), size=4)

    def _sampler(self, number: int) -> BaseSampler:
        """What suggests the trial of this number."""
        from optuna.samplers import NSGAIISampler, RandomSampler, TPESampler

        seed = self._seed(number)
        if self.plan.search == "random" or repeated(self._frozen()[:number]):
            return RandomSampler(seed)
        if self.plan.search == "nsga2":
            return NSGAIISampler(population_size=max(2, min(20, self.plan.trials // 4)), seed=seed)
        return TPESampler(seed=seed)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Be the only process that asks for trials."""
        make_folder(self.folder / "locks")
        with FileLock(self.folder / "locks" / "asking"):
            yield

    def _held(self, number: int) -> FileLock | None:
        """The lock of a trial, taken; None where another process holds it."""
        lock = FileLock(self.folder / "locks" / f"trial-{number}")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return None
        return lock


def repeated(frozen: Sequence[FrozenTrial]) -> bool:
    """Whether the last trial repeated another, so that the next should be one that cannot."""
    born = [trial for trial in frozen if "unborn" not in trial.user_attrs]
    return bool(born) and "repeats" in born[-1].user_attrs


class JournalLock:
    """Optuna's lock of a journal as one of the operating system, which lets go of it when its process dies."""

    def __init__(self, file: Path) -> None:
        self._lock = FileLock(file)

    def acquire(self) -> bool:
        """Wait for it."""
        self._lock.acquire()
        return True

    def release(self) -> None:
        """Let go of it."""
        self._lock.release()
