from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tta_bench.rng import Noise, keys_of_prompts
from tta_bench.sampling.freeze import FreezeWindow
from tta_bench.sampling.remask import Budget
from tta_bench.sampling.schedule import BlockSchedule
from tta_bench.sampling.selection import take_highest


def test_quota_gives_the_remainder_to_the_first_steps() -> None:
    plan = BlockSchedule(steps=4, block_length=5).plan([10])
    assert plan.quota.tolist() == [[3, 5, 8, 10]]
    assert plan.reach.tolist() == [[5, 5, 10, 10]]


@given(n=st.integers(0, 40), length=st.integers(1, 40), share=st.integers(1, 9))
def test_quota_is_cumulative_stays_within_reach_and_ends_with_everything(n: int, length: int, share: int) -> None:
    blocks = max(1, -(-n // min(length, max(n, 1))))
    plan = BlockSchedule(share * blocks, length).plan([n])
    quota, reach = plan.quota[0].tolist(), plan.reach[0].tolist()
    assert quota == sorted(quota)
    assert quota[-1] == n
    assert all(q <= r <= n for q, r in zip(quota, reach, strict=True))


def test_steps_must_be_divisible_by_blocks() -> None:
    with pytest.raises(ValueError, match=r"steps=7: must be divisible by the number of blocks, 4 .* multiple of 4"):
        BlockSchedule(7, 8).plan([32])


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
