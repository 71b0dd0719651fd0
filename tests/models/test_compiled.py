from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch

import tta_bench
from tests.models.checkpoints import dream, llada
from tests.models.test_hf import bert
from tta_bench.models.compiled import Compiled
from tta_bench.models.hf import MaskedLM


@pytest.fixture(autouse=True)
def forgotten() -> None:
    torch._dynamo.reset()


def batch(words: Any) -> dict[str, Any]:
    found = words(["sort dbca=", "abc=", "ef="], return_tensors="pt", padding=True, padding_side="left")
    return {"prompt": found.input_ids, "attention_mask": found.attention_mask, "steps": 6, "gen_length": 12, "seed": 0}


SAMPLERS = ("low_confidence", "threshold", "tta", "wino")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler on a CPU")
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_compiled_code_gives_the_same_tokens(mini: tuple, sampler: str) -> None:
    model, words = tta_bench.load("mini", device="cpu", compile=True)
    options = batch(words)
    tokens, _ = tta_bench.generate(model, sampler=sampler, **options)
    assert torch.equal(tokens, tta_bench.generate(mini[0], sampler=sampler, **options)[0])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_graph_serves_all_layers_and_few_shapes_are_compiled(mini: tuple, sampler: str) -> None:
    """The graph is taken, and then run as it is: what a compiler makes of it is a slow test."""
    shapes = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
        shapes.append(len(inputs))
        return graph.forward

    model, words = tta_bench.load("mini", device="cpu")
    options = batch(words)
    expected, _ = tta_bench.generate(mini[0], sampler=sampler, **options)
    compiled = Compiled(model, backend=backend)
    tokens, logs = tta_bench.generate(compiled, sampler=sampler, **options)
    assert torch.equal(tokens, expected)
    # Rows finish one by one, from 3 to 1: batches of 4, 2 and 1 at most.
    assert 1 <= len(shapes) <= 3 < logs["model_calls"] * len(mini[0].model.blocks)


def test_dropout_views_run_uncompiled(mini: tuple) -> None:
    model, words = tta_bench.load("mini", device="cpu")
    options = batch(words) | {"tta_use_dropout": True, "tta_k": 3}
    expected, logs = tta_bench.generate(mini[0], sampler="tta", **options)
    tokens, own = tta_bench.generate(Compiled(model, backend="eager"), sampler="tta", **options)
    assert torch.equal(tokens, expected)
    assert own["tta_stats"] == logs["tta_stats"]


@pytest.mark.parametrize("make", [llada, dream, lambda: MaskedLM(bert().eval())], ids=["llada", "dream", "bert"])
@torch.no_grad()
def test_logits_are_those_of_the_model(make: Any) -> None:
    torch.manual_seed(0)
    model = make()
    ids = torch.randint(6, 40, (3, 10))
    seen = torch.ones_like(ids)
    seen[1, :4] = 0
    expected = [model(ids).logits, model(ids, attention_mask=seen).logits]
    compiled = Compiled(model, backend="eager")
    found = [compiled(ids).logits, compiled(ids, attention_mask=seen).logits]
    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)
    blind = torch.ones(1, 1, 10, 10, dtype=torch.bool)
    blind[..., :5, 7] = False
    if not isinstance(model, MaskedLM):
        bias = torch.zeros(1, 1, 10, 10).masked_fill(~blind, torch.finfo(torch.float32).min)
        for mask in (blind, blind[:, :, :1], bias):
            torch.testing.assert_close(
                compiled(ids, attention_mask=mask).logits, model(ids, attention_mask=mask).logits, rtol=1e-4, atol=1e-4
            )
    position_ids = torch.arange(3, 13)[None]
    torch.testing.assert_close(
        compiled(ids, position_ids=position_ids).logits, model(ids, position_ids=position_ids).logits, rtol=1e-4, atol=1e-4
    )
    wanted = torch.rand(ids.shape) < 0.4
    torch.testing.assert_close(compiled(ids, positions=wanted).logits, expected[0][wanted], rtol=1e-4, atol=1e-4)
    some = torch.tensor([4, 0])
    torch.testing.assert_close(compiled(ids, positions=some).logits, expected[0][:, some], rtol=1e-4, atol=1e-4)
    assert compiled.shift_logits == bool(getattr(model, "shift_logits", False))


def test_a_cache_is_refused() -> None:
    with pytest.raises(ValueError, match="cache: Compiled takes none"):
        tta_bench.generate(
            Compiled(llada(), backend="eager"), torch.tensor([[9]]), steps=2, gen_length=4, mask_id=4, cache="dual"
        )
