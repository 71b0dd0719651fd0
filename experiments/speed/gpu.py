"""Measure on a GPU, with random weights of LLaDA-8B's shape in bfloat16: what a step costs, and what of it is not the model."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import tta_bench
from experiments.speed import naive
from experiments.speed.__main__ import HERE, table
from experiments.speed.measure import alternated, now, watched
from experiments.speed.models import Shape
from experiments.speed.sections import DETERMINISTIC, Job, Row, ours, ratio, row, share, yardstick
from tta_bench.sampling import logits

EIGHT_B = Shape(width=4_096, layers=32, vocabulary=126_464, head=128, inner=3)
TINY = Shape(width=64, layers=2, vocabulary=300)
MODEL = "LLaDA-8B"
ROWS = (1, 8)
DRAWING = ("tta", "random_remask", "remdm_cap", "remdm_conf", "self_consistency")


def save(shape: Shape, folder: Path) -> None:
    """A checkpoint of random weights in bfloat16, in the published layout, with the tokenizer of ``mini``."""
    place = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(place):
            model = shape.build()
    finally:
        torch.set_default_dtype(torch.float32)
    mini = Path(tta_bench.__file__).parent / "models" / "mini"
    ids = json.loads((mini / "config.json").read_text())
    for name in ("mask_token_id", "eos_token_id", "pad_token_id"):
        setattr(model.config, name, ids[name])
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(mini / name, folder)


def passes(model: Any, job: Job) -> Iterator[Row]:
    """Milliseconds of a forward pass alone, logits at the generated positions, against the reading of the weights."""
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    source, goal = (torch.empty(2**30, dtype=torch.uint8, device=job.device) for _ in range(2))
    seconds = float(np.median(alternated({"copy": partial(goal.copy_, source)}, job.rounds)["copy"]))
    least = weights / (2 * source.numel() / seconds)
    for rows in ROWS:
        tokens = torch.cat((job.input(rows), torch.full((rows, job.gen_length), 0, device=job.device)), dim=1)
        where = (torch.arange(tokens.shape[1], device=job.device) >= job.prompt).expand_as(tokens)

        def forward(tokens: torch.Tensor = tokens, where: torch.Tensor = where) -> None:
            with torch.inference_mode():
                model(tokens, positions=where)

        found = 1e3 * alternated({"pass": forward}, job.rounds)["pass"]
        against = f"{1e3 * least:.2f} ms to read {weights / 1e9:.1f} GB of weights at {weights / least / 1e12:.2f} TB/s"
        what = f"a forward pass, batch of {rows}"
        yield row("forward", MODEL, what, float(np.median(found)), "ms", low=found.min(), high=found.max(), against=against)


def views(model: Any, job: Job) -> Iterator[Row]:
    """TTA with K views against low confidence, by kind of view and by batch."""
    for rows in ROWS:
        cases = {"low_confidence": ours(model, job, "low_confidence", rows)}
        for k in (5, 10):
            cases[f"tta, {k} temperature views"] = ours(model, job, "tta", rows, tta_k=k)
        cases["tta, 5 dropout views"] = ours(model, job, "tta", rows, tta_k=5, tta_use_dropout=True)
        times = alternated(cases, job.rounds)
        for name in list(cases)[1:]:
            against = "low_confidence"
            yield ratio("K views", MODEL, f"{name}, batch of {rows}", against, times[name], times[against])
    short = replace(job, steps=4)
    pair = {
        "sequential": yardstick(naive.sequential_views, model, short, k=5),
        "baseline": ours(model, short, "low_confidence"),
    }
    times = alternated(pair, 2)
    what = "5 temperature views, each evaluated (4 steps), batch of 1"
    yield ratio("K views", MODEL, what, "low_confidence", times["sequential"], times["baseline"])


def published(model: Any, job: Job) -> Iterator[Row]:
    """LLaDA's loop as published against ours, and how many tokens agree."""
    for temperature in (0.0, 0.3):
        loop = yardstick(naive.llada, model, job, temperature=temperature)
        mine = ours(model, job, "low_confidence", temperature=temperature)
        times = alternated({"published": loop, "ours": mine}, job.rounds)
        what = f"LLaDA's loop, temperature {temperature}"
        yield ratio("published loop", MODEL, what, "low_confidence", times["published"], times["ours"])
        if temperature == 0:
            same = (loop() == mine()[0]).float()[:, job.prompt :].mean()  # type: ignore[index]
            yield row("published loop", MODEL, "equal tokens at temperature 0", float(same), "share")


def shares(model: Any, job: Job) -> Iterator[Row]:
    """What of a decoding is not the model, by sampler and batch. The GPU is waited for around every call of the model."""
    for rows in (1, 8):
        with watched(model) as run:
            for sampler in (*DETERMINISTIC, *DRAWING):
                for _ in range(3):
                    found = run(sampler, ours(model, replace(job, gen_length=32, steps=8), sampler, rows))
                yield share(f"{sampler}, batch of {rows}", MODEL, found.parts(), None)


def parts(model: Any, job: Job) -> Iterator[Row]:
    """Milliseconds a step by how many vocabulary entries are read at a time."""
    before = logits.MANY
    try:
        for power in (20, 22, 24, 26):
            logits.MANY = 2**power
            for sampler in ("low_confidence", "tta"):
                found = 1e3 * alternated({"case": ours(model, job, sampler, 8)}, 2)["case"] / job.steps
                what = f"{sampler}, batch of 8, 2^{power} entries at a time"
                yield row("parts", MODEL, what, float(np.median(found)), "ms a step", low=found.min(), high=found.max())
    finally:
        logits.MANY = before


