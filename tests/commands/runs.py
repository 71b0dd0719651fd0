"""Runs on disk as a model would have left them, made without one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from tta_bench import catalog
from tta_bench.runner.failure import failure, scored
from tta_bench.runner.store import Record, RunFolder, record_key
from tta_bench.tasks.base import Problem, Task, problem_digest

ENVIRONMENT = {
    "tta_bench": "0", "code": "0+c0de", "sampler_code": "5a", "git": None, "python": "3.11", "packages": {"torch": "2.5"},
    "platform": "Linux", "device": "cpu", "dtype": "float32", "threads": 2,
}  # fmt: skip

Answer = Callable[[Problem, int, int], str | Exception]
"""What a model answers to a problem, by its number and the replicate; an exception is what it failed with."""


def right(problem: Problem, _number: int, _replicate: int) -> str:
    return problem.target


def right_up_to(n: int, wrong: str = "{}") -> Answer:
    return lambda problem, number, _: problem.target if number < n else wrong


def make_run(
    output: Path,
    name: str,
    answer: Answer = right,
    *,
    task: str = "json",
    sampler: str = "tta",
    n_problems: int = 4,
    replicates: int = 1,
    manifest: dict[str, Any] | None = None,
    **settings: Any,
) -> RunFolder:
    """A run with a record for each problem and replicate.

    Args:
        output: ``runs/`` is in it.
        name: of the run's folder.
        answer: what is recorded.
        task: by its name.
        sampler: by its name.
        n_problems: of the split.
        replicates: of each problem.
        manifest: what it says besides or instead of the usual.
        settings: keys of the configuration; ``sampler_...`` are the sampler's.
    """
    entry = catalog.entry("task", task)
    built: Task = entry.build()
    folder = RunFolder(output / "runs" / name)
    parameters = {key.removeprefix("sampler_"): settings.pop(key) for key in list(settings) if key.startswith("sampler_")}
    config = {
        "schema": 1,
        "engine": 1,
        "model": {"name": "mini", "fingerprint": "f"},
        "task": {"name": task, "version": built.version, "target": entry.target, **plain(entry.parameters)},
        "sampler": {"name": sampler, "target": f"tta_bench.sampling.presets.{sampler}.{sampler}", **parameters},
        "split": "dev",
        "steps": 4,
        "seed": 0,
        **settings,
    }
    problems = built.problems(config["split"], n_problems) if n_problems else []
    records = [
        record_of(built, problem, answer(problem, number, replicate), replicate)
        for number, problem in enumerate(problems)
        for replicate in range(replicates)
    ]
    with folder.claimed():
        run = folder.open(config)
        run.append(records, pd.DataFrame())
        told = {
            "status": "done",
            "environments": [ENVIRONMENT],
            "batch_size": 64,
            "batch_backoffs": 0,
            "started": "2026-01-02T03:04:05+00:00",
            "updated": "2026-01-02T03:04:06+00:00",
            "seconds": 1.5,
            "n_records": sum(1 for record in records if not record["error"]),
            "n_errors": sum(1 for record in records if record["error"]),
        }
        run.write_manifest(told | (manifest or {}))
    return folder


def record_of(task: Task, problem: Problem, answer: str | Exception, replicate: int) -> Record:
    """A record as ``tta_bench.runner.execute`` makes them."""
    head = {"key": record_key(problem.id, replicate), "problem": problem.id, "replicate": replicate}
    head |= {"data": problem_digest(problem), "prompt": "p"}
    if isinstance(answer, Exception):
        return head | failure(answer, "generate")
    made = {"text": answer, "tokens": [1, 2], "forward_passes": 4, "nfe": 4, "seconds": 0.1}
    return scored(head | made, task, problem)


def plain(values: Any) -> Any:
    """As JSON knows it."""
    return json.loads(json.dumps(dict(values)))
