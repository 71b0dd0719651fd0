"""Which runs a command line names, and what is on disk of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from tta_bench.analysis.load import RECORD_COLUMNS, Run, load_run
from tta_bench.analysis.stats import Estimate, mean_interval
from tta_bench.analysis.tables import interval
from tta_bench.catalog import nearest
from tta_bench.runner.disk import StoreError
from tta_bench.runner.store import RunFolder


def understood(
    folder: Path, words: Sequence[str], usage: str, *, runs: int | None = None, place: str = "runs"
) -> tuple[Path, list[str]]:
    """The output folder and the names of runs that the words after a command mean.

    Args:
        folder: taken where ``words`` name none.
        words: names of runs, then perhaps an output folder.
        usage: of the command, for messages.
        runs: how many names there must be; None takes any number.
        place: in the output folder, where they lie.

    Raises:
        ValueError: too few or too many words, an option, or a folder that holds none.
    """
    command = usage.split()[1]
    for word in words:
        if word.startswith("-"):
            raise ValueError(f"{command}: unknown option {word!r}; usage: {usage}")
    names = list(words)
    if names and (Path(names[-1]).is_dir() if runs is None else len(names) == runs + 1 and _looks_like_folder(names[-1])):
        folder = Path(names.pop())
    if runs is not None and len(names) == runs + 1:
        raise ValueError(f"{command}: unknown word {names[runs]!r}, which is no folder either; usage: {usage}")
    if runs is not None and len(names) != runs:
        raise ValueError(f"{command}: takes {runs} run(s), got {', '.join(names) or 'none'}; usage: {usage}")
    if not (folder / place).is_dir():
        maker = "run" if place == "runs" else place
        raise ValueError(f"{folder}: holds no {place}/ folder, so it is no output folder of tta-bench {maker}; usage: {usage}")
    return folder, names


def _looks_like_folder(word: str) -> bool:
    return "/" in word or Path(word).is_dir()


def run_folders(folder: Path, place: str = "runs") -> list[RunFolder]:
    """Every folder in ``folder/place``, by name."""
    return [RunFolder(path) for path in sorted((folder / place).iterdir()) if path.is_dir()]


def find_run(folder: Path, name: str, place: str = "runs") -> RunFolder:
    """The run in ``folder/place`` that is called ``name``, or whose name is the only one that begins so.

    Raises:
        ValueError: there is none, or several; the message says which there are.
    """
    known = {run.path.name: run for run in run_folders(folder, place)}
    if name in known:
        return known[name]
    fitting = [run_id for run_id in known if run_id.startswith(name)]
    if len(fitting) == 1:
        return known[fitting[0]]
    if fitting:
        listed = "\n  ".join(fitting)
        raise ValueError(f"run {name!r}: {len(fitting)} runs in {folder}/{place} begin so; give more of the name:\n  {listed}")
    hint = nearest(name, tuple(known)) if known else "there are none yet"
    raise ValueError(f"run {name!r}: no run in {folder}/{place} begins so; {hint}")


def read_run(folder: RunFolder) -> Run:
    """A run, also one that has no records yet.

    Raises:
        StoreError: the folder is not readable as a run.
    """
    try:
        config = folder.config()
        missing = lacking(config)
        if missing:
            what = f"its config.yaml lacks {', '.join(missing)}" if config else "it holds no config.yaml"
            raise StoreError(f"{folder.path}: is no run, {what}; restore or move the folder")
        if next(folder.lines(), None) is None:
            return Run(
                folder.path.name, config, pd.DataFrame(columns=RECORD_COLUMNS), manifest=folder.manifest(), folder=folder
            )
        return load_run(folder.path, texts=True)
    except (ValueError, TypeError, yaml.YAMLError, OSError) as error:
        raise StoreError(f"{folder.path}: cannot be read as a run ({error}); restore or move the folder") from error


def lacking(config: Mapping[str, Any]) -> list[str]:
    """The keys, dotted, that a configuration lacks to be that of a run."""
    nodes = {key: config.get(key) for key in ("model", "task", "sampler")}
    nameless = [f"{key}.name" for key, node in nodes.items() if not isinstance(node, Mapping) or "name" not in node]
    return nameless + [key for key in ("split", "steps") if key not in config]


def status(run: Run) -> str:
    """How far a run is, as its manifest says; ``killed`` where nobody is at work on it any more."""
    assert run.folder
    told = str(run.manifest.get("status", "unknown"))
    return "killed" if told == "running" and not run.folder.busy() else told


def problem_scores(run: Run) -> pd.Series:
    """The mean score of every problem over those of its replicates that have one."""
    return run.records["score"].astype(float).groupby(run.records["problem"]).mean()


def score_text(scores: pd.Series) -> str:
    """Mean over problems with its t interval, in per cent; empty where there are none."""
    if scores.empty:
        return ""
    found: Estimate = mean_interval(scores.to_numpy())
    return f"{100 * found.value:.1f} {interval(found.ci_low, found.ci_high)}"


def size_of(path: Path) -> int:
    """Bytes in a file, or in all files below a folder."""
    files = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
    return sum(file.lstat().st_size for file in files if file.is_symlink() or file.is_file())


def now() -> str:
    """The time, as manifests have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def reports_on(folder: Path, run_id: str) -> list[Path]:
    """The report folders of an output folder whose study names a run.

    Raises:
        ValueError: a ``study.json`` cannot be read.
    """
    found = []
    for file in sorted((folder / "reports").rglob("study.json")):
        try:
            named = {name for pair in json.loads(file.read_text())["pairs"] for name in pair}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{file}: is no study ({error!r}); repair or delete it") from error
        if run_id in named:
            found.append(file.parent)
    return found
