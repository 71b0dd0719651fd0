"""Decoding without storing anything, for plans and checks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from tta_bench.runner.batch import Item, LoadedModel, batches, decode_batch
from tta_bench.runner.prompts import encode
from tta_bench.runner.spec import RunSpec
from tta_bench.runner.store import Record, record_key
from tta_bench.tasks.base import Problem, Task


@dataclass(frozen=True)
class Preview:
    """What some problems of a run became.

    Attributes:
        records: scored, in the order of the problems and their replicates.
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


def preview(spec: RunSpec, task: Task, problems: Sequence[Problem], loaded: LoadedModel, size: int) -> Preview:
    """Decode and score the first replicate of some problems, in batches of ``size``."""
    keys = [record_key(p.id, 0) for p in problems]
    items = [
        Item(key, p, 0, encode(p, loaded.tokenizer, loaded.mask_id, spec.gen_length))
        for key, p in zip(keys, problems, strict=True)
    ]
    began = time.perf_counter()
    by_key = {r["key"]: r for batch in batches(items, size) for r in decode_batch(spec, task, batch, loaded)[0]}
    seconds = time.perf_counter() - began
    found = [by_key[key] | {"score": task.score(p, by_key[key]["text"])} for key, p in zip(keys, problems, strict=True)]
    return Preview(found, seconds)
