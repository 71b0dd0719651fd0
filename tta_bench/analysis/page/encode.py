"""Token traces as short texts, for a page that draws them.

A trace is a list of *stands*: a token on a position, from the step that committed it to the last step in which it stood. What
is known of each token in each step is a *channel*: one character for each step of each stand, equal neighbours counted.
"""

from __future__ import annotations

import string
from dataclasses import dataclass

import numpy as np
import pandas as pd

ALPHABET = string.ascii_uppercase + string.ascii_lowercase
"""Stand for levels, the lowest first."""

UNKNOWN = "-"
"""Stands for a value that was not recorded."""

N_LEVELS = len(ALPHABET)
_BYTES = np.frombuffer((ALPHABET + UNKNOWN).encode(), dtype=np.uint8)


@dataclass(frozen=True)
class Stands:
    """The stands of one decoding, by position and time. N stands.

    Attributes:
        rows: the trace, sorted by position and step.
        first: (N,) place in ``rows`` where each stand begins.
    """

    rows: pd.DataFrame
    first: np.ndarray

    @staticmethod
    def of(rows: pd.DataFrame) -> Stands:
        """From the ``token_trace`` of one record."""
        rows = rows.sort_values(["position", "step"], ignore_index=True)
        position, step = rows["position"].to_numpy(int), rows["step"].to_numpy(int)
        goes_on = (position[1:] == position[:-1]) & (step[1:] == step[:-1] + 1) & ~rows["fresh"].to_numpy(bool)[1:]
        return Stands(rows, np.flatnonzero(np.concatenate([[True], ~goes_on])))

    def table(self, words: np.ndarray) -> list[int]:
        """The stands one after another, five numbers each: position, first step, last step, word, taken back at its end (0, 1).

        Args:
            words: for each row the number of its token's text.
        """
        last = np.append(self.first[1:], len(self.rows)) - 1
        columns = (
            self.rows["position"].to_numpy(int)[self.first],
            self.rows["step"].to_numpy(int)[self.first],
            self.rows["step"].to_numpy(int)[last],
            words[self.first],
            self.rows["remasked"].to_numpy(int)[last],
        )
        return [int(value) for value in np.stack(columns, axis=1).ravel()]


def channel(values: np.ndarray | pd.Series, low: float, high: float) -> str:
    """Values as levels between ``low`` and ``high``: characters of ``ALPHABET``, each followed by its count if not one.

    ``[0, 0, 0, 1, nan]`` between 0 and 1 is ``A3z-``.
    """
    return run_lengths(levels(values, low, high))


def levels(values: np.ndarray | pd.Series, low: float, high: float) -> np.ndarray:
    """The nearest of ``N_LEVELS`` evenly spread levels, from 0; ``N_LEVELS`` where a value is NaN."""
    share = (np.asarray(values, dtype=float) - low) / ((high - low) or 1.0)
    nearest = np.rint(np.clip(np.nan_to_num(share), 0, 1) * (N_LEVELS - 1)).astype(np.uint8)
    return np.where(np.isnan(share), np.uint8(N_LEVELS), nearest)


def run_lengths(found: np.ndarray) -> str:
    """Levels as characters, each with the number of its repetitions in decimal digits where there is more than one."""
    if not len(found):
        return ""
    starts = np.flatnonzero(np.concatenate([[True], found[1:] != found[:-1]]))
    counts = np.diff(np.append(starts, len(found)))
    n_digits = np.where(counts == 1, 0, np.floor(np.log10(counts)).astype(int) + 1)
    at = np.cumsum(1 + n_digits) - 1 - n_digits
    text = np.empty(int((1 + n_digits).sum()), dtype=np.uint8)
    text[at] = _BYTES[found[starts]]
    for place in range(int(n_digits.max())):
        longer = n_digits > place
        text[(at + n_digits - place)[longer]] = ord("0") + counts[longer] // 10**place % 10
    return text.tobytes().decode()
