"""ParallelBench: lists to edit, squares to fill, by the files that its own generator writes, or what it puts on a hub."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tta_bench.tasks.dataset import Dataset, filled
from tta_bench.tasks.rows import Row, Source, file_rows, files_of

SETTINGS = "task_config.yaml"
"""Beside the files of a folder: the prompt and the metric of each, under ``folder/file``."""


@dataclass(frozen=True)
class ParallelBench(Dataset):
    """Rows of ParallelBench as problems: a data set whose rows are read by ``as_problem``; see ``Dataset`` for its options.

    Reference: Kang et al., arXiv:2510.04767.
    """

    @property
    def source(self) -> Source:
        """Where the rows are, and how they are read."""
        return Rows(self.path, self.hub, self.subset, self.revision)


@dataclass(frozen=True)
class Rows(Source):
    """Rows with columns ``prompt`` and ``target`` (texts), ``answer``, ``metric`` and ``metadata``."""

    def rows(self, split: str) -> tuple[Row, ...]:
        files = None if self.path is None else files_of(Path(self.path), split, self.subset)
        found = super().rows(split) if files is None else [row for file in files for row in with_settings(file)]
        return tuple(as_problem(row, number) for number, row in enumerate(found))


def with_settings(file: Path) -> Iterator[Row]:
    """The rows of a file, with the prompt and the metric that the settings beside it tell.

    Raises:
        ValueError: the settings cannot be read.
    """
    settings: Any = {}
    if (file.parent / SETTINGS).is_file():
        try:
            settings = yaml.safe_load((file.parent / SETTINGS).read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{file.parent / SETTINGS}: cannot be read as YAML ({error})") from error
    found = settings.get(f"{file.parent.name}/{file.stem}") if isinstance(settings, Mapping) else None
    own = {key: found[key] for key in ("prompt", "metric") if key in found} if isinstance(found, Mapping) else {}
    return ({**own, **row} for row in file_rows(file, file.stat().st_mtime_ns))


def as_problem(row: Row, number: int) -> Row:
    """A row as prompt and answer: solved examples (``input.icl_examples``) stand before the question.

    Raises:
        ValueError: a column is missing, or has not the form.
    """
    for column in ("prompt", "metric", "input", "answer"):
        if row.get(column) is None:
            raise ValueError(
                f"row {number + 1}: has no {column!r}; a row of ParallelBench has input and answer, and, where no {SETTINGS} "
                f"lies beside its file that tells them, prompt and metric; it has {', '.join(row)}"
            )
    template = str(row["prompt"]).replace("\\n", "\n")
    given, answer = decoded(row["input"]), decoded(row["answer"])
    if not isinstance(given, Mapping):
        raise ValueError(f"row {number + 1}: input={given!r}: must be an object with what the prompt names in braces")
    solved = [as_example(example, template, number) for example in given.get("icl_examples") or []]
    return {
        "prompt": "".join(solved) + filled(template, given, number, "prompt"),
        "target": written(answer),
        "answer": answer,
        "metric": row["metric"],
        "metadata": decoded(row.get("metadata")),
    }


def as_example(example: Any, template: str, number: int) -> str:
    """A solved example as it stands before a question.

    Raises:
        ValueError: it lacks its input or its answer.
    """
    if not isinstance(example, Mapping) or not {"input", "answer"} <= example.keys():
        raise ValueError(f"row {number + 1}: icl_examples holds {example!r}: must be objects with input and answer")
    return f"{filled(template, example['input'], number, 'prompt')}\n\n{written(example['answer'])}\n\n"


def decoded(value: Any) -> Any:
    """A value of a column that may be JSON in a text, as on a hub, where it must have one type in all rows."""
    if not isinstance(value, str) or not value.startswith("{"):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def written(answer: Any) -> str:
    """One right answer as a text: the answer itself, its example, or its words."""
    if isinstance(answer, Mapping):
        return str(answer["example"]) if "example" in answer else " ".join(map(str, answer.get("words", ())))
    return str(answer)
