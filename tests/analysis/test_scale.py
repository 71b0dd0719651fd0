"""Time and memory of ``tta-bench analyze`` for many records. Run with: pytest -m slow tests/analysis/test_scale.py -s."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.analysis.folders import write_run

CANDIDATES = 50
MEASURE = """
import resource, sys
from tta_bench import cli
code = cli.main(sys.argv[1:])
print("kilobytes", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""


def write_study(folder: Path, records: int) -> None:
    """A baseline and 50 candidates, in all about so many records."""
    n, rng = records // (CANDIDATES + 1), np.random.default_rng(0)
    chance = rng.beta(1, 1, size=n)[:, None]
    for k in range(-1, CANDIDATES):
        sampler = {"name": "tta", "tta_k": k // 5 + 1, "remask_top_pct": k % 5 / 10} if k >= 0 else {"name": "low_confidence"}
        scores = (rng.random((n, 1)) < chance + 0.02 * (k % 3)).astype(float)
        write_run(folder, sampler, scores, text="an answer of ordinary length " * 8)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_million_records_take_less_than_a_minute_and_2_gigabytes(tmp_path: Path) -> None:
    """10,000 permutations, 2 threads; ten times the records may not take more than ten times as long."""
    seconds, memory = {}, {}
    for records in (10_000, 100_000, 1_000_000):
        folder = tmp_path / str(records)
        write_study(folder, records)
        words = [sys.executable, "-c", MEASURE, "analyze", str(folder), "analysis.n_resamples=10000"]
        threads = {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}
        began = time.monotonic()
        done = subprocess.run(words, capture_output=True, text=True, env=os.environ | threads, check=False)
        seconds[records] = time.monotonic() - began
        assert done.returncode == 0, done.stderr
        memory[records] = int(done.stderr.split("kilobytes")[1]) / 1e6
        print(f"{records:>9,} records: {seconds[records]:5.1f} s, {memory[records]:.2f} GB")
        shutil.rmtree(folder)
    assert seconds[1_000_000] < 60
    assert memory[1_000_000] < 2
    start = seconds[10_000]  # mostly that of Python
    assert seconds[1_000_000] - start < 13 * max(seconds[100_000] - start, 1.0)
