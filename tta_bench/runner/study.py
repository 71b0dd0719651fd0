"""A study: comparisons that are made together and reported together."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import cache
from pathlib import Path
from typing import Any

from tta_bench.integrations.trackers import Tracker, tracked
from tta_bench.models.checkpoint import ModelSettings
from tta_bench.models.hf import MaskedLM
from tta_bench.models.loading import load
from tta_bench.runner.batch import LoadedModel
from tta_bench.runner.disk import make_folder, storing, write_atomically
from tta_bench.runner.execute import Help, ModelSource, TooManyFailuresError, Watch, execute
from tta_bench.runner.progress import Display
from tta_bench.runner.settings import Comparison, relative
from tta_bench.runner.spec import RunSpec
from tta_bench.runner.store import BusyError, RunFolder, read_mapping
from tta_bench.runner.work import find_work
from tta_bench.tasks.base import problem_digest


def run_comparison(
    comparison: Comparison,
    display: Display,
    check_stop: Callable[[], None] = lambda: None,
    *,
    last_round: bool = False,
    help: Help | None = None,
) -> None:
    """Do what is missing of the runs.

    Args:
        comparison: its runs.
        display: where progress is shown.
        check_stop: raises KeyboardInterrupt to stop.
        last_round: False leaves alone what another process is at work on, so that several processes share a sweep. True does
            only what no process got to, and waits for the others.
        help: of other processes, see ``execute``.
    """
    for spec in comparison.runs:
        check_stop()
        if last_round and not untouched(spec, comparison):
            continue
        with display.run(spec, comparison.size) as shown, told(spec, comparison, shown) as watch:
            try:
                execute(
                    spec,
                    comparison.task,
                    comparison.problems,
                    comparison.replicates,
                    output_dir=comparison.output_dir,
                    model=model_source(comparison.model, comparison.device, spec.dtype),
                    effort=comparison.effort,
                    watch=watch,
                    wait=patience(spec, check_stop) if last_round else None,
                    check_stop=check_stop,
                    help=help,
                )
            except BusyError:
                continue
            except TooManyFailuresError as error:
                # The other runs of a sweep can still be done; the report names this one as incomplete.
                print(f"tta-bench: {error}", file=sys.stderr)


def told(spec: RunSpec, comparison: Comparison, watch: Watch) -> AbstractContextManager[Watch]:
    """A watch that tells the tracker of the comparison, too, if it has one."""
    folder = RunFolder(comparison.output_dir / "runs" / spec.run_id)
    config = {**spec.config(), "n_problems": comparison.n_problems, "replicates": comparison.replicates}

    def begin(tracker: Tracker) -> Any:
        return tracker.begin(spec.run_id, comparison.name, config, str(comparison.output_dir))

    return tracked(comparison.tracking, watch, begin, lambda: in_short(folder))


def in_short(folder: RunFolder) -> dict[str, float]:
    """Means over the records of a run, and how many there are."""
    records = folder.records().values()
    good = [record for record in records if not record["error"]]
    means = {key: sum(record[key] for record in good) / len(good) for key in ("score", "forward_passes") if good}
    return {**means, "records": len(good), "errors": len(records) - len(good)}


def patience(spec: RunSpec, check_stop: Callable[[], None]) -> Callable[[], None]:
    """What to do, again and again, while another process is at work on a run: say so once, and listen for a stop."""
    said: list[bool] = []

    def wait() -> None:
        if not said:
            print(f"waiting for another process that is at work on {spec.run_id}", file=sys.stderr)
            said.append(True)
        check_stop()

    return wait


def untouched(spec: RunSpec, comparison: Comparison) -> bool:
    """Whether a run lacks records that nobody has tried to make, and was not given up."""
    folder = RunFolder(comparison.output_dir / "runs" / spec.run_id)
    work = find_work(folder, comparison.problems, comparison.replicates)
    return any(key not in work.tally.bad for key, _, _ in work.missing) and folder.manifest().get("status") != "failed"


@cache
def model_source(settings: ModelSettings, device: str, dtype: str) -> ModelSource:
    """The model, kept for the other runs of this process."""

    def load_it() -> LoadedModel:
        model, tokenizer = load(device=device, dtype=dtype, **vars(settings))
        # RoBERTa's kin have fewer positions than their configuration says.
        context = model.context if isinstance(model, MaskedLM) else getattr(model.config, "max_position_embeddings", None)
        return LoadedModel(model, tokenizer, model.config.mask_token_id, model.end_ids, context)

    return ModelSource(load_it)


def retire(comparisons: Sequence[Comparison]) -> list[Path]:
    """Move aside what is on disk of the runs, so that they are done afresh; returns where it is now.

    Raises:
        BusyError: a process is at work on one of them; then none is moved.
    """
    folders = {spec.run_id: RunFolder(c.output_dir / "runs" / spec.run_id) for c in comparisons for spec in c.runs}
    there = [folder for folder in folders.values() if folder.path.is_dir()]
    with ExitStack() as claims:
        try:
            for folder in there:
                claims.enter_context(folder.claimed())
        except BusyError as error:
            raise BusyError(f"{error}; to share its work, give the same command without --fresh") from error
        return [folder.retire() for folder in there]


def check_study(comparisons: Sequence[Comparison]) -> None:
    """Refuse comparisons that cannot be reported together.

    Raises:
        ValueError: they do not share report folder, output folder or size.
    """
    for key in ("report_dir", "output_dir", "n_problems", "replicates", "name"):
        values = {str(getattr(c, key)) for c in comparisons}
        if len(values) > 1:
            raise ValueError(
                f"{key}: is swept over {', '.join(sorted(values))}, but a report has one; run it once for each value"
            )


def describe_study(
    comparisons: Sequence[Comparison],
    tests: Mapping[str, float],
    notes: Sequence[str] = (),
    choices: Sequence[Sequence[str]] = (),
) -> dict[str, Any]:
    """All that a report needs to be made again as it was planned.

    Args:
        comparisons: all of the study, see ``check_study``.
        tests: margin, level and resamples of the tests, fixed now.
        notes: sentences that belong under its table.
        choices: run ids that were chosen to be reported on test, a list for each time.
    """
    first = comparisons[0]
    candidates = [pair for c in comparisons for pair in c.pairs[:1]]
    controls = [pair for c in comparisons for pair in c.pairs[1:]]
    baselines = [baseline for baseline, _ in candidates]
    pairs = sorted(dict.fromkeys(candidates + controls), key=lambda pair: baselines.index(pair[0]))
    names = {c.baseline.run_id: tuple(problem.id for problem in c.problems) for c in comparisons}
    lists = list(dict.fromkeys(names.values()))
    return {
        "name": first.name,
        "runs": relative(first.output_dir / "runs", first.report_dir),
        "n_problems": first.n_problems,
        "replicates": first.replicates,
        "tests": dict(tests),
        "pairs": [list(pair) for pair in pairs],
        "notes": list(notes),
        "choices": [list(choice) for choice in choices],
        "problems": [list(found) for found in lists],
        "problems_of": {run_id: lists.index(found) for run_id, found in names.items()},
        "examples": examples_of(comparisons),
    }


EXAMPLES = 3
"""Problems of a task that a report shows with their answers."""


def examples_of(comparisons: Sequence[Comparison]) -> dict[str, list[dict[str, str]]]:
    """By task what a report shows of its first problems; where tasks of one name differ in their problems, of all of them."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for one in comparisons:
        for problem in one.problems[:EXAMPLES]:
            data = problem_digest(problem)
            told = {"problem": problem.id, "data": data, "prompt": problem.prompt, "target": problem.target}
            found.setdefault(one.task.name, {})[data] = told
    return {task: list(told.values()) for task, told in found.items()}


def read_study(report_dir: Path) -> dict[str, Any]:
    """The study that was written to a folder, empty where there is none.

    Raises:
        StoreError: it cannot be read.
    """
    return read_mapping(report_dir / "study.json", json.loads)


def write_study(report_dir: Path, study: Mapping[str, Any]) -> None:
    """Write ``study.json``.

    Raises:
        StoreError: the folder cannot be written to.
    """
    with storing(report_dir):
        make_folder(report_dir)
        write_atomically(report_dir / "study.json", (json.dumps(study, indent=1) + "\n").encode())
