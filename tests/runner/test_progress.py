"""What is seen while runs go on."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tta_bench import cli
from tta_bench.runner import progress
from tta_bench.runner.progress import Display, duration
from tta_bench.runner.settings import Comparison, comparison
from tta_bench.runner.study import run_comparison


@pytest.fixture(autouse=True)
def stores_every_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tta_bench.runner.execute.GROUP_SECONDS", 0.0)


def settings(folder: Path) -> Comparison:
    words = ["task=json", "n_problems=6", "steps=3", "batch_size=2", f"output_dir={folder}"]
    return comparison(cli.compose(words))


def seen(found: Comparison, *, terminal: bool) -> str:
    out = io.StringIO()
    console = Console(file=out, width=120, force_terminal=terminal, color_system=None)
    with Display(console, 2 * found.size).shown() as display:
        run_comparison(found, display)
    return out.getvalue()


def test_without_a_terminal_there_is_a_line_a_run(tmp_path: Path) -> None:
    lines = seen(settings(tmp_path), terminal=False).splitlines()
    assert len(lines) == 2
    for line, sampler in zip(lines, ("low_confidence", "tta"), strict=True):
        assert re.fullmatch(rf"json +3 steps  {sampler} +6 generated \([\d.]+ problems/s, [\d,]+ passes/s\)", line), line
    assert seen(settings(tmp_path), terminal=False) == ""


def test_without_a_terminal_a_long_run_speaks_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    said = seen(settings(tmp_path), terminal=False)
    assert re.search(r"tta +4 of 6, [\d.]+ problems/s, [\d,]+ passes/s, \d+ s left\n", said), said


def test_a_terminal_shows_sweep_run_and_steps(tmp_path: Path) -> None:
    shown = seen(settings(tmp_path), terminal=True)
    assert re.search(r"all runs .*\d+/12", shown)
    assert re.search(r"json +3 steps  tta .*\d/6", shown)
    assert "batch at work, steps" in shown
    assert "passes/s" in shown


def test_rates_count_what_was_made_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, clock = settings(tmp_path), iter(range(10**6))
    monkeypatch.setattr(progress.time, "perf_counter", lambda: float(next(clock)))
    display = Display(Console(file=io.StringIO()), 12)
    with display.run(found.candidate, 6) as watch:
        watch.reused(2)
        watch.started()
        watch.finished([{"error": None}, {"error": {"type": "x"}}])
        assert (watch.pace.done, watch.pace.made, watch.n_failed, display.sweep.done) == (4, 2, 1, 4)
        assert " s left" in watch.pace.left
        watch.finished([{"error": None}] * 2)
        assert watch.pace.left == ""
        assert "4 generated" in watch.outcome
        assert "1 of them failed, 2 reused" in watch.outcome


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.7, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")])
def test_durations_are_told_as_people_do(seconds: Any, text: str) -> None:
    assert duration(seconds) == text
