"""Doing a run: what is on disk stays, what is missing is generated, scored and appended, batch by batch."""

from __future__ import annotations

import platform
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from tta_bench import __version__
from tta_bench.rng import Noise
from tta_bench.runner.prompts import EncodedPrompt, batch_constraint, decode, encode
from tta_bench.runner.spec import SCHEMA_VERSION, RunSpec
from tta_bench.runner.store import Record, RunFolder, record_key
from tta_bench.sampling.denoiser import Denoiser
from tta_bench.sampling.eos import EosPolicy
from tta_bench.sampling.sampler import sample
from tta_bench.sampling.schedule import Blocks
from tta_bench.sampling.trace import STATISTICS, step_statistics
from tta_bench.tasks.base import Problem, Task
from tta_bench.types import Generation

PACKAGES = ("torch", "transformers", "hydra-core", "numpy", "pandas", "scipy", "matplotlib")

Advance = Callable[[int], None]
"""Told how many records were added."""


@dataclass(frozen=True)
class Item:
    """One record to be made."""

    key: str
    problem: Problem
    replicate: int
    prompt: EncodedPrompt


@dataclass(frozen=True)
class LoadedModel:
    """A model with its tokenizer, ready to generate."""

    model: Any
    tokenizer: Any
    mask_id: int


def execute(
    spec: RunSpec,
    task: Task,
    problems: Sequence[Problem],
    replicates: int,
    *,
    output_dir: Path,
    batch_size: int,
    load_model: Callable[[], LoadedModel],
    advance: Advance = lambda _: None,
) -> int:
    """Bring a run up to ``problems`` x ``replicates``.

    Args:
        spec: the run.
        task: scores the answers.
        problems: to be done.
        replicates: seeds of each problem.
        output_dir: ``runs/<run_id>`` lies in it.
        batch_size: problems decoded together; guidance and dropout views make more rows of each.
        load_model: called only if something is missing.
        advance: told about progress.

    Returns:
        How many records were made now; the others were there.
    """
    folder = RunFolder(output_dir / "runs" / spec.run_id)
    wanted = [(record_key(p.id, r), p, r) for r in range(replicates) for p in problems]
    with folder.lock:
        folder.freeze_config(spec.config())
        folder.repair()
        done = folder.records()
        missing = [w for w in wanted if w[0] not in done]
        advance(len(wanted) - len(missing))
        began, earlier = time.time(), folder.manifest()
        if not missing:
            if earlier.get("status") != "done":  # killed between its last record and its last word
                folder.write_manifest(describe(spec, "done", began, len(done), earlier))
            return 0
        status, made = "interrupted", 0
        folder.write_manifest(describe(spec, "running", began, len(done), earlier))
        try:
            loaded = load_model()
            items = [Item(k, p, r, encode(p, loaded.tokenizer, loaded.mask_id, spec.gen_length)) for k, p, r in missing]
            for batch in batches(items, batch_size):
                records, trace = run_batch(spec, task, batch, loaded)
                folder.append(records, trace)
                made += len(records)
                advance(len(records))
            status = "done"
        finally:
            folder.write_manifest(describe(spec, status, began, len(done) + made, earlier))
        return made


def batches(items: Sequence[Item], size: int, *, padded: bool = True) -> Iterator[list[Item]]:
    """Batches of at most ``size`` items that can be decoded together.

    Args:
        items: to be done.
        size: of a batch.
        padded: put prompts of different length into a batch, shortest first so that little is padded; otherwise only items
            of one shape (sequence length and place of the answer), in order of first appearance.
    """
    groups: dict[tuple[int, ...], list[Item]] = defaultdict(list)
    for item in items:
        length, start = len(item.prompt.ids), item.prompt.start
        appended = length - start if start else 0
        groups[(appended,) if padded else (length, start)].append(item)
    for group in groups.values():
        ordered = sorted(group, key=lambda item: len(item.prompt.ids)) if padded else group
        for i in range(0, len(ordered), size):
            yield ordered[i : i + size]


