"""What every sampler in conf/sampler must do."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

import tta_bench
from tests.toy import ToyDenoiser
from tta_bench import catalog, testing

SAMPLERS = catalog.names("sampler")
DRAWS = {
    "tta": {"alpha_entropy": 0.0},
    **{name: {} for name in ("random", "random_remask", "dream_origin")},
    **{name: {} for name in SAMPLERS if name.startswith("remdm")},
    "self_consistency": {"samples": 2, "temperature": 1.0},
}
"""Parameters under which a sampler draws; temperature 1 for all others."""


@pytest.mark.usefixtures("inputs")
@pytest.mark.parametrize("check", testing.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", SAMPLERS)
def test_conformance(name: str, check: testing.Check) -> None:
    check(name)


@pytest.mark.parametrize("name", SAMPLERS)
def test_it_draws_for_every_seed_and_row(name: str) -> None:
    testing.draws_for_every_seed_and_row(name, **{"steps": 4, "gen_length": 12, **DRAWS.get(name, {"temperature": 1.0})})


@pytest.mark.usefixtures("inputs")
@pytest.mark.parametrize(
    "name", [n for n in SAMPLERS if "temperature" in catalog.entry("sampler", n).parameters and n != "tta"]
)
def test_a_row_draws_in_a_batch_what_it_would_draw_alone(name: str) -> None:
    testing.decodes_a_row_as_it_would_alone(name, temperature=1.0)


def test_equal_across_processes() -> None:
    here = [
        tta_bench.generate(ToyDenoiser(), torch.tensor([[1, 2]]), name, mask_id=96, steps=6, gen_length=12)[0].tolist()
        for name in SAMPLERS
    ]
    code = (
        "import torch, tta_bench; from tests.toy import ToyDenoiser\n"
        f"for name in {SAMPLERS!r}:\n"
        "    options = {'mask_id': 96, 'steps': 6, 'gen_length': 12}\n"
        "    print(tta_bench.generate(ToyDenoiser(), torch.tensor([[1, 2]]), name, **options)[0].tolist())"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert there.splitlines() == [str(tokens) for tokens in here]


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_file_bears_the_name_of_what_it_builds(name: str) -> None:
    assert catalog.entry("sampler", name).name == name


@pytest.mark.parametrize("prompt", [torch.zeros(2, dtype=torch.int64), torch.zeros(1, 2), torch.zeros(0, 2, dtype=torch.int64)])
def test_a_prompt_of_another_form_is_refused(toy: ToyDenoiser, prompt: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="must be a LongTensor"):
        tta_bench.generate(toy, prompt, mask_id=96)


@pytest.mark.gpu
@pytest.mark.parametrize("name", SAMPLERS)
def test_it_runs_on_a_gpu(name: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    model, tokenizer = tta_bench.load("mini", device="cuda")
    batch = tokenizer(["sort badc=", "reverse abcdef="], return_tensors="pt", padding=True, padding_side="left").to("cuda")
    tokens, logs = tta_bench.generate(
        model, batch.input_ids, name, attention_mask=batch.attention_mask, steps=4, gen_length=8, block_length=4, cfg_scale=0.5,
        eos_policy="stop",
    )  # fmt: skip
    assert tokens.is_cuda
    assert not (tokens == model.config.mask_token_id).any()
    assert sum(logs["forward_passes_per_row"]) > 0
