"""Tasks whose problems are rows of a data set: how a row becomes a prompt and a right answer, and who scores."""

from __future__ import annotations

import json
import string
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tta_bench import scorers
from tta_bench.rng import digest
from tta_bench.scorers.base import Scorer, Writes
from tta_bench.tasks.base import HOLE, SPLITS, Problem, check_line_breaks
from tta_bench.tasks.rows import SUFFIXES, Row, Source


@dataclass(frozen=True)
class Dataset:
    """Rows as problems.

    Texts with columns of the row in braces make prompt and reference: ``"Question: {question}\\nAnswer:"``. A row with a
    template has its holes filled instead of something appended.

    Attributes:
        title: name of the task.
        edition: of prompt and scoring, raised when they change.
        path: a file or folder with the rows, instead of the hub; see ``rows.Source``.
        hub, subset, revision: where the rows are on a hub.
        splits: what the data set calls the rows of train, dev and test. Null: the
            same. A file has no splits, and serves all.
        dev_share: of rows that serve dev and test alike, this share belongs to dev alone, by a hash of the row; null leaves
            them in both.
        prompt: text with columns in braces.
        reference: likewise; what the scorer takes for right.
        template: likewise, with ``mask`` at each position to fill; null appends an answer to the prompt.
        mask: stands for a hole in templates.
        scorer: name of a scorer, or the dotted path of one.
        scorer_options: of it; null takes its defaults.
        gen_length: positions appended for an answer.
        id: column with the names of problems; null numbers the rows.
        choices: column with the possible answers, a list, or an object with lists ``text`` and ``label``; known to texts and
            scorer as ``choices``. In a text they are lines, each with its label or a letter. Null has none.
        cluster: column that problems share which are not independent; null has none.
        fewshot: how many solved examples stand before each problem. They are the first rows of the train split, or, where there
            is a single file, its first rows; they are no problems.
        example: text of an example, with columns in braces; null puts prompt and reference together.
        separator: between examples.
        instruction: text before everything.
    """

    title: str
    edition: str = "1"
    path: str | None = None
    hub: str | None = None
    subset: str | None = None
    revision: str | None = None
    splits: dict[str, str] | None = None
    dev_share: float | None = None
    prompt: str = "{prompt}"
    reference: str = "{target}"
    template: str | None = None
    mask: str = "<mask>"
    scorer: str = "exact"
    scorer_options: dict[str, Any] | None = None
    gen_length: int = 64
    id: str | None = None
    choices: str | None = None
    cluster: str | None = None
    fewshot: int = 0
    example: str | None = None
    separator: str = "\n\n"
    instruction: str = ""

    def __post_init__(self) -> None:
        if not self.title or not set(self.title) <= set(string.ascii_letters + string.digits + "_"):
            raise ValueError(f"task.title={self.title!r}: must be letters, digits and _, as it names folders")
        if self.gen_length < 1:
            raise ValueError(f"task.gen_length={self.gen_length}: must be at least 1")
        if self.fewshot < 0:
            raise ValueError(f"task.fewshot={self.fewshot}: must not be negative")
        if self.dev_share is not None and not 0 < self.dev_share < 1:
            raise ValueError(f"task.dev_share={self.dev_share}: must lie between 0 and 1; null leaves rows in both splits")
        if not set(self.named_splits) <= set(SPLITS):
            raise ValueError(f"task.splits={self.splits}: must name what {', '.join(SPLITS)} are called in the data set")
        if self.template is not None and self.fewshot:
            raise ValueError(f"task.fewshot={self.fewshot}: examples stand before prompts; a template has them in itself")
        for name in ("prompt", "reference", "template", "example"):
            columns_of(getattr(self, name) or "", f"task.{name}")
        for name in ("prompt", "template", "example", "separator", "instruction"):
            check_line_breaks(f"task.{name}", getattr(self, name) or "")
        _ = self.judge

    @property
    def name(self) -> str:
        """Of the task."""
        return self.title

    @property
    def version(self) -> str:
        """Of prompts and scoring."""
        return f"{self.edition}+{self.scorer}-{self.judge.version}"

    @property
    def named_splits(self) -> dict[str, str]:
        """What the data set calls each split it has."""
        return {split: split for split in SPLITS} if self.splits is None else self.splits

    @cached_property
    def judge(self) -> Scorer:
        """The scorer."""
        return scorers.scorer(self.scorer, **(self.scorer_options or {}))

    @property
    def source(self) -> Source:
        """Where the rows are."""
        return Source(self.path, self.hub, self.subset, self.revision)

    def data(self, split: str) -> str:
        """16 hex digits over rows and examples of a split, wherever they lie: the same for a hub and a copy of it."""
        rows = [f"{number} {as_text(row)}" for number, row in self._rows(split)]
        return f"{digest(self._head(split), *rows, size=8):016x}"

    def problems(self, split: str, n: int | None = None) -> list[Problem]:
        """The first ``n`` problems of ``split`` (all when None), in the order of the rows.

        Raises:
            ValueError: no such split, fewer rows than that, a column is missing, or two rows have one name.
        """
        rows = self._rows(split)
        if n is not None and not 1 <= n <= len(rows):
            raise ValueError(
                f"n_problems={n}: {self.title} has {len(rows)} problem(s) in {split}; set n_problems to 1 .. {len(rows)}"
            )
        head = self._head(split)
        found = [self._problem(number, row, head) for number, row in rows[:n]]
        seen: dict[str, int] = {}
        for (number, _), problem in zip(rows, found, strict=False):
            if problem.id in seen:
                raise ValueError(
                    f"{self.title}: rows {seen[problem.id] + 1} and {number + 1} have the same id {problem.id!r} "
                    f"(task.id={self.id}); ids must differ, and task.id=null numbers the rows"
                )
            seen[problem.id] = number
        return found

    def score(self, problem: Problem, text: str) -> float:
        """What the scorer says."""
        return self.judge.score(problem.target, text, problem.facts)

    def answer(self, problem: Problem, text: str) -> Hashable:
        """What the scorer takes for the answer."""
        return self.judge.answer(text, problem.facts)

    def violations(self, problem: Problem, text: str) -> list[float]:
        """None: a data set states no rules beside its answers."""
        return [0.0] * len(text)

    def gold(self, problem: Problem, text: str) -> str | None:
        """None: of a free text it is anybody's guess which tokens are wrong."""
        return None

    def _named(self, split: str) -> str:
        if split not in SPLITS:
            raise ValueError(f"split={split!r}: must be one of {', '.join(SPLITS)}")
        if split not in self.named_splits:
            raise ValueError(f"split={split}: {self.title} has none; it has {', '.join(self.named_splits)} (task.splits)")
        return self.named_splits[split]

    def _rows(self, split: str) -> list[tuple[int, Row]]:
        """The rows that are problems, with their numbers in the data set."""
        rows = list(enumerate(map(self._with_choices, self.source.rows(self._named(split)))))
        examples = {as_text(row) for row in self._examples(split)}
        rows = [(number, row) for number, row in rows if as_text(row) not in examples] if examples else rows
        if self.dev_share is not None and split in ("dev", "test"):
            rows = [(number, row) for number, row in rows if (share_of(row) < self.dev_share) == (split == "dev")]
        if not rows:
            raise ValueError(f"{self.title}: no problem is left in {split}; see task.fewshot and task.dev_share")
        return rows

    def _with_choices(self, row: Row) -> Row:
        """A row in which column ``choices`` holds the possible answers, wherever the data set has them."""
        if self.choices is None:
            return row
        return {**row, "choices": column(row, self.choices, 0, "task.choices")}

    def _examples_from(self, split: str) -> str:
        """The split of the data set that examples are from."""
        single = self.path is not None and Path(self.path).suffix in SUFFIXES
        return self._named(split) if single or "train" not in self.named_splits else self._named("train")

    def _examples(self, split: str) -> list[Row]:
        """The rows that are solved in every prompt."""
        if not self.fewshot:
            return []
        rows = [self._with_choices(row) for row in self.source.rows(self._examples_from(split))[: self.fewshot]]
        if len(rows) < self.fewshot:
            raise ValueError(f"task.fewshot={self.fewshot}: there are {len(rows)} rows for examples")
        return rows

    def _head(self, split: str) -> str:
        """Instruction and examples."""
        parts = [self.instruction] if self.instruction else []
        for number, row in enumerate(self._examples(split)):
            if self.example is not None:
                parts.append(filled(self.example, row, number, "task.example"))
                continue
            right = filled(self.reference, row, number, "task.reference")
            written = self.judge.written(right, row) if isinstance(self.judge, Writes) else right
            parts.append(f"{filled(self.prompt, row, number, 'task.prompt')} {written}")
        return "".join(part + self.separator for part in parts)

    def _problem(self, number: int, row: Row, head: str) -> Problem:
        target = filled(self.reference, row, number, "task.reference")
        self._checked(number, target, row)
        name = f"row-{number:05d}"
        if self.id is not None:
            name = str(column(row, self.id, number, "task.id")).replace("/", "-")
        cluster = "" if self.cluster is None else str(column(row, self.cluster, number, "task.cluster"))
        facts = dict(row)
        if self.template is None:
            prompt = filled(self.prompt, row, number, "task.prompt")
            if HOLE in prompt:
                raise ValueError(f"{self.title}, row {number + 1}: {HOLE!r} in the prompt stands for a hole; use task.template")
            return Problem(name, head + prompt, target, self.gen_length, facts, cluster)
        template = filled(self.template, row, number, "task.template").replace(self.mask, HOLE)
        if HOLE not in template:
            raise ValueError(f"{self.title}, row {number + 1}: its template holds no {self.mask!r} (task.mask)")
        return Problem(name, head + template, target, 0, facts, cluster)

    def _checked(self, number: int, target: str, row: Row) -> None:
        try:
            self.judge.check(target, row)
        except ValueError as error:
            raise ValueError(f"{self.title}, row {number + 1}: cannot be scored: {error}") from error


