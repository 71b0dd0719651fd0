"""What is measured, one function a section of the table."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tta_bench
from experiments.speed import memory, naive
from experiments.speed.measure import Case, alternated, watched
from experiments.speed.models import SHAPES, build, floor
from tta_bench import catalog, cli
from tta_bench.rng import Noise
from tta_bench.runner.execute import Effort, ModelSource, execute
from tta_bench.runner.settings import Comparison, comparison
from tta_bench.runner.study import model_source
from tta_bench.sampling.denoiser import Denoiser
from tta_bench.sampling.logits import Logits
from tta_bench.sampling.sampler import evaluating
from tta_bench.sampling.views import TTAViews, perturbed
from tta_bench.types import Canvas

DETERMINISTIC = (
    "low_confidence", "margin", "entropy", "threshold", "factor", "entropy_bound", "klass", "dream_maskgit_plus",
    "dream_topk_margin", "dream_entropy", "p2", "rcr", "wino", "t2m", "more_steps", "temporal_vote",
)  # fmt: skip
"""Samplers that draw nothing with their default settings. (``tta`` draws for its views.)"""


@dataclass(frozen=True)
class Job:
    """What is decoded. The defaults are those of the claims.

    Attributes:
        prompt, gen_length, block_length, steps: of a sequence.
        rounds: that count.
        problems: of a run on mini.
        device: of the prompt.
    """

    prompt: int = 64
    gen_length: int = 64
    block_length: int = 32
    steps: int = 16
    rounds: int = 7
    problems: int = 128
    device: str = "cpu"

    @property
    def options(self) -> dict[str, Any]:
        """Of ``generate`` and of the naive loops."""
        return {"steps": self.steps, "gen_length": self.gen_length, "block_length": self.block_length}

    def input(self, rows: int = 1) -> torch.Tensor:
        """Prompts (rows, prompt)."""
        return torch.randint(10, 90, (rows, self.prompt), generator=torch.Generator().manual_seed(0)).to(self.device)


QUICK = Job(prompt=4, gen_length=8, block_length=4, steps=4, rounds=1, problems=2)
Row = dict[str, Any]


def row(section: str, model: str, what: str, value: float, unit: str, **more: Any) -> Row:
    """A line of the table. ``more``: ``against``; ``low`` and ``high`` of the value over the rounds; ``limit`` and ``rule``."""
    return {"section": section, "model": model, "what": what, "value": value, "unit": unit, **more}


def ratio(
    section: str, model: str, what: str, against: str, a: np.ndarray, b: np.ndarray, rule: str = "", limit: float = np.nan
) -> Row:
    """The median over rounds of a / b, in pairs of neighbours, with its range."""
    pairs = a / b
    spread = {"low": pairs.min(), "high": pairs.max(), "rule": rule, "limit": limit}
    return row(section, model, what, float(np.median(pairs)), "x", against=against, seconds=float(np.median(a)), **spread)


def ours(model: Any, job: Job, sampler: str, rows: int = 1, **parameters: Any) -> Case:
    """A decoding by the harness."""
    return partial(tta_bench.generate, model, job.input(rows), sampler, **job.options, **parameters)


def yardstick(loop: Callable[..., torch.Tensor], model: Any, job: Job, **parameters: Any) -> Case:
    """A decoding by a naive loop."""
    more = {"mask_id": model.config.mask_token_id, "generator": torch.Generator(job.device).manual_seed(0)}
    return partial(loop, model, job.input(), **job.options, **more, **parameters)


def views_for_the_price_of_one(job: Job) -> Iterator[Row]:
    """TTA with temperature views against low confidence, and against the loop that evaluates every view."""
    for name, limits in (("D", {5: 1.15, 10: 1.25}), ("V", {5: 1.6, 10: 1.9})):
        model = build(name)
        for k, limit in limits.items():
            baseline, section = partial(ours, model, sampler="low_confidence"), "K views"
            times = alternated({"baseline": baseline(job=job), "tta": ours(model, job, "tta", tta_k=k)}, job.rounds)
            what = f"tta, {k} temperature views"
            yield ratio(section, name, what, "low_confidence", times["tta"], times["baseline"], "<=", limit)
            short = replace(job, steps=4)
            sequential = yardstick(naive.sequential_views, model, short, k=k)
            times = alternated({"baseline": baseline(job=short), "sequential": sequential}, 1)
            what = f"the same, evaluated {k} times (4 steps)"
            yield ratio(section, name, what, "low_confidence", times["sequential"], times["baseline"])


def published_loop(job: Job) -> Iterator[Row]:
    """LLaDA's algorithm as published against ours; at temperature 0 both must give the same tokens."""
    model = build("V")
    for temperature, limit in ((0.0, 2.5), (0.3, 10.0)):
        published = yardstick(naive.llada, model, job, temperature=temperature)
        mine = ours(model, job, "low_confidence", temperature=temperature)
        if temperature == 0 and not torch.equal(published(), mine()[0]):  # type: ignore[index, arg-type]
            raise AssertionError("the published loop and ours give other tokens")
        times = alternated({"published": published, "ours": mine}, job.rounds)
        what = f"LLaDA's loop, temperature {temperature}"
        yield ratio("published loop", "V", what, "low_confidence", times["published"], times["ours"], ">=", limit)


