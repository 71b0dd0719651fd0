"""Train ``mini``, the embedded LLaDA, on the train splits of the embedded tasks.

    python -m experiments.train_mini.train              # resumes where it was stopped

Objective: that of LLaDA's supervised fine-tuning (arXiv:2502.09992, algorithm 2) but for a weight: the prompt stays
visible, each answer position is masked with probability t ~ U(0, 1), and the loss is the cross-entropy averaged over all
masked positions of the batch, without LLaDA's weight 1/t (so it is no likelihood bound; it has less variance). Batches hold
one shape of one task, so nothing is padded. The weights that are kept are an exponential moving average.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
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
    "json": (JsonRecord(word_length=(3, 6)), 300_000),
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


def load_data(folder: Path, tokenizer: PreTrainedTokenizerFast, scale: float) -> dict[str, list[Bucket]]:
    """Buckets of every source, generated once and kept in ``folder``; ``scale`` multiplies the number of problems."""
    data = {}
    for name, (task, n) in SOURCES.items():
        file = folder / f"{name}.pt"
        if not file.exists():
            torch.save([(b.ids, b.prompt) for b in encode_task(task, int(n * scale), tokenizer)], file)
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


class Training:
    """Everything a training step changes, and its copy on disk."""

    def __init__(self, args: argparse.Namespace, config: LLaDAConfig) -> None:
        torch.manual_seed(args.seed)
        self.model = LLaDAModelLM(config)
        average = torch.optim.swa_utils.get_ema_multi_avg_fn(args.ema)
        self.average = torch.optim.swa_utils.AveragedModel(self.model, multi_avg_fn=average)
        self.steppers = optimizers(self.model, args.rate, args.optimizer)
        self.step, self.seconds = 0, 0.0
        self.file: Path = args.work / "state.pt"

    def restore(self) -> None:
        """Go on from the saved state, if there is one."""
        if not self.file.exists():
            return
        state = torch.load(self.file, weights_only=False)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        for stepper, values in zip(self.steppers, state["steppers"], strict=True):
            stepper.load_state_dict(values)
        self.step, self.seconds = state["step"], state["seconds"]

    def save(self) -> None:
        """Replace the saved state in one step."""
        state = {
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "steppers": [stepper.state_dict() for stepper in self.steppers],
            "step": self.step,
            "seconds": self.seconds,
        }
        torch.save(state, self.file.with_suffix(".part"))
        self.file.with_suffix(".part").replace(self.file)

    def update(self, ids: Tensor, masked: Tensor, rate: float, bf16: bool) -> float:
        """One optimizer step on a batch (B, L); returns the loss, nats per masked token."""
        with fast_precision(bf16):
            logits = self.model(ids.masked_fill(masked, self.model.config.mask_token_id)).logits
        loss = F.cross_entropy(logits[masked].float(), ids[masked])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for stepper in self.steppers:
            for group in stepper.param_groups:
                group["lr"] = rate
            stepper.step()
            stepper.zero_grad(set_to_none=True)
        self.average.update_parameters(self.model)
        self.step += 1
        return loss.item()


def train(args: argparse.Namespace) -> None:
    """Train from the last saved state, if there is one, to the last step; then write the checkpoint."""
    args.work.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer()
    data = load_data(args.work, tokenizer, args.scale)
    training = Training(args, model_config(args, tokenizer))
    training.restore()
    forget_after(args.work / "loss.jsonl", training.step)
    parameters = sum(p.numel() for p in training.model.parameters())
    print(f"{parameters:,} parameters, step {training.step} of {args.steps}", flush=True)
    losses: dict[str, list[float]] = defaultdict(list)
    sequences, logged, began = 0, training.seconds, time.perf_counter() - training.seconds
    newline = tokenizer.get_vocab()["\n"]
    while training.step < args.steps:
        step = training.step
        source, ids, masked = draw_batch(data, step, args.tokens, newline, np.random.default_rng([args.seed, step]))
        learning_rate = rate_at(step, args.steps, args.rate, args.warmup)
        losses[source].append(training.update(ids, masked, learning_rate, args.bf16))
        training.seconds = time.perf_counter() - began
        sequences += len(ids)
        if training.step % args.log_every == 0 or training.step == args.steps:
            rate = round(sequences / (training.seconds - logged))
            row = {"step": training.step, "seconds": round(training.seconds, 1), "sequences_per_second": rate}
            row |= {name: round(float(np.mean(values)), 4) for name, values in sorted(losses.items())}
            print(json.dumps(row), flush=True)
            with (args.work / "loss.jsonl").open("a") as log:
                print(json.dumps(row), file=log)
            losses.clear()
            sequences, logged = 0, training.seconds
        if training.step % args.save_every == 0 or training.step == args.steps:
            training.save()
    cast(LLaDAModelLM, training.average.module).save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)
    (args.out / "loss.jsonl").write_text((args.work / "loss.jsonl").read_text())


def forget_after(log: Path, step: int) -> None:
    """Drop the lines of a loss log that a resumed training will write again."""
    if log.exists():
        lines = [line for line in log.read_text().splitlines() if json.loads(line)["step"] <= step]
        log.write_text("".join(line + "\n" for line in lines))


def model_config(args: argparse.Namespace, tokenizer: PreTrainedTokenizerFast) -> LLaDAConfig:
    """The shape of ``mini``."""
    size = len(tokenizer)
    return LLaDAConfig(
        d_model=args.width,
        n_heads=args.width // 32,
        n_layers=args.layers,
        mlp_hidden_size=3 * args.width,
        rope_theta=1000.0,
        vocab_size=size,
        embedding_size=size,
        max_sequence_length=256,
        mask_token_id=tokenizer.mask_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--tokens", type=int, default=4096, help="tokens in a batch")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--rate", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--optimizer", choices=("adamw", "muon"), default="muon")
    parser.add_argument("--warmup", type=int, default=200)
    parser.add_argument("--ema", type=float, default=0.999)
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the number of training problems")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True, help="faster where the CPU has it")
    parser.add_argument("--log-every", type=int, default=100)
    parser.add_argument("--save-every", type=int, default=200)
    parser.add_argument("--work", type=Path, default=Path("outputs/train_mini"))
    parser.add_argument("--out", type=Path, default=MINI_PATH)
    train(parser.parse_args(arguments))


if __name__ == "__main__":
    main()
