"""Pseudo-perplexity of a run's answers, as far as a judge has evaluated them (``tta-bench perplexity``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import numpy as np

from tta_bench.analysis.stats import Estimate, mean_interval
from tta_bench.runner.store import JUDGED, RunFolder, text_digest


@dataclass(frozen=True)
class Judgement:
    """What a judge says of the answers of a run.

    Attributes:
        judge_id: the hash of its settings.
        model: its name.
        own: whether it is the model that answered.
        surprise: by problem, nats per token of each answer that has tokens.
        empty: answers without tokens.
        missing: answers that it has not evaluated, or failed on.
    """

    judge_id: str
    model: str
    own: bool
    surprise: dict[str, list[float]] = field(default_factory=dict)
    empty: int = 0
    missing: int = 0

    @property
    def name(self) -> str:
        """Of the judge, in short."""
        return PurePath(self.model).name


def judgements(run: RunFolder, answers: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Judgement]:
    """Every judge's, by name.

    Args:
        run: its folder.
        answers: records by problem.
    """
    places = sorted(path for path in (run.path / JUDGED).glob("*") if path.is_dir())
    return sorted((read(run, RunFolder(path), answers) for path in places), key=lambda one: (one.name, one.judge_id))


def read(run: RunFolder, place: RunFolder, answers: Mapping[str, Sequence[Mapping[str, Any]]]) -> Judgement:
    """What one judge says of the answers as they are now."""
    said, model = place.records(), place.config()["model"]
    surprise: dict[str, list[float]] = {}
    empty = missing = 0
    for problem, records in answers.items():
        for record in records:
            found = said.get(record["key"])
            if found is None or found["error"] or found["answer"] != text_digest(record["text"]):
                missing += 1
            elif not found["n_tokens"]:
                empty += 1
            else:
                surprise.setdefault(problem, []).append(-found["log_probability"] / found["n_tokens"])
    own = model["fingerprint"] == run.config()["model"]["fingerprint"]
    return Judgement(place.path.name, str(model["name"]), own, surprise, empty, missing)


def pseudo_perplexity(
    surprise: Mapping[str, Sequence[float]], confidence: float = 0.95, clusters: np.ndarray | None = None
) -> Estimate:
    """Geometric mean over problems of the pseudo-perplexity of their answers: exp of the mean nats per token.

    Every problem weighs the same, and so does every answer within it, however long. The interval is exp of the mean's t
    interval.

    Args:
        surprise: by problem, nats per token of its answers.
        confidence: of the interval.
        clusters: labels of the problems, in the same order.

    Reference:
        Salazar et al., "Masked Language Model Scoring", arXiv:1910.14659, section 2.3, who pool the tokens of a corpus.
    """
    if not surprise:
        return Estimate(np.nan, np.nan, np.nan, "no answer has a token")
    found = mean_interval(np.array([np.mean(values) for values in surprise.values()]), confidence, clusters)
    return Estimate(float(np.exp(found.value)), float(np.exp(found.ci_low)), float(np.exp(found.ci_high)), found.note)
