"""From a resolved configuration to the runs it asks for, and how the values of any configuration are read."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from tta_bench import catalog
from tta_bench.integrations.trackers import Tracking
from tta_bench.models.checkpoint import ModelSettings, check_end_ids, fingerprint
from tta_bench.models.loading import resolve_device, resolve_dtype
from tta_bench.runner.constraint import Constraint, constraint_of
from tta_bench.runner.disk import check_writable
from tta_bench.runner.execute import Effort
from tta_bench.runner.spec import RunSpec
from tta_bench.tasks.base import Problem, Task
from tta_bench.tasks.dataset import Dataset


@dataclass(frozen=True)
class Comparison:
    """A baseline, a candidate and controls on the same problems, and where their records go.

    Attributes:
        baseline, candidate: the two runs.
        controls: runs that are compared with the baseline as well, so that the candidate's gain can be told apart from theirs.
        model, device: what to load, and where to.
        n_problems, replicates: how much of each run is asked for.
        effort: batch size, failures, time.
        output_dir, report_dir: where runs and report go.
        name: of the report.
        tracking: who is told of the runs while they are made; None tells nobody.
    """

    baseline: RunSpec
    candidate: RunSpec
    controls: tuple[RunSpec, ...]
    model: ModelSettings
    device: str
    n_problems: int
    replicates: int
    effort: Effort
    output_dir: Path
    report_dir: Path
    name: str
    tracking: Tracking | None = None

    @property
    def runs(self) -> list[RunSpec]:
        """Baseline, candidate and controls, each once."""
        return list({spec.run_id: spec for spec in (self.baseline, self.candidate, *self.controls)}.values())

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Run ids of (baseline, candidate) and (baseline, control)."""
        return [(self.baseline.run_id, spec.run_id) for spec in (self.candidate, *self.controls)]

    @property
    def size(self) -> int:
        """Records that are asked for of each run."""
        return self.n_problems * self.replicates

    @property
    def task(self) -> Task:
        task: Task = self.candidate.task.build()
        return task

    @property
    def problems(self) -> list[Problem]:
        """The problems of both runs, in order."""
        return _problems(self.candidate.task, self.candidate.split, self.n_problems, self.candidate.task_data)


# A sweep asks for the same problems again and again. Entries hold dicts, so they are remembered by their text.
_KNOWN_PROBLEMS: dict[str, list[Problem]] = {}


def _problems(entry: catalog.Entry, split: str, n: int, data: str | None) -> list[Problem]:
    key = repr((entry, split, n, data))
    if key not in _KNOWN_PROBLEMS:
        _KNOWN_PROBLEMS[key] = entry.build().problems(split, n)
    return _KNOWN_PROBLEMS[key]


_fingerprint = cache(fingerprint)


def known_fingerprint(model: ModelSettings) -> str:
    """What the weights of a model are, found once in a process."""
    return _fingerprint(model.name_or_path, model.revision, trust_remote_code=model.trust_remote_code)


def comparison(config: Mapping[str, Any], *, here: bool = True) -> Comparison:
    """Read and check a resolved configuration, without loading a model.

    Args:
        config: all of it.
        here: whether it is to be done by this process, so that its device must be there.

    Raises:
        ValueError: a value is out of range or does not fit the others; the message names the key, the value and the rule.
    """
    found = described(config, here=here)
    for spec in (found.candidate, *found.controls):
        if spec.run_id == found.baseline.run_id:
            raise ValueError(
                f"sampler={spec.sampler.name}: is the same run as the baseline; "
                "change the sampler, the baseline or a parameter of one"
            )
    return found


