"""Where a step looks: logits are computed there and nowhere else, and what is known of the rest is kept."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import tta_bench
from tta_bench import catalog
from tta_bench.models.llada import LLaDAConfig, LLaDAModelLM
from tta_bench.models.native import FEW_ROWS, SLICE, project
from tta_bench.rng import Noise
from tta_bench.sampling.commit import MostConfident, Scheduled
from tta_bench.sampling.denoiser import Denoiser
from tta_bench.sampling.sampler import Sampler, sample
from tta_bench.sampling.schedule import Blocks
from tta_bench.sampling.views import SingleView
from tta_bench.sampling.vote import Temporal
from tta_bench.testing import MASK_ID, TinyDenoiser

PROMPT = torch.tensor([[1, 3, 5]])


class Watched(TinyDenoiser):
    """Keeps the positions of which it is asked for logits."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Tensor] = []

    def forward(self, input_ids: Tensor, attention_mask: Any = None, position_ids: Any = None, positions: Any = None) -> Any:
        self.asked.append(positions[:, PROMPT.shape[1] :].clone())
        return SimpleNamespace(logits=super().forward(input_ids, attention_mask, position_ids).logits[positions])


def asked(sampler: str, **parameters: Any) -> tuple[list[list[int]], list[Tensor]]:
    """The generated positions looked at in each of 6 steps over two blocks of 3, and the canvases."""
    model = Watched()
    options = {"steps": 6, "gen_length": 6, "block_length": 3, "record_canvases": True, "mask_id": MASK_ID}
    _, logs = tta_bench.generate(model, PROMPT, sampler, **options, **parameters)
    return [where[0].nonzero()[:, 0].tolist() for where in model.asked], [canvas[0] for canvas in logs["canvases"]]


@pytest.mark.parametrize("sampler", ["low_confidence", "margin", "remdm_conf", "remdm_topk", "klass", "t2m"])
def test_a_sampler_that_leaves_earlier_blocks_alone_looks_at_the_current_one(sampler: str) -> None:
    looked, canvases = asked(sampler)
    for where, canvas in zip(looked, canvases, strict=True):
        assert where == ([0, 1, 2] if bool((canvas[:3] == MASK_ID).any()) or where[0] == 0 else [3, 4, 5])
    assert [0, 1, 2] in looked
    assert [3, 4, 5] in looked


def test_a_sampler_that_takes_back_everywhere_looks_at_all_that_is_committed() -> None:
    looked, canvases = asked("tta", remask_top_pct=0.5)
    for step, (where, canvas) in enumerate(zip(looked, canvases, strict=True)):
        committed = (canvas != MASK_ID).nonzero()[:, 0].tolist()
        reach = range(3) if step < 3 else range(6)
        assert where == sorted(set(committed) | set(reach)), step
    assert any(bool((canvas[:3] == MASK_ID).any()) for canvas in canvases[3:]), "nothing was taken back in the first block"


def test_votes_and_constraints_look_ahead() -> None:
    everything = [list(range(6))] * 3
    assert asked("temporal_vote")[0][:3] == everything
    assert asked("low_confidence", constraint_fn=lambda tokens: torch.zeros(tokens.shape))[0][:3] == everything
    with pytest.raises(ValueError, match="looks_ahead=False: a vote among the answers"):
        Sampler(SingleView(), Scheduled(MostConfident()), vote=Temporal())


def test_what_is_known_of_a_block_is_kept_when_it_is_left() -> None:
    """Entropy as of its last look; of a token committed then, the confidence it had is its support."""
    sampler, seen = catalog.entry("sampler", "low_confidence").build(), []
    model = TinyDenoiser()

    class Spy:
        k = 1

        def predict(self, denoiser: Any, canvas: Any, noise: Any, memory: Any) -> Any:
            return sampler.views.predict(denoiser, canvas, noise, memory)

    tokens = torch.cat((PROMPT, torch.full((1, 6), MASK_ID)), dim=1)
    generation = sample(
        Denoiser(model), replace(sampler, views=Spy()), Blocks(6, 3), tokens, tokens == MASK_ID,
        mask_id=MASK_ID, noise=Noise(0, ("row",)), observe=seen.append,
    )  # fmt: skip
    last_of_first, later = seen[2], seen[3]
    block = slice(3, 6)
    assert torch.equal(later.prediction.entropy[0, block], last_of_first.prediction.entropy[0, block])
    fresh = last_of_first.committed[0, block]
    assert int(fresh.sum()) == 1
    assert torch.equal(later.prediction.support[0, block][fresh], last_of_first.prediction.confidence[0, block][fresh])
    assert torch.equal(later.prediction.support[0, block][~fresh], last_of_first.prediction.support[0, block][~fresh])
    assert not bool(later.prediction.entropy[0, block].isnan().any())
    assert generation.tokens.shape == (1, 9)


def test_the_answer_can_be_written_to() -> None:
    tokens, logs = tta_bench.generate(TinyDenoiser(), PROMPT, steps=2, gen_length=4, record_canvases=True)
    assert not tokens.is_inference()
    tokens[0, 0] = 7
    logs["canvases"][0][0, 0] = 7


@pytest.mark.parametrize("rows", [1, 2, FEW_ROWS, FEW_ROWS + 1])
def test_few_rows_are_projected_as_many_are(rows: int) -> None:
    head, x = torch.nn.Linear(8, 2 * SLICE + 5, bias=False), torch.randn(rows, 8)
    found = project(head, x)
    torch.testing.assert_close(found, head(x))
    assert found.is_contiguous()


def test_a_head_is_called_where_it_is_more_than_a_weight() -> None:
    class Scaled(torch.nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return 3 * super().forward(x)

    hooked = torch.nn.Linear(8, SLICE + 1, bias=False)
    hooked.register_forward_hook(lambda _module, _inputs, output: 2 * output)
    for head in (Scaled(8, SLICE + 1, bias=False), torch.nn.Linear(8, SLICE + 1), hooked):
        x = torch.randn(4, 8)
        assert torch.equal(project(head, x), head(x))


def test_logits_at_some_positions_are_those_of_the_whole_for_a_large_vocabulary() -> None:
    torch.manual_seed(0)
    vocabulary = SLICE + 100
    config = LLaDAConfig(
        d_model=16, n_heads=2, n_layers=1, mlp_hidden_size=16, vocab_size=vocabulary, embedding_size=vocabulary,
        mask_token_id=1, eos_token_id=2, pad_token_id=2,
    )  # fmt: skip
    model = LLaDAModelLM(config).eval()
    ids, where = torch.randint(3, vocabulary, (2, 9)), torch.rand(2, 9) < 0.5
    with torch.inference_mode():
        torch.testing.assert_close(model(ids, positions=where).logits, model(ids).logits[where])