def share_of(row: Row) -> float:
    """A number in 0..1 that is a row's own."""
    return digest(as_text(row), size=8) / 2**64


def as_text(row: Row) -> str:
    """A row as JSON, the same for equal rows."""
    return json.dumps(dict(row), sort_keys=True, default=repr)


def columns_of(text: str, name: str) -> list[str]:
    """The columns that a text names in braces.

    Raises:
        ValueError: its braces do not match.
    """
    try:
        return [found for _, found, _, _ in string.Formatter().parse(text) if found is not None]
    except ValueError as error:
        raise ValueError(f"{name}={text!r}: {error}; columns stand in braces, and a brace itself is doubled") from error


def filled(text: str, row: Row, number: int, name: str) -> str:
    """A text with the columns of a row.

    Raises:
        ValueError: the row has no such column, or none in it.
    """
    parts = string.Formatter().parse(text)
    return "".join(
        literal + ("" if key is None else format(in_text(key, column(row, key, number, name)), spec or ""))
        for literal, key, spec, _ in parts
    )


def in_text(key: str, value: Any) -> Any:
    """A value as a text has it: a list as lines, choices with their labels or letters."""
    labels: Sequence[str] = string.ascii_uppercase if key == "choices" else ()
    if isinstance(value, Mapping) and {"text", "label"} <= value.keys():
        labels, value = value["label"], value["text"]
    if not isinstance(value, list):
        return value
    return "\n".join(f"{labels[i]}. {item}" if i < len(labels) else f"{item}" for i, item in enumerate(value))


def column(row: Row, key: str, number: int, name: str) -> Any:
    """A value of a row; ``choices.text`` is what its column ``choices`` holds under ``text``.

    Raises:
        ValueError: the row has no such column, or nothing in it.
    """
    found: Any = row
    for part in key.split("."):
        if not isinstance(found, Mapping) or part not in found:
            there = ", ".join(map(str, found)) if isinstance(found, Mapping) else repr(found)
            raise ValueError(f"row {number + 1}: has no column {key!r}, which {name} asks for; it has {there}")
        found = found[part]
    if found is None:
        raise ValueError(f"row {number + 1}: holds nothing in column {key!r}, which {name} asks for")
    return found
