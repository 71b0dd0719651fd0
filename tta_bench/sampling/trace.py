"""What a decoding looked like from step to step, as plain numbers. S steps, B rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from tta_bench.types import StepInfo

STATISTICS = (
    "entropy", "disagreement", "mutual_information", "violation", "support", "confidence", "doubt",
    "remask_ratio", "frozen_ratio", "committed_ratio",
)  # fmt: skip
"""Names of the per-step statistics, in the order of ``step_statistics``."""

TOKEN_SIGNALS = ("entropy", "disagreement", "mutual_information", "violation", "support", "confidence", "doubt")
"""What is known of every token, see ``token_statistics``."""


def step_statistics(steps: Sequence[StepInfo], samples: int = 1) -> dict[str, np.ndarray]:
    """Per-step statistics of each row, averaged over its ``samples`` where it was decoded several times.

    Returns:
        For each name in ``STATISTICS`` an array (S, B): means over the committed positions of what ``token_statistics`` tells
        of each; remasked / committed; frozen / editable; and committed / editable after the step's commits. NaN where nothing
        was committed yet, nothing is editable (any more), or the sampler does not tell.
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
        **{name: mean(values) for name, values in signals(info).items()},
        "remask_ratio": info.remasked.sum(dim=1).double() / n_committed,
        "frozen_ratio": info.frozen.sum(dim=1).double() / n_editable,
        "committed_ratio": n_committed.double() / n_editable,
    }


def signals(info: StepInfo) -> dict[str, Tensor]:
    """What a step tells of every committed token, (B, L) each, by the names in ``TOKEN_SIGNALS``.

    entropy and mutual_information (nats), disagreement and violation; support: the probability that the step's views give the
    token; confidence: the probability that it had when it was committed; doubt: the score by which tokens are taken back, NaN
    where the sampler has none. For a token that the step itself commits, all are from before it stood there. For a token in a
    block that is done, they are from the last look at it: a sampler that takes nothing back there does not look again.
    """
    prediction = info.prediction
    return {
        "entropy": prediction.entropy,
        "disagreement": prediction.disagreement,
        "mutual_information": prediction.mutual_information,
        "violation": info.violation,
        "support": torch.where(info.committed, prediction.confidence, prediction.support),
        "confidence": info.stored,
        "doubt": torch.full_like(info.stored, torch.nan) if info.doubt is None else info.doubt,
    }


def token_statistics(
    info: StepInfo, rows: Sequence[int], more: Mapping[str, Tensor] | None = None
) -> list[dict[str, np.ndarray]]:
    """For each of the rows named, what is known of the tokens that stand on its canvas once the step has committed.

    Args:
        info: the step.
        rows: to be told of.
        more: further signals (B, L), by name.

    Returns:
        Arrays (T,) over the tokens of a row: ``position`` in the sequence, padding included; ``token`` id; ``fresh``, committed
        by this step; ``remaskable`` and ``remasked`` by it; ``frozen`` in it; and float32 signals, see ``signals``.
    """
    canvas = info.canvas
    places = torch.tensor(rows, device=canvas.tokens.device)
    standing = (canvas.committed | info.committed)[places]
    last = canvas.place.last[:, None]
    values = {
        "token": torch.where(info.committed, info.prediction.tokens, canvas.tokens),
        "fresh": info.committed,
        "remaskable": canvas.committed & ~info.frozen & ~last,
        "remasked": info.remasked,
        "frozen": info.frozen,
        **{name: value.float() for name, value in (signals(info) | dict(more or {})).items()},
    }
    picked = {name: value[places][standing].cpu().numpy() for name, value in values.items()}
    picked = {"position": standing.nonzero()[:, 1].cpu().numpy()} | picked
    ends = standing.sum(dim=1).cumsum(dim=0).cpu().numpy()[:-1]
    parts = {name: np.split(value, ends) for name, value in picked.items()}
    return [{name: part[i] for name, part in parts.items()} for i in range(len(rows))]


def instability(steps: Sequence[StepInfo]) -> list[Tensor]:
    """For each step (B, L), the share of the steps so far in which a position's prediction was another than the step before.

    The prediction is the most probable token, or the draw, at a position, be it masked or committed. Of two steps, positions
    count that were looked at in both; 0 where there were none yet.
    """
    if not steps:
        return []
    changes = compared = torch.zeros_like(steps[0].canvas.editable, dtype=torch.float32)
    found = [changes]
    for before, after in pairwise(steps):
        both = told(before) & told(after)
        changes = changes + (both & (before.prediction.tokens != after.prediction.tokens))
        compared = compared + both
        found.append(changes / compared.clamp(min=1))
    return found


def told(info: StepInfo) -> Tensor:
    """(B, L) bool, the positions of which a step's prediction tells."""
    looked = info.canvas.looked & info.canvas.editable
    return looked if info.prediction.told is None else looked & info.prediction.told


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
