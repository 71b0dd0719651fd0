"""Keys and values kept within a block: exact where they must be, counted as they are, refused where they cannot be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import tta_bench
from tests.models.checkpoints import MASK, NATIVE, SEP, SIZE, dream, illada, llada, llada_moe
from tests.toy import ToyDenoiser
from tta_bench import catalog
from tta_bench.sampling.cache import KeyValues, Part

CACHEABLE = [name for name in catalog.names("sampler") if "cache" in catalog.entry("sampler", name).parameters]
SHORT: dict[str, dict[str, float]] = {
    "tta": {"remask_top_pct": 0.0},
    "random_remask": {"remask_top_pct": 0.0},
    "t2m": {"threshold": 0.1, "max_times": 1},
}
"""Parameters: with a cache, the first two take back in the current block only, so here they take nothing back."""

PROMPT = torch.tensor([[7, 8, 9, 30, 31], [20, 21, 9, 11, 12], [40, 41, 42, 43, 44]])
SEEN = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 1, 1], [1, 1, 1, 1, 1]])
SHAPE: dict[str, Any] = {"steps": 8, "gen_length": 16, "block_length": 4, "seed": 3, "attention_mask": SEEN}


class Spy(torch.nn.Module):
    """Counts what a model evaluates."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.config, self.shift_logits = model, model.config, model.shift_logits
        self.calls: list[tuple[int, int]] = []

    def forward(
        self, input_ids: Any, attention_mask: Any = None, position_ids: Any = None, positions: Any = None, cache: Any = None
    ) -> Any:
        self.calls.append(tuple(input_ids.shape))
        return self.model(input_ids, attention_mask, position_ids, positions, cache)


def test_all_but_these_samplers_can_keep_keys_and_values() -> None:
    assert set(catalog.names("sampler")) - set(CACHEABLE) == {"rcr", "temporal_vote", "wino", "tta_best", "tta_rules"}


@pytest.mark.parametrize(
    ("make", "sampler"),
    [(make, sampler) for make in (llada, dream) for sampler in CACHEABLE]
    + [(make, sampler) for make in (illada, llada_moe) for sampler in ("low_confidence", "threshold", "p2", "tta")],
)
def test_a_network_of_one_layer_decodes_the_same(make: Callable, sampler: str) -> None:
    """Its keys and values depend on the token at their position only, so that what was kept is what would be computed."""
    model, own = make(1).double(), SHORT.get(sampler, {})
    for cfg_scale in (0.0, 0.7) if make is llada else (0.0,):
        options = {**SHAPE, **own, "cfg_scale": cfg_scale}
        expected, logs = tta_bench.generate(model, PROMPT, sampler, **options)
        for kind in ("prefix", "dual"):
            tokens, cached = tta_bench.generate(model, PROMPT, sampler, cache=kind, **options)
            assert torch.equal(tokens, expected)
            assert cached["forward_passes_per_row"] == logs["forward_passes_per_row"]
            assert sum(cached["evaluated_positions_per_row"]) < sum(logs["evaluated_positions_per_row"])


@pytest.mark.parametrize("sampler", ["low_confidence", "threshold", "t2m", "p2", "klass"])
@pytest.mark.parametrize("kind", ["prefix", "dual"])
def test_templates_with_holes_decode_the_same(sampler: str, kind: str) -> None:
    prompt = PROMPT.repeat(1, 3)
    for row, holes in enumerate(([2, 3, 6, 9, 12, 13], [1, 4, 5, 8, 9, 14], [0, 1, 2, 3, 13, 14])):
        prompt[row, holes] = MASK
    for make in (llada, dream):
        model = make(1).double()
        options = {"steps": 6, "gen_length": 0, "block_length": 2}
        expected, _ = tta_bench.generate(model, prompt, sampler, **options)
        assert torch.equal(tta_bench.generate(model, prompt, sampler, cache=kind, **options)[0], expected)


@pytest.mark.parametrize("kind", ["prefix", "dual"])
@pytest.mark.parametrize("make", NATIVE)
def test_a_step_to_a_block_keeps_nothing(make: Callable, kind: str) -> None:
    """The first step of a block evaluates the whole sequence, so with one step a block a cache changes nothing."""
    model = make(3).double()
    options = SHAPE | {"steps": 4}
    expected, logs = tta_bench.generate(model, PROMPT, **options)
    tokens, cached = tta_bench.generate(model, PROMPT, cache=kind, **options)
    assert torch.equal(tokens, expected)
    assert cached["evaluated_positions_per_row"] == logs["evaluated_positions_per_row"]