def dropout_views(job: Job) -> Iterator[Row]:
    """Five dropout views in one batch against five evaluations of one view each, with the same masks."""
    model = build("mini")
    found: dict[str, torch.Tensor] = {}
    for rows in (1, 16):
        prompt = job.input(rows)

        def decode(batched: bool, prompt: torch.Tensor = prompt) -> None:
            views = (TTAViews if batched else OneByOne)(k=5, dropout=0.1)
            sampler = replace(catalog.entry("sampler", "tta").build(), views=views)
            found[str(batched)] = tta_bench.generate(model, prompt, sampler, **job.options)[0]

        times = alternated({"batch": partial(decode, True), "one by one": partial(decode, False)}, job.rounds)
        if not torch.equal(found["True"], found["False"]):
            raise AssertionError("views in a batch and one by one give other tokens")
        what, limit = f"5 dropout views in a batch, {rows} problem{'s' * (rows > 1)}", {"rule": "<=", "limit": 0.8}
        found_ratio = ratio("dropout", "mini", what, "one by one", times["batch"], times["one by one"])
        yield found_ratio | (limit if rows == 1 else {})


class OneByOne(TTAViews):
    """Dropout views that evaluate the model once for each view."""

    def look(self, denoiser: Denoiser, canvas: Canvas, noise: Noise) -> Logits:
        """As ``TTAViews``."""
        assert self.dropout is not None
        seeds = noise.seeds(canvas.step, "dropout", self.k)
        parts = [perturbed(denoiser, canvas, self.dropout, [view]) for view in seeds]
        return replace(parts[0], raw=torch.cat([part.raw for part in parts]))


