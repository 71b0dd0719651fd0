"""What makes two runs the same run: the scientific settings, and an id made of them."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from tta_bench.catalog import Entry
from tta_bench.rng import digest
from tta_bench.runner.constraint import Constraint
from tta_bench.runner.difference import identity, task_node
from tta_bench.runner.prompts import PLACE, Manner
from tta_bench.sampling.denoiser import check_cfg_scale
from tta_bench.sampling.eos import POLICIES
from tta_bench.sampling.sampler import ENGINE_VERSION, Sampler
from tta_bench.sampling.schedule import Blocks
from tta_bench.tasks.base import HOLE, SPLITS, Problem, Task

ID_VERSION = 1
"""Of the rule that makes run ids. Raised when equal settings must become another run; then nothing old is reused."""

IDLE = {
    "cache": "none",
    "tta_views": "temperature",
    "tta_disagreement": "draws",
    "delta_improbability": 0.0,
    "candidate_temperature": 0.0,
    "schedule": "in_loop",
    "heed_constraint": False,
    "shuffle_scores": False,
}
"""Parameters of samplers that did not exist when ids were first made, at the values that do what was done then."""

NEEDS = {
    "tta_context_p": "tta_views",
    "entropy_bound": "schedule",
    "draft_steps": "schedule",
    "repair_threshold": "schedule",
    "repair_share": "schedule",
    "repair_rounds": "schedule",
    "heed_share": "heed_constraint",
}
"""Such parameters that do nothing, whatever their value, where another one of the sampler is idle."""


@dataclass(frozen=True)
class RunSpec:
    """One model on one task with one sampler. How many problems and replicates are done is not part of it.

    Attributes:
        model: name or path, as given.
        fingerprint: what the weights are, whatever the name.
        task: entry of the task and its options.
        task_name, task_version: of the task; the version changes whenever its problems or scores do.
        sampler: entry of the sampler and all its parameters.
        split: train, dev or test.
        steps: denoising steps; None where the sampler does not use them.
        gen_length: positions appended; None takes each problem's own.
        block_length: positions in a block; None makes one block.
        cfg_scale: classifier-free guidance.
        eos_policy: what becomes of end-of-sequence tokens.
        constraint: whose violations the sampler sees.
        seed: of every draw.
        device: type of device, cpu or cuda.
        dtype: of the weights and activations.
        chat_template, add_bos: how problems are put to the model, see ``Manner``.
        mask_id, end_ids: given instead of the checkpoint's own; None where they are not.
        compile: whether the model is compiled, which rounds differently.
        long_prompts: what becomes of prompts that do not fit, see ``Manner``.
        task_data: digest of the rows of a task that reads its problems; None of one that generates them.
        prompt_form: what stands around prompts, see ``Manner``.
        batch_size: problems decoded together at most, where that is part of what the run is; None where it is not.
    """

    model: str
    fingerprint: str
    task: Entry
    task_name: str
    task_version: str
    sampler: Entry
    split: str
    steps: int | None
    gen_length: int | None
    block_length: int | None
    cfg_scale: float
    eos_policy: str
    constraint: Constraint
    seed: int
    device: str
    dtype: str
    chat_template: bool = False
    add_bos: bool = False
    mask_id: int | None = None
    end_ids: tuple[int, ...] | None = None
    compile: bool = False
    task_data: str | None = None
    long_prompts: str = "truncate"
    prompt_form: str = PLACE
    batch_size: int | None = None

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(f"split={self.split}: must be one of {', '.join(SPLITS)}")
        if self.gen_length is not None and self.gen_length < 1:
            raise ValueError(f"gen_length={self.gen_length}: must be at least 1, or null for the task's own")
        check_cfg_scale(self.cfg_scale)
        self.constraint.check()
        if self.seed < 0:
            raise ValueError(f"seed={self.seed}: must be >= 0")
        if self.eos_policy not in POLICIES:
            raise ValueError(f"eos_policy={self.eos_policy}: must be one of {', '.join(POLICIES)}")
        Blocks(self.steps, self.block_length)
        self.manner(())
        self.strategy()

    def strategy(self) -> Sampler:
        """The sampler, built."""
        built: Sampler = self.sampler.build()
        return built

    def config(self) -> dict[str, Any]:
        """The scientific part of the configuration, in plain types, the same for equal settings however they were written."""
        return {
            "schema": ID_VERSION,
            "engine": ENGINE_VERSION,
            "model": {"name": self.model, "fingerprint": self.fingerprint},
            "task": described_task(self.task, self.task_name, self.task_version, self.task_data),
            "sampler": {"name": self.sampler.name, "target": self.sampler.target, **parameters_of(self.sampler)},
            "split": self.split,
            "steps": self.steps,
            "gen_length": self.gen_length,
            "block_length": self.block_length,
            "cfg_scale": float(self.cfg_scale) + 0.0,
            "eos_policy": self.eos_policy,
            "constraint": self.constraint.config(),
            "seed": self.seed,
            "device": self.device,
            "dtype": self.dtype,
            **{name: value for name, value in self._special().items() if value is not None and value is not False},
        }

    def _special(self) -> dict[str, Any]:
        """Settings that few models need; left out where they are not set."""
        told: dict[str, Any] = {name: getattr(self, name) for name in ("chat_template", "add_bos", "compile")}
        told["long_prompts"] = None if self.long_prompts == "truncate" else self.long_prompts
        told["prompt_form"] = None if self.prompt_form == PLACE else self.prompt_form
        told["batch_size"] = self.batch_size
        return told | {"mask_id": self.mask_id, "end_ids": None if self.end_ids is None else list(self.end_ids)}

    def manner(self, end_ids: tuple[int, ...], context: int | None = None) -> Manner:
        """How problems are put to a model with these ends of an answer, and so many positions."""
        return Manner(self.chat_template, self.add_bos, end_ids, context, self.long_prompts, self.prompt_form)

    @property
    def config_hash(self) -> str:
        """12 hex digits over the configuration without names and places that a fingerprint tells better."""
        return f"{digest(json.dumps(identity(self.config()), sort_keys=True), size=6):012x}"

    @property
    def run_id(self) -> str:
        """Task, sampler and the hash of the configuration."""
        return f"{self.task_name}-{self.sampler.name}-{self.config_hash}"

    def check(self, task: Task, problems: list[Problem]) -> None:
        """Refuse settings that do not fit the problems, before anything is loaded.

        Raises:
            ValueError: the steps cannot be shared among the blocks; a length or a form of prompts is given for an infill task.
        """
        if self.prompt_form != PLACE and any(p.infill for p in problems):
            raise ValueError(
                f"prompt_form={self.prompt_form!r}: task {task.name} fills holes in its prompts, nothing goes around these; "
                f'leave prompt_form="{PLACE}"'
            )
        if self.gen_length is not None and any(p.infill for p in problems):
            raise ValueError(
                f"gen_length={self.gen_length}: task {task.name} fills holes in its prompts and appends nothing; "
                "leave gen_length null"
            )
        lengths = {p.prompt.count(HOLE) if p.infill else self.gen_length or p.gen_length for p in problems}
        Blocks(self.steps, self.block_length).layout(sorted(lengths), self.strategy().schedule)


def described_task(entry: Entry, name: str, version: str, data: str | None) -> dict[str, Any]:
    """A task as configurations hold it."""
    own = {"name": name, "version": version, **({} if data is None else {"data": data}), "target": entry.target}
    return task_node(own, parameters_of(entry))


def parameters_of(entry: Entry) -> dict[str, Any]:
    """Parameters as JSON and YAML know them, without those that came later and do nothing."""
    idle = {key for key, value in entry.parameters.items() if (key, value) in IDLE.items()}
    told = {key: value for key, value in entry.parameters.items() if key not in idle and NEEDS.get(key) not in idle}
    return replace(entry, parameters=told).plain
