"""What a decoding looked like from step to step, as plain numbers. S steps, B rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tta_bench.types import StepInfo

STATISTICS = ("entropy", "disagreement", "mutual_information", "violation", "remask_ratio", "frozen_ratio", "committed_ratio")
"""Names of the per-step statistics, in the order of ``step_statistics``."""


def step_statistics(steps: Sequence[StepInfo], samples: int = 1) -> dict[str, np.ndarray]:
    """Per-step statistics of each row, averaged over its ``samples`` where it was decoded several times.

    Returns:
        For each name in ``STATISTICS`` an array (S, B): means over the committed positions of entropy (nats),
        disagreement, mutual information (nats) and violation; remasked / committed; frozen / editable; and committed /
        editable after the step's commits. NaN where nothing was committed yet, or nothing is editable (any more).
    """
    if not steps:
        return {name: np.empty((0, 0)) for name in STATISTICS}
    rows = [_of_step(info) for info in steps]
    found = {name: torch.stack([row[name] for row in rows]).cpu().numpy() for name in STATISTICS}
    return {name: known_mean(values.reshape(len(steps), -1, samples), axis=2) for name, values in found.items()}


def known_mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Mean along an axis of the values that are no NaN; NaN where there are none."""
    known = ~np.isnan(values)
    n = known.sum(axis=axis)
    return np.where(n > 0, np.where(known, values, 0.0).sum(axis=axis) / np.maximum(n, 1), np.nan)


def _of_step(info: StepInfo) -> dict[str, Tensor]:
    committed = info.canvas.committed | info.committed
    n_committed, n_editable = committed.sum(dim=1), info.canvas.editable.sum(dim=1)

    def mean(values: Tensor) -> Tensor:
        return (values.double() * committed).sum(dim=1) / n_committed

    return {
        "entropy": mean(info.prediction.entropy),
        "disagreement": mean(info.prediction.disagreement),
        "mutual_information": mean(info.prediction.mutual_information),
        "violation": mean(info.violation),
        "remask_ratio": info.remasked.sum(dim=1).double() / n_committed,
        "frozen_ratio": info.frozen.sum(dim=1).double() / n_editable,
        "committed_ratio": n_committed.double() / n_editable,
    }


def mean_over_rows(values: np.ndarray) -> list[float]:
    """(S, B) to S numbers, rows without a value left out; NaN where no row has one."""
    return [float(value) for value in known_mean(values, axis=1)]


def token_logs(steps: Sequence[StepInfo]) -> list[dict[str, object]]:
    """For each step: its number, and the (row, position, token id) committed and remasked in it."""
    return [
        {
            "step": info.canvas.step,
            "committed": _events(info.committed, info.tokens),
            "remasked": _events(info.remasked, info.canvas.tokens),
        }
        for info in steps
    ]


def _events(where: Tensor, tokens: Tensor) -> list[tuple[int, int, int]]:
    return [(int(row), int(position), int(tokens[row, position])) for row, position in where.nonzero().tolist()]
