"""``tta-bench export``: runs as logs of Inspect."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tta_bench.commands.find import find_run, read_run, status, understood
from tta_bench.commands.problems import problems_of, task_of
from tta_bench.commands.say import say
from tta_bench.runner.disk import check_writable, storing
from tta_bench.runner.store import RunFolder

USAGE = "tta-bench export RUN ... [DIR] --to FOLDER"


def main(folder: Path, words: list[str], console: Console) -> int:
    """Write a log for each run; returns the exit code.

    Raises:
        ValueError: a run cannot be found, its problems cannot be made again, or Inspect is not installed.
        StoreError: something cannot be read or written.
    """
    words, target = destination(words)
    folder, names = understood(folder, words, USAGE)
    if not names:
        raise ValueError(f"export: names no run; usage: {USAGE}")
    runs = list(dict.fromkeys(find_run(folder, name) for name in names))
    for run in runs:
        task_of(read_run(run).config)  # refuse all, rather than half of them
    check_inspect()
    check_writable(target, "--to")
    for run in runs:
        file, n_samples, n_errors = export(run, target)
        errors = f", {n_errors} of them errors" if n_errors else ""
        say(console, f"{file}: {n_samples} sample(s){errors}")
    say(console, f"\nto look at them: inspect view --log-dir {target}")
    return 0


def destination(words: Sequence[str]) -> tuple[list[str], Path]:
    """The words without ``--to FOLDER``, and the folder.

    Raises:
        ValueError: it is not there.
    """
    joined = [part for word in words for part in (["--to", word[5:]] if word.startswith("--to=") else [word])]
    if "--to" not in joined or joined.index("--to") + 1 == len(joined):
        raise ValueError(f"export: --to FOLDER is missing, where the logs are to go; usage: {USAGE}")
    place = joined.index("--to")
    return [*joined[:place], *joined[place + 2 :]], Path(joined[place + 1])


def check_inspect() -> None:
    """Refuse to go on without Inspect.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import inspect_ai.log  # noqa: F401
    except ModuleNotFoundError as error:
        raise ValueError(f'export: {error.name} is not installed; pip install "tta_bench[inspect]"') from error


def export(folder: RunFolder, target: Path) -> tuple[Path, int, int]:
    """Write the log of a run, in place of an earlier one; returns its file, how many samples it has and how many errors.

    Raises:
        StoreError: a problem is not the one that was answered, or the file cannot be written.
    """
    from inspect_ai.log import write_eval_log

    from tta_bench.integrations.inspect_log import eval_log

    run, records = read_run(folder), list(folder.records().values())
    task = task_of(run.config)
    problems = problems_of(folder, task, records)
    log = eval_log(run, status(run), task, problems, records)
    file = target / f"{folder.path.name}.eval"
    with storing(target):
        write_eval_log(log, str(file))
    return file, len(records), sum(1 for record in records if record["error"])