def described(config: Mapping[str, Any], *, here: bool = True) -> Comparison:
    """As ``comparison``, of a candidate that may be the baseline."""
    n_problems = whole(config, "n_problems", 1)
    model, manner = model_settings(config["model"]), config["model"]
    task_entry = catalog.entry_of("task", config["task"])
    task: Task = task_entry.build()
    device = resolve_device(str(config["device"]), here=here)
    candidate = RunSpec(
        model=model.name_or_path,
        fingerprint=known_fingerprint(model),
        task=task_entry,
        task_name=task.name,
        task_version=task.version,
        sampler=catalog.entry_of("sampler", config["sampler"]),
        split=str(config["split"]),
        steps=whole(config, "steps", 1),
        gen_length=optional_whole(config, "gen_length"),
        block_length=optional_whole(config, "block_length"),
        cfg_scale=number(config, "cfg_scale"),
        eos_policy=str(config["eos_policy"]),
        constraint=constraint_of(config["constraint"]),
        seed=whole(config, "seed", 0),
        device=device.type,
        dtype=str(resolve_dtype(str(config["dtype"]), device)).removeprefix("torch."),
        chat_template=flag(manner, "chat_template", "model."),
        add_bos=flag(manner, "add_bos", "model."),
        mask_id=model.mask_id,
        end_ids=model.end_ids,
        compile=model.compile,
        long_prompts=str(config["long_prompts"]),
        task_data=task.data(str(config["split"])) if isinstance(task, Dataset) else None,
        prompt_form=str(config["prompt_form"]),
        batch_size=pinned_batch_size(config),
    )

    if all(problem.infill for problem in _problems(task_entry, candidate.split, n_problems, candidate.task_data)):
        candidate = replace(candidate, chat_template=False)  # templates are put as they are

    def with_sampler(node: Mapping[str, Any]) -> RunSpec:
        return without_idle_settings(replace(candidate, sampler=catalog.entry_of("sampler", node)))

    found = Comparison(
        baseline=with_sampler(config["baseline"]),
        candidate=with_sampler(config["sampler"]),
        controls=tuple(with_sampler(node) for node in (config["controls"] or {}).values()),
        model=model,
        device=str(device),
        n_problems=n_problems,
        replicates=whole(config, "replicates", 1),
        effort=Effort(
            batch_size=None if config["batch_size"] == "auto" else whole(config, "batch_size", 1, instead="auto"),
            max_failures=whole(config, "max_failures", 0),
            time_limit=None if config["time_limit"] is None else positive(config, "time_limit"),
            token_traces=whole(config, "token_traces", 0),
            probe_folds=whole(config, "probe_folds", 0),
            probe_shadow=flag(config, "probe_shadow"),
        ),
        output_dir=folder(config, "output_dir"),
        report_dir=folder(config, "report_dir"),
        name=str(config["name"]),
        tracking=tracking_of(config),
    )
    for spec in found.runs:
        spec.check(found.task, found.problems)
    for spec in found.runs:
        check_compiled(spec)
    return found


def check_compiled(spec: RunSpec) -> None:
    """Refuse a cache of keys and values in a model that is compiled.

    Raises:
        ValueError: it is asked for.
    """
    cache = spec.sampler.parameters.get("cache", "none")
    if spec.compile and cache != "none":
        raise ValueError(f"model.compile=true: compiled code keeps no keys and values; use cache=none instead of cache={cache}")


def tracking_of(config: Mapping[str, Any]) -> Tracking | None:
    """The tracker that a configuration names, None where it names none.

    Raises:
        ValueError: there is no such tracker, or it is not installed.
    """
    name = config["tracker"]
    return None if name in (None, "none") else Tracking(str(name), str(config["tracker_project"] or ""))


MODEL_KEYS = (
    "name_or_path", "revision", "trust_remote_code", "mask_id", "end_ids", "device_map", "compile", "chat_template", "add_bos",
    "recommended",
)  # fmt: skip


