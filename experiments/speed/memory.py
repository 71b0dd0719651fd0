"""Peak memory of a decoding and of a single forward pass, each in a process of its own.

``python -m experiments.speed.memory WHAT MODEL BATCH`` (WHAT: a sampler, or a number of positions) prints the largest resident
size in bytes, without what the process held before the model was built.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch

import tta_bench
from experiments.speed.models import build

PROMPT, GEN_LENGTH, BLOCK_LENGTH, STEPS = 64, 64, 32, 4


def resident(kind: str) -> int:
    """Bytes that this process holds (``VmRSS``) or held at most (``VmHWM``)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(kind + ":")))


def measure(what: str, model_name: str, batch: int) -> int:
    """Peak bytes of decoding with a sampler; or, for a number, of one forward pass with logits at so many of the generated
    positions and a float32 copy of these."""
    tta_bench.generate(build("mini"), torch.full((1, 4), 9), steps=2, gen_length=2, block_length=2)  # what is imported late
    before = resident("VmRSS")
    model = build(model_name)
    prompt = torch.ones(batch, PROMPT, dtype=torch.int64)
    if what.isdigit():
        tokens = torch.cat((prompt, torch.full((batch, GEN_LENGTH), model.config.mask_token_id)), dim=1)
        place = torch.arange(PROMPT + GEN_LENGTH).expand_as(tokens)
        with torch.inference_mode():
            logits = model(tokens, positions=(place >= PROMPT) & (place < PROMPT + int(what))).logits
            logits.float().clone()
    else:
        tta_bench.generate(model, prompt, what, steps=STEPS, gen_length=GEN_LENGTH, block_length=BLOCK_LENGTH)
    return resident("VmHWM") - before


def peak(what: str, model: str, batch: int) -> int:
    """``measure`` in a process of its own."""
    command = [sys.executable, "-m", "experiments.speed.memory", what, model, str(batch)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    return int(done.stdout.split()[-1])


if __name__ == "__main__":
    _, asked, name, rows = sys.argv
    print(measure(asked, name, int(rows)))