def memory(model: Any, job: Job) -> Iterator[Row]:
    """Largest memory a row beside the weights, in GB."""
    if job.device == "cpu":
        return
    for rows in (1, 8, 32):
        for sampler in ("low_confidence", "tta"):
            torch.cuda.empty_cache()
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            ours(model, replace(job, steps=2), sampler, rows)()
            peak = (torch.cuda.max_memory_allocated() - before) / rows / 1e9
            yield row("memory", MODEL, f"{sampler}, {job.gen_length} tokens, batch of {rows}", peak, "GB a row")


def caches(model: Any, job: Job) -> Iterator[Row]:
    """Speed with keys and values kept within a block."""
    long = replace(job, prompt=4 * job.prompt, gen_length=2 * job.gen_length)
    cases = {kind: ours(model, long, "low_confidence", cache=kind) for kind in ("none", "prefix", "dual")}
    times = alternated(cases, job.rounds)
    for kind in ("prefix", "dual"):
        what = f"cache={kind}, prompt of {long.prompt}, {long.gen_length} generated"
        yield ratio("caches", MODEL, what, "no cache", times[kind], times["none"])


def compiled(model: Any, job: Job) -> Iterator[Row]:
    """Speed with ``compile``. Last, since layers are compiled in place."""
    from tta_bench.models.compiled import Compiled

    plain = {rows: alternated({"": ours(model, job, "low_confidence", rows)}, job.rounds)[""] for rows in (1, 8)}
    expected = {rows: ours(model, job, "low_confidence", rows)()[0] for rows in plain}  # type: ignore[index]
    fast = Compiled(model).eval()
    for rows, before in plain.items():
        began = now()
        found = ours(fast, job, "low_confidence", rows)()[0]  # type: ignore[index]
        first = now() - began
        same = float((found == expected[rows])[:, job.prompt :].float().mean())
        after = alternated({"": ours(fast, job, "low_confidence", rows)}, job.rounds)[""]
        what = f"compiled, batch of {rows} (first decoding {first:.0f} s; {same:.0%} of the tokens equal)"
        yield ratio("compile", MODEL, what, "not compiled", after, before)


SECTIONS: dict[str, Callable[[Any, Job], Iterator[Row]]] = {
    "forward": passes,
    "views": views,
    "published": published,
    "shares": shares,
    "memory": memory,
    "caches": caches,
    "parts": parts,
    "compile": compiled,
}


def a_run(folder: Path, device: str, output: Path) -> Iterator[Row]:
    """``tta-bench run`` of the checkpoint, from the command line to its report: seconds, and the batches it took."""
    words = f"run model.name_or_path={folder} task=arithmetic steps=16 gen_length=64 block_length=32 n_problems=64"
    began = now()
    command = [sys.executable, "-m", "tta_bench", *words.split(), f"device={device}", f"output_dir={output}"]
    subprocess.run(command, check=True)
    yield row("run", MODEL, "tta-bench run, 2 x 64 answers of 64 tokens in 16 steps", now() - began, "s")
    for path in sorted(output.glob("runs/*/manifest.json")):
        batch = json.loads(path.read_text())["batch_size"]
        yield row("run", MODEL, f"batch of {path.parent.name.split('-')[1]}, batch_size=auto", batch, "problems")


def main() -> None:
    """Print the table and save it, and its numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=[*SECTIONS, "run"], default=[*SECTIONS, "run"])
    parser.add_argument("--quick", action="store_true", help="a tiny model, on a CPU if need be: whether it runs")
    parser.add_argument("--checkpoint", type=Path, required=True, help="folder of random weights; made if need be")
    parser.add_argument("--folder", type=Path, default=HERE, help="where table_gpu.md and table_gpu.csv go")
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not arguments.quick:
        parser.error("no CUDA device; --quick shows whether it runs")
    job = Job(prompt=128, gen_length=128, block_length=64, steps=16, rounds=3, device=device)
    if arguments.quick:
        job = replace(job, prompt=4, gen_length=8, block_length=4, steps=4, rounds=1)
    rows: list[Row] = []

    def told(lines: Iterator[Row]) -> None:
        for line in lines:
            rows.append(line)
            print(line["section"], line["what"], f"{line['value']:.4g} {line['unit']}", line.get("against", ""), flush=True)
            pd.DataFrame(rows).to_csv(arguments.folder / "table_gpu.csv", index=False, float_format="%.6g")

    arguments.folder.mkdir(parents=True, exist_ok=True)
    if not (arguments.checkpoint / "config.json").exists():
        began = time.perf_counter()
        save(TINY if arguments.quick else EIGHT_B, arguments.checkpoint)
        print(f"saved in {time.perf_counter() - began:.0f} s", flush=True)
    if "run" in arguments.only:
        told(a_run(arguments.checkpoint, device, arguments.folder / "outputs"))
    began = now()
    model, _ = tta_bench.load(arguments.checkpoint, device=device, dtype="float32" if arguments.quick else "bfloat16")
    told(iter([row("load", MODEL, "tta_bench.load", now() - began, "s")]))
    for name in (name for name in SECTIONS if name in arguments.only):
        told(SECTIONS[name](model, job))
    text = table(pd.read_csv(arguments.folder / "table_gpu.csv"))
    (arguments.folder / "table_gpu.md").write_text(text)
    print("\n" + text)


if __name__ == "__main__":
    main()
