"""A search loses no trial and repeats none, whatever happens to its processes; a made-up score stands for the model."""

from __future__ import annotations

import math
import os
import random
import signal
from pathlib import Path

import pytest

from tests.runner.processes import fork
from tta_bench.tuning.search import Claim, Plan, Search, Trial
from tta_bench.tuning.space import Choice, Range, Space

FINITE = Space((Choice("sampler.tta_k", ("3", "5", "7")), Range("steps", 4, 16, 4)))
OPEN = Space((Range("cfg_scale", 0.0, 1.0), Choice("steps", ("4", "8", "16"))))


def no_stop() -> None: ...


def no_wait() -> None:
    pytest.fail("it waited for another process")


def score_of(claim: Claim) -> tuple[float, float]:
    """A score and forward passes that any process finds for a setting."""
    values = dict(word.split("=") for word in claim.words)
    passes = float(values["steps"])
    share = float(values.get("cfg_scale", values.get("sampler.tta_k", 0)))
    return round(passes / 20 - (share - 0.5) ** 2 / 100, 6), passes


def work(search: Search, most: int = 10**6) -> int:
    """Do so many trials at most; returns how many were done."""
    for done in range(most):
        with search.claimed(no_stop, lambda: None) as claim:
            if claim is None:
                return done
            score, passes = score_of(claim)
            search.tell(claim, score, passes, f"run-{claim.number}")
    return most


def settings(trials: list[Trial]) -> list[tuple]:
    return [(trial.words, trial.state, trial.score, trial.forward_passes) for trial in trials]


@pytest.mark.parametrize("search", ["tpe", "nsga2", "random"])
@pytest.mark.parametrize("objectives", [("score",), ("score", "forward_passes")], ids=len)
def test_a_search_goes_on_as_if_it_had_not_been_stopped(search: str, objectives: tuple[str, ...], tmp_path: Path) -> None:
    plan = Plan(OPEN, 12, objectives, search)
    whole = Search(tmp_path / "whole", plan, 8)
    assert work(whole) == 12
    for most in (3, 5, 0, 99):
        part = Search(tmp_path / "parts", plan, 8)  # as a new process would
        work(part, most)
    assert settings(part.trials()) == settings(whole.trials())
    assert len({trial.words for trial in whole.trials()}) == 12
    other = Search(tmp_path / "other", Plan(OPEN, 4, objectives, search, seed=1), 8)
    work(other)
    assert settings(other.trials()) != settings(whole.trials())[:4]


def test_more_trials_go_on_and_repeat_none(tmp_path: Path) -> None:
    work(Search(tmp_path, Plan(OPEN, 5)))
    first = Search(tmp_path, Plan(OPEN, 5)).trials()
    more = Search(tmp_path, Plan(OPEN, 9))
    assert work(more) == 4
    assert more.trials()[:5] == first


@pytest.mark.parametrize("trials", [7, 40])
def test_a_finite_space_has_no_setting_twice_and_ends(trials: int, tmp_path: Path) -> None:
    search = Search(tmp_path, Plan(FINITE, trials))
    assert work(search) == min(trials, 12)
    words = [trial.words for trial in search.trials()]
    assert len(set(words)) == len(words) == min(trials, 12)
    assert work(Search(tmp_path, Plan(FINITE, trials))) == 0


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Search:
    search = Search(tmp_path_factory.mktemp("searched"), Plan(FINITE, 11))
    work(search)
    assert any("repeats" in trial.user_attrs for trial in search.study.trials)
    return search


CUTS = [pytest.param(at, marks=[] if at % 12 == 1 else pytest.mark.slow) for at in range(1, 110)]


