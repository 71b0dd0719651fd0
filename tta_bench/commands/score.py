"""``tta-bench score``: scores what was generated again, with the task as it is now and without a model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from tta_bench.commands.find import find_run, now, read_run, reports_on, score_text, understood
from tta_bench.commands.problems import problems_of, task_of
from tta_bench.commands.say import say
from tta_bench.runner.environment import environments, source_digest
from tta_bench.runner.failure import answered, scored
from tta_bench.runner.store import Record, RunFolder

USAGE = "tta-bench score RUN ... [DIR]"

UNSCORED = 1


@dataclass(frozen=True)
class Rescoring:
    """What became of one run.

    Attributes:
        before: the latest record of every key, by key, as it was.
        after: as it is now.
        changed: the records that were added.
    """

    before: dict[str, Record]
    after: dict[str, Record]
    changed: list[Record]

    @property
    def n_failed(self) -> int:
        """Answers that the scorer fails on."""
        return sum(1 for record in self.after.values() if record["error"] and record["error"]["stage"] == "score")

    @property
    def sentence(self) -> str:
        """What changed, in words."""
        n_answers = sum(1 for record in self.after.values() if answered(record))
        if not n_answers:
            return "no answers, so nothing to score"
        old, new = (score_text(means(records.values())) for records in (self.before, self.after))
        changed = f"{len(self.changed)} of {n_answers} scores changed"
        failed = f"; the scorer failed on {self.n_failed}, tta-bench show has the tracebacks" if self.n_failed else ""
        return f"{changed}; mean {old or 'none'} before, {new or 'none'} now (% over problems){failed}"


def main(folder: Path, words: list[str], console: Console) -> int:
    """Score runs again; the exit code is 1 if the scorer failed on an answer."""
    folder, names = understood(folder, words, USAGE)
    if not names:
        raise ValueError(f"score: names no run; usage: {USAGE}")
    runs = list(dict.fromkeys(find_run(folder, name) for name in names))
    for run in runs:
        task_of(read_run(run).config)  # refuse all, rather than half of them
    found = {}
    for run in runs:
        found[run] = rescore(run)
        say(console, f"{run.path.name}: {found[run].sentence}")
    stale = sorted({report for run in runs if found[run].changed for report in reports_on(folder, run.path.name)})
    for report in stale:
        say(console, f"note: {report} has the old scores; tta-bench analyze {report} makes it again", "yellow")
    return UNSCORED if any(done.n_failed for done in found.values()) else 0


def rescore(folder: RunFolder) -> Rescoring:
    """Score every answer of a run with the present task, and add a record for each whose score is another one now.

    Raises:
        BusyError: a process is at work on the run.
        ValueError: the task is of another version now.
        StoreError: a problem is not the one that was answered, or the run cannot be written to.
    """
    with folder.claimed():
        run = folder.open(folder.config())
        before, task = folder.records(), task_of(folder.config())
        problems = problems_of(folder, task, before.values())
        after = {key: scored(record, task, problems[record["problem"]]) for key, record in before.items()}
        changed = [record for key, record in after.items() if outcome(record) != outcome(before[key])]
        if changed:
            run.append(changed, pd.DataFrame())
        present = source_digest(folder.config()["task"]["target"])
        run.write_manifest(updated(folder.manifest(), list(after.values()), len(changed), present))
    return Rescoring(before, after, changed)


def outcome(record: Record) -> tuple[float | None, str | None, str | None]:
    """What a scorer made of a record: the score, or the type and message of its error."""
    error = record["error"] or {}
    return record.get("score"), error.get("type"), error.get("message")


def means(records: Iterable[Record]) -> pd.Series:
    """The mean score of every problem over those of its replicates that have one."""
    scores = [(record["problem"], record["score"]) for record in records if not record["error"]]
    frame = pd.DataFrame(scores, columns=["problem", "score"]).astype({"score": float})
    return frame.groupby("problem")["score"].mean()


def updated(manifest: dict[str, Any], records: Sequence[Record], n_changed: int, task_code: str) -> dict[str, Any]:
    """A manifest after all of its records were scored again, by a task with the source ``task_code``."""
    n_errors = sum(1 for record in records if record["error"])
    finished = manifest.get("status") in ("done", "incomplete")
    return manifest | {
        # What was interrupted still lacks records, whatever the scores of those that are there.
        **({"status": "incomplete" if n_errors else "done"} if finished else {}),
        "updated": now(),
        "n_records": len(records) - n_errors,
        "n_errors": n_errors,
        "environments": [place | {"task_code": task_code} for place in environments(manifest)],
        "rescored": [*manifest.get("rescored", []), {"time": now(), "task_code": task_code, "n_changed": n_changed}],
    }
