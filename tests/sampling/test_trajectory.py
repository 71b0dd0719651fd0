from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import tta_bench
from tests.toy import ToyDenoiser
from tta_bench.rng import Noise
from tta_bench.sampling.denoiser import Denoiser
from tta_bench.sampling.eos import EosPolicy
from tta_bench.sampling.presets.low_confidence import low_confidence
from tta_bench.sampling.presets.random_remask import random_remask
from tta_bench.sampling.sampler import sample
from tta_bench.sampling.schedule import Blocks
from tta_bench.sampling.trace import told
from tta_bench.sampling.trajectory import TRAJECTORY, order, trajectories

MASK = 9


def step(before: list[int], predicted: list[int], after: list[int]) -> Any:
    """One row, all of it editable."""
    b, p, a = (torch.tensor([values]) for values in (before, predicted, after))
    all_ = torch.ones_like(b, dtype=torch.bool)
    canvas = SimpleNamespace(tokens=b, editable=all_, looked=all_, mask_id=MASK)
    return SimpleNamespace(
        canvas=canvas, prediction=SimpleNamespace(tokens=p, told=None), tokens=a, committed=(b == MASK) & (a != MASK),
        remasked=(b != MASK) & (a == MASK),
    )  # fmt: skip


def test_by_hand() -> None:
    steps = [
        step([MASK, MASK, MASK, MASK], [1, 2, 3, 4], [1, 2, MASK, MASK]),
        step([1, 2, MASK, MASK], [1, 2, 5, 4], [MASK, 2, 5, MASK]),  # takes 1 back
        step([MASK, 2, 5, MASK], [7, 2, 5, 4], [7, 2, MASK, MASK]),  # another one there; takes 5 back
        step([7, 2, MASK, MASK], [7, 2, 5, 4], [7, 2, 5, 4]),  # the same again
    ]
    (row,) = trajectories(steps)
    assert tuple(row) == TRAJECTORY
    assert row["stability"] == pytest.approx((3 + 3 + 4) / 12)
    assert row["survival"] == 3 / 4
    assert row["efficacy"] == 1 / 2
    assert row["flips"] == 1 / 4
    # Last commits at steps 2, 0, 3, 3: of six pairs one is a tie, one is out of order.
    assert row["order"] == pytest.approx((4 - 1) / 5)


@pytest.mark.parametrize(
    ("steps", "tau"), [([0, 1, 2], 1.0), ([0, 0, 1, 1], 1.0), ([2, 1, 0], -1.0), ([1, 1], None), ([3], None), ([], None)]
)
def test_order(steps: list[int], tau: float | None) -> None:
    assert order(steps) == (tau if tau is None else pytest.approx(tau))


def test_what_is_never_taken_back_survives() -> None:
    tokens = torch.full((3, 8), 96)
    editable = tokens == 96
    editable[2] = False

    def run(sampler: Any) -> list[dict[str, float | None]]:
        noise = Noise(0, ("a", "b", "c"))
        found = sample(Denoiser(ToyDenoiser().eval()), sampler, Blocks(4, None), tokens, editable, mask_id=96, noise=noise)
        return trajectories(found.steps)

    for row in run(low_confidence())[:2]:
        assert (row["survival"], row["efficacy"], row["flips"]) == (1.0, None, 0.0)
    remasked = run(random_remask(remask_top_pct=0.5))
    assert all(0 <= float(row["efficacy"] or 0) <= 1 and float(row["survival"] or 0) <= 1 for row in remasked[:2])
    assert remasked[2] == dict.fromkeys(TRAJECTORY)  # a row with nothing to fill
    assert trajectories([]) == []


def test_numbers_do_not_depend_on_the_batch_or_on_what_was_never_written() -> None:
    """A row that ends early is filled behind its end, and its block is left before others are done."""
    prompt = tta_bench.load("mini")[1].encode("sort dbca=", return_tensors="pt").repeat(2, 1)
    prompt[1, -3] = prompt[1, -2]
    model, _ = tta_bench.load("mini")

    def run(rows: list[int], policy: str) -> list[dict[str, float | None]]:
        tokens = torch.cat((prompt[rows], torch.full((len(rows), 24), model.config.mask_token_id)), dim=1)
        found = sample(
            Denoiser(model), low_confidence(), Blocks(12, 8), tokens, tokens == model.config.mask_token_id,
            mask_id=model.config.mask_token_id, noise=Noise(0, tuple(map(str, rows))), eos=EosPolicy(policy, model.end_ids),
        )  # fmt: skip
        return trajectories(found.steps)

    for policy in ("allow", "stop"):
        together = run([0, 1], policy)
        assert [run([row], policy)[0] for row in (0, 1)] == together
        assert all(row["survival"] == 1.0 for row in together)


def test_only_positions_that_were_looked_at_twice_count_as_steady_or_not() -> None:
    model = ToyDenoiser().eval()
    tokens = torch.full((1, 12), 96)
    for length in (None, 4, 1):
        found = sample(
            Denoiser(model), low_confidence(), Blocks(12, length), tokens, tokens == 96, mask_id=96, noise=Noise(0, ("a",))
        )  # fmt: skip
        (row,) = trajectories(found.steps)
        looked = [told(a) & told(b) for a, b in pairwise(found.steps)]
        same = [a.prediction.tokens == b.prediction.tokens for a, b in pairwise(found.steps)]
        n = sum(int(both.sum()) for both in looked)
        by_hand = sum(int((both & one).sum()) for both, one in zip(looked, same, strict=True)) / n if n else None
        assert row["stability"] == (pytest.approx(by_hand) if n else None)
