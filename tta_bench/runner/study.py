"""A study: comparisons that are made together and reported together."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path

from tta_bench.models.loading import load
from tta_bench.runner.execute import Advance, LoadedModel, execute
from tta_bench.runner.settings import Comparison, relative
from tta_bench.runner.spec import RunSpec
from tta_bench.runner.store import RunFolder, record_key, write_atomically

Track = Callable[[RunSpec, int], AbstractContextManager[Advance]]
"""Opens the display of a run with so many records."""


def run_comparison(comparison: Comparison, track: Track) -> None:
    """Do what is missing of the runs."""
    for spec in comparison.runs:
        with track(spec, len(comparison.problems) * comparison.replicates) as advance:
            execute(
                spec,
                comparison.task,
                comparison.problems,
                comparison.replicates,
                output_dir=comparison.output_dir,
                batch_size=comparison.batch_size,
                load_model=lambda: load_once(comparison.model_name, comparison.revision, comparison.device, spec.dtype),  # noqa: B023
                advance=advance,
            )


def count_done(run_id: str, comparison: Comparison) -> int:
    """How many of the records that a comparison asks of a run are on disk."""
    wanted = {record_key(p.id, r) for p in comparison.problems for r in range(comparison.replicates)}
    return len(wanted & RunFolder(comparison.output_dir / "runs" / run_id).records().keys())


@cache
def load_once(name: str, revision: str | None, device: str, dtype: str) -> LoadedModel:
    """The model, kept for the other runs of this process."""
    model, tokenizer = load(name, device, dtype, revision)
    return LoadedModel(model, tokenizer, model.config.mask_token_id)


def write_study(comparisons: Sequence[Comparison], tests: Mapping[str, float]) -> Path:
    """Write ``study.json``, from which the report can be made again as it was planned, and return the report's folder.

    Args:
        comparisons: all of the study.
        tests: margin, level and resamples of the tests, fixed now.

    Raises:
        ValueError: the comparisons do not share report folder, output folder or size.
    """
    first = comparisons[0]
    for key in ("report_dir", "output_dir", "n_problems", "replicates", "name"):
        values = {str(getattr(c, key)) for c in comparisons}
        if len(values) > 1:
            raise ValueError(
                f"{key}: is swept over {', '.join(sorted(values))}, but a report has one; run it once for each value"
            )
    candidates = [pair for c in comparisons for pair in c.pairs[:1]]
    controls = [pair for c in comparisons for pair in c.pairs[1:]]
    baselines = [baseline for baseline, _ in candidates]
    pairs = sorted(dict.fromkeys(candidates + controls), key=lambda pair: baselines.index(pair[0]))
    study = {
        "name": first.name,
        "runs": relative(first.output_dir / "runs", first.report_dir),
        "n_problems": first.n_problems,
        "replicates": first.replicates,
        "tests": dict(tests),
        "pairs": [list(pair) for pair in pairs],
    }
    first.report_dir.mkdir(parents=True, exist_ok=True)
    write_atomically(first.report_dir / "study.json", json.dumps(study, indent=1) + "\n")
    return first.report_dir
