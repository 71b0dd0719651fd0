"""Decoding without storing anything, for plans and checks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from tta_bench.runner.batch import Item, LoadedModel, batches, check_model, decode_batch
from tta_bench.runner.execute import Effort
from tta_bench.runner.failure import scored, time_limit
from tta_bench.runner.isolate import Isolation, automatic_batch_size
from tta_bench.runner.prompts import encode
from tta_bench.runner.spec import RunSpec
from tta_bench.runner.store import Record, record_key
from tta_bench.tasks.base import Problem, Task


@dataclass(frozen=True)
class Preview:
    """What some problems of a run became.

    Attributes:
        records: scored, in the order of the problems.
        seconds: that it took.
    """

    records: list[Record]
    seconds: float

    @property
    def tokens(self) -> list[list[int]]:
        """The token ids of the answers."""
        return [record["tokens"] for record in self.records]

    @property
    def scores(self) -> list[float]:
        """The scores of the answers."""
        return [record["score"] for record in self.records]

    @property
    def passes(self) -> float:
        """Forward passes of an answer, on average."""
        return sum(record["forward_passes"] for record in self.records) / len(self.records)


class PreviewError(ValueError):
    """A problem failed that was only to be tried out."""


def preview(spec: RunSpec, task: Task, problems: Sequence[Problem], loaded: LoadedModel, effort: Effort) -> Preview:
    """Decode and score the first replicate of some problems.

    Raises:
        PreviewError: one of them failed.
    """
    check_model(spec, loaded, shadow=effort.probe_shadow)
    items = [encoded(spec, problem, loaded) for problem in problems]

    def decode(batch: Sequence[Item]) -> tuple[list[Record], pd.DataFrame]:
        with time_limit(None if effort.time_limit is None else effort.time_limit * len(batch)):
            return decode_batch(spec, task, batch, loaded)

    began = time.perf_counter()
    isolation = Isolation(decode, effort.batch_size or automatic_batch_size(spec, items, loaded))
    parts = [records for batch in batches(items, isolation.size) for records, _ in isolation.outcomes(batch)]
    seconds = time.perf_counter() - began
    by_key = {record["key"]: record for records in parts for record in records}
    done = [scored(by_key[item.key], task, item.problem, effort.time_limit) for item in items]
    for record in done:
        if record["error"]:
            error = record["error"]
            raise PreviewError(f"{spec.run_id}: problem {record['problem']} failed, {error['type']}: {error['message']}")
    return Preview(done, seconds)


def encoded(spec: RunSpec, problem: Problem, loaded: LoadedModel) -> Item:
    """The first replicate of a problem as token ids.

    Raises:
        PreviewError: it cannot be encoded.
    """
    try:
        prompt = encode(problem, loaded.tokenizer, loaded.mask_id, spec.gen_length, spec.manner(loaded.end_ids, loaded.context))
    except Exception as error:
        raise PreviewError(f"{spec.run_id}: problem {problem.id} cannot be encoded, {type(error).__name__}: {error}") from error
    return Item(record_key(problem.id, 0), problem, 0, prompt)
