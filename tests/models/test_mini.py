from __future__ import annotations

import shutil
from pathlib import Path

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import tta_bench
from tta_bench.models.checkpoint import MINI_PATH


def small(**options: object) -> tta_bench.LLaDAModelLM:
    torch.manual_seed(0)
    config = {
        "d_model": 32,
        "n_heads": 4,
        "n_layers": 2,
        "mlp_hidden_size": 64,
        "vocab_size": 50,
        "embedding_size": 50,
        "mask_token_id": 49,
    }
    return tta_bench.LLaDAModelLM(tta_bench.LLaDAConfig(**config, **options)).eval()


def test_padding_on_the_left_changes_no_logit_when_masked_out() -> None:
    model, ids = small(), torch.tensor([[3, 4, 5, 6]])
    padded = torch.cat((torch.zeros(1, 3, dtype=torch.int64), ids), dim=1)
    mask = torch.tensor([[0, 0, 0, 1, 1, 1, 1]])
    torch.testing.assert_close(model(padded, attention_mask=mask).logits[:, 3:], model(ids).logits, rtol=1e-4, atol=1e-5)
    four_dimensional = (mask != 0)[:, None, None, :].expand(1, 1, 7, 7)
    torch.testing.assert_close(
        model(padded, attention_mask=four_dimensional).logits, model(padded, attention_mask=mask).logits, rtol=1e-4, atol=1e-5
    )


def test_attention_is_bidirectional_and_positions_matter() -> None:
    model = small()
    first = model(torch.tensor([[1, 2, 3]])).logits[0, 0]
    assert not torch.allclose(first, model(torch.tensor([[1, 2, 4]])).logits[0, 0])
    assert not torch.allclose(first, model(torch.tensor([[1, 3, 2]])).logits[0, 0])
    far = model(torch.tensor([[1, 2, 3]]), position_ids=torch.tensor([[5, 6, 7]])).logits[0, 0]
    torch.testing.assert_close(first, far, rtol=1e-4, atol=1e-5)


def test_mini_loads_by_name_and_by_folder(mini: tuple) -> None:
    model, tokenizer = mini
    assert isinstance(model, tta_bench.LLaDAModelLM)
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    assert (model.dtype, model.training) == (torch.float32, False)
    again = tta_bench.LLaDAModelLM.from_pretrained("mini")
    ids = tokenizer.encode("sort bca=", return_tensors="pt")
    assert torch.equal(model(ids).logits, again(ids).logits)
    assert AutoTokenizer.from_pretrained(MINI_PATH).mask_token_id == model.config.mask_token_id
    assert sum(file.stat().st_size for file in MINI_PATH.iterdir()) < 12e6


def test_the_tokenizer_has_a_token_for_each_character(mini: tuple) -> None:
    _, tokenizer = mini
    text = "sudoku\n12 {}~\"'"
    ids = tokenizer.encode(text)
    assert len(ids) == len(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode([*ids, tokenizer.eos_token_id], skip_special_tokens=True) == text
    assert tokenizer.encode("é") == [tokenizer.unk_token_id]


def test_mini_in_bfloat16_and_from_a_copied_folder(tmp_path: Path) -> None:
    shutil.copytree(MINI_PATH, tmp_path / "copy")
    model, _ = tta_bench.load(tmp_path / "copy", device="cpu", dtype="bfloat16")
    assert model.dtype == torch.bfloat16
    tokens, _ = tta_bench.generate(model, torch.tensor([[5, 6, 7]]), "tta", steps=4, gen_length=8)
    assert model.config.mask_token_id not in tokens
