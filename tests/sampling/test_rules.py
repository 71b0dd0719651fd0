"""The rules of the rivals, worked out by hand on models whose answers are known."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import tta_bench
from tests.toy import TableModel, peaked
from tta_bench import catalog, testing
from tta_bench.sampling.denoiser import Denoiser
from tta_bench.sampling.vote import Majority
from tta_bench.types import Canvas, Place

MASK = 4


class ScriptedModel:
    """Answers its i-th call with the i-th table of logits (L, V), the last one from then on."""

    def __init__(self, *tables: Tensor) -> None:
        self.tables, self.calls = tables, 0

    def __call__(self, input_ids: Tensor) -> SimpleNamespace:
        table = self.tables[min(self.calls, len(self.tables) - 1)]
        self.calls += 1
        return SimpleNamespace(logits=table.expand(len(input_ids), -1, -1).clone())


def steps_of(sampler: str, confidences: list[float], **options: object) -> list[tuple[list[int], list[int]]]:
    """The positions committed and remasked in each step, where the best token of position i has ``confidences[i]``."""
    model = TableModel(peaked(confidences).double())
    options = {"mask_id": MASK, "gen_length": len(confidences), "seed": 0, **options}
    _, logs = tta_bench.generate(model, torch.zeros(1, 0, dtype=torch.int64), sampler, **options)
    return [([p for _, p, _ in s["committed"]], [p for _, p, _ in s["remasked"]]) for s in logs["token_logs"]]


def commits_of(sampler: str, confidences: list[float], **options: object) -> list[list[int]]:
    return [committed for committed, _ in steps_of(sampler, confidences, **options)]


def test_threshold_commits_all_that_reach_it_and_else_the_best_block_by_block() -> None:
    confidences = [0.6, 0.95, 0.9, 0.5, 0.97, 0.7]
    assert commits_of("threshold", confidences, threshold=0.9) == [[1, 2, 4], [5], [0], [3]]
    assert commits_of("threshold", confidences, threshold=0.9, block_length=3) == [[1, 2], [0], [4], [5], [3]]


def test_factor_asks_more_of_each_further_rank_and_the_reference_takes_a_failing_last() -> None:
    # Ranks 1 and 2 need 1 - 0.6 / 3 = 0.8 and 1 - 0.6 / 4 = 0.85; rank 0 is free.
    confidences = [0.9, 0.84, 0.84]
    assert commits_of("factor", confidences, factor=0.6) == [[0, 1], [2]]
    assert commits_of("factor", confidences, factor=0.6, reference_quirks=True) == [[0, 1, 2]]
    # Where an earlier rank fails, the reference stops there too.
    assert commits_of("factor", [0.9, 0.7, 0.7], factor=0.6, reference_quirks=True)[0] == [0]


def test_entropy_bound_commits_the_largest_prefix_whose_sum_less_its_maximum_is_within_gamma() -> None:
    # A position whose best token has p and whose three others share the rest.
    def entropy(p: float) -> float:
        rest = torch.tensor((1 - p) / 3)
        return float(-p * torch.tensor(p).log() - 3 * rest * rest.log())

    confidences = [0.9, 0.8, 0.7]
    first, second = entropy(0.9), entropy(0.8)
    assert commits_of("entropy_bound", confidences, gamma=first + 1e-4) == [[0, 1], [2]]
    assert commits_of("entropy_bound", confidences, gamma=first - 1e-4) == [[0], [1], [2]]
    assert commits_of("entropy_bound", confidences, gamma=first + second + 1e-4) == [[0, 1, 2]]


def test_margin_and_entropy_order_positions_by_other_measures_than_confidence() -> None:
    # Position 0 is likelier but has a close second; position 1 spreads its rest.
    table = torch.tensor([[0.5, 0.45, 0.05, 0.0, 0.0], [0.4, 0.2, 0.2, 0.2, 0.0]]).clamp(min=1e-12).log()
    first = {}
    for sampler in ("low_confidence", "margin", "entropy"):
        _, logs = tta_bench.generate(
            TableModel(table), torch.zeros(1, 0, dtype=torch.int64), sampler, mask_id=MASK, gen_length=2, steps=2
        )
        first[sampler] = logs["token_logs"][0]["committed"][0][1]
    assert first == {"low_confidence": 0, "margin": 1, "entropy": 0}


def test_klass_waits_until_two_divergences_are_known_then_commits_all_that_is_confident_and_stable() -> None:
    options = {"steps": 10, "conf_threshold": 0.5, "kl_threshold": 0.01}
    assert commits_of("klass", [0.9, 0.8, 0.7, 0.6, 0.4], **options) == [[0], [1], [2, 3], [4]]


def test_klass_does_not_take_what_moves() -> None:
    moving = [peaked([0.9, 0.8, 0.7, p]).double() for p in (0.6, 0.9, 0.6, 0.9, 0.6, 0.9)]
    _, logs = tta_bench.generate(
        ScriptedModel(*moving), torch.zeros(1, 0, dtype=torch.int64), "klass", mask_id=MASK, gen_length=4, steps=8,
        conf_threshold=0.5, kl_threshold=0.01,
    )  # fmt: skip
    commits = [[p for _, p, _ in s["committed"]] for s in logs["token_logs"]]
    assert commits == [[0], [3], [1, 2]]  # in call 1 position 3 is the most confident; in call 2 the others are stable


def test_klass_reads_divergences_of_the_block_before_only_as_a_quirk() -> None:
    options = {"steps": 12, "block_length": 3, "conf_threshold": 0.5, "kl_threshold": 0.01}
    confidences = [0.9, 0.8, 0.7] * 2
    assert commits_of("klass", confidences, **options) == [[0], [1], [2], [3], [4], [5]]
    # The reference may commit by stability from the second step of a block on.
    assert commits_of("klass", confidences, reference_quirks=True, **options) == [[0], [1], [2], [3], [4, 5]]


def test_klass_commits_what_is_not_ready_only_where_nothing_is_or_in_the_last_step_of_a_block() -> None:
    before = peaked([0.95, 0.9, 0.8, 0.8, 0.8, 0.8, 0.55, 0.3]).double()
    after = peaked([0.95, 0.9, 0.8, 0.8, 0.8, 0.8, 0.7, 0.3]).double()
    _, logs = tta_bench.generate(
        ScriptedModel(before, after), torch.zeros(1, 0, dtype=torch.int64), "klass", mask_id=MASK, gen_length=8, steps=4,
        conf_threshold=0.5, kl_threshold=0.01, history_length=1,
    )  # fmt: skip
    commits = [[p for _, p, _ in s["committed"]] for s in logs["token_logs"]]
    # In step 2 the share of two would take both that are left, but position 6 alone is ready.
    assert commits == [[0, 1], [2, 3, 4, 5], [6], [7]]


def test_klass_does_not_mind_probabilities_that_underflow() -> None:
    tables = [torch.tensor([[0.0, -3.0, -103.0 - 1.5 * i, -5.0, 0.0]]).repeat(4, 1) for i in range(3)]
    _, logs = tta_bench.generate(
        ScriptedModel(*tables), torch.zeros(1, 0, dtype=torch.int64), "klass", mask_id=MASK, gen_length=4, steps=8
    )
    assert [len(s["committed"]) for s in logs["token_logs"]] == [1, 1, 2]


def test_rcr_judges_tokens_by_their_confidence_when_they_were_committed() -> None:
    first, then = peaked([0.9, 0.5, 0.6, 0.8]).double(), peaked([0.1, 0.7, 0.95, 0.1]).double()
    _, logs = tta_bench.generate(
        ScriptedModel(first, then), torch.zeros(1, 0, dtype=torch.int64), "rcr", mask_id=MASK, gen_length=4, steps=4
    )
    commits = [[p for _, p, _ in s["committed"]] for s in logs["token_logs"]]
    remasks = [[p for _, p, _ in s["remasked"]] for s in logs["token_logs"]]
    # Step 0 keeps the best. Then position 2 (now 0.95) and position 0 (0.9 when committed) are the best two.
    assert commits[:2] == [[0], [2]]
    assert remasks[1] == []


def test_p2_takes_back_what_it_would_no_longer_draw_with_confidence() -> None:
    first, then = peaked([0.9, 0.5, 0.6, 0.8]).double(), peaked([0.3, 0.7, 0.95, 0.35]).double()
    _, logs = tta_bench.generate(
        ScriptedModel(first, then), torch.zeros(1, 0, dtype=torch.int64), "p2", mask_id=MASK, gen_length=4, steps=4
    )
    events = [([p for _, p, _ in s["committed"]], [p for _, p, _ in s["remasked"]]) for s in logs["token_logs"]]
    assert events == [([0], []), ([1, 2], [0]), ([3], []), ([0], [])]


def test_t2m_takes_back_at_most_five_times_and_ends_with_a_look_that_takes_nothing_back() -> None:
    steps = steps_of("t2m", [0.4], low_prob=0.5)
    assert steps == [([0], []), ([], [0])] * 5 + [([0], []), ([], [])]


def test_t2m_takes_back_the_least_probable_within_its_share_of_the_block() -> None:
    steps = steps_of("t2m", [0.95, 0.4, 0.3, 0.45], low_prob=0.5, threshold=0.2, max_times=1, max_share=0.5)
    assert steps == [([0, 1, 2, 3], []), ([], [1, 2]), ([1, 2], [3]), ([3], []), ([], [])]


@pytest.mark.parametrize(("block_length", "max_times"), [(1, 5), (4, 20)])
def test_t2m_may_take_back_as_often_as_it_is_allowed(block_length: int, max_times: int) -> None:
    steps = steps_of("t2m", [0.4] * 8, low_prob=0.5, block_length=block_length, max_times=max_times)
    assert sum(len(remasks) for _, remasks in steps) == 8 * max_times


def test_remdm_topk_exchanges_tokens_in_the_middle_half_of_its_steps() -> None:
    steps = steps_of("remdm_topk", [0.3 + 0.04 * i for i in range(16)], steps=16, remask_number=2, temperature=0.0)
    committed = [0]
    for commits, remasks in steps:
        committed.append(committed[-1] + len(commits) - len(remasks))
    # Draft 7 steps to 14 of 16, of which the last already gives 2 back; 8 exchanges; the last step fills.
    assert committed == [0, 2, 4, 6, 8, 10, 12] + [12] * 8 + [14, 16]


def test_wino_lets_no_real_position_see_the_shadow_and_no_shadow_its_mirror() -> None:
    model = testing.TinyDenoiser()
    tokens = torch.tensor([[1, 3, 5, testing.MASK_ID, 2], [4, 4, testing.MASK_ID, 0, 1]])
    editable = torch.tensor([[False, True, True, True, True], [False, True, True, True, False]])
    one = torch.ones(2, dtype=torch.int64)
    canvas = Canvas(tokens, editable, 0, None, testing.MASK_ID, Place(one, 2 * one, one, 0 * one, (0 * one).bool()))
    wide, logits = Denoiser(model).with_shadow(canvas)
    shadow = wide.looked.nonzero()[:, 1] >= tokens.shape[1]
    torch.testing.assert_close(logits.raw[0, 0, ~shadow], Denoiser(model).look(canvas).raw[0, 0])
    assert wide.tokens[:, tokens.shape[1] :].tolist() == tokens[canvas.block][:, None].tolist()
    # With a block of one position the shadow is the model's opinion with that position masked.
    for row, position in canvas.block.nonzero().tolist():
        hidden = tokens[row : row + 1].clone()
        hidden[0, position] = testing.MASK_ID
        expected = model(hidden).logits[0, position]
        torch.testing.assert_close(logits.raw[0, 0, shadow][row], expected)


def test_wino_refuses_shifted_logits_with_a_reason() -> None:
    with pytest.raises(ValueError, match="shift_logits=True: a shadow stands at the position it mirrors"):
        tta_bench.generate(testing.TinyDenoiser(), torch.tensor([[1]]), "wino", gen_length=2, shift_logits=True)


def test_more_steps_multiplies_the_steps() -> None:
    assert len(commits_of("more_steps", [0.9] * 6, steps=2, times=3)) == 6


def test_the_majority_wins_and_of_equals_the_first() -> None:
    tokens = torch.tensor([[1, 1], [2, 2], [2, 2], [3, 3], [4, 4], [5, 5]])
    assert Majority(3).choose(tokens, [], None).tolist() == [[2, 2], [3, 3]]
    # Answers, not tokens, are counted; the row's number is that of the prompt.
    seen = []

    def answer(row: int, ids: list[int]) -> int:
        seen.append(row)
        return ids[0] % 2

    assert Majority(3).choose(tokens, [], answer).tolist() == [[2, 2], [3, 3]]
    assert seen == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(("growth", "final"), [(0.0, [0, 0, 0]), (5.0, [0, 0, 1])])
def test_the_steps_vote_with_growing_weight(growth: float, final: list[int]) -> None:
    early = peaked([0.9, 0.6, 0.5]).double()
    late = early.clone()
    late[2, [0, 1]] = late[2, [1, 0]]
    # Token by token the steps predict 000, 000 and 001.
    tokens, logs = tta_bench.generate(
        ScriptedModel(early, early, late), torch.zeros(1, 0, dtype=torch.int64), "temporal_vote", mask_id=MASK, gen_length=3,
        steps=3, growth=growth, answer_fn=lambda _, ids: ids[2],
    )  # fmt: skip
    assert logs["forward_passes"] == 3
    assert tokens[0].tolist() == final


def test_self_consistency_costs_its_samples_and_decodes_rows_for_themselves() -> None:
    model = testing.TinyDenoiser()
    prompt = torch.tensor([[1, 3], [5, 7]])
    options = {"steps": 4, "gen_length": 4, "samples": 3, "temperature": 1.0}
    tokens, logs = tta_bench.generate(model, prompt, "self_consistency", **options)
    assert tokens.shape == (2, 6)
    assert (logs["forward_passes"], logs["model_calls"], logs["nfe"]) == (12, 4, 12)
    alone, _ = tta_bench.generate(model, prompt[1:], "self_consistency", **options)
    assert torch.equal(alone[0], tokens[1])


def test_the_mask_need_not_lie_within_the_vocabulary_of_the_head() -> None:
    def model(input_ids: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=torch.arange(4.0).expand(*input_ids.shape, 4))

    for sampler in ("low_confidence", "tta", "t2m"):
        tokens, _ = tta_bench.generate(model, torch.tensor([[0]]), sampler, mask_id=MASK, gen_length=2, steps=2)
        assert tokens.tolist() == [[0, 3, 3]]


def test_guidance_and_truncation_are_computed_in_float32_at_least() -> None:
    class Half(testing.TinyDenoiser):
        def forward(self, *args: Tensor, **kwargs: Tensor) -> SimpleNamespace:
            return SimpleNamespace(logits=super().forward(*args, **kwargs).logits.bfloat16())

    for options in ({"cfg_scale": 0.7}, {"sampler": "dream_entropy", "temperature": 0.7}):
        for seed in range(10):
            arguments = {"gen_length": 8, "steps": 8, "seed": seed, **options}
            as_it_is, _ = tta_bench.generate(Half(seed), torch.tensor([[1, 3]]), **arguments)
            cast, _ = tta_bench.generate(Half(seed), torch.tensor([[1, 3]]), dtype="float32", **arguments)
            assert torch.equal(as_it_is, cast)


class Float64Watch(TorchDispatchMode):
    """Remembers the size of the largest float64 tensor that an operation made."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, Tensor) and tensor.dtype == torch.float64:
                self.largest = max(self.largest, tensor.numel())
        return out


@pytest.mark.parametrize("name", catalog.names("sampler"))
def test_no_vocabulary_wide_float64_tensor_beyond_what_can_change(name: str) -> None:
    vocabulary, reach, gen_length = 4_000, 4, 32

    def model(input_ids: Tensor, **_: Tensor) -> SimpleNamespace:
        generator = torch.Generator().manual_seed(0)
        return SimpleNamespace(logits=torch.randn(*input_ids.shape, vocabulary, generator=generator))

    parameters = {"temperature": 1.0} | ({"samples": 2} if name == "self_consistency" else {})
    samples = parameters.get("samples", 1)
    with Float64Watch() as watch:
        tta_bench.generate(
            model, torch.randint(0, 90, (1, 20)), name, mask_id=96, gen_length=gen_length, steps=16,
            block_length=reach, **parameters,
        )  # fmt: skip
    # These may take back tokens of earlier blocks: all that was reached can change.
    can_change = gen_length if name in ("tta", "random_remask", "rcr") else reach
    assert watch.largest <= samples * can_change * vocabulary


def test_the_watch_sees_what_it_looks_for() -> None:
    with Float64Watch() as watch:
        torch.zeros(7, 3).double()
    assert watch.largest == 21
