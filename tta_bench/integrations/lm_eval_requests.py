"""What requests of lm-evaluation-harness ask for, which random numbers are theirs, and what a trace tells of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from tta_bench.integrations.decoder import NEUTRAL, Setup, check_drawing
from tta_bench.integrations.refusal import RefusedError
from tta_bench.rng import digest
from tta_bench.runner.store import Record, record_key

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""What tasks call the most tokens of an answer; the first that is there counts, as elsewhere in the harness."""

DEFAULT_LENGTH = 256
"""Of an answer where neither the task nor ``gen_length`` says; the harness's own."""


@dataclass(frozen=True)
class Wanted:
    """What a request says of its answer.

    Attributes:
        until: strings that end it.
        gen_length: positions for it.
        samples: whether it is to be drawn (``do_sample``): the harness then keeps it out of its cache.
    """

    until: tuple[str, ...]
    gen_length: int
    samples: bool


def wanted(arguments: Mapping[str, Any], setup: Setup) -> Wanted:
    """Read the arguments of a ``generate_until`` request.

    Without ``do_sample``, ``temperature``, ``top_p`` and ``top_k`` mean nothing, there as here.

    Raises:
        RefusedError: it asks for something that the sampler does not do.
    """
    rest = dict(arguments)
    until = rest.pop("until", None) or ()
    samples = bool(rest.pop("do_sample", False))
    lengths = [found for name in LENGTHS if (found := rest.pop(name, None)) is not None]
    drawing = {name: rest.pop(name, None) for name in NEUTRAL}
    if rest:
        name, value = next(iter(rest.items()))
        raise RefusedError(
            f"{name}={value!r}: is asked for by the task's generation_kwargs, or --gen_kwargs, and means nothing to a sampler "
            "of masked diffusion; take it out, and give sampler parameters in --model_args"
        )
    if samples:
        check_drawing(drawing, setup, "set --gen_kwargs temperature=0 (top_p=1, top_k=0)")
    return Wanted((until,) if isinstance(until, str) else tuple(until), int(lengths[0] if lengths else DEFAULT_LENGTH), samples)


def document(request: Instance, prompt: str) -> str:
    """The name of a request's document, as a run names the row of that number; of one without a number, its text's digest."""
    if request.doc_id is None:
        return f"{digest(prompt):032x}"
    return f"row-{request.doc_id:05d}"


def keys_of(requests: Sequence[Instance]) -> list[str]:
    """The keys of the random numbers of a task's requests: document and, for those that are repeated, replicate."""
    seen: Counter[str] = Counter()
    keys = []
    for request in requests:
        name = document(request, request.args[0]) + (f"-{request.idx}" if request.idx else "")
        keys.append(record_key(name, seen[name]))
        seen[name] += 1
    return keys


def alike(requests: Sequence[Instance]) -> list[list[int]]:
    """The numbers of the requests of each task that ask for the same kind of answer."""
    groups: dict[tuple[str | None, str], list[int]] = {}
    for number, request in enumerate(requests):
        groups.setdefault((request.task_name, json.dumps(request.args[1], sort_keys=True, default=repr)), []).append(number)
    return list(groups.values())


def repeated(keys: Sequence[str]) -> bool:
    """Whether a document has several replicates among these keys."""
    return len({key.rpartition("/")[0] for key in keys}) < len(keys)


def described(request: Instance) -> dict[str, Any]:
    """What a trace tells of any request."""
    return {"request": request.request_type, "task": request.task_name, "doc_id": request.doc_id, "idx": request.idx}


def traced(request: Instance, record: Record, steps: pd.DataFrame) -> dict[str, Any]:
    """A record as a line of the trace file, with its statistics of each step."""
    left_out = ("problem", "replicate", "data", "cluster")
    told = {key: value for key, value in record.items() if key not in left_out}
    return described(request) | told | {"steps": steps.drop(columns="step").to_dict("list")}


def plain(value: Any) -> Any:
    """A value as JSON knows it; what is not a number is null."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and value != value:
        return None
    return value
