"""Prompts that come one by one, from many threads, decoded in batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock

from tta_bench.integrations.decoder import Prompt, Setup, answers, failed
from tta_bench.runner.batch import LoadedModel
from tta_bench.runner.isolate import LARGEST_BATCH
from tta_bench.runner.store import Record


@dataclass
class Waiting:
    """A prompt that is to be answered.

    Attributes:
        setup: how.
        prompt: what.
        record: its answer, once it is there.
    """

    setup: Setup
    prompt: Prompt
    record: Record | None = None


@dataclass
class Desk:
    """Answers prompts of many threads, one batch at a time: who comes first takes along those that wait.

    Attributes:
        loaded: the model.
        size: of a batch; None finds out what memory has room for.
    """

    loaded: LoadedModel
    size: int | None
    queue: list[Waiting] = field(default_factory=list)
    queued: Lock = field(default_factory=Lock)
    at_work: Lock = field(default_factory=Lock)

    def answer(self, setup: Setup, prompt: Prompt) -> Record:
        """The record of a prompt.

        Raises:
            RefusedError: it cannot be put to the model.
            RuntimeError: the model failed on it.
        """
        mine = Waiting(setup, prompt)
        with self.queued:
            self.queue.append(mine)
        with self.at_work:
            if mine.record is None:
                self.decode(self.batch(mine))
        assert mine.record is not None
        if mine.record["error"]:
            raise failed(mine.record)
        return mine.record

    def batch(self, mine: Waiting) -> list[Waiting]:
        """Those that wait and can be decoded with ``mine``, taken out of the queue."""
        with self.queued:
            chosen = {mine.prompt.key: mine}
            for other in self.queue:
                if len(chosen) < (self.size or LARGEST_BATCH) and other.setup == mine.setup:
                    chosen.setdefault(other.prompt.key, other)
            taken = list(chosen.values())
            self.queue = [one for one in self.queue if not any(one is other for other in taken)]
        return taken

    def decode(self, batch: Sequence[Waiting]) -> None:
        """Answer some prompts with different keys and the same settings."""
        places = {one.prompt.key: one for one in batch}
        for record, _ in answers(batch[0].setup, self.loaded, [one.prompt for one in batch], self.size):
            places[record["key"]].record = record
