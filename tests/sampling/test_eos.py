"""End-of-sequence policies, padding, templates."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

import tta_bench
from tests.toy import TableModel
from tta_bench import catalog, testing

MASK, EOS = 4, 3
EMPTY = torch.zeros(1, 0, dtype=torch.int64)


def table(*best: tuple[int, float]) -> TableModel:
    """A model whose best token at position i has the id and probability ``best[i]``; the other ids share the rest."""
    rows = []
    for token, p in best:
        row = [(1 - p) / 3] * 4 + [0.0]
        row[token] = p
        rows.append(row)
    return TableModel(torch.tensor(rows, dtype=torch.float64).clamp(min=1e-12).log())


def commits(model: TableModel, sampler: str, n: int, **options: object) -> list[list[int]]:
    options = {"mask_id": MASK, "eos_id": EOS, "gen_length": n, **options}
    _, logs = tta_bench.generate(model, EMPTY, sampler, **options)
    return [[p for _, p, _ in step["committed"]] for step in logs["token_logs"]]


def test_forbid_commits_ends_only_when_nothing_else_is_left() -> None:
    model = table((0, 0.6), (EOS, 0.9), (0, 0.5), (EOS, 0.8))
    assert commits(model, "low_confidence", 4, steps=4) == [[1], [3], [0], [2]]
    assert commits(model, "low_confidence", 4, steps=4, eos_policy="forbid") == [[0], [2], [1], [3]]
    # Open schedules wait as well, and a schedule that must commit more than there is commits the ends too.
    assert commits(model, "threshold", 4, threshold=0.1, eos_policy="forbid") == [[0, 2], [1, 3]]
    assert commits(model, "low_confidence", 4, steps=1, eos_policy="forbid") == [[0, 1, 2, 3]]


@pytest.mark.parametrize("sampler", ["remdm_cap", "remdm_conf", "remdm_loop", "dream_origin"])
def test_forbid_holds_where_every_position_decides_for_itself(sampler: str) -> None:
    model = table(*[(0, 0.6), (EOS, 0.97)] * 4)
    _, logs = tta_bench.generate(
        model, EMPTY, sampler, mask_id=MASK, eos_id=EOS, gen_length=8, steps=64, eos_policy="forbid", temperature=0.0
    )
    masked = [set(range(8))]
    for step in logs["token_logs"]:
        committed = {p: token for _, p, token in step["committed"]}
        if EOS in committed.values():
            assert not {p for p in masked[-1] if p % 2 == 0}, "an end was committed while others waited"
        masked.append((masked[-1] - committed.keys()) | {p for _, p, _ in step["remasked"]})


def test_forbid_holds_at_a_temperature_too() -> None:
    model = table((0, 0.6), (EOS, 0.9), (0, 0.5), (EOS, 0.8))
    ends_first = {}
    for policy in ("allow", "forbid"):
        _, logs = tta_bench.generate(
            model, EMPTY.repeat(200, 1), mask_id=MASK, eos_id=EOS, gen_length=4, steps=4, eos_policy=policy, temperature=1.0
        )
        ends_first[policy] = sum(token == EOS for _, _, token in logs["token_logs"][0]["committed"])
    # Under forbid only where all four candidates are ends, which has a probability of 0.13 x 0.9 x 0.17 x 0.8 = 0.016.
    assert ends_first["allow"] > 120
    assert ends_first["forbid"] < 15


def test_stop_fills_what_is_behind_the_end_at_no_cost() -> None:
    model = table((0, 0.95), (EOS, 0.9), (0, 0.5), (1, 0.6), (0, 0.7), (0, 0.4))
    tokens, logs = tta_bench.generate(
        model, EMPTY, mask_id=MASK, eos_id=EOS, gen_length=6, steps=6, eos_policy="stop", record_canvases=True
    )
    assert tokens.tolist() == [[0, EOS, EOS, EOS, EOS, EOS]]
    assert (logs["forward_passes"], logs["total_steps"], model.calls, len(logs["canvases"])) == (2, 2, 2, 2)


def test_stop_waits_until_nothing_before_the_end_is_masked() -> None:
    model = table((0, 0.5), (EOS, 0.9), (0, 0.6), (0, 0.7))
    tokens, logs = tta_bench.generate(model, EMPTY, mask_id=MASK, eos_id=EOS, gen_length=4, steps=4, eos_policy="stop")
    assert tokens.tolist() == [[0, EOS, 0, 0]]
    assert logs["forward_passes"] == 4


def test_rows_stop_for_themselves_and_the_model_does_not_see_them_again() -> None:
    def model(input_ids: torch.Tensor) -> SimpleNamespace:
        """Rows whose prompt is 1 end at once, the others never."""
        seen.append(len(input_ids))
        logits = torch.zeros(*input_ids.shape, 5)
        logits[..., 0] = 5.0
        logits[input_ids[:, 0] == 1, 1, EOS] = 9.0
        return SimpleNamespace(logits=logits)

    seen: list[int] = []
    options = {"mask_id": MASK, "eos_id": EOS, "gen_length": 4, "steps": 4, "eos_policy": "stop"}
    tokens, logs = tta_bench.generate(model, torch.tensor([[0], [1]]), **options)
    assert tokens.tolist() == [[0, 0, 0, 0, 0], [1, EOS, EOS, EOS, EOS]]
    assert seen == [2, 1, 1, 1]
    assert logs["forward_passes_per_row"] == [4, 1]
    assert logs["forward_passes"] == 2.5


def test_an_end_within_a_template_or_a_prompt_does_not_stop() -> None:
    model = table((0, 0.9), (EOS, 0.8), (0, 0.5), (1, 0.5), (0, 0.6))
    prompt = torch.tensor([[EOS, MASK, MASK, 1, MASK]])
    tokens, _ = tta_bench.generate(model, prompt, mask_id=MASK, eos_id=EOS, gen_length=0, steps=3, eos_policy="stop")
    assert tokens.tolist() == [[EOS, EOS, 0, 1, 0]]


def test_a_policy_needs_to_know_what_ends_a_sequence() -> None:
    with pytest.raises(ValueError, match="eos_policy=stop: nothing tells which tokens end a sequence; give eos_id"):
        tta_bench.generate(table((0, 0.9)), EMPTY, mask_id=MASK, gen_length=1, steps=1, eos_policy="stop")
    with pytest.raises(ValueError, match="eos_policy=never: must be one of allow, forbid, stop"):
        tta_bench.generate(table((0, 0.9)), EMPTY, mask_id=MASK, gen_length=1, steps=1, eos_policy="never")


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ([[1, 1, 0]], "to the left"),
        ([[1, 1]], r"has shape \(1, 2\)"),
        ([[0, 1, 2]], "1 at tokens and 0 at padding"),
    ],
)
def test_padding_of_another_form_is_refused(mask: list[list[int]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tta_bench.generate(
            testing.TinyDenoiser(), torch.tensor([[1, 1, 1]]), attention_mask=torch.tensor(mask), steps=2, gen_length=2
        )


def test_a_padded_batch_of_the_native_model_equals_its_rows_alone(mini: tuple) -> None:
    model, tokenizer = mini
    texts = ["sort badc=", "reverse abcdef="]
    batch = tokenizer(texts, return_tensors="pt", padding=True, padding_side="left")
    options = {"steps": 4, "gen_length": 8, "seed": 0}
    for sampler in ("low_confidence", "tta", "wino", "threshold"):
        together, _ = tta_bench.generate(model, batch.input_ids, sampler, attention_mask=batch.attention_mask, **options)
        for row, text in enumerate(texts):
            alone, _ = tta_bench.generate(model, tokenizer(text, return_tensors="pt").input_ids, sampler, **options)
            assert torch.equal(alone[0, -8:], together[row, -8:])


def test_dropout_views_do_not_depend_on_padding(mini: tuple) -> None:
    model, tokenizer = mini
    prompt = tokenizer("sort badc=", return_tensors="pt").input_ids
    padded, mask = torch.nn.functional.pad(prompt, (3, 0)), torch.ones(1, 3 + prompt.shape[1], dtype=torch.int64)
    mask[:, :3] = 0
    options = {"steps": 4, "gen_length": 6, "seed": 0, "tta_use_dropout": True, "tta_k": 3}
    alone, one = tta_bench.generate(model, prompt, "tta", **options)
    together, other = tta_bench.generate(model, padded, "tta", attention_mask=mask, **options)
    assert torch.equal(alone[0], together[0, 3:])
    means = [logs["tta_stats"]["avg_mutual_information_per_step"] for logs in (one, other)]
    assert means[0] == pytest.approx(means[1], rel=1e-4)


@pytest.mark.parametrize("sampler", catalog.names("sampler"))
def test_templates_with_holes_before_fixed_text_are_filled_block_by_block(sampler: str) -> None:
    mask = testing.MASK_ID
    prompt = torch.tensor([[1, mask, mask, 3, mask, 2], [mask, 4, 4, mask, 5, mask]])
    tokens, logs = tta_bench.generate(testing.TinyDenoiser(), prompt, sampler, gen_length=3, steps=6, block_length=2)
    fixed = prompt != mask
    assert torch.equal(tokens[:, :6][fixed], prompt[fixed])
    assert not (tokens == mask).any()
    if not catalog.entry("sampler", sampler).build().remask:
        # Without remasking the blocks are filled from left to right: the holes come before what is appended.
        order = [p for s in logs["token_logs"] for r, p, _ in s["committed"] if r == 0]
        assert order[:2] in ([1, 2], [2, 1]) or sampler == "self_consistency"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": [1, 2]}, "prompt: must be a LongTensor .* got list; encode it with the tokenizer"),
        ({"gen_length": None}, "gen_length=None: must be a whole number"),
        ({"sampler": catalog.entry}, "must be a name in conf/sampler or a Sampler; call a function that makes one"),
        ({"sampler": "low_confidence", "threshold": 0.5}, "no parameter 'threshold'; it belongs to t2m, threshold, wino"),
        ({"dtype": "int8"}, "dtype=int8: must be float64"),
    ],
)
def test_arguments_of_another_kind_are_named(options: dict, message: str) -> None:
    arguments = {"prompt": torch.tensor([[1]]), "gen_length": 2, "steps": 2, **options}
    with pytest.raises(ValueError, match=message):
        tta_bench.generate(testing.TinyDenoiser(), **arguments)


def test_answers_that_cannot_be_counted_are_refused() -> None:
    with pytest.raises(TypeError, match="answer_fn returned list for row 0: answers must be hashable"):
        tta_bench.generate(
            testing.TinyDenoiser(), torch.tensor([[1]]), "self_consistency", gen_length=2, steps=2, answer_fn=lambda _, ids: ids
        )
