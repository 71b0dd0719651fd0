"""Prompts that another harness brings, answered as a run answers its problems.

Settings are flat (``steps=64``, ``tta_k=5``, ``revision=...``), as other harnesses pass them, and checked as those of a run.
A prompt is put, padded, decoded and read by the code of the runner, so the answer is that of a run with the same settings,
prompt and key of random numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pandas as pd

from tta_bench import catalog
from tta_bench.integrations.refusal import RefusedError
from tta_bench.models.checkpoint import ModelSettings
from tta_bench.models.loading import resolve_device, resolve_dtype
from tta_bench.rng import digest
from tta_bench.runner.batch import Item, LoadedModel, batches, check_model, decode_batch
from tta_bench.runner.constraint import Constraint
from tta_bench.runner.failure import failure
from tta_bench.runner.isolate import LARGEST_BATCH, Isolation, automatic_batch_size
from tta_bench.runner.prompts import encode
from tta_bench.runner.settings import (
    MODEL_KEYS,
    check_compiled,
    flag,
    known_fingerprint,
    model_settings,
    number,
    optional_whole,
    whole,
    without_idle_settings,
)
from tta_bench.runner.spec import RunSpec
from tta_bench.runner.store import Record
from tta_bench.runner.study import model_source
from tta_bench.tasks.base import HOLE, Problem

DEFAULTS: Mapping[str, Any] = {
    "sampler": "low_confidence",
    "steps": None,
    "gen_length": None,
    "block_length": None,
    "cfg_scale": 0.0,
    "eos_policy": "allow",
    "seed": 0,
    "long_prompts": "truncate",
    "device": "auto",
    "dtype": "auto",
}
"""Settings of a decoding, as in conf/config.yaml, but that samplers which use ``steps`` must be told how many."""

MODEL = tuple(key for key in MODEL_KEYS if key not in ("name_or_path", "recommended"))
"""Settings of a model that may be given beside its name."""

NEUTRAL: Mapping[str, Sequence[Any]] = {"temperature": (None, 0), "top_p": (None, 1), "top_k": (None, 0, -1)}
"""Values of a request that leave to the sampler how tokens are drawn."""


@dataclass(frozen=True)
class FreeText:
    """The task of prompts that come from elsewhere, where their answers are scored."""

    name: ClassVar[str] = "free_text"
    version: ClassVar[str] = "1"

    def problems(self, split: str, n: int | None = None) -> list[Problem]:
        """None: prompts come one by one."""
        return []

    def score(self, problem: Problem, text: str) -> float:
        """Unknown: not a number."""
        return math.nan

    def violations(self, problem: Problem, text: str) -> list[float]:
        """None: nothing is known of the text."""
        return [0.0] * len(text)

    def answer(self, problem: Problem, text: str) -> Hashable:
        """The text itself: in a vote, equal texts are one answer."""
        return text

    def gold(self, problem: Problem, text: str) -> str | None:
        """None: no right answer is known."""
        return None


@dataclass(frozen=True)
class Setup:
    """A model with a sampler and all settings.

    Attributes:
        spec: what would name a run.
        model, device: what to load, and where to.
        chat_template: whether the model wants its prompts in its chat template; whoever writes the prompts sees to it.
    """

    spec: RunSpec
    model: ModelSettings
    device: str
    chat_template: bool

    def load(self) -> LoadedModel:
        """The model, kept for the next time in this process.

        Raises:
            CheckpointError: it cannot be loaded, or cannot do what the settings ask for.
        """
        loaded = model_source(self.model, self.device, self.spec.dtype).get()
        check_model(self.spec, loaded)
        return loaded

    @property
    def digest(self) -> str:
        """16 hex digits over everything that an answer depends on, but for the prompt and its key."""
        return f"{digest(json.dumps(self.spec.config(), sort_keys=True), size=8):016x}"


@dataclass(frozen=True)
class Prompt:
    """What is to be answered.

    Attributes:
        key: of its random numbers, as ``row-00012/0``: problem and replicate.
        text: as it goes into the tokenizer.
        gen_length: positions for the answer; at most half of the model's context, unless the settings name a length.
    """

    key: str
    text: str
    gen_length: int


def setup(model: str, arguments: Mapping[str, Any]) -> Setup:
    """Read and check settings, without loading the model.

    Args:
        model: a name in conf/model (``mini``), a folder, or a hub id.
        arguments: of ``DEFAULTS``, ``MODEL``, and the sampler's parameters, in any order.

    Raises:
        ValueError: an unknown setting, the nearest are suggested; or a value that is out of range or does not fit the others.
    """
    sampler = str(arguments.get("sampler", DEFAULTS["sampler"]))
    parameters = catalog.parameters("sampler", sampler)
    known = (*parameters, *DEFAULTS, *MODEL)
    for key in arguments:
        if key not in known:
            raise ValueError(catalog.no_parameter("sampler", sampler, key, known))
    config = {**DEFAULTS, **{key: value for key, value in arguments.items() if key in DEFAULTS}}
    node = {**model_node(model), **{key: value for key, value in arguments.items() if key in MODEL}}
    weights, device = model_settings(node), resolve_device(str(config["device"]))
    spec = without_idle_settings(
        RunSpec(
            model=weights.name_or_path,
            fingerprint=known_fingerprint(weights),
            task=catalog.entry_of("task", {"_target_": f"{__name__}.{FreeText.__name__}"}),
            task_name=FreeText.name,
            task_version=FreeText.version,
            sampler=catalog.entry("sampler", sampler, {k: v for k, v in arguments.items() if k in parameters}),
            split="test",
            steps=optional_whole(config, "steps"),
            gen_length=optional_whole(config, "gen_length"),
            block_length=optional_whole(config, "block_length"),
            cfg_scale=number(config, "cfg_scale"),
            eos_policy=str(config["eos_policy"]),
            constraint=Constraint(),
            seed=whole(config, "seed", 0),
            device=device.type,
            dtype=str(resolve_dtype(str(config["dtype"]), device)).removeprefix("torch."),
            add_bos=flag(node, "add_bos"),
            mask_id=weights.mask_id,
            end_ids=weights.end_ids,
            compile=weights.compile,
            long_prompts=str(config["long_prompts"]),
        )
    )
    if spec.steps is None and spec.strategy().schedule.uses_steps:
        raise ValueError(f"steps is missing: sampler {sampler} spreads its commits over so many steps; give some, as steps=64")
    check_compiled(spec)
    if spec.gen_length is not None:
        spec.check(FreeText(), [Problem("", "", "", spec.gen_length)])
    return Setup(spec, weights, str(device), flag(node, "chat_template"))


def model_node(model: str) -> dict[str, Any]:
    """What conf/model says of a name; of a folder or a hub id, nothing but that."""
    return catalog.saved("model", model) if model in catalog.names("model") else {"name_or_path": model}


def check_drawing(asked: Mapping[str, Any], setup: Setup, remedy: str) -> None:
    """Refuse to draw tokens otherwise than the sampler does, whose parameters say how.

    Args:
        asked: ``temperature``, ``top_p`` and ``top_k`` of a request, as far as it has them; those in ``NEUTRAL`` leave it to
            the sampler.
        setup: has the sampler.
        remedy: how the request is made to ask for nothing.

    Raises:
        RefusedError: one differs from the sampler's.
    """
    for name, value in asked.items():
        own = setup.spec.sampler.parameters.get(name)
        if value not in NEUTRAL[name] and value != own:
            raise RefusedError(
                f"{name}={value}: is asked for by the request, and the sampler's is {own}; how tokens are drawn is the "
                f"sampler's: give it {name}={value} if it has such a parameter, or {remedy}"
            )


def cut(text: str, stops: Sequence[str]) -> str:
    """A text up to the first of the strings that end it."""
    places = [place for stop in stops if stop and (place := text.find(stop)) >= 0]
    return text[: min(places)] if places else text


def answers(
    setup: Setup, loaded: LoadedModel, prompts: Sequence[Prompt], batch_size: int | None, largest: int | None = None
) -> Iterator[tuple[Record, pd.DataFrame]]:
    """The answers to some prompts, in any order, each with its statistics: a row for each step.

    Args:
        setup: of the decoding.
        loaded: its model.
        prompts: with different keys.
        batch_size: prompts decoded together; None finds out what memory has room for. Halved where it runs out.
        largest: of a batch whose size is found out; None sets no limit of its own.

    Yields:
        Records as a run has them (``key``, ``text``, ``tokens``, ``forward_passes``, ``seconds``, ``cut``, ``error``, ...), but
        for scores, and with ``n_prompt``, the tokens before the answer. Of a prompt that could not be put to the model, or that
        it failed on, only ``key`` and ``error`` are there for sure.
    """
    spec, task, items = setup.spec, FreeText(), []
    manner = spec.manner(loaded.end_ids, loaded.context)
    for prompt in prompts:
        problem = Problem(prompt.key.rpartition("/")[0], prompt.text, "", prompt.gen_length)
        try:
            if problem.infill:
                raise ValueError(f"the prompt holds {HOLE}, which stands for a hole here; write it otherwise")
            encoded = encode(problem, loaded.tokenizer, loaded.mask_id, spec.gen_length, manner)
            spec.check(task, [replace(problem, gen_length=encoded.appended)])
        except ValueError as error:
            yield {"key": prompt.key} | failure(error, "encode"), pd.DataFrame()
        else:
            items.append(Item(prompt.key, problem, 0, encoded))
    size = batch_size or min(automatic_batch_size(spec, items, loaded), largest or LARGEST_BATCH)
    lengths = {item.key: item.prompt.start for item in items}
    isolation = Isolation(lambda batch: decode_batch(spec, task, batch, loaded), size)
    for batch in batches(items, size):
        for records, trace in isolation.outcomes(batch):
            for record in records:
                steps = trace[trace["key"] == record["key"]].drop(columns="key") if len(trace) else trace
                yield {"error": None, "n_prompt": lengths[record["key"]]} | record, steps


def failed(record: Record) -> Exception:
    """The error of a record without an answer: ``RefusedError`` where the prompt could not be put to the model."""
    error = record["error"]
    if error["stage"] == "encode":
        return RefusedError(f"{record['key']}: {error['message']}")
    return RuntimeError(f"{record['key']}: {error['type']}: {error['message']}\n{error['traceback']}")