def model_settings(config: Mapping[str, Any]) -> ModelSettings:
    """How the model of a configuration is loaded; keys that are absent are as in ``tta_bench.load``.

    Raises:
        ValueError: an unknown key, or a value of the wrong type.
    """
    for key in config:
        if key not in MODEL_KEYS:
            raise ValueError(catalog.no_parameter("model", str(config.get("name_or_path")), str(key), MODEL_KEYS))
    ends = config.get("end_ids")
    if ends is not None and not isinstance(ends, list):
        raise ValueError(f"model.end_ids={ends}: must be a list of token ids, as [2] or [5,7]")
    return ModelSettings(
        name_or_path=str(config["name_or_path"]),
        revision=None if config.get("revision") is None else str(config["revision"]),
        trust_remote_code=flag(config, "trust_remote_code", "model."),
        mask_id=None if config.get("mask_id") is None else whole(config, "mask_id", 0),
        end_ids=None if ends is None else check_end_ids(tuple(whole({"end_ids": end}, "end_ids", 0) for end in ends)),
        device_map=None if config.get("device_map") is None else str(config["device_map"]),
        compile=flag(config, "compile", "model."),
    )


def flag(config: Mapping[str, Any], key: str, where: str = "") -> bool:
    """A yes or no of the configuration, no where it is absent; ``where`` is the part of it that it stands in.

    Raises:
        ValueError: it is neither.
    """
    value = config.get(key, False)
    if not isinstance(value, bool):
        raise ValueError(f"{where}{key}={value}: must be true or false")
    return value


def pinned_batch_size(config: Mapping[str, Any]) -> int | None:
    """The batch size where it is to be a part of what runs are; None where it is not.

    Raises:
        ValueError: it is to be, but is left to the machine.
    """
    if not flag(config, "pin_batch_size"):
        return None
    if config["batch_size"] == "auto":
        raise ValueError("pin_batch_size=true: needs a number, as batch_size=8; auto depends on the machine")
    return whole(config, "batch_size", 1)


def check_folders(found: Comparison) -> None:
    """Refuse folders that cannot be written to."""
    check_writable(found.output_dir, "output_dir")
    check_writable(found.report_dir, "report_dir")


def without_idle_settings(spec: RunSpec) -> RunSpec:
    """The same run for every value of a setting that the sampler does not look at: the constraint, the number of steps."""
    sampler = spec.strategy()
    return replace(
        spec,
        constraint=spec.constraint if sampler.uses_constraint else Constraint(),
        steps=spec.steps if sampler.schedule.uses_steps else None,
    )


def whole(config: Mapping[str, Any], key: str, least: int, most: int | None = None, instead: str | None = None) -> int:
    """A whole number of the configuration, 4.0 read as 4; ``instead`` is a word that the caller takes as well.

    Raises:
        ValueError: it is none, or out of range.
    """
    value = config[key]
    is_whole = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value == int(value)
    if not is_whole or value < least or (most is not None and value > most):
        rule = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{key}={value}: must be a whole number, {rule}{f', or {instead}' if instead else ''}")
    return int(value)


def number(config: Mapping[str, Any], key: str) -> float:
    """A finite number of the configuration.

    Raises:
        ValueError: it is none.
    """
    value = config[key]
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"{key}={value}: must be a number")
    return float(value)


def positive(config: Mapping[str, Any], key: str) -> float:
    """A finite number above 0.

    Raises:
        ValueError: it is none.
    """
    value = number(config, key)
    if value <= 0:
        raise ValueError(f"{key}={value}: must be above 0, or null for none")
    return value


def folder(config: Mapping[str, Any], key: str) -> Path:
    """A folder's name in the configuration.

    Raises:
        ValueError: it is missing.
    """
    if not config[key]:
        raise ValueError(f"{key}={config[key]}: must name a folder")
    return Path(str(config[key]))


def optional_whole(config: Mapping[str, Any], key: str) -> int | None:
    """As ``whole`` from 1, or None."""
    return None if config[key] is None else whole(config, key, 1)


def relative(folder: Path, start: Path) -> str:
    """``folder`` as seen from ``start``, with forward slashes."""
    return Path(os.path.relpath(folder.resolve(), start.resolve())).as_posix()
