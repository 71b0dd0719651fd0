"""What differs on a GPU: run with ``pytest -m gpu``."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import tta_bench
from tests.models.checkpoints import NATIVE, SIZE
from tests.toy import GOLDEN
from tta_bench.models import loading
from tta_bench.models.checkpoint import CheckpointError

pytestmark = pytest.mark.gpu

SHAPE: dict[str, Any] = {"steps": 8, "gen_length": 16, "block_length": 8, "seed": 0}


def prompt(words: Any) -> torch.Tensor:
    return words.encode("sort bca=", return_tensors="pt").cuda()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("sampler", ["low_confidence", "tta", "wino", "threshold"])
def test_generation(sampler: str, dtype: str) -> None:
    model, words = tta_bench.load("mini", device="cuda", dtype=dtype)
    tokens, logs = tta_bench.generate(model, prompt(words), sampler, **SHAPE)
    assert tokens.device.type == "cuda"
    assert not bool((tokens == model.config.mask_token_id).any())
    again, _ = tta_bench.generate(model, prompt(words), sampler, **SHAPE)
    assert torch.equal(tokens, again)
    assert logs["forward_passes"] > 0


def test_dropout_views() -> None:
    model, words = tta_bench.load("mini", device="cuda", dtype="bfloat16")
    tokens, logs = tta_bench.generate(model, prompt(words), "tta", tta_use_dropout=True, tta_k=3, **SHAPE)
    assert logs["forward_passes"] == 24
    assert torch.equal(tokens, tta_bench.generate(model, prompt(words), "tta", tta_use_dropout=True, tta_k=3, **SHAPE)[0])


@pytest.mark.parametrize("name", ["llada_tiny", "dream_tiny"])
def test_published_logits(name: str) -> None:
    model, _ = tta_bench.load(GOLDEN / name, device="cuda", dtype="float32")
    expected = load_file(GOLDEN / name / "expected.safetensors")
    with torch.no_grad():
        found = model(expected["input_ids"].cuda()).logits.cpu()
    torch.testing.assert_close(found, expected["logits"], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["prefix", "dual"])
@pytest.mark.parametrize("make", NATIVE)
def test_caches_are_exact_for_one_layer(make: Any, kind: str) -> None:
    model = make(1).double().cuda()
    ids = torch.randint(6, SIZE, (3, 5)).cuda()
    expected, _ = tta_bench.generate(model, ids, **SHAPE)
    assert torch.equal(tta_bench.generate(model, ids, cache=kind, **SHAPE)[0], expected)


@pytest.mark.filterwarnings("ignore")  # torch warns of its own code when it compiles
def test_compiled_code() -> None:
    model, words = tta_bench.load("mini", device="cuda", dtype="float32")
    expected, _ = tta_bench.generate(model, prompt(words), **SHAPE)
    compiled, _ = tta_bench.load("mini", device="cuda", dtype="float32", compile=True)
    assert torch.equal(tta_bench.generate(compiled, prompt(words), **SHAPE)[0], expected)


def test_memory_is_that_of_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "weight_bytes", lambda *_: 10**15)
    with pytest.raises(CheckpointError, match=r"needs about 1000000\.0 GB in bfloat16, .* GB free on cuda"):
        tta_bench.load("mini", device="cuda")
