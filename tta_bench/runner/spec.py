"""What makes two runs the same run: the scientific settings, and an id made of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tta_bench.catalog import Entry
from tta_bench.rng import digest
from tta_bench.sampling.denoiser import check_cfg_scale
from tta_bench.sampling.eos import POLICIES
from tta_bench.sampling.sampler import ENGINE_VERSION, Sampler
from tta_bench.sampling.schedule import Blocks
from tta_bench.tasks.base import HOLE, SPLITS, Problem, Task

ID_VERSION = 1
"""Of the rule that makes run ids. Raised when equal settings must become another run; then nothing old is reused."""


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
        constraint: ``task`` gives the sampler the task's violations, ``none`` gives it none.
        seed: of every draw.
        device: type of device, cpu or cuda.
        dtype: of the weights and activations.
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
    constraint: str
    seed: int
    device: str
    dtype: str

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(f"split={self.split}: must be one of {', '.join(SPLITS)}")
        if self.gen_length is not None and self.gen_length < 1:
            raise ValueError(f"gen_length={self.gen_length}: must be at least 1, or null for the task's own")
        check_cfg_scale(self.cfg_scale)
        if self.constraint not in ("task", "none"):
            raise ValueError(f"constraint={self.constraint}: must be task or none")
        if self.seed < 0:
            raise ValueError(f"seed={self.seed}: must be >= 0")
        if self.eos_policy not in POLICIES:
            raise ValueError(f"eos_policy={self.eos_policy}: must be one of {', '.join(POLICIES)}")
        Blocks(self.steps, self.block_length)
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
            "task": {"name": self.task_name, "version": self.task_version, **_node(self.task)},
            "sampler": {"name": self.sampler.name, **_node(self.sampler)},
            "split": self.split,
            "steps": self.steps,
            "gen_length": self.gen_length,
            "block_length": self.block_length,
            "cfg_scale": float(self.cfg_scale) + 0.0,
            "eos_policy": self.eos_policy,
            "constraint": self.constraint,
            "seed": self.seed,
            "device": self.device,
            "dtype": self.dtype,
        }

    @property
    def config_hash(self) -> str:
        """12 hex digits over the configuration without the model's name (the fingerprint tells it better)."""
        config = self.config() | {"model": self.fingerprint}
        return f"{digest(json.dumps(config, sort_keys=True), size=6):012x}"

    @property
    def run_id(self) -> str:
        """Task, sampler and the hash of the configuration."""
        return f"{self.task_name}-{self.sampler.name}-{self.config_hash}"

    def check(self, task: Task, problems: list[Problem]) -> None:
        """Refuse settings that do not fit the problems, before anything is loaded.

        Raises:
            ValueError: the steps cannot be shared among the blocks, or a length is given for an infill task.
        """
        if self.gen_length is not None and any(p.infill for p in problems):
            raise ValueError(
                f"gen_length={self.gen_length}: task {task.name} fills holes in its prompts and appends nothing; "
                "leave gen_length null"
            )
        lengths = {p.prompt.count(HOLE) if p.infill else self.gen_length or p.gen_length for p in problems}
        Blocks(self.steps, self.block_length).layout(sorted(lengths), self.strategy().schedule)


def _node(entry: Entry) -> dict[str, Any]:
    """Target and parameters as JSON and YAML know them."""
    # -0.0 is 0.0, but not in a hash.
    node: dict[str, Any] = json.loads(
        json.dumps({"target": entry.target, **entry.parameters}), parse_float=lambda text: float(text) + 0.0
    )
    return node
