"""Output folders with runs in them, written as a run writes them, without a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import yaml

ENVIRONMENT = {
    "tta_bench": "0.1.0", "code": "0.1.0+0", "sampler_code": "s", "task_code": "t", "git": None, "python": "3.11",
    "packages": {"torch": "2", "transformers": "5", "tokenizers": "0", "numpy": "2"}, "platform": "x", "device": "cpu",
    "hardware": "AVX2", "dtype": "float32", "threads": 2,
}  # fmt: skip


def write_run(
    output: Path,
    sampler: dict[str, Any],
    scores: np.ndarray,
    *,
    steps: int = 8,
    passes: np.ndarray | None = None,
    split: str = "test",
    task: str = "toy",
    first: int = 0,
    text: str = "",
    clusters: list[str | None] | None = None,
    settings: dict[str, Any] | None = None,
) -> str:
    """Write a run with ``scores`` (n, r), NaN where there is an error instead; returns its id.

    Args:
        output: the output folder.
        sampler: its ``sampler`` node, with a name.
        scores: (n, r).
        steps: of the configuration.
        passes: (n, r) forward passes; None takes the steps.
        split: of the problems.
        task: its name.
        first: number of the first problem.
        text: of every answer.
        clusters: (n,) labels.
        settings: more of the configuration, or in the place of what is there.
    """
    config = {
        "schema": 1, "engine": 1, "model": {"name": "m", "fingerprint": "f"}, 
        "task": {"name": task, "version": "1", "target": "t"},
        "sampler": {"target": f"presets.{sampler['name']}"} | sampler, "split": split, "steps": steps, "gen_length": None,
        "block_length": None, "cfg_scale": 0.0, "eos_policy": "allow", "constraint": "none", "seed": 0, "device": "cpu",
        "dtype": "float32",
    } | (settings or {})  # fmt: skip
    rest = "-".join(f"{value}" for key, value in [*sampler.items(), *(settings or {}).items()] if key != "name")
    rest = "".join(character for character in rest if character.isalnum() or character in "-.")
    run_id = f"{task}-{sampler['name']}-{split}-{steps}-{rest}"
    folder = output / "runs" / run_id
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "manifest.json").write_text(json.dumps({"schema": 2, "status": "done", "environments": [ENVIRONMENT]}))
    error = {"stage": "generate", "type": "ModelOutputError", "message": "NaN", "traceback": ""}
    with (folder / "records.jsonl").open("wb") as stream:
        for i, row in enumerate(scores):
            for replicate, score in enumerate(row):
                name = f"{split}-{first + i:06d}"
                record = {
                    "schema": 2, "key": f"{name}/{replicate}", "problem": name, "replicate": replicate,
                    "data": f"{first + i:016x}",
                    "prompt": f"{first + i:016x}", "cluster": clusters[i] if clusters else None, "text": text, "tokens": [],
                    "filled": 16, "forward_passes": steps if passes is None else int(passes[i, replicate]), "nfe": steps,
                    "seconds": 0.01, "score": None if np.isnan(score) else float(score),
                    "error": error if np.isnan(score) else None,
                }  # fmt: skip
                stream.write(orjson.dumps(record) + b"\n")
    return run_id


def write_trace(
    folder: Path,
    words: list[str],
    *,
    n_problems: int = 2,
    steps: int = 4,
    length: int = 6,
    seed: int = 0,
    prompt: str = "2 + 2",
    target: str = "4",
    split: str = "test",
    told: bool = True,
) -> None:
    """Write token traces of a run's first problems: tokens are drawn, committed one after the other, every third of them
    taken back once.

    Args:
        folder: of the run.
        words: texts of the tokens 0, 1, ..., of which the first is right everywhere.
        n_problems: traced.
        steps: of each.
        length: positions on the canvas, from 10 on; as many steps commit them all.
        seed: of what is drawn.
        prompt: of every problem.
        target: of every problem.
        split: of the problems.
        told: whether words and freezes are recorded, as older runs did not.
    """
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for i in range(n_problems):
        first = np.sort(rng.integers(0, steps, length))
        first[0] = 0
        taken = np.where(np.arange(length) % 3 == 1, first + 1, steps)
        token = rng.integers(0, len(words), length)
        for step in range(steps):
            standing = (first <= step) & ((step <= taken) | (step > taken + 1))
            n = int(standing.sum())
            signals = {name: rng.random(n) * (2 if name in ("entropy", "doubt") else 1) for name in SIGNALS}
            fresh = ((step == first) | (step == taken + 2))[standing]
            remasked = (step == taken)[standing] & (step < steps - 1)
            frozen = {"frozen": np.flatnonzero(standing) % 5 == 0} if told else {}
            lists = {"position": 10 + np.flatnonzero(standing), "token": token[standing], "fresh": fresh,
                     "remaskable": ~fresh, "remasked": remasked, "gold": np.zeros(n, int), **signals, **frozen,
                     "violation": (rng.random(n) < 0.1) * 1.0}  # fmt: skip
            head = {"key": f"{split}-{i:06d}/0", "step": step, "entropy": 1.0, "disagreement": 0.1, "remask_ratio": 0.1}
            rows.append(head | {f"token.{name}": values for name, values in lists.items()})
    (folder / "traces").mkdir()
    pd.DataFrame(rows).to_parquet(folder / "traces" / "a.parquet")
    if told:
        problems = {f"{split}-{i:06d}": {"prompt": prompt, "target": target} for i in range(n_problems)}
        (folder / "words.json").write_text(json.dumps({"tokens": dict(enumerate(words)), "problems": problems}))


SIGNALS = ("entropy", "disagreement", "mutual_information", "support", "confidence", "doubt", "instability")
