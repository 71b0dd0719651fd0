"""Tasks by name: problems, exact scores, constraints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tta_bench import catalog
from tta_bench.tasks.base import HOLE, Problem, Task

__all__ = ["HOLE", "Problem", "Task", "load"]


def load(name: str, /, path: str | Path | None = None, **options: Any) -> Task:
    """The task ``name`` of conf/task.

    Args:
        name: for instance ``sudoku``; by its place, as a task may have an option ``name``.
        path: a folder or file to read the problems from, for tasks that read theirs; generated tasks have none.
        **options: the task's own, for instance ``holes=20``.

    Raises:
        ValueError: no such task or option, or a value out of range.
    """
    if path is not None:
        if "path" not in catalog.parameters("task", name):
            raise ValueError(f"path={path}: task {name} generates its problems and reads no file; leave path out")
        options = {**options, "path": str(path)}
    task: Task = catalog.entry("task", name, options).build()
    return task
