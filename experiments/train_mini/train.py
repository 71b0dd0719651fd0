"""Train ``mini``, the embedded LLaDA, on the train splits of the embedded tasks.

    python experiments/train_mini/train.py              # resumes where it was stopped

Objective: the masked-diffusion objective of LLaDA (arXiv:2502.09992, algorithm 1, supervised form): the prompt stays
visible, each answer position is masked with probability t ~ U(0, 1), cross-entropy on the masked positions. Batches hold
one shape of one task, so nothing is padded. The weights that are kept are an exponential moving average.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from experiments.train_mini.tokenizer import build_tokenizer
from tta_bench.models.checkpoint import MINI_PATH
from tta_bench.models.llada import LLaDAConfig, LLaDAModelLM
from tta_bench.tasks.arithmetic import Arithmetic
from tta_bench.tasks.base import GeneratedTask
from tta_bench.tasks.json_record import JsonRecord
from tta_bench.tasks.listops import ListOps
from tta_bench.tasks.sudoku import Sudoku

HOUSE = Path(__file__).parent
SOURCES: dict[str, tuple[GeneratedTask, int]] = {
    "sudoku": (Sudoku(), 20_000),
    "arithmetic": (Arithmetic(digits=(3, 10)), 300_000),
    "short_arithmetic": (Arithmetic(digits=(3, 5)), 300_000),
    "middle_arithmetic": (Arithmetic(digits=(4, 7)), 300_000),
    "listops": (ListOps(length=(4, 10)), 300_000),
    "json": (JsonRecord(), 300_000),
}
"""What is trained on: a task and the number of its training problems. Up to names of digits there are 39,168 solved 6x6 grids,
70 % of them in the train split, so sudoku batches rename the digits at random.
"""
PHASES: tuple[tuple[int, dict[str, float]], ...] = (
    (0, {"sudoku": 0.46, "arithmetic": 0.22, "listops": 0.16, "json": 0.16}),
    (4_200, {"sudoku": 0.10, "short_arithmetic": 0.40, "listops": 0.20, "json": 0.30}),
    (6_800, {"sudoku": 0.20, "middle_arithmetic": 0.50, "listops": 0.20, "json": 0.10}),
)
"""From which step on a batch is of which source, with which probability. By step 4,200 sudoku was solved well (85 % of dev
problems in 8 steps) and addition not at all, so the second phase is mostly what was still hard, with shorter numbers. By step
6,800 five digits were added well (90 %), so the third has longer ones.
"""


@dataclass(frozen=True)
class Bucket:
    """All training sequences of one shape: ids (N, L); the first ``prompt`` positions are never masked."""

    ids: Tensor
    prompt: int


def encode_task(task: GeneratedTask, n: int, tokenizer: PreTrainedTokenizerFast) -> list[Bucket]:
    """The first ``n`` training problems as buckets by prompt and answer length; answers end in end tokens."""
    shapes: dict[tuple[int, int], list[list[int]]] = defaultdict(list)
    index, end = tokenizer.get_vocab(), tokenizer.eos_token_id
    for problem in islice(task.stream("train"), n):
        if problem.infill:
            ids, prompt = [index[c] for c in problem.target], problem.target.index("\n") + 1
        else:
            answer = [index[c] for c in problem.target]
            ids = [index[c] for c in problem.prompt] + answer + [end] * (problem.gen_length - len(answer))
            prompt = len(problem.prompt)
        shapes[prompt, len(ids)].append(ids)
    return [Bucket(torch.tensor(rows, dtype=torch.uint8), prompt) for (prompt, _), rows in sorted(shapes.items())]


def load_data(folder: Path, tokenizer: PreTrainedTokenizerFast) -> dict[str, list[Bucket]]:
    """Buckets of every source, generated once and kept in ``folder``."""
    data = {}
    for name, (task, n) in SOURCES.items():
        file = folder / f"{name}.pt"
        if not file.exists():
            torch.save([(b.ids, b.prompt) for b in encode_task(task, n, tokenizer)], file)
        data[name] = [Bucket(ids, prompt) for ids, prompt in torch.load(file)]
    return data


def draw_batch(
    data: dict[str, list[Bucket]], step: int, tokens: int, newline_id: int, rng: np.random.Generator
) -> tuple[str, Tensor, Tensor]:
    """A batch of about ``tokens`` tokens of one bucket: its source, the clean ids (B, L), where they are masked (B, L)."""
    shares = [shares for start, shares in PHASES if start <= step][-1]
    name = str(rng.choice(list(shares), p=list(shares.values())))
    sizes = np.array([len(b.ids) for b in data[name]], dtype=float)
    bucket = data[name][rng.choice(len(sizes), p=sizes / sizes.sum())]
    rows = max(8, tokens // bucket.ids.shape[1])
    ids = bucket.ids[rng.integers(len(bucket.ids), size=rows)].long()
    level = torch.from_numpy((rng.permutation(rows) + rng.random(rows)) / rows)[:, None]
    maskable = torch.ones_like(ids, dtype=torch.bool)
    maskable[:, : bucket.prompt] = False
    if name == "sudoku":
        maskable &= ids != newline_id
        ids = rename_digits(ids, maskable, rng)
    chance = torch.from_numpy(rng.random(ids.shape)).masked_fill(~maskable, 2.0)
    lowest = chance == chance.min(dim=1, keepdim=True).values
    return name, ids, (chance < level) | lowest


def rename_digits(ids: Tensor, cells: Tensor, rng: np.random.Generator) -> Tensor:
    """Sudoku ids (B, L) with the digits in ``cells`` (B, L) permuted, by a permutation of its own in each row."""
    digits = ids[0][cells[0]].unique()
    names = torch.from_numpy(rng.permuted(np.tile(digits.numpy(), (len(ids), 1)), axis=1))
    renamed = names.gather(1, torch.searchsorted(digits, ids).clamp(max=len(digits) - 1))
    return torch.where(cells, renamed, ids)


@contextmanager
def fast_precision(enabled: bool) -> Iterator[None]:
    """bfloat16 matrix products with float32 attention: on a CPU, attention's bfloat16 backward is the slower one by far."""
    attend: Any = F.scaled_dot_product_attention

    def attend_in_float32(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return cast(Tensor, attend(q.float(), k.float(), v.float(), **options))

    if not enabled:
        yield
        return
    functions: Any = F
    functions.scaled_dot_product_attention = attend_in_float32
    try:
        with torch.autocast("cpu", torch.bfloat16):
            yield
    finally:
        functions.scaled_dot_product_attention = attend


def optimizers(model: LLaDAModelLM, rate: float, kind: str) -> list[torch.optim.Optimizer]:
    """AdamW, or Muon for the matrices inside the blocks and AdamW for the rest."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and ".blocks." in n] if kind == "muon" else []
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    found: list[torch.optim.Optimizer] = [torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True)]
    if matrices:
        found.append(torch.optim.Muon(matrices, lr=rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"))
    return found


def rate_at(step: int, steps: int, peak: float, warmup: int) -> float:
    """Linear warm-up, then a cosine down to 2 % of the peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))


