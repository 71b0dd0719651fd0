from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tta_bench.rng import Noise, keys_of_prompts
from tta_bench.sampling.freeze import FreezeWindow
from tta_bench.sampling.presets.klass import Share
from tta_bench.sampling.presets.remdm_topk import DraftLoopFinish
from tta_bench.sampling.remask import Budget
from tta_bench.sampling.schedule import Blocks, Linear, Open, Schedule, Timed, Uniform
from tta_bench.sampling.selection import take_highest
from tta_bench.types import Canvas, Place

MASK = 96


def at_step(tokens: Tensor, step: int, n_steps: int, start: int = 0, end: int | None = None) -> Canvas:
    """A canvas (B, L) of which everything is editable, in a step of its only block, or of the block start .. end."""
    rows = torch.ones(len(tokens), dtype=torch.int64)
    end = tokens.shape[1] if end is None else end
    place = Place(start * rows, end * rows, step * rows, n_steps * rows, rows.bool() & (step == n_steps - 1))
    return Canvas(tokens, torch.ones_like(tokens).bool(), step, n_steps, MASK, place)


def committed_by_schedule(schedule: Schedule, n: int, steps: int) -> list[int]:
    """How many of ``n`` positions are committed after each step, if what is due is committed from the left."""
    tokens, counts = torch.full((1, n), MASK), []
    for step in range(steps):
        due = int(schedule.due(at_step(tokens, step, steps)))
        done = int((tokens != MASK).sum())
        tokens[0, done : done + due] = 0
        counts.append(done + max(due, 0))
    return counts


def test_uniform_gives_the_remainder_to_the_first_steps() -> None:
    assert committed_by_schedule(Uniform(), 10, 4) == [3, 6, 8, 10]


def test_linear_leaves_the_floor_of_a_share_masked() -> None:
    assert committed_by_schedule(Linear(), 10, 4) == [10 - 7, 10 - 5, 10 - 2, 10]


def test_timed_commits_the_floor_of_a_share_of_what_is_left() -> None:
    # From time 1 over 2/3 and 1/3 to (nearly) 0: floor(10 / 3), floor(7 / 2), the rest.
    assert committed_by_schedule(Timed(1e-3), 10, 3) == [3, 6, 10]


def test_draft_loop_finish_has_three_phases() -> None:
    counts = committed_by_schedule(DraftLoopFinish(), 32, 32)
    assert counts[13] == 28  # 14 of 32 steps draft 7/8
    assert counts[13:30] == [28] * 17  # 16 steps exchange
    assert counts[30:] == [30, 32]


@pytest.mark.parametrize("schedule", [Uniform(), Linear(), Timed(), Share(), DraftLoopFinish()], ids=lambda s: type(s).__name__)
@given(n=st.integers(1, 40), steps=st.integers(1, 50))
def test_a_fixed_schedule_never_asks_back_and_ends_with_everything(schedule: Schedule, n: int, steps: int) -> None:
    counts = committed_by_schedule(schedule, n, steps)
    assert counts == sorted(counts)
    assert counts[-1] == n


def test_what_was_remasked_is_owed_again() -> None:
    tokens = torch.tensor([[0, MASK, MASK, 0]])
    assert Uniform().due(at_step(tokens, 2, 4)).tolist() == [1]
    tokens[0, 3] = MASK
    assert Uniform().due(at_step(tokens, 2, 4)).tolist() == [2]


def test_blocks_share_positions_and_steps() -> None:
    layout = Blocks(steps=6, block_length=5).layout([10, 3, 0], Uniform())
    assert layout.length.tolist() == [5, 3, 1]
    assert layout.count.tolist() == [2, 1, 1]
    assert layout.share.tolist() == [3, 6, 6]


def test_steps_must_be_divisible_by_blocks_where_they_are_used() -> None:
    with pytest.raises(ValueError, match=r"steps=7: must be divisible by the number of blocks, 4 .* multiple of 4"):
        Blocks(7, 8).layout([32], Uniform())
    assert Blocks(7, 8).layout([32], Open()).share.tolist() == [0]


def test_take_highest_breaks_ties_by_lowest_position_and_respects_eligibility() -> None:
    score = torch.tensor([[1.0, 5.0, 5.0, 5.0, 9.0]])
    eligible = torch.tensor([[True, True, True, True, False]])
    assert take_highest(score, eligible, torch.tensor([2])).tolist() == [[False, True, True, False, False]]
    assert take_highest(score, eligible, torch.tensor([9])).tolist() == [[True] * 4 + [False]]
    assert not take_highest(score, eligible, torch.tensor([0])).any()


@pytest.mark.parametrize(
    ("budget", "committed", "count"),
    [
        (Budget(None, 0.1), [0, 5, 10, 25], [1, 1, 1, 2]),
        (Budget(None, 0.29), [100], [29]),  # 0.29 * 100 is 28.999999999999996
        (Budget(None, 0.0), [50], [0]),
        (Budget(3, 0.5), [50, 2], [3, 3]),
        (Budget(0, 0.5), [50], [0]),
    ],
)
def test_remask_budget(budget: Budget, committed: list[int], count: list[int]) -> None:
    assert budget.count(torch.tensor(committed)).tolist() == count


def test_freeze_starts_after_the_threshold_lasts_its_duration_and_is_per_row() -> None:
    window = FreezeWindow(window=3, threshold=2, duration=2)
    memory = window.init(torch.zeros(2, 1, dtype=torch.int64))
    frozen = []
    for step in range(8):
        memory = window.begin(memory, step)
        frozen.append((memory.until > step)[:, 0].tolist())
        memory = window.end(memory, torch.tensor([[step in (0, 1)], [False]]))
    # Changes in steps 0 and 1: two within the window as seen from steps 2 and 3, each freezing for two steps.
    assert [row[0] for row in frozen] == [False, False, True, True, True, False, False, False]
    assert not any(row[1] for row in frozen)


def test_noise_depends_on_seed_key_step_purpose_and_index_only() -> None:
    noise = Noise(0, ("a", "b"))
    together = noise.uniform(3, "draw", 6, 2)
    np.testing.assert_array_equal(Noise(0, ("b",)).uniform(3, "draw", 4, 2)[0], together[1, :4])
    for other in (Noise(1, ("a",)).uniform(3, "draw", 6, 2), noise.uniform(4, "draw", 6, 2), noise.uniform(3, "x", 6, 2)):
        assert not np.isclose(other[0], together[0]).any()


def test_noise_is_the_same_as_when_this_was_written() -> None:
    assert Noise(7, ("dev-00000/0",)).uniform(2, "draw", 2)[0, :, 0] == pytest.approx(
        [0.9445962601391599, 0.965335189692499], abs=0
    )


def test_equal_prompts_in_a_batch_get_keys_of_their_own() -> None:
    keys = keys_of_prompts([[1, 2], [3, 4], [1, 2]])
    assert len(set(keys)) == 3
    assert keys_of_prompts([[1, 2]]) == keys[:1]