@pytest.mark.parametrize("at", CUTS)
def test_a_kill_between_any_two_writes_loses_and_repeats_nothing(at: int, searched: Search, tmp_path: Path) -> None:
    """The journal is cut after ``at`` writes, as a kill would leave it, the last one torn in the middle."""
    lines = (searched.folder / "journal.jsonl").read_bytes().splitlines(keepends=True)
    assert len(lines) > 40
    at = min(at, len(lines) - 1)
    torn = tmp_path / "torn" / "journal.jsonl"
    torn.parent.mkdir()
    torn.write_bytes(b"".join(lines[:at]) + lines[at][: len(lines[at]) // 2])
    again = Search(tmp_path / "torn", searched.plan)
    work(again)
    assert settings(again.trials()) == settings(searched.trials())


def test_a_trial_whose_process_is_alive_is_not_taken_over(tmp_path: Path) -> None:
    plan = Plan(FINITE, 12)
    one, other = Search(tmp_path, plan), Search(tmp_path, plan)
    with one.claimed(no_stop, no_wait) as mine, other.claimed(no_stop, no_wait) as theirs:
        assert mine
        assert theirs
        assert mine.words != theirs.words
    with other.claimed(no_stop, no_wait) as taken:
        assert taken
        assert (taken.words, taken.taken_over) == (mine.words, True)


def test_the_last_trials_of_others_are_waited_for(tmp_path: Path) -> None:
    plan = Plan(FINITE, 1)
    one, other = Search(tmp_path, plan), Search(tmp_path, plan)
    waited = []

    def stop() -> None:
        raise KeyboardInterrupt

    with (
        one.claimed(no_stop, no_wait),
        pytest.raises(KeyboardInterrupt),
        other.claimed(stop, lambda: waited.append(True)),
    ):
        pytest.fail("there was a trial")
    assert waited == [True]


def test_what_failed_is_tried_again_once_a_visit_if_that_may_help(tmp_path: Path) -> None:
    plan = Plan(FINITE, 3)

    def fail_all(again: bool) -> list[tuple[str, ...]]:
        search, tried = Search(tmp_path / str(again), plan), []
        while True:
            with search.claimed(no_stop, no_wait) as claim:
                if claim is None:
                    return tried
                tried.append(claim.words)
                search.fail(claim, "no memory", again=again)

    first = fail_all(again=True)
    assert len(first) == 3
    assert fail_all(again=True) == first
    assert len(fail_all(again=False)) == 3
    assert fail_all(again=False) == []
    search = Search(tmp_path / "True", plan)
    assert work(search) == 3
    assert [trial.state for trial in search.trials()] == ["done"] * 3
    assert [trial.failure for trial in Search(tmp_path / "False", plan).trials()] == ["no memory"] * 3


def test_a_bound_steers_a_search_for_the_score_alone(tmp_path: Path) -> None:
    """The score rises with the passes, so without a bound nearly all trials would be at the top."""
    space = Space((Range("cfg_scale", 0.0, 1.0), Range("steps", 1, 64, 1)))

    def within(name: str, bound: float) -> int:
        search = Search(tmp_path / name, Plan(space, 24, ("score",)), bound)
        work(search)
        return sum(trial.forward_passes <= 16 for trial in search.trials()[12:])

    assert within("bound", 16) >= 2 * max(1, within("none", math.inf))


def test_processes_that_are_killed_and_share_a_search_lose_and_repeat_nothing(tmp_path: Path) -> None:
    plan, draw = Plan(OPEN, 30), random.Random(0)

    def killed() -> None:
        search, left = Search(tmp_path / "search", plan), draw.randrange(2, 7)
        for _ in range(left):
            with search.claimed(no_stop, lambda: None) as claim:
                assert claim
                score, passes = score_of(claim)
                if _ == left - 1:
                    os.kill(os.getpid(), signal.SIGKILL)
                search.tell(claim, score, passes, f"run-{claim.number}")

    for number in range(2):
        assert fork(killed, tmp_path / f"said-{number}").code() == -signal.SIGKILL
        draw.random()

    def to_the_end() -> None:
        work(Search(tmp_path / "search", plan))

    pair = [fork(to_the_end, tmp_path / f"said-pair-{number}") for number in range(2)]
    assert [child.code() for child in pair] == [0, 0], [child.said.read_text() for child in pair]
    trials = Search(tmp_path / "search", plan).trials()
    assert len(trials) == len({trial.words for trial in trials}) == 30
    for trial in trials:
        assert (trial.score, trial.forward_passes) == score_of(Claim(trial.number, trial.words))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"objectives": ("speed",)}, r"objectives=\[speed\]: must be \[score\] or \[score,forward_passes\]"),
        ({"search": "grid"}, "search=grid: must be one of tpe, nsga2, random"),
    ],
)
def test_bad_plans_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Plan(FINITE, 3, **wrong)
