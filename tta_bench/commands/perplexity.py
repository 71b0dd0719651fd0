"""``tta-bench perplexity``: how probable a model finds the answers that runs have recorded."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from tta_bench.analysis.judged import judgements, pseudo_perplexity
from tta_bench.commands.find import find_run, read_run, understood
from tta_bench.commands.problems import problems_of, task_of
from tta_bench.commands.say import say
from tta_bench.runner.store import Record, RunFolder

USAGE = "tta-bench perplexity RUN ... [DIR] [model=NAME]"

INCOMPLETE = 1


def judge_runs(folder: Path, words: list[str], config: Mapping[str, Any], console: Console) -> int:
    """Evaluate the answers of runs; the exit code is 1 if a judge failed on some.

    Args:
        folder: output folder, where ``words`` name none.
        words: names of runs, then perhaps an output folder.
        config: resolved.
        console: to print on.

    Raises:
        ValueError: a run cannot be found or judged, or a setting is out of range.
        StoreError: something cannot be read or written.
    """
    from tta_bench.runner.evaluate import Rows
    from tta_bench.runner.execute import TooManyFailuresError
    from tta_bench.runner.failure import answered
    from tta_bench.runner.perplexity import Known, judge_of, judge_run
    from tta_bench.runner.progress import Display
    from tta_bench.runner.settings import whole
    from tta_bench.runner.stopping import stop_requests
    from tta_bench.runner.study import model_source
    from tta_bench.runner.threads import limit_threads

    limit_threads()
    folder, names = understood(folder, words, USAGE)
    if not names:
        raise ValueError(f"perplexity: names no run; usage: {USAGE}")
    runs = list(dict.fromkeys(find_run(folder, name) for name in names))
    rows, max_failures = Rows(whole(config, "batch_size", 1)), whole(config, "max_failures", 0)
    judges = {run: judge_of(config, read_run(run).config) for run in runs}  # refuse all, rather than half of them
    problems = {run: problems_of(run, task_of(run.config()), run.records().values()) for run in runs}
    totals = {run: sum(map(answered, run.records().values())) for run in runs}
    known: Known = {}
    given_up = False
    with Display(console, sum(totals.values())).shown() as display, stop_requests(display.interject) as check_stop:
        for run in runs:
            judge = judges[run]
            source = model_source(judge.settings, judge.device, judge.dtype)
            with display.work(run.path.name, totals[run], "evaluated") as watch:
                try:
                    judge_run(
                        run,
                        problems[run],
                        judge,
                        source,
                        known,
                        rows,
                        watch=watch,
                        max_failures=max_failures,
                        check_stop=check_stop,
                    )
                except TooManyFailuresError as error:
                    print(f"tta-bench: {error}", file=sys.stderr)
                    given_up = True
    failed = [told(run, judges[run].judge_id, console) for run in runs]
    say(console, f"\nin a report, beside other measures of texts: tta-bench analyze {folder} analysis.texts=true")
    return INCOMPLETE if given_up or any(failed) else 0


def told(run: RunFolder, judge_id: str, console: Console) -> int:
    """Say what a judge found; returns how many answers it has not evaluated."""
    answers: dict[str, list[Record]] = {}
    for record in run.records().values():
        if not record["error"]:
            answers.setdefault(record["problem"], []).append(record)
    (found,) = (one for one in judgements(run, answers) if one.judge_id == judge_id)
    clusters = read_run(run).clusters(list(found.surprise)) if found.surprise else None
    value = pseudo_perplexity(found.surprise, clusters=clusters)
    n = sum(map(len, found.surprise.values()))
    line = f"{run.path.name}: pseudo-perplexity {value.value:.3f} [{value.ci_low:.3f}, {value.ci_high:.3f}] by {found.name}"
    line += " (which judges its own answers)" if found.own else ""
    line += f", {n} answers to {len(found.surprise)} problems"
    line += f"; {found.empty} empty" if found.empty else ""
    say(console, line + (f"; {found.missing} not evaluated" if found.missing else ""))
    return found.missing
