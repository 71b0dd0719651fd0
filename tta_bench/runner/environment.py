"""Where records were made: code, libraries, device. Two runs that are compared should not differ in it."""

from __future__ import annotations

import inspect
import platform
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tta_bench import __version__, catalog
from tta_bench.rng import digest

Environment = dict[str, Any]

PACKAGE = Path(__file__).parents[1]
PACKAGES = ("torch", "transformers", "tokenizers", "hydra-core", "numpy", "pandas", "scipy")
GENERATING = (
    "rng.py", "types.py", "sampling", "models", "tasks/base.py", "runner/prompts.py", "runner/batch.py", "runner/constraint.py",
)  # fmt: skip
"""The code that all records depend on. The files of task, sampler and constraint are told by themselves: a new task changes no
other, and samplers are what is compared."""

APART = tuple(
    f"constraints/{name}.py" for name in ("__init__", "forbidden", "json_text", "math_text", "ngrams", "pattern", "sudoku")
)
"""Files of single constraints, that concern only the runs with these."""

COMPARED = ("code", "task_code", "torch", "transformers", "device", "hardware", "dtype", "threads")
"""What the environments of two runs must agree in."""

UNKNOWN: Environment = {"packages": {}}
"""The environment of records that are not told where they were made."""


def describe(
    device: str, dtype: str, sampler_target: str, task_target: str, constraint_targets: Sequence[str] = ()
) -> Environment:
    """The environment of this process.

    Args:
        device: where the model is, as torch names it.
        dtype: of its weights.
        sampler_target, task_target: dotted paths of what builds sampler and task; their sources are recorded beside the
            common code.
        constraint_targets: the same of a run's constraints.
    """
    import torch

    return {
        "tta_bench": __version__,
        "code": f"{__version__}+{code_digest()}",
        "sampler_code": source_digest(sampler_target),
        "task_code": source_digest(task_target),
        **({"constraint_code": " ".join(map(source_digest, constraint_targets))} if constraint_targets else {}),
        "git": git_state(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "device": torch.device(device).type,
        "hardware": hardware(device),
        "dtype": dtype,
        "threads": torch.get_num_threads(),
    }


def hardware(device: str) -> str:
    """What decides how a device rounds: the name of a GPU, the instruction set that torch uses on a CPU."""
    import torch

    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.get_device_name(device)
    return str(torch.backends.cpu.get_cpu_capability()) if kind == "cpu" else kind


@cache
def code_digest() -> str:
    """16 hex digits over the code that records depend on, committed or not."""
    places = [PACKAGE / name for name in GENERATING]
    files = [file for place in places for file in (sorted(place.rglob("*.py")) if place.is_dir() else [place])]
    common = [file for file in files if file.parent.name != "presets" and f"{file.parent.name}/{file.name}" not in APART]
    return f"{digest(*(file.read_bytes() for file in common), size=8):016x}"


@cache
def source_digest(target: str) -> str:
    """16 hex digits over the source file of what a dotted path names."""
    return f"{digest(Path(inspect.getfile(catalog.resolve(target))).read_bytes(), size=8):016x}"


@cache
def git_state() -> dict[str, Any] | None:
    """Commit and dirty flag of the source tree as this process found it; None where the package does not lie in one."""
    here = Path(__file__).parent
    try:
        # An installed package may lie in a virtual environment inside somebody else's repository.
        subprocess.run(["git", "ls-files", "--error-unmatch", Path(__file__).name], cwd=here, capture_output=True, check=True)
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()
        changes = subprocess.run(["git", "status", "--porcelain"], cwd=here, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"commit": commit, "dirty": bool(changes.strip())}


def environments(manifest: Mapping[str, Any]) -> list[Environment]:
    """The environments in which a run's records were made: ``UNKNOWN`` where its manifest does not tell.

    Manifests of version 1 tell the last one, in other words.
    """
    if "environments" in manifest:
        return list(manifest["environments"])
    if "packages" not in manifest:
        return [UNKNOWN]
    told = ("tta_bench", "git", "python", "packages", "platform", "device", "dtype", "threads")
    return [{key: manifest[key] for key in told}]


def with_environment(found: Sequence[Environment], new: Environment) -> list[Environment]:
    """``found`` and, if it is another one, ``new``."""
    return [*found, *([new] if new not in found else [])]


def differences(one: Sequence[Environment], other: Sequence[Environment]) -> list[str]:
    """What two runs differ in, by the environments of their records; also what one run's records differ in among each other.

    Returns:
        Phrases such as ``threads: 2 / 4``, empty where there is no difference, or where a run has no records yet.
    """
    if not one or not other:
        return []
    found = []
    for key in COMPARED:
        first, second = (" and ".join(values(key, side)) for side in (one, other))
        if first != second:
            found.append(f"{key}: {first} / {second}")
        elif len(values(key, one)) > 1:
            found.append(f"{key}: {first} within each of them")
    return found + [text for side in (one, other) for text in edited(side)]


def values(key: str, side: Sequence[Environment]) -> list[str]:
    """The different values of a key in some environments, sorted."""
    return sorted({str(e.get(key, e["packages"].get(key, "not recorded"))) for e in side})


def edited(side: Sequence[Environment]) -> list[str]:
    """Phrases on sources of a sampler or a constraint that were changed between the records of one run."""
    return [
        f"{part}_code: the {part}'s source was changed between a run's records"
        for part in ("sampler", "constraint")
        if len(values(f"{part}_code", side)) > 1
    ]
