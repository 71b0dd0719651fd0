from __future__ import annotations

import signal
import threading
import time

import pytest

pytest.importorskip("math_verify")

from tta_bench.runner.failure import TimeLimitError, time_limit
from tta_bench.scorers import math, scorer

ENDLESS = r"\boxed{9^{9^{9^{9}}}}"


@pytest.mark.parametrize(
    ("target", "text", "score"),
    [
        (r"\frac{1}{2}", "The answer is 0.5", 1.0),
        ("$1/2$", r"so $\boxed{\frac12}$", 1.0),
        (r"Thus \boxed{x^2+2x+1}.", r"\boxed{(x+1)^2}", 1.0),
        (r"\text{Evelyn}", r"\boxed{\text{Evelyn}}", 1.0),
        (r"(3, \frac{\pi}{2})", r"\boxed{(3,\pi/2)}", 1.0),
        ("work\n#### 1,000", r"\boxed{1000}", 1.0),
        ("5", "6", 0.0),
        (r"\frac{1}{2}", r"\boxed{\frac{1}{3}}", 0.0),
        ("5", "", 0.0),
        ("5", "[" * 10_000, 0.0),
        ("5", "9" * 10_000, 0.0),
        ("5", "$" * 5000, 0.0),
        ("5", "\ud800 \0", 0.0),
    ],
)
def test_expressions(target: str, text: str, score: float) -> None:
    it = scorer("math")
    it.check(target, {})
    assert it.score(target, text, {}) == score


def test_equal_answers_are_one_answer_in_a_vote() -> None:
    it = scorer("math")
    assert it.answer("The answer is 0.5", {}) == it.answer(r"\boxed{\frac{1}{2}}", {}) == "1/2"
    assert it.answer(r"\boxed{(x+1)^2}", {}) != it.answer(r"\boxed{x^2}", {})
    assert it.answer("no idea", {}) is None


def test_what_never_ends_is_contained_and_the_next_is_scored() -> None:
    it = scorer("math", timeout=1)
    start = time.monotonic()
    assert it.score("5", ENDLESS, {}) == 0.0
    assert time.monotonic() - start < 10
    assert it.score("5", "5", {}) == 1.0


def test_the_alarm_of_the_harness_still_rings() -> None:
    it = scorer("math", timeout=60)
    assert it.score("5", "5", {}) == 1.0
    with pytest.raises(TimeLimitError), time_limit(0.5):
        it.score("5", ENDLESS, {})
    assert it.score("5", "5", {}) == 1.0
    with time_limit(30):
        it.score("5", "5", {})
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 30


def test_threads_may_score() -> None:
    scores: list[float] = []
    threads = [threading.Thread(target=lambda: scores.append(scorer("math").score("5", r"\boxed{5}", {}))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert scores == [1.0] * 3


def test_a_target_must_be_an_expression() -> None:
    with pytest.raises(ValueError, match="must be an expression that math-verify reads"):
        scorer("math").check("", {})


def test_without_the_library_the_command_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(math, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"needs math-verify; run: python -m pip install 'tta_bench\[math\]'"):
        scorer("math")
