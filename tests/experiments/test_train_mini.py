from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

import tta_bench
from experiments.train_mini import train as training
from experiments.train_mini.tokenizer import build_tokenizer


def options(folder: Path, *more: str) -> list[str]:
    return ["--scale", "0.0005", "--tokens", "256", "--width", "32", "--layers", "1", "--warmup", "2", "--log-every", "2",
            "--save-every", "2", "--work", str(folder), "--out", str(folder / "out"), *more]  # fmt: skip


def test_training_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    training.main(options(tmp_path / "whole", "--steps", "4"))
    train, stop = training.rate_at, []

    def rate_that_stops(step: int, steps: int, peak: float, warmup: int) -> float:
        if step == 2 and not stop:
            stop.append(step)
            raise KeyboardInterrupt
        return train(step, steps, peak, warmup)

    training.rate_at = rate_that_stops
    try:
        training.main(options(tmp_path / "broken", "--steps", "4"))
        raise AssertionError("was not stopped")
    except KeyboardInterrupt:
        training.main(options(tmp_path / "broken", "--steps", "4"))
    finally:
        training.rate_at = train
    models = [tta_bench.load(tmp_path / name / "out")[0] for name in ("whole", "broken")]
    for one, other in zip(*(m.state_dict().values() for m in models), strict=True):
        torch.testing.assert_close(one, other)


def test_batches_mask_answers_only_and_at_least_one_token_a_row(tmp_path: Path) -> None:
    tokenizer = build_tokenizer()
    data = training.load_data(tmp_path, tokenizer, 0.0005)
    newline, end = tokenizer.get_vocab()["\n"], tokenizer.eos_token_id
    seen = set()
    for step in range(40):
        name, ids, masked = training.draw_batch(data, 7_000 * (step % 2), 512, newline, np.random.default_rng(step))
        seen.add(name)
        assert masked.any(dim=1).all()
        texts = [tokenizer.decode(row, skip_special_tokens=True) for row in ids.tolist()]
        if name == "sudoku":
            assert not masked[ids == newline].any()
            task = tta_bench.tasks.load("sudoku", holes=36)
            assert all(task.score(task.problems("dev", 1)[0], text) == 1.0 for text in texts)
        else:
            start = [text.index(":" if name == "json" else "=") + 1 for text in texts]
            assert all(not row[:n].any() for row, n in zip(masked, start, strict=True))
            assert ids[:, -1].eq(end).all()
    assert {"sudoku", "json", "listops", "arithmetic"} <= seen


def test_training_never_sees_dev_or_test_problems() -> None:
    for task, _ in training.SOURCES.values():
        train = {p.prompt for _, p in zip(range(300), task.stream("train"), strict=False)}
        assert not train & {p.prompt for split in ("dev", "test") for p in task.problems(split, 100)}