@pytest.mark.parametrize("make", NATIVE)
@torch.no_grad()
def test_evaluating_all_positions_with_a_cache_changes_no_logit(make: Callable) -> None:
    from tta_bench.sampling.cache import Access

    model, ids = make(3), torch.randint(6, SIZE, (2, 9))
    kept, rows = KeyValues(2), torch.arange(2)
    stale = model(torch.randint(6, SIZE, (2, 9)), cache=Access(kept, rows)).logits
    everywhere = Part.of(torch.ones(2, 9, dtype=torch.bool))
    fresh = model(ids, position_ids=everywhere.columns, cache=Access(kept, rows, everywhere)).logits
    torch.testing.assert_close(fresh, model(ids).logits, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(fresh, stale)


@pytest.mark.parametrize("sampler", CACHEABLE)
@pytest.mark.parametrize("kind", ["prefix", "dual"])
def test_a_row_decodes_as_it_would_alone(sampler: str, kind: str) -> None:
    model = llada(2).double()
    options = {key: value for key, value in SHAPE.items() if key != "attention_mask"} | {
        "cache": kind,
        **SHORT.get(sampler, {}),
    }
    together, logs = tta_bench.generate(model, PROMPT, sampler, attention_mask=SEEN, **options)
    for row, pads in enumerate((2, 1, 0)):
        alone, own = tta_bench.generate(model, PROMPT[row : row + 1, pads:], sampler, **options)
        assert torch.equal(alone[0], together[row, pads:])
        for count in ("forward_passes_per_row", "evaluated_positions_per_row"):
            assert own[count] == logs[count][row : row + 1]


@pytest.mark.parametrize("make", [llada, dream])
@pytest.mark.parametrize("cfg_scale", [0.0, 0.5])
def test_what_is_evaluated_is_counted(make: Callable, cfg_scale: float) -> None:
    passes = 2 if cfg_scale else 1
    block = 4 + make(1).shift_logits  # shifted logits of a block begin one position before it
    for kind, part in (("dual", [block] * 4), ("prefix", [block + 12, block + 8, block + 4, block])):
        spy = Spy(make(2))
        _, logs = tta_bench.generate(
            spy, PROMPT, steps=12, gen_length=16, block_length=4, cache=kind, cfg_scale=cfg_scale, temperature=0.0
        )
        expected = [length for first in part for length in (21, first, first)]
        assert spy.calls == [(3 * passes, length) for length in expected]
        assert logs["forward_passes_per_row"] == [12 * passes] * 3
        assert logs["evaluated_positions_per_row"] == [passes * sum(expected)] * 3
        assert logs["model_calls"] == len(spy.calls)


def test_rows_in_different_blocks_are_evaluated_in_two_calls() -> None:
    spy = Spy(llada(2))
    _, logs = tta_bench.generate(spy, PROMPT, "threshold", threshold=0.08, cache="dual", **SHAPE)
    lengths = {length for _, length in spy.calls}
    assert lengths == {21, 4}
    assert logs["model_calls"] == len(spy.calls) > logs["total_steps"]
    assert sum(rows for rows, _ in spy.calls) == sum(logs["forward_passes_per_row"])


def test_tta_takes_back_within_the_block_only() -> None:
    options = SHAPE | {"steps": 16, "remask_top_pct": 0.3}
    _, logs = tta_bench.generate(llada(2), PROMPT, "tta", cache="dual", **options)
    taken = [(step["step"], position) for step in logs["token_logs"] for _, position, *_ in step["remasked"]]
    assert taken
    assert all(5 + 4 * (step // 4) <= position < 9 + 4 * (step // 4) for step, position in taken)
    _, free = tta_bench.generate(llada(2), PROMPT, "tta", **options)
    elsewhere = [p for step in free["token_logs"] for _, p, *_ in step["remasked"] if p < 5 + 4 * (step["step"] // 4)]
    assert elsewhere  # which it would do without


def test_stale_predictions_are_those_of_the_last_look() -> None:
    """Per-step statistics go over all committed tokens; of those that were not evaluated they know what was said before."""
    _, logs = tta_bench.generate(llada(2), PROMPT, cache="dual", **SHAPE)
    entropy = logs["tta_stats"]["avg_entropy_per_step"]
    assert all(value > 0 for value in entropy[1:])


def test_ends_of_sequence_stop_rows_with_a_cache_as_without() -> None:
    model = llada(1).double()
    options = SHAPE | {"eos_policy": "stop", "eos_id": [SEP, 9, 10, 11, 12, 13, 14, 15, 16, 17]}
    expected, logs = tta_bench.generate(model, PROMPT, **options)
    tokens, cached = tta_bench.generate(model, PROMPT, cache="dual", **options)
    assert torch.equal(tokens, expected)
    assert cached["forward_passes_per_row"] == logs["forward_passes_per_row"]
    assert len(set(logs["forward_passes_per_row"])) > 1


def test_what_cannot_be_kept_is_refused(toy: ToyDenoiser) -> None:
    with pytest.raises(ValueError, match="cache=dual: keeps keys and values of one network, and tta_use_dropout=True"):
        tta_bench.generate(llada(), PROMPT, "tta", tta_use_dropout=True, cache="dual")
    with pytest.raises(ValueError, match="cache=full: must be one of none, prefix, dual"):
        tta_bench.generate(llada(), PROMPT, cache="full")
    with pytest.raises(ValueError, match="no parameter 'cache'; it belongs to"):
        tta_bench.generate(llada(), PROMPT, "wino", cache="dual")
    with pytest.raises(ValueError, match="cache: ToyDenoiser takes none"):
        tta_bench.generate(toy, PROMPT, mask_id=96, cache="dual")


def test_parts_hold_positions_in_order() -> None:
    part = Part.of(torch.tensor([[False, True, True, False], [True, False, False, False]]))
    assert part.columns[part.real].tolist() == [1, 2, 0]
    assert part.real.tolist() == [[True, True], [True, False]]
    assert part.take(torch.tensor([[5, 6, 7, 8], [1, 2, 3, 4]]))[part.real].tolist() == [6, 7, 1]
