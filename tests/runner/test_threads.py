from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from tta_bench.runner import threads


@pytest.mark.parametrize(
    ("limit", "cores"), [("max 100000", 64), ("200000 100000", 2), ("50000 100000", 1), ("9900000 100000", 64)]
)
def test_a_container_s_quota_counts(limit: str, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    path = tmp_path / "cpu.max"
    path.write_text(limit + "\n")
    assert threads.usable_cores(path) == cores
    assert threads.usable_cores(tmp_path / "none") == 64


def test_threads_are_lowered_to_the_usable_cores_and_never_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for cores in (2, 8, 64):
        monkeypatch.setattr(threads, "usable_cores", lambda cores=cores: cores)
        threads.limit_threads()
    assert told == [2]
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    monkeypatch.setattr(threads, "usable_cores", lambda: 2)
    threads.limit_threads()
    assert told == [2]
