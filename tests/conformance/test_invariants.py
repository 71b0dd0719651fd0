"""What every sampler in conf/sampler must do, on shapes that hypothesis draws."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tta_bench
from tests.toy import ToyDenoiser
from tta_bench import catalog

MASK = 96
SAMPLERS = catalog.names("sampler")
STOCHASTIC = {"low_confidence": {"temperature": 1.0}, "tta": {"alpha_entropy": 0.0}, "random": {}, "random_remask": {}}
"""Parameters under which another seed must give other tokens."""


@st.composite
def shapes(draw: st.DrawFn) -> dict:
    """A prompt, perhaps with holes, and settings that fit it."""
    rows, width, gen_length = draw(st.integers(1, 3)), draw(st.integers(0, 6)), draw(st.integers(1, 12))
    prompt = torch.tensor(
        draw(st.lists(st.lists(st.integers(0, 95), min_size=width, max_size=width), min_size=rows, max_size=rows))
    )
    prompt = prompt.reshape(rows, width).long()
    if width > 1 and draw(st.booleans()):
        prompt[:, draw(st.integers(0, width - 1))] = MASK
    n = gen_length + int((prompt[0] == MASK).sum())
    block = draw(st.sampled_from([None, 1, 3, 4, 64]))
    blocks = 1 if block is None else -(-n // min(block, n))
    return {"prompt": prompt, "gen_length": gen_length, "block_length": block, "steps": blocks * draw(st.integers(1, 4))}


@pytest.mark.parametrize("name", SAMPLERS)
@settings(max_examples=25)
@given(shape=shapes(), cfg=st.sampled_from([0.0, 0.5]), seed=st.integers(0, 5))
def test_invariants(name: str, shape: dict, cfg: float, seed: int) -> None:
    toy = ToyDenoiser()
    given_prompt = shape["prompt"].clone()
    torch.manual_seed(seed)
    tokens, logs = tta_bench.generate(toy, **shape, sampler=name, mask_id=MASK, cfg_scale=cfg, seed=seed)
    fixed = given_prompt != MASK
    assert torch.equal(shape["prompt"], given_prompt)
    assert torch.equal(tokens[:, : fixed.shape[1]][fixed], given_prompt[fixed])
    assert MASK not in tokens
    assert tokens.shape == (len(given_prompt), fixed.shape[1] + shape["gen_length"])
    for step in logs["token_logs"]:
        assert not {e[:2] for e in step["committed"]} & {e[:2] for e in step["remasked"]}
    assert logs["model_calls"] == len(toy.calls)
    assert logs["forward_passes"] * len(given_prompt) == sum(len(call) for call in toy.calls)
    torch.manual_seed(seed + 1)
    again, _ = tta_bench.generate(toy, **shape, sampler=name, mask_id=MASK, cfg_scale=cfg, seed=seed)
    assert torch.equal(tokens, again)
    for row in range(len(given_prompt)):
        if given_prompt.tolist().index(given_prompt[row].tolist()) == row:
            alone = shape | {"prompt": given_prompt[row : row + 1]}
            assert torch.equal(
                tta_bench.generate(toy, **alone, sampler=name, mask_id=MASK, cfg_scale=cfg, seed=seed)[0][0], tokens[row]
            )


@pytest.mark.parametrize("name", SAMPLERS)
def test_another_seed_gives_other_tokens_where_the_sampler_is_stochastic(toy: ToyDenoiser, name: str) -> None:
    options = {"mask_id": MASK, "steps": 8, "gen_length": 24, **STOCHASTIC[name]}
    outcomes = {
        tuple(tta_bench.generate(toy, torch.tensor([[1, 2]]), name, seed=s, **options)[0][0].tolist()) for s in range(6)
    }
    assert len(outcomes) > 1


@pytest.mark.parametrize("name", SAMPLERS)
def test_rows_with_equal_prompts_draw_for_themselves(toy: ToyDenoiser, name: str) -> None:
    options = {"mask_id": MASK, "steps": 8, "gen_length": 24, **STOCHASTIC[name]}
    tokens, _ = tta_bench.generate(toy, torch.tensor([[1, 2]] * 6), name, **options)
    assert len({tuple(row) for row in tokens.tolist()}) > 1


def test_equal_across_processes() -> None:
    code = (
        "import torch, tta_bench; from tests.toy import ToyDenoiser\n"
        f"for name in {SAMPLERS!r}:\n"
        "    options = {'mask_id': 96, 'steps': 6, 'gen_length': 12}\n"
        "    print(tta_bench.generate(ToyDenoiser(), torch.tensor([[1, 2]]), name, **options)[0].tolist())"
    )
    first, second = (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout for _ in range(2)
    )
    assert first == second
    assert len(first.splitlines()) == len(SAMPLERS)


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_file_bears_the_name_of_what_it_builds(name: str) -> None:
    assert catalog.entry("sampler", name).name == name


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("prompt", [torch.zeros(2, dtype=torch.int64), torch.zeros(1, 2), torch.zeros(0, 2, dtype=torch.int64)])
def test_a_prompt_of_another_form_is_refused(toy: ToyDenoiser, name: str, prompt: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="must be a LongTensor"):
        tta_bench.generate(toy, prompt, name, mask_id=MASK)
