"""Token for token and logit for logit what other implementations did on the same input."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

import tta_bench
from tests.toy import GOLDEN, ToyDenoiser

CASES = [json.loads(line) for line in (GOLDEN / "trajectories.jsonl").read_text().splitlines()]


def test_toy_denoiser_is_the_one_that_made_the_trajectories(toy: ToyDenoiser) -> None:
    expected = load_file(GOLDEN / "toy_logits.safetensors")
    torch.testing.assert_close(toy(expected["input_ids"]).logits, expected["logits"], atol=1e-9, rtol=0)


def decode(toy: ToyDenoiser, case: dict, **options: object) -> tuple[list[int], dict]:
    """The generated region and the logs of a case."""
    prompt = torch.tensor([case["prompt"]])
    options = {"mask_id": 96, "reference_quirks": True, "record_canvases": True, **case["params"], **options}
    tokens, logs = tta_bench.generate(toy, prompt, sampler=case["sampler"], **options)
    return tokens[0, prompt.shape[1] :].tolist(), logs


def test_there_are_as_many_trajectories_as_were_recorded() -> None:
    assert len(CASES) == 240


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['sampler']}-{c['params']}-{len(c['prompt'])}")
def test_trajectories(toy: ToyDenoiser, case: dict) -> None:
    generated, logs = decode(toy, case)
    # The recorded outputs of rcr lack as many tokens at their start as the prompt has; its canvases are whole.
    missing = len(case["prompt"]) if case["sampler"] == "rcr" else 0
    assert generated[missing:] == case["output"]
    assert [canvas[0].tolist() for canvas in logs["canvases"]] == case["canvases"]
    assert logs["model_calls"] == case["nfe"]
    assert logs["forward_passes"] == case["nfe"] * (2 if case["params"].get("cfg_scale") else 1)


@pytest.mark.parametrize(
    ("sampler", "quirk"), [("factor", "the last rank commits although it fails"), ("klass", "old blocks count")]
)
def test_the_quirks_are_what_the_references_differ_by(toy: ToyDenoiser, sampler: str, quirk: str) -> None:
    cases = [case for case in CASES if case["sampler"] == sampler]
    same = [decode(toy, case, reference_quirks=False)[1]["canvases"] for case in cases]
    differ = [[c[0].tolist() for c in canvases] != case["canvases"] for canvases, case in zip(same, cases, strict=True)]
    assert any(differ), quirk
