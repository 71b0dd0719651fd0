"""What a decoding looked like from step to step, as plain numbers. S steps, B rows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tta_bench.types import StepInfo

STATISTICS = ("entropy", "disagreement", "mutual_information", "violation", "remask_ratio", "frozen_ratio", "committed_ratio")
"""Names of the per-step statistics, in the order of ``step_statistics``."""


def step_statistics(steps: Sequence[StepInfo]) -> dict[str, np.ndarray]:
    """Per-step statistics of each row.

    Returns:
        For each name in ``STATISTICS`` an array (S, B): means over the committed positions of entropy (nats),
        disagreement, mutual information (nats) and violation; remasked / committed; frozen / editable; and committed /
        editable after the step's commits. NaN where nothing was committed yet, or nothing is editable.
    """
    rows = [_of_step(info) for info in steps]
    return {name: torch.stack([row[name] for row in rows]).cpu().numpy() for name in STATISTICS}


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
    return [math.nan if np.isnan(row).all() else float(np.nanmean(row)) for row in values]


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
