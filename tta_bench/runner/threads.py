"""As many threads as there are cores that this process may use."""

from __future__ import annotations

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup/cpu.max")
"""The processor time of a container: quota and period in microseconds, or ``max`` for no limit."""


def usable_cores(cgroup: Path = CGROUP) -> int:
    """Cores that this process is allowed to run on, and has the time of: affinity, and the quota of its container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cgroup.is_file():
        quota, period = cgroup.read_text().split()
        if quota != "max":
            cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def limit_threads() -> None:
    """Have torch use no more threads than there are usable cores; it does not know of a container's quota.

    ``OMP_NUM_THREADS`` is obeyed where it is set.
    """
    import torch

    cores = usable_cores()
    if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > cores:
        torch.set_num_threads(cores)
