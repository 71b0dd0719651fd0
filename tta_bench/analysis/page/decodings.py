"""Single decodings of a run, as a page replays them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from tta_bench.analysis.load import Run
from tta_bench.analysis.page.encode import Stands, channel
from tta_bench.analysis.page.visible import shortened, visible
from tta_bench.analysis.signals import PROBABILITIES
from tta_bench.runner.store import UNJUDGED

UNITS = {
    "entropy": "nats",
    "doubt": "score",
    "disagreement": "share of views",
    "holdout": "probability",
    "shadow": "probability",
    "support": "probability",
    "confidence": "probability",
}
"""The signals that tokens can be coloured by, the most wanted first, with their units."""

SHARES = ("disagreement", *PROBABILITIES)
"""Signals that lie between 0 and 1."""

KEPT = ("problem", "step", "position", "token", "fresh", "remasked", "gold", "score", "frozen", "violation", *UNITS)
"""Columns of a token trace that are replayed."""

LONGEST_WORD, LONGEST_TEXT = 200, 4000
"""Characters that are shown of a token, and of a prompt or an answer."""

Ranges = Mapping[str, tuple[float, float]]
"""By signal the values between which its levels lie."""


@dataclass
class Vocabulary:
    """The different words of a page, each once: tokens with their texts, or their ids where the text is not known.

    Tokens with one text are different words: pieces of letters, for instance, all read as the replacement character.
    """

    places: dict[tuple[int, str | int], int] = field(default_factory=dict)

    def __call__(self, token: int, word: str | int) -> int:
        """The number of a token with its text."""
        shown = shortened(visible(word), LONGEST_WORD) if isinstance(word, str) else word
        return self.places.setdefault((token, shown), len(self.places))

    @property
    def texts(self) -> list[str | int]:
        """Of every number."""
        return [text for _, text in self.places]


@dataclass(frozen=True)
class Decodings:
    """The traced decodings of a run, first replicate.

    Attributes:
        run: the run.
        rows: its token trace.
    """

    run: Run
    rows: pd.DataFrame

    @staticmethod
    def of(run: Run, problems: Sequence[str]) -> Decodings:
        """Of some problems of a run; none where none were traced."""
        rows = run.token_trace(problems, 1)
        return Decodings(run, rows[[name for name in KEPT if name in rows]])

    @cached_property
    def traces(self) -> dict[str, pd.DataFrame]:
        """The rows of each problem."""
        return {} if self.rows.empty else {str(name): rows for name, rows in self.rows.groupby("problem", sort=False)}

    @cached_property
    def texts(self) -> dict[str, str]:
        """What was answered, by problem."""
        return {record["problem"]: str(record["text"]) for record in self.run.answers() if record["replicate"] == 0}

    @property
    def constrained(self) -> bool:
        """Whether its sampler saw a constraint, and the trace tells of it."""
        return self.run.config.get("constraint") not in (None, "none") and "violation" in self.rows

    def score(self, problem: str) -> float:
        """Of an answer."""
        return float(self.traces[problem]["score"].iloc[0])

    def encoded(self, problem: str, ranges: Ranges, word: Vocabulary) -> dict[str, Any]:
        """A decoding for the script of the page, as JSON knows it.

        ``gold`` is a list as ``positions``, ``stands`` is as ``Stands.table`` gives it, ``frozen`` (None where that was not
        recorded), ``violation`` (None where there was no constraint) and each of ``channels`` are as ``channel`` gives them.
        """
        stands = Stands.of(self.traces[problem])
        rows = stands.rows
        places = rows.drop_duplicates("position")
        return {
            "score": self.score(problem),
            "text": shortened(visible(self.texts.get(problem, "")), LONGEST_TEXT),
            "steps": int(rows["step"].max()) + 1,
            "positions": places["position"].tolist(),
            "gold": self.words(places["gold"], word).tolist(),
            "stands": stands.table(self.words(rows["token"], word)),
            "frozen": channel(rows["frozen"], 0, 1) if rows["frozen"].notna().all() else None,
            "violation": channel(rows["violation"] > 0, 0, 1) if self.constrained else None,
            "channels": {name: channel(rows[name], *ends) for name, ends in ranges.items() if name in rows},
        }

    def ends(self, word: Vocabulary) -> set[int]:
        """Numbers of the words that end an answer, as far as the run tells."""
        known = self.run.words["tokens"]
        return {word(int(token), known[str(token)]) for token in self.run.manifest.get("end_ids") or () if str(token) in known}

    def words(self, ids: pd.Series, word: Vocabulary) -> np.ndarray:
        """Numbers of the words to token ids; -1 where there is no token."""
        codes, values = pd.factorize(ids)
        known = self.run.words["tokens"]
        numbers = [-1 if value == UNJUDGED else word(int(value), known.get(str(value), int(value))) for value in values]
        return np.array(numbers, dtype=int)[codes]


def ranges_of(decodings: Iterable[Decodings]) -> Ranges:
    """Of each signal that any of them recorded: 0 to 1 for shares, else what occurs, and 0."""
    found: dict[str, tuple[float, float]] = {}
    for one in decodings:
        for name in UNITS:
            values = one.rows[name].to_numpy(float) if name in one.rows else np.array([])
            values = values[np.isfinite(values)]
            if len(values):
                low, high = found.get(name, (0.0, 1.0 if name in SHARES else 0.0))
                found[name] = min(low, float(values.min())), max(high, float(values.max()))
    return {name: found[name] for name in UNITS if name in found}