def train(args: argparse.Namespace) -> None:
    torch.manual_seed(args.seed)
    args.work.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer()
    data = load_data(args.work, tokenizer)
    size = len(tokenizer)
    config = LLaDAConfig(
        d_model=args.width, n_heads=args.width // 32, n_layers=args.layers, mlp_hidden_size=3 * args.width, rope_theta=1000.0,
        vocab_size=size, embedding_size=size, max_sequence_length=256, mask_token_id=tokenizer.mask_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = LLaDAModelLM(config)
    average = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(args.ema))
    steppers = optimizers(model, args.rate, args.optimizer)
    saved, start, spent = args.work / "state.pt", 0, 0.0
    if saved.exists():
        state = torch.load(saved, weights_only=False)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        for stepper, values in zip(steppers, state["steppers"], strict=True):
            stepper.load_state_dict(values)
        start, spent = state["step"], state["seconds"]
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, step {start} of {args.steps}", flush=True)
    log = (args.work / "loss.jsonl").open("a")
    losses: dict[str, list[float]] = defaultdict(list)
    began, sequences = time.perf_counter(), 0
    for step in range(start, args.steps):
        rng = np.random.default_rng([args.seed, step])
        task, ids, masked = draw_batch(data, step, args.tokens, tokenizer.get_vocab()["\n"], rng)
        with fast_precision(args.bf16):
            logits = model(ids.masked_fill(masked, config.mask_token_id)).logits
        loss = F.cross_entropy(logits[masked].float(), ids[masked])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for stepper in steppers:
            for group in stepper.param_groups:
                group["lr"] = rate_at(step, args.steps, args.rate, args.warmup)
            stepper.step()
            stepper.zero_grad(set_to_none=True)
        average.update_parameters(model)
        losses[task].append(loss.item())
        sequences += len(ids)
        if (step + 1) % args.log_every == 0 or step + 1 == args.steps:
            seconds = spent + time.perf_counter() - began
            row = {"step": step + 1, "seconds": round(seconds, 1), "sequences_per_second": round(sequences / (seconds - spent))}
            row |= {name: round(float(np.mean(values)), 4) for name, values in sorted(losses.items())}
            print(json.dumps(row), file=log, flush=True)
            print(json.dumps(row), flush=True)
            losses.clear()
        if (step + 1) % args.save_every == 0 or step + 1 == args.steps:
            state = {
                "model": model.state_dict(),
                "average": average.state_dict(),
                "step": step + 1,
                "steppers": [s.state_dict() for s in steppers],
                "seconds": spent + time.perf_counter() - began,
            }
            torch.save(state, saved.with_suffix(".part"))
            saved.with_suffix(".part").replace(saved)
    cast(LLaDAModelLM, average.module).save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)
    (args.out / "loss.jsonl").write_text((args.work / "loss.jsonl").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--tokens", type=int, default=4096, help="tokens in a batch")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--rate", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--optimizer", choices=("adamw", "muon"), default="muon")
    parser.add_argument("--warmup", type=int, default=200)
    parser.add_argument("--ema", type=float, default=0.999)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True, help="faster where the CPU has it")
    parser.add_argument("--log-every", type=int, default=100)
    parser.add_argument("--save-every", type=int, default=200)
    parser.add_argument("--work", type=Path, default=Path("outputs/train_mini"))
    parser.add_argument("--out", type=Path, default=MINI_PATH)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