def run_batch(spec: RunSpec, task: Task, batch: Sequence[Item], loaded: LoadedModel) -> tuple[list[Record], pd.DataFrame]:
    """Generate and score one batch: its records, and their per-step statistics."""
    sampler = spec.strategy()
    tokens, padding, pads = padded_rows([item.prompt.ids for item in batch], loaded)
    prompts = [item.prompt for item in batch]
    constraint = None
    if spec.constraint == "task" and sampler.uses_constraint:
        constraint = batch_constraint(task, [item.problem for item in batch], prompts, loaded.tokenizer, pads)
    generation = sample(
        Denoiser(loaded.model, spec.cfg_scale, bool(getattr(loaded.model, "shift_logits", False))),
        sampler,
        Blocks(spec.steps, spec.block_length),
        tokens,
        (tokens == loaded.mask_id) & ~padding,
        mask_id=loaded.mask_id,
        noise=Noise(spec.seed, tuple(item.key for item in batch)),
        padding=padding if any(pads) else None,
        constraint_fn=constraint,
        eos=EosPolicy(spec.eos_policy, end_ids(loaded)),
        answer_fn=lambda row, ids: task.answer(batch[row].problem, decode(ids[pads[row] :], prompts[row], loaded.tokenizer)),
    )
    rows = [ids[pad:] for ids, pad in zip(generation.tokens.tolist(), pads, strict=True)]
    texts = [decode(ids, item.prompt, loaded.tokenizer) for item, ids in zip(batch, rows, strict=True)]
    records = [
        {
            "schema": SCHEMA_VERSION,
            "key": item.key,
            "problem": item.problem.id,
            "replicate": item.replicate,
            "text": text,
            "score": task.score(item.problem, text),
            "tokens": ids[item.prompt.start :],
            "forward_passes": passes,
            "nfe": steps * sampler.views.k,
            "seconds": generation.seconds / len(batch),
        }
        for item, text, ids, passes, steps in zip(
            batch, texts, rows, generation.forward_passes, generation.row_steps, strict=True
        )
    ]
    return records, trace_frame(batch, generation, sampler.vote.samples if sampler.vote else 1)


def padded_rows(rows: Sequence[Sequence[int]], loaded: LoadedModel) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """Rows of token ids with padding to their left: (B, L) ids, (B, L) bool where padding is, and its length in each row."""
    longest = max(map(len, rows))
    pads = [longest - len(row) for row in rows]
    filler = loaded.tokenizer.pad_token_id or 0
    device = next(loaded.model.parameters()).device
    tokens = torch.tensor([[filler] * pad + list(row) for pad, row in zip(pads, rows, strict=True)], device=device)
    places = torch.arange(longest, device=device)
    return tokens, places < torch.tensor(pads, device=device)[:, None], pads


def end_ids(loaded: LoadedModel) -> tuple[int, ...]:
    """Token ids that end a sequence: the tokenizer's, and those of the model's configurations (the end of a turn is one)."""
    found = [loaded.tokenizer.eos_token_id]
    for config in (loaded.model.config, getattr(loaded.model, "generation_config", None)):
        ids = getattr(config, "eos_token_id", None)
        found += ids if isinstance(ids, list) else [ids]
    return tuple(dict.fromkeys(i for i in found if i is not None))


def trace_frame(batch: Sequence[Item], generation: Generation, samples: int = 1) -> pd.DataFrame:
    """One row per record and step that it took, averaged over the ``samples`` of a record."""
    statistics = step_statistics(generation.steps, samples)
    n_steps = len(generation.steps)
    columns: dict[str, Any] = {
        "key": [item.key for item in batch for _ in range(n_steps)],
        "step": list(range(n_steps)) * len(batch),
    }
    frame = pd.DataFrame(columns | {name: statistics[name].T.ravel() for name in STATISTICS})
    return frame[frame["committed_ratio"].notna()]


def describe(spec: RunSpec, status: str, began: float, n_records: int, earlier: dict[str, Any]) -> dict[str, Any]:
    """The manifest: what ran, where, with what, how long."""
    return {
        "schema": SCHEMA_VERSION,
        "status": status,
        "run_id": spec.run_id,
        "model_fingerprint": spec.fingerprint,
        "tta_bench": __version__,
        "git": git_state(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "device": spec.device,
        "dtype": spec.dtype,
        "threads": torch.get_num_threads(),
        "started": earlier.get("started", datetime.fromtimestamp(began, UTC).isoformat(timespec="seconds")),
        "updated": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(earlier.get("seconds", 0.0) + time.time() - began, 3),
        "n_records": n_records,
    }


@cache
def git_state() -> dict[str, Any] | None:
    """Commit and dirty flag of the source tree as this process found it; None where the package does not lie in one."""
    here = Path(__file__).parent
    try:
        # An installed package may lie in a virtual environment inside somebody else's repository.
        subprocess.run(["git", "ls-files", "--error-unmatch", Path(__file__).name], cwd=here, capture_output=True, check=True)
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()
        changes = subprocess.run(["git", "status", "--porcelain"], cwd=here, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"commit": commit, "dirty": bool(changes.strip())}
