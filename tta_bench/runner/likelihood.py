"""Multiple choice by likelihood: which choice a model finds most probable, for each problem of a task."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tta_bench import catalog
from tta_bench.catalog import Entry
from tta_bench.likelihood import choice_bounds
from tta_bench.models.checkpoint import CheckpointError, ModelSettings
from tta_bench.models.loading import resolve_device, resolve_dtype
from tta_bench.rng import digest
from tta_bench.runner.batch import LoadedModel
from tta_bench.runner.difference import identity
from tta_bench.runner.environment import describe
from tta_bench.runner.evaluate import Item, Rows, evaluate_all
from tta_bench.runner.execute import ModelSource
from tta_bench.runner.progress import RunWatch
from tta_bench.runner.prompts import Manner, encode, first_id
from tta_bench.runner.settings import flag, folder, known_fingerprint, model_settings, number, whole
from tta_bench.runner.spec import described_task
from tta_bench.runner.store import LIKELIHOOD, Record, RunFolder, record_key
from tta_bench.runner.work import find_work
from tta_bench.sampling.denoiser import check_cfg_scale
from tta_bench.scorers.base import Choices, Chooses
from tta_bench.tasks.base import SPLITS, Problem, Task, problem_digest
from tta_bench.tasks.dataset import Dataset

ESTIMATOR_VERSION = 1
"""Of the draws and of what is put behind a prompt. Raised when equal settings would give other numbers."""

CONTINUATIONS = ("text", "letter")


@dataclass(frozen=True)
class LikelihoodSpec:
    """One model on the choices of one task. How many problems are done is not part of it.

    Attributes:
        model, fingerprint, task, task_name, task_version, task_data, split, device, dtype: as in ``RunSpec``.
        mc_num: draws of hidden tokens for each choice.
        continuation: what is put behind the prompt: the ``text`` of a choice, or its ``letter``.
        join: stands between the prompt and that; None is a blank, or nothing where the prompt ends in white space or is a chat.
        end: whether the model's end token is the last token of each choice.
        cfg_scale: classifier-free guidance.
        seed: of the draws.
        chat_template, add_bos, mask_id, end_ids, compile, long_prompts: as in ``RunSpec``.
    """

    model: str
    fingerprint: str
    task: Entry
    task_name: str
    task_version: str
    task_data: str
    split: str
    mc_num: int
    continuation: str
    join: str | None
    end: bool
    cfg_scale: float
    seed: int
    device: str
    dtype: str
    chat_template: bool = False
    add_bos: bool = False
    mask_id: int | None = None
    end_ids: tuple[int, ...] | None = None
    compile: bool = False
    long_prompts: str = "truncate"

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(f"split={self.split}: must be one of {', '.join(SPLITS)}")
        if self.continuation not in CONTINUATIONS:
            raise ValueError(f"continuation={self.continuation}: must be {' or '.join(CONTINUATIONS)}")
        check_cfg_scale(self.cfg_scale)
        self.manner(None)

    def manner(self, context: int | None) -> Manner:
        """How problems are put to a model with so many positions."""
        return Manner(self.chat_template, self.add_bos, (), context, self.long_prompts)

    def config(self) -> dict[str, Any]:
        """The configuration in plain types, the same for equal settings."""
        return {
            "schema": 1,
            "estimator": ESTIMATOR_VERSION,
            "model": {"name": self.model, "fingerprint": self.fingerprint},
            "task": described_task(self.task, self.task_name, self.task_version, self.task_data),
            "split": self.split,
            "mc_num": self.mc_num,
            "continuation": self.continuation,
            "join": self.join,
            "end": self.end,
            "cfg_scale": float(self.cfg_scale) + 0.0,
            "seed": self.seed,
            "device": self.device,
            "dtype": self.dtype,
            "chat_template": self.chat_template,
            "add_bos": self.add_bos,
            "mask_id": self.mask_id,
            "end_ids": None if self.end_ids is None or not self.end else list(self.end_ids),
            "compile": self.compile,
            "long_prompts": self.long_prompts,
        }

    @property
    def config_hash(self) -> str:
        """12 hex digits over the configuration without names and places that a fingerprint tells better."""
        return f"{digest(json.dumps(identity(self.config()), sort_keys=True), size=6):012x}"

    @property
    def run_id(self) -> str:
        """Task, draws and the hash of the configuration."""
        return f"{self.task_name}-mc{self.mc_num}-{self.config_hash}"


@dataclass(frozen=True)
class LikelihoodPlan:
    """What is asked for.

    Attributes:
        spec: model, task, settings.
        model: what to load.
        device: where to.
        problems: of the task, in order.
        choices: of each problem.
        batch_size: rows evaluated together.
        max_failures: problems that may fail before it is given up.
        output_dir: ``likelihood/<run_id>`` lies in it.
    """

    spec: LikelihoodSpec
    model: ModelSettings
    device: str
    problems: tuple[Problem, ...]
    choices: tuple[Choices, ...]
    batch_size: int
    max_failures: int
    output_dir: Path

    @property
    def folder(self) -> RunFolder:
        """Where its records are."""
        return RunFolder(self.output_dir / LIKELIHOOD / self.spec.run_id)


def likelihood_plan(config: Mapping[str, Any]) -> LikelihoodPlan:
    """Read and check a resolved configuration, without loading a model.

    Raises:
        ValueError: a value is out of range, the task has no choices, or one of them is empty.
    """
    task_entry = catalog.entry_of("task", config["task"])
    task: Task = task_entry.build()
    if not isinstance(task, Dataset) or not isinstance(task.judge, Chooses):
        raise ValueError(
            f"task={task.name}: its problems have no choices; take hellaswag, arc_challenge, mmlu, or rows of your own "
            "with task.scorer=multiple_choice and task.choices=COLUMN"
        )
    if task.template is not None:
        raise ValueError("task.template: a choice is put behind a prompt; give task.prompt, and leave task.template null")
    model, device, split = model_settings(config["model"]), resolve_device(str(config["device"])), str(config["split"])
    mc_num = whole(config, "mc_num", 1)
    problems = tuple(task.problems(split, whole(config, "n_problems", 1)))
    spec = LikelihoodSpec(
        model=model.name_or_path,
        fingerprint=known_fingerprint(model),
        task=task_entry,
        task_name=task.name,
        task_version=task.version,
        task_data=task.data(split),
        split=split,
        mc_num=mc_num,
        continuation=str(config["continuation"]),
        join=None if config["join"] is None else str(config["join"]),
        end=flag(config, "end"),
        cfg_scale=number(config, "cfg_scale"),
        seed=whole(config, "seed", 0),
        device=device.type,
        dtype=str(resolve_dtype(str(config["dtype"]), device)).removeprefix("torch."),
        chat_template=flag(config["model"], "chat_template", "model."),
        add_bos=flag(config["model"], "add_bos", "model."),
        mask_id=model.mask_id,
        end_ids=model.end_ids,
        compile=model.compile,
        long_prompts=str(config["long_prompts"]),
    )
    return LikelihoodPlan(
        spec=spec,
        model=model,
        device=str(device),
        problems=problems,
        choices=tuple(checked_choices(task.judge, problem) for problem in problems),
        batch_size=whole(config, "batch_size", 1),
        max_failures=whole(config, "max_failures", 0),
        output_dir=folder(config, "output_dir"),
    )


def checked_choices(judge: Chooses, problem: Problem) -> Choices:
    """The choices of a problem.

    Raises:
        ValueError: it has none, only one, or an empty one.
    """
    try:
        found = judge.choices(problem.target, problem.facts)
    except ValueError as error:
        raise ValueError(f"problem {problem.id}: {error}") from error
    for label, text in zip(found.labels, found.texts, strict=True):
        if not text.strip():
            raise ValueError(f"problem {problem.id}: its choice {label} is empty; correct the row, or leave it out")
    if len(found.texts) < 2:
        raise ValueError(f"problem {problem.id}: has a single choice; there must be two or more to choose from")
    return found


def continued(spec: LikelihoodSpec, problem: Problem, choices: Choices) -> list[str]:
    """What is put behind the prompt for each choice."""
    blank = "" if spec.chat_template or not problem.prompt or problem.prompt[-1].isspace() else " "
    join = blank if spec.join is None else spec.join
    return [join + text.strip() for text in (choices.texts if spec.continuation == "text" else choices.labels)]


def execute(
    plan: LikelihoodPlan,
    model: ModelSource,
    watch: RunWatch,
    *,
    wait: Callable[[], None] | None = None,
    check_stop: Callable[[], None] = lambda: None,
) -> None:
    """Bring the records up to the problems asked for. What failed before is tried again.

    Args:
        plan: what is asked for.
        model: asked only if something is missing.
        watch: told about progress.
        wait: see ``RunFolder.claimed``.
        check_stop: called after every problem; may raise KeyboardInterrupt.

    Raises:
        BusyError: another process is at work on it, and ``wait`` is None.
        StoreError: the folder cannot be written to, or holds something else.
        CheckpointError: the model cannot be put the problems so.
        TooManyFailuresError: see ``evaluate_all``.
    """
    spec, rows = plan.spec, Rows(plan.batch_size)
    with plan.folder.claimed(wait):
        run = plan.folder.open(spec.config())
        work = find_work(plan.folder, plan.problems, 1)
        watch.reused(work.n_done)
        if work.missing and spec.add_bos:
            first_id(model.get().tokenizer)
        known = {problem.id: choices for problem, choices in zip(plan.problems, plan.choices, strict=True)}
        items = [item(spec, problem, known[problem.id], model, rows) for _, problem, _ in work.missing]
        named = {"run_id": spec.run_id, "config_hash": spec.config_hash, "model_fingerprint": spec.fingerprint}
        here = describe(spec.device, spec.dtype, "tta_bench.likelihood.choice_bounds", spec.task.target)
        evaluate_all(run, items, work.tally, named, here, watch=watch, max_failures=plan.max_failures, check_stop=check_stop)


def item(spec: LikelihoodSpec, problem: Problem, choices: Choices, model: ModelSource, rows: Rows) -> Item:
    """The record of a problem, to be made."""
    head = {
        "key": record_key(problem.id, 0),
        "problem": problem.id,
        "replicate": 0,
        "data": problem_digest(problem),
        "cluster": problem.cluster or None,
    }
    return Item(head, lambda: judged(spec, problem, choices, model.get(), rows))


def judged(spec: LikelihoodSpec, problem: Problem, choices: Choices, loaded: LoadedModel, rows: Rows) -> Record:
    """What a model says of the choices of a problem.

    Raises:
        CheckpointError: the model has no end token, and it is asked for.
        ValueError: prompt and choices do not fit the model's context, and that is not to be helped, or must not.
    """
    texts = continued(spec, problem, choices)
    if spec.end and not loaded.end_ids:
        raise CheckpointError("end=true: the model has no token that ends an answer; give model.end_ids, or set it to false")
    behind = list(loaded.end_ids[:1]) if spec.end else []
    ids = [loaded.tokenizer.encode(text, add_special_tokens=False) + behind for text in texts]
    longest = max(map(len, ids))
    if loaded.context is not None and longest + spec.add_bos >= loaded.context:
        raise ValueError(
            f"its longest choice has {longest} tokens, which leaves nothing of the model's context of {loaded.context} to the "
            "prompt; leave the problem out"
        )
    prompt = encode(problem, loaded.tokenizer, loaded.mask_id, longest, spec.manner(loaded.context))
    device = next(p.device for p in loaded.model.parameters() if p.device.type != "meta")
    before = torch.tensor(prompt.ids[: prompt.start], dtype=torch.int64, device=device)
    found = rows.fitting(
        lambda size: choice_bounds(
            loaded.model,
            before,
            [torch.tensor(choice, dtype=torch.int64, device=device) for choice in ids],
            mc_num=spec.mc_num,
            batch_size=size,
            seed=spec.seed,
            key=problem.id,
            cfg_scale=spec.cfg_scale,
            mask_id=loaded.mask_id,
        )
    )
    return {
        "prompt": f"{digest(prompt.ids[: prompt.start], *map(tuple, ids), size=8):016x}",
        "cut": prompt.cut,
        "labels": list(choices.labels),
        "right": choices.right,
        "log_likelihood": list(found.values),
        "standard_error": [None if math.isnan(error) else error for error in found.standard_errors],
        "groups": [list(groups) for groups in found.groups],
        "n_tokens": list(found.n_tokens),
        "n_bytes": sizes(texts),
        "forward_passes": found.forward_passes,
    }


def sizes(texts: Sequence[str]) -> list[int]:
    """The bytes of each choice, without what joins it to the prompt."""
    return [len(text.strip().encode()) for text in texts]
