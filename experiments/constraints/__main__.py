"""Measure what constraints cost: each decodes the same batch, and its seconds are told apart from those of the steps."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

import tta_bench
from tta_bench import tasks
from tta_bench.runner.prompts import batch_constraint, encode
from tta_bench.sampling.constraints import (
    combined,
    forbidden_tokens,
    json_format,
    math_expression,
    no_repeat_ngrams,
    regex,
    sudoku_units,
)
from tta_bench.types import ConstraintFn

HERE = Path(__file__).parent
BATCH, STEPS = 32, 16
PATTERNS = {
    "json": r'\{"[a-z]+":("[a-z]+"|\d+|true|false)(,"[a-z]+":("[a-z]+"|\d+|true|false)){2}\}',
    "sudoku": r"sudoku\n([1-6]{6}\n){5}[1-6]{6}",
}
SAMPLERS = ("low_confidence", "tta_rules")


@dataclass
class Timed:
    """A constraint that counts how often it was asked, and the seconds that took."""

    constraint: ConstraintFn
    seconds: list[float] = field(default_factory=list)
    last: Tensor | None = None

    def __call__(self, tokens: Tensor) -> Tensor:
        began = time.perf_counter()
        found = self.constraint(tokens)
        self.seconds.append(time.perf_counter() - began)
        self.last = tokens
        return found

    def again(self) -> float:
        """Seconds of asking once more what was asked last."""
        assert self.last is not None
        began = time.perf_counter()
        self.constraint(self.last)
        return time.perf_counter() - began


@dataclass(frozen=True)
class Setting:
    """A batch of a task, and what makes the constraints it is decoded with, as new.

    Attributes:
        tokens: of the prompts, (B, L), padded on the left.
        padding: (B, L), 0 at padding.
        gen_length: masks that are appended.
        constraints: by name.
    """

    tokens: Tensor
    padding: Tensor
    gen_length: int
    constraints: Mapping[str, Callable[[], ConstraintFn]]


def setting(name: str, tokenizer: Any) -> Setting:
    """The first dev problems of a task."""
    task = tasks.load(name)
    problems = task.problems("dev", BATCH)
    prompts = [encode(problem, tokenizer, tokenizer.mask_token_id, None) for problem in problems]
    appended = prompts[0].appended
    longest = max(len(prompt.ids) for prompt in prompts) - appended
    pads = [longest - (len(prompt.ids) - appended) for prompt in prompts]
    pad = tokenizer.pad_token_id
    rows = [[pad] * n + list(prompt.ids[: len(prompt.ids) - appended]) for n, prompt in zip(pads, prompts, strict=True)]
    padding = (torch.arange(longest) >= torch.tensor(pads)[:, None]).long()
    start = longest if appended else 0
    special = (tokenizer.eos_token_id, tokenizer.mask_token_id)
    ready: dict[str, Callable[[], ConstraintFn]] = {
        "no_repeat_ngrams": lambda: no_repeat_ngrams(3, ignore=special),
        "forbidden_tokens": lambda: forbidden_tokens(tokenizer.encode("#$%")),
        "json_format": lambda: json_format(tokenizer, start=start),
        "math_expression": lambda: math_expression(tokenizer, start=start),
        "regex": lambda: regex(PATTERNS[name], tokenizer, start=start),
    }
    if name == "sudoku":
        ready["sudoku_units"] = lambda: sudoku_units(tokenizer)
    of_task = {"rules of the task": lambda: batch_constraint(task, problems, prompts, tokenizer, pads)}
    together = {"combined, all above": lambda: combined(*((make(), 1.0) for make in ready.values()))}
    return Setting(torch.tensor(rows), padding, appended, {**ready, **together, **of_task})


def rows(rounds: int) -> Iterator[dict[str, Any]]:
    """One for each task, sampler and constraint; every round runs all constraints, one round before does not count."""
    model, tokenizer = tta_bench.load("mini", device="cpu")
    for task in PATTERNS:
        made = setting(task, tokenizer)
        for sampler in SAMPLERS:
            found: dict[str, list[tuple[float, ...]]] = {name: [] for name in made.constraints}
            for _ in range(rounds + 1):
                for name, make in made.constraints.items():
                    found[name].append(measured(model, made, sampler, make()))
            for name, values in found.items():
                yield {"task": task, "sampler": sampler, "constraint": name, **summary(np.array(values[1:]))}


def measured(model: Any, made: Setting, sampler: str, constraint: ConstraintFn) -> tuple[float, ...]:
    """Seconds of a step without the constraint, of the constraint in a step, of asking it again, and how often it is asked."""
    timed = Timed(constraint)
    _, logs = tta_bench.generate(
        model, made.tokens, sampler, attention_mask=made.padding, steps=STEPS, gen_length=made.gen_length,
        block_length=None, constraint_fn=timed,
    )  # fmt: skip
    spent, steps = sum(timed.seconds), logs["total_steps"]
    return (logs["seconds"] - spent) / steps, spent / steps, timed.again(), len(timed.seconds) / steps


def summary(values: np.ndarray) -> dict[str, float]:
    """Medians over rounds (rounds, 4), and the range of the share of a step, taken within each round."""
    shares = values[:, 1] / values[:, 0]
    step, constraint, again, asked = np.median(values, axis=0)
    return {
        "step_ms": 1e3 * step,
        "constraint_ms": 1e3 * constraint,
        "again_ms": 1e3 * again,
        "asked_per_step": asked,
        "share": float(np.median(shares)),
        "share_low": shares.min(),
        "share_high": shares.max(),
    }


def table(frame: pd.DataFrame) -> str:
    """The rows as Markdown, shares in per cent."""
    lines = [
        "| task | sampler | constraint | ms of a step | of the constraint | per cent of the step [range] | ms if asked again |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in frame.to_dict("records"):
        share = f"{100 * r['share']:.1f} [{100 * r['share_low']:.1f}, {100 * r['share_high']:.1f}]"
        cells = [
            r["task"], f"`{r['sampler']}`", r["constraint"], f"{r['step_ms']:.1f}", f"{r['constraint_ms']:.2f}", share,
            f"{r['again_ms']:.2f}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the table and save it, and its numbers, beside this file or where it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="that count")
    parser.add_argument("--folder", type=Path, default=HERE, help="where table.md and table.csv go")
    arguments = parser.parse_args()
    frame = pd.DataFrame(rows(arguments.rounds))
    text = table(frame)
    print(text)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    (arguments.folder / "table.md").write_text(text)
    frame.to_csv(arguments.folder / "table.csv", index=False, float_format="%.6g")


if __name__ == "__main__":
    main()