def where_the_time_goes(job: Job) -> Iterator[Row]:
    """Model, sampler and bookkeeping of every deterministic sampler on V; and of runs on mini, records and traces included."""
    model = build("V")
    with watched(model) as run:
        for sampler in (*DETERMINISTIC, "tta"):
            for _ in range(max(2, job.rounds // 2 + 1)):
                shares = run(sampler, ours(model, job, sampler))
            yield share(sampler, "V", shares.parts(), 0.15 if sampler in DETERMINISTIC else None)
    for sampler in ("low_confidence", "tta"):
        found = a_run(sampler, job.problems)
        source = model_source(found.model, "cpu", "float32")
        with watched(source.get().model) as run:
            for _ in range(3):
                shares = run(sampler, partial(in_a_folder, found, source, 64))
        yield share(f"{sampler}, run in batches of 64", "mini", shares.parts(), 0.35)


def share(what: str, model: str, parts: dict[str, float], limit: float | None) -> Row:
    """What is not the model, of all."""
    whole = sum(parts[name] for name in ("model", "sampler", "bookkeeping"))
    told = {name: parts[name] / whole for name in ("sampler", "bookkeeping")}
    more = {} if limit is None else {"rule": "<=", "limit": limit}
    return row("time beside the model", model, what, parts["overhead"], "share", seconds=whole, **told, **more)


def a_run(sampler: str, problems: int) -> Comparison:
    """A run of a sampler on mini."""
    other = "random" if sampler == "low_confidence" else "low_confidence"
    words = [
        f"sampler={sampler}",
        f"sampler@baseline={other}",
        "task=sudoku",
        "steps=8",
        f"n_problems={problems}",
        "device=cpu",
    ]
    return comparison(cli.compose(words))


def in_a_folder(found: Comparison, source: ModelSource, batch_size: int) -> None:
    """Do a run from nothing."""
    with tempfile.TemporaryDirectory() as folder:
        effort = Effort(batch_size=batch_size)
        execute(found.candidate, found.task, found.problems, 1, output_dir=Path(folder), model=source, effort=effort)


def batches(job: Job) -> Iterator[Row]:
    """Problems per second of runs on mini by batch size."""
    found = a_run("low_confidence", job.problems)
    source = model_source(found.model, "cpu", "float32")
    sizes = [size for size in (1, 2, 4, 8, 16, 32, 64) if size <= max(2, job.problems)]
    times = alternated({str(size): partial(in_a_folder, found, source, size) for size in sizes}, max(1, job.rounds // 2))
    for size in sizes[1:]:
        what = f"problems/s in batches of {size}"
        limit = 2.0 if size == 64 else 1.0
        line = ratio("batches", "mini", what, "batches of 1", times["1"], times[str(size)], ">=", limit)
        yield line | {"seconds": float(np.median(times[str(size)])) / job.problems}


def peak_memory(_: Job) -> Iterator[Row]:
    """Peak memory against one forward pass with the needed logits and a float32 copy of them."""
    for rows in (1, 16):
        for sampler, needed in (("low_confidence", 32), ("klass", 32), ("tta", 64)):
            value, alone = memory.peak(sampler, "V", rows), memory.peak(str(needed), "V", rows)
            what = f"{sampler}, batch of {rows}"
            against = f"a pass with {needed} logits a row and a copy"
            yield row(
                "peak memory", "V", what, value / alone, "x", against=against, rule="<=", limit=1.3, megabytes=value / 1e6
            )


def growth(job: Job) -> Iterator[Row]:
    """Milliseconds a step by number of views, vocabulary, length and batch."""
    wide, mini = build("V"), build("mini")
    cases: dict[str, tuple[str, str, Case]] = {}
    for k in (1, 2, 5, 10, 20):
        cases[f"k{k}"] = "V", f"tta, K = {k}", ours(wide, job, "tta", tta_k=k)
    for vocabulary in (1_000, 8_000, 32_000, 126_464):
        model = replace(SHAPES["V"], vocabulary=vocabulary).build()
        for sampler in ("low_confidence", "tta"):
            cases[f"{sampler}{vocabulary}"] = "width 256, 8 layers", f"{sampler}, V = {vocabulary}", ours(model, job, sampler)
    for factor in (1, 2, 4, 8):
        longer = replace(job, gen_length=job.gen_length * factor // 2, block_length=job.gen_length * factor // 4)
        what = f"low_confidence, gen_length = {longer.gen_length} in two blocks"
        cases[f"l{factor}"] = "V", what, ours(wide, longer, "low_confidence")
    for rows in (1, 4, 16, 64):
        cases[f"b{rows}"] = "mini", f"tta, B = {rows}", ours(mini, job, "tta", rows)
    times = alternated({name: case for name, (_, _, case) in cases.items()}, max(1, job.rounds // 2))
    for name, (model, what, _) in cases.items():
        ms = 1e3 * times[name] / job.steps
        yield row("growth", model, what, float(np.median(ms)), "ms a step", low=ms.min(), high=ms.max())


def starting(job: Job) -> Iterator[Row]:
    """Seconds until something happens."""
    bin_folder = Path(sys.executable).parent
    words = {
        "import tta_bench": ([sys.executable, "-c", "import tta_bench"], 0.15),
        "tta-bench --help": ([str(bin_folder / "tta-bench"), "--help"], 0.6),
        "tta-bench run --help": ([str(bin_folder / "tta-bench"), "run", "--help"], 0.6),
    }
    for what, (command, limit) in words.items():
        seconds = []
        for _ in range(job.rounds):
            began = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            seconds.append(time.perf_counter() - began)
        spread = {"low": min(seconds), "high": max(seconds)}
        yield row("starting", "", what, float(np.median(seconds)), "s", rule="<=", limit=limit, **spread)
    seconds = [first_step() for _ in range(max(1, job.rounds // 2))]
    spread = {"low": min(seconds), "high": max(seconds)}
    yield row("starting", "mini", "a run, to its first step", float(np.median(seconds)), "s", rule="<=", limit=8.0, **spread)


FIRST_STEP = """
import sys, time
began = float(sys.argv[1])
from tta_bench import cli
from tta_bench.sampling import sampler
advance = sampler.Step.advance
def told(*arguments):
    print("FIRST STEP", time.time() - began, flush=True)
    sampler.Step.advance = advance
    return advance(*arguments)
sampler.Step.advance = told
sys.argv = ["tta-bench", "run", "n_problems=1", f"output_dir={sys.argv[2]}"]
cli.main()
"""


def first_step() -> float:
    """Seconds from the start of a process to the first step of a run."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", FIRST_STEP, str(time.time()), folder]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(next(line.split()[-1] for line in done.stdout.splitlines() if line.startswith("FIRST STEP")))


def floors(job: Job) -> Iterator[Row]:
    """Seconds a step of low confidence against the arithmetic of the model alone, at the rate of a large matrix product."""
    size = 2048
    a, b = torch.randn(size, size), torch.randn(size, size)
    rate = size**3 / float(np.median(alternated({"product": lambda: a @ b}, job.rounds)["product"]))
    memory_block = torch.zeros(2**26)
    read = alternated({"sum": memory_block.sum}, job.rounds)["sum"]
    bandwidth = 4 * memory_block.numel() / float(np.median(read))
    for name in ("V", "D"):
        model = build(name)
        with watched(model) as run, torch.inference_mode(), evaluating(model):
            for _ in range(1 + max(2, job.rounds // 2)):
                shares = run(name, ours(model, job, "low_confidence"))
        macs, size_in_bytes = floor(model, job.prompt + job.gen_length, job.block_length)
        least = max(macs / rate, size_in_bytes / bandwidth)
        parts = shares.parts()
        seconds = sum(parts[part] for part in ("model", "sampler", "bookkeeping")) / job.steps
        told = f"{macs / 1e9:.2f} G multiply-adds at {rate / 1e9:.0f} G/s, "
        told += f"{size_in_bytes / 1e6:.0f} MB of weights at {bandwidth / 1e9:.0f} GB/s"
        yield row("floor", name, "a step of low_confidence", seconds / least, "x", against=told, seconds=seconds)


SECTIONS: dict[str, Callable[[Job], Iterator[Row]]] = {
    "views": views_for_the_price_of_one,
    "published": published_loop,
    "dropout": dropout_views,
    "shares": where_the_time_goes,
    "batches": batches,
    "memory": peak_memory,
    "starting": starting,
    "floors": floors,
    "growth": growth,
}
