"""What becomes of failures: memory that runs out makes batches smaller, any other error is traced to the problem at fault."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import psutil
import torch

from tta_bench.models.native import NativeModel
from tta_bench.runner.batch import Item, LoadedModel
from tta_bench.runner.failure import failure
from tta_bench.runner.spec import RunSpec
from tta_bench.runner.store import Record

Decode = Callable[[Sequence[Item]], tuple[list[Record], pd.DataFrame]]

LARGEST_BATCH = 64
"""An automatic batch is no larger, so that a kill loses little."""

COPIES = 3
"""Float32 copies of the logits that an automatic batch leaves room for: the model's own, what a sampler remembers of the last
step (``klass``), and one to spare. Everything else that is done with them is done a few positions at a time."""


@dataclass
class Isolation:
    """Decodes batches; where one fails, its halves, down to the problem that is at fault.

    Attributes:
        decode: decodes some items together.
        size: most items of a batch; halved when memory runs out, and not raised again.
        backoffs: how often that happened.
        pinned: it must not be halved: all items of a batch that memory does not suffice for have error records.
    """

    decode: Decode
    size: int
    backoffs: int = 0
    pinned: bool = False

    def outcomes(self, batch: Sequence[Item]) -> Iterator[tuple[list[Record], pd.DataFrame]]:
        """The records of a batch and their trace, in one or several parts; an item that fails alone has an error record."""
        if len(batch) <= self.size:
            try:
                done = self.decode(batch)
            except Exception as error:
                if len(batch) == 1 or (self.pinned and out_of_memory(error)):
                    done = [item.head | failure(error, "generate") for item in batch], pd.DataFrame()
                else:
                    done = None
                    if out_of_memory(error):
                        self.size, self.backoffs = len(batch) // 2, self.backoffs + 1
            # Outside the handler: the traceback kept what the batch had allocated.
            if done is not None:
                yield done
                return
            release_memory()
        middle = (len(batch) + 1) // 2
        yield from self.outcomes(batch[:middle])
        yield from self.outcomes(batch[middle:])


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the host."""
    texts = ("can't allocate memory", "out of memory", "ALLOC_FAILED")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in texts)
    )


def release_memory() -> None:
    """Give back what a failed batch held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def automatic_batch_size(spec: RunSpec, items: Sequence[Item], loaded: LoadedModel) -> int:
    """A power of two, at most ``LARGEST_BATCH``, whose logits fit ``COPIES`` times into half of the memory that is free.

    Args:
        spec: how many views, samples and passes of a problem are made together.
        items: the longest of which must fit.
        loaded: the model, on its device.
    """
    sampler, passes_per_look = spec.strategy(), 2 if spec.cfg_scale > 0 else 1
    # Native models compute logits where something can change; of the others everything is held once.
    everywhere = not isinstance(loaded.model, NativeModel)
    copies = [COPIES * item.prompt.ids.count(loaded.mask_id) + everywhere * len(item.prompt.ids) for item in items]
    config: Any = loaded.model.config
    rows = passes_per_look * sampler.views.k * (sampler.vote.samples if sampler.vote else 1)
    needed = rows * max(copies, default=1) * config.vocab_size * 4
    device = next(loaded.model.parameters()).device
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    size = LARGEST_BATCH
    while size > 1 and size * needed > free / 2:
        size //= 2
    return size
