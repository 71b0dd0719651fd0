"""Token for token and logit for logit what other implementations did on the same input."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

import tta_bench
from tests.toy import GOLDEN, ToyDenoiser

CASES = [json.loads(line) for line in (GOLDEN / "low_confidence.jsonl").read_text().splitlines()]


def test_toy_denoiser_is_the_one_that_made_the_trajectories(toy: ToyDenoiser) -> None:
    expected = load_file(GOLDEN / "toy_logits.safetensors")
    torch.testing.assert_close(toy(expected["input_ids"]).logits, expected["logits"], atol=1e-9, rtol=0)


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['params']}-{len(c['prompt'])}")
def test_low_confidence_trajectories(toy: ToyDenoiser, case: dict) -> None:
    prompt = torch.tensor([case["prompt"]])
    tokens, logs = tta_bench.generate(toy, prompt, sampler=case["sampler"], mask_id=96, record_canvases=True, **case["params"])
    assert tokens[0, prompt.shape[1] :].tolist() == case["output"]
    assert [canvas[0].tolist() for canvas in logs["canvases"]] == case["canvases"]
    assert logs["model_calls"] == case["nfe"]
    assert logs["forward_passes"] == case["nfe"] * (2 if case["params"].get("cfg_scale") else 1)


def test_llada_logits_equal_the_published_code() -> None:
    expected = load_file(GOLDEN / "llada_tiny" / "expected.safetensors")
    model = tta_bench.LLaDAModelLM.from_pretrained(GOLDEN / "llada_tiny")
    with torch.inference_mode():
        logits = model(expected["input_ids"]).logits
    torch.testing.assert_close(logits, expected["logits"], rtol=1e-4, atol=1e-4)
