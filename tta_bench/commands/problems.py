"""The problems that a run's records are about, made again by its task."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from tta_bench import catalog
from tta_bench.runner.difference import task_parameters
from tta_bench.runner.disk import StoreError
from tta_bench.runner.store import Record, RunFolder
from tta_bench.tasks.base import Problem, Task, problem_digest


def task_of(config: Mapping[str, Any]) -> Task:
    """The task of a run's configuration.

    Raises:
        ValueError: it cannot be made, or its problems or scores have changed since.
    """
    node = config["task"]
    name, stored, target = (node.get(key) for key in ("name", "version", "target"))
    # "data" tells which rows these were; each record tells it of its own.
    task: Task = catalog.entry_of("task", {"_target_": target, **task_parameters(node)}).build()
    if task.version != stored:
        raise ValueError(
            f"task {name}: the run was made with version {stored}, the present one is {task.version}, and its problems or "
            "scores are other ones; tta-bench run does them as a run of their own, and the version of then can read this one"
        )
    return task


def problems_of(folder: RunFolder, task: Task, records: Collection[Record]) -> dict[str, Problem]:
    """The problems of a run by id.

    Args:
        folder: of the run.
        task: of the run, see ``task_of``.
        records: of the run.

    Raises:
        StoreError: a problem is not the one that its record is about. Records of version 1 cannot tell.
    """
    split = str(folder.config()["split"])
    wanted = {record["problem"] for record in records}
    # A run mostly has the first problems of its split, and all would take longer.
    found = {problem.id: problem for problem in task.problems(split, len(wanted))} if wanted else {}
    if not wanted <= found.keys():
        found = {problem.id: problem for problem in task.problems(split)}
    digests = {name: problem_digest(found[name]) for name in wanted & found.keys()}
    for record in records:
        name = record["problem"]
        if name not in digests or record["data"] not in (None, digests[name]):
            raise StoreError(
                f"{folder.path}: task {task.name} has {'another' if name in digests else 'no'} problem under the name of its "
                f"record {record['key']}; raise the task's version when its problems change, and do the run afresh with --fresh"
            )
    return {name: found[name] for name in wanted}
