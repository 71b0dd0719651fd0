"""``tta-bench show``: all about one run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from rich.console import Console
from rich.filesize import decimal

from tta_bench.analysis.load import Run
from tta_bench.commands.find import find_run, problem_scores, read_run, score_text, size_of, status, understood
from tta_bench.commands.problems import problems_of, task_of
from tta_bench.commands.say import say
from tta_bench.runner.difference import changes, flat
from tta_bench.runner.disk import StoreError
from tta_bench.runner.environment import Environment, environments
from tta_bench.runner.failure import answered
from tta_bench.runner.store import Record

USAGE = "tta-bench show RUN [DIR]"

Section = tuple[str, str]
"""A heading and what stands below it."""


def main(folder: Path, words: list[str], console: Console) -> int:
    """Print all about one run; returns the exit code."""
    folder, names = understood(folder, words, USAGE, runs=1)
    run = read_run(find_run(folder, names[0]))
    for heading, text in sections(run):
        say(console, heading, "bold")
        say(console, text + "\n")
    return 0


def sections(run: Run) -> Iterator[Section]:
    """What is said of a run, in order; only what there is."""
    assert run.folder
    yield run.run_id, aligned(facts(run))
    yield "configuration", indented(as_yaml(run.config))
    yield from environment_sections(environments(run.manifest))
    if "selection" in run.manifest:
        yield "how it was chosen", indented(selection(run.manifest["selection"]))
    if len(run.failures):
        yield "errors", aligned(error_counts(run.failures))
        yield from tracebacks(run.failures)
    records = run.folder.records()
    if records:
        yield example(run, min(records.values(), key=lambda r: (not answered(r), r["problem"], r["replicate"])))


def facts(run: Run) -> list[tuple[str, str]]:
    """Where a run is, how far, how good, how long it took."""
    assert run.folder
    manifest, records = run.manifest, run.records
    scores = problem_scores(run)
    found = [
        ("folder", f"{run.folder.path} ({decimal(size_of(run.folder.path))})"),
        ("status", status(run)),
        ("records", counted(records)),
        ("errors", counted(run.failures)),
        ("score", f"{score_text(scores)} %, 95 % interval over problems" if len(scores) else "none yet"),
    ]
    if len(records):
        passes, seconds = records["forward_passes"].mean(), records["seconds"].mean()
        found.append(("cost", f"{passes:g} forward passes and {seconds:.3g} s for an answer"))
    found += [(key, str(manifest[key])) for key in ("started", "updated") if key in manifest]
    found += [("time at work", f"{manifest['seconds']:g} s")] if "seconds" in manifest else []
    if manifest.get("batch_size"):
        backoffs = manifest.get("batch_backoffs", 0)
        halved = f", after {backoffs} time(s) that memory ran out and it was halved" if backoffs else ""
        found.append(("batch size", f"{manifest['batch_size']}{halved}"))
    for entry in manifest.get("rescored", []):
        found.append(("scored again", f"{entry['time']} by code {entry['code']}: {entry['n_changed']} changed"))
    return found


def counted(records: pd.DataFrame) -> str:
    """How many records there are, and of what."""
    if records.empty:
        return "none"
    return f"{len(records)} ({records['problem'].nunique()} problem(s), {records['replicate'].nunique()} replicate(s))"


def environment_sections(found: Sequence[Environment]) -> Iterator[Section]:
    """The first environment in full, of each later one what it differs in from the one before."""
    for number, here in enumerate(found):
        if number == 0:
            several = f" 1 of {len(found)}" if len(found) > 1 else ""
            yield f"environment{several}", indented(as_yaml(here))
        else:
            differing = changes(flat(found[number - 1]), flat(here))
            yield f"environment {number + 1} of {len(found)}: what differs from {number}", indented("\n".join(differing))


def selection(chosen: Mapping[str, Any]) -> str:
    """How a run was chosen, with what it was chosen from."""
    ranked = sorted(chosen["scores"].items(), key=lambda item: -item[1])
    lines = [f"{100 * score:5.1f} %  {run_id}{'  <- chosen' if run_id == chosen['on_dev'] else ''}" for run_id, score in ranked]
    return "\n".join([f"by the rule {chosen['rule']}, from these scores on dev:", *lines])


def error_counts(failures: pd.DataFrame) -> list[tuple[str, str]]:
    """For each type of error, how often it came, and in which stage."""
    counts = Counter(zip(failures["type"], failures["stage"], strict=True))
    return [(str(kind), f"{n} in stage {stage}") for (kind, stage), n in counts.most_common()]


def tracebacks(failures: pd.DataFrame) -> Iterator[Section]:
    """For each type of error, the first traceback."""
    for kind, first in failures.drop_duplicates("type").set_index("type").iterrows():
        heading = f"first {kind}: problem {first['problem']}, replicate {first['replicate']}, stage {first['stage']}"
        yield heading, indented(str(first["traceback"]).rstrip())


def example(run: Run, record: Record) -> Section:
    """A record's problem with its answer."""
    assert run.folder
    heading = f"example: problem {record['problem']}, replicate {record['replicate']}"
    answer = record["text"] if answered(record) else f"none: {record['error']['message']}"
    try:
        problem = problems_of(run.folder, task_of(run.config), [record])[record["problem"]]
    except (ValueError, StoreError) as error:
        return heading, indented(f"its prompt and target cannot be shown: {error}\nanswer\n{indented(answer)}")
    score = "not scored" if record.get("score") is None else f"score {record['score']:g}"
    texts = {"prompt": problem.prompt, "target (a right answer)": problem.target, f"answer ({score})": answer}
    return heading, indented("\n".join(f"{name}\n{indented(text)}" for name, text in texts.items()))


def aligned(pairs: Sequence[tuple[str, str]]) -> str:
    """Names and values in two columns."""
    width = max(len(name) for name, _ in pairs)
    return "\n".join(f"  {name:{width}}  {value}" for name, value in pairs)


def indented(text: str) -> str:
    """Every line two columns further to the right."""
    return "\n".join(f"  {line}" for line in text.split("\n"))


def as_yaml(values: Mapping[str, Any]) -> str:
    """Plain values as YAML, lists in one line."""
    return yaml.safe_dump(dict(values), sort_keys=False, default_flow_style=None, width=100).rstrip()
