"""Baseline versus TTA from Python, with any two decoding functions: the benchmark of the usage guide."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.console import Console

from tta_bench import catalog
from tta_bench import tasks as task_catalog
from tta_bench.analysis.load import Pair, Run, Study
from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.report import write_report
from tta_bench.analysis.tables import print_table
from tta_bench.api import find_mask_id, generate, generate_with_tta_uncertainty
from tta_bench.runner.batch import Item, batches
from tta_bench.runner.prompts import decode, encode
from tta_bench.runner.store import record_key
from tta_bench.tasks.base import Task

DecodingFn = Callable[..., tuple[torch.Tensor, dict[str, Any]]]
"""``fn(model=, prompt=, steps=, gen_length=, block_length=, seed=, mask_id=[, tta_k=])`` -> tokens, logs."""


@dataclass(frozen=True)
class BenchmarkResults:
    """What ``run_academic_benchmark`` found: runs in memory, paired with their baselines."""

    study: Study

    @property
    def records(self) -> pd.DataFrame:
        """One row per task, sampler, tta_k and problem, with text, score and forward passes."""
        runs = {run.run_id: run for pair in self.study.pairs for run in (pair.baseline, pair.candidate)}
        frames = [
            run.records.assign(task=run.task, sampler=run.sampler, tta_k=run.config["sampler"].get("tta_k"))
            for run in runs.values()
        ]
        return pd.concat(frames, ignore_index=True)


def run_academic_benchmark(
    model: Any,
    tokenizer: Any,
    baseline_fn: DecodingFn | None = None,
    experimental_fn: DecodingFn = generate_with_tta_uncertainty,
    thresholds: Sequence[int] = (3, 5, 7),
    samples: int = 20,
    *,
    tasks: Sequence[str] = ("sudoku", "listops", "arithmetic", "json"),
    split: str = "dev",
    steps: int = 8,
    seed: int = 0,
    batch_size: int = 64,
    mask_id: int | None = None,
) -> BenchmarkResults:
    """Decode the same problems with a baseline and with an experimental function at several numbers of views.

    Args:
        model: a masked diffusion model.
        tokenizer: its tokenizer.
        baseline_fn: a ``DecodingFn`` that is given no ``tta_k``; None decodes by low confidence.
        experimental_fn: a ``DecodingFn``.
        thresholds: values of ``tta_k`` to test.
        samples: problems of each task.
        tasks: names in conf/task.
        split: which problems: dev to choose settings, test to report.
        steps: denoising steps of both.
        seed: of both.
        batch_size: problems in one call of a function.
        mask_id: id of the mask token; None asks the model's config.

    Raises:
        ValueError: no thresholds, samples out of range, an unknown task or split.
    """
    if not thresholds:
        raise ValueError("thresholds=[]: give at least one value of tta_k")
    if experimental_fn is generate_with_tta_uncertainty:
        for k in thresholds:
            catalog.entry("sampler", "tta", {"tta_k": k}).build()
    mask = find_mask_id(model, mask_id)
    baseline = low_confidence if baseline_fn is None else baseline_fn
    name = "low_confidence" if baseline_fn is None else getattr(baseline_fn, "__name__", "baseline")
    candidate = "tta" if experimental_fn is generate_with_tta_uncertainty else getattr(experimental_fn, "__name__", "candidate")
    pairs = []
    for task in map(task_catalog.load, tasks):
        decoder = Decoder(model, tokenizer, task, split, samples, steps, seed, batch_size, mask)
        base = decoder.run(baseline, name, {})
        pairs += [Pair(base, decoder.run(experimental_fn, candidate, {"tta_k": k})) for k in thresholds]
    return BenchmarkResults(Study("benchmark", tuple(pairs), samples, 1))


def analyze_icml_results(results: BenchmarkResults, report_dir: str | Path | None = None) -> pd.DataFrame:
    """Print the table of a benchmark, with paired tests, and return the summary; also write a report if a folder is given."""
    console = Console()
    with tempfile.TemporaryDirectory() as scratch:
        report = write_report(results.study, Path(scratch if report_dir is None else report_dir), TestPlan())
    print_table(report.summary, console, title=results.study.name, note=report.note)
    if report_dir is not None:
        console.print(f"report {report.page}")
    return report.summary


def low_confidence(**arguments: Any) -> tuple[torch.Tensor, dict[str, Any]]:
    """The default baseline, a ``DecodingFn``."""
    return generate(sampler="low_confidence", **arguments)


@dataclass(frozen=True)
class Decoder:
    """Runs decoding functions on the problems of one task."""

    model: Any
    tokenizer: Any
    task: Task
    split: str
    samples: int
    steps: int
    seed: int
    batch_size: int
    mask_id: int

    def run(self, function: DecodingFn, name: str, parameters: dict[str, Any]) -> Run:
        """Decode and score every problem; the run lives in memory only."""
        items = [
            Item(record_key(p.id, 0), p, 0, encode(p, self.tokenizer, self.mask_id, None))
            for p in self.task.problems(self.split, self.samples)
        ]
        records = [
            r for batch in batches(items, self.batch_size, padded=False) for r in self._batch(function, parameters, batch)
        ]
        config = {
            "model": {"name": type(self.model).__name__},
            "task": {"name": self.task.name},
            "sampler": {"name": name, **parameters},
            "steps": self.steps,
            "split": self.split,
            "seed": self.seed,
        }
        suffix = "".join(f"-{key}={value}" for key, value in parameters.items())
        return Run(f"{self.task.name}-{name}{suffix}", config, pd.DataFrame(records))

    def _batch(self, function: DecodingFn, parameters: dict[str, Any], batch: list[Item]) -> list[dict[str, Any]]:
        appended = batch[0].prompt.appended
        device = getattr(self.model, "device", "cpu")
        prompt = torch.tensor([i.prompt.ids[: len(i.prompt.ids) - appended] for i in batch], device=device)
        tokens, logs = function(
            model=self.model, prompt=prompt, steps=self.steps, gen_length=appended, block_length=None, seed=self.seed,
            mask_id=self.mask_id, **parameters,
        )  # fmt: skip
        texts = [decode(ids, i.prompt, self.tokenizer) for i, ids in zip(batch, tokens.tolist(), strict=True)]
        return [
            {
                "key": item.key, "problem": item.problem.id, "replicate": 0, "text": text,
                "score": self.task.score(item.problem, text), "forward_passes": logs["forward_passes"], "nfe": logs["nfe"],
                "seconds": logs["seconds"] / len(batch),
            }
            for item, text in zip(batch, texts, strict=True)
        ]  # fmt: skip
