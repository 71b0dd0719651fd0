"""Masked language models of transformers, built at random, as denoisers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AlbertConfig,
    AlbertForMaskedLM,
    BertConfig,
    BertForMaskedLM,
    ConvBertConfig,
    ConvBertForMaskedLM,
    DebertaV2Config,
    DebertaV2ForMaskedLM,
    DistilBertConfig,
    DistilBertForMaskedLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
    MPNetConfig,
    MPNetForMaskedLM,
    RobertaConfig,
    RobertaForMaskedLM,
)

import tta_bench
from tests.models.checkpoints import CLS, MASK, PAD, SEP, SIZE, contrasted, saved, tokenizer
from tta_bench import catalog
from tta_bench.models.hf import MaskedLM

SHAPE = {"vocab_size": SIZE, "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48, "pad_token_id": PAD}


def bert(**options: Any) -> BertForMaskedLM:
    return BertForMaskedLM(BertConfig(**{**SHAPE, "num_hidden_layers": 2, "max_position_embeddings": 64, **options}))


def modernbert(**options: Any) -> ModernBertForMaskedLM:
    special = {"cls_token_id": CLS, "sep_token_id": SEP, "bos_token_id": CLS, "eos_token_id": SEP}
    return ModernBertForMaskedLM(ModernBertConfig(**{**SHAPE, **special, "num_hidden_layers": 3, **options}))


def roberta() -> RobertaForMaskedLM:
    return RobertaForMaskedLM(RobertaConfig(**SHAPE, num_hidden_layers=2, max_position_embeddings=64))


def distilbert() -> DistilBertForMaskedLM:
    shape = {"vocab_size": SIZE, "dim": 32, "n_heads": 4, "n_layers": 2, "hidden_dim": 48, "pad_token_id": PAD}
    return DistilBertForMaskedLM(DistilBertConfig(**shape, max_position_embeddings=64))


def mpnet() -> MPNetForMaskedLM:
    special = {"bos_token_id": CLS, "eos_token_id": SEP}
    return MPNetForMaskedLM(MPNetConfig(**SHAPE, **special, num_hidden_layers=2, max_position_embeddings=64))


def albert() -> AlbertForMaskedLM:
    return AlbertForMaskedLM(AlbertConfig(**SHAPE, embedding_size=16, num_hidden_layers=2, max_position_embeddings=64))


KINDS = (bert, modernbert, roberta, distilbert)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Callable[..., Any]], tuple[MaskedLM, Any]]:
    """Models by what makes them, from folders."""
    known: dict[Callable[..., Any], tuple[MaskedLM, Any]] = {}

    def load(make: Callable[..., Any]) -> tuple[MaskedLM, Any]:
        if make not in known:
            torch.manual_seed(0)
            known[make] = tta_bench.load(saved(contrasted(make(), 3.0), tmp_path_factory.mktemp(make.__name__)))
        return known[make]

    return load


@pytest.mark.parametrize(
    ("make", "sampler"),
    [(make, sampler) for make in (bert, modernbert) for sampler in catalog.names("sampler")]
    + [(make, sampler) for make in (roberta, distilbert) for sampler in ("tta", "wino")],
)
def test_every_sampler_decodes_with_it(loaded: Callable, make: Callable, sampler: str) -> None:
    model, words = loaded(make)
    batch = words(["sort dbca=", "abc="], return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
    options = {"steps": 4, "gen_length": 8, "block_length": 4, "seed": 3}
    tokens, logs = tta_bench.generate(model, batch.input_ids, sampler, attention_mask=batch.attention_mask, **options)
    assert not bool((tokens == MASK).any())
    assert torch.equal(tokens[:, :10], batch.input_ids)
    assert logs["forward_passes"] > 0
    alone, _ = tta_bench.generate(model, batch.input_ids[1:, 6:], sampler, **options)
    assert torch.equal(alone[0], tokens[1, 6:])


@pytest.mark.parametrize("make", KINDS)
@torch.no_grad()
def test_it_says_what_the_model_says(loaded: Callable, make: Callable) -> None:
    model, _ = loaded(make)
    ids = torch.tensor([[CLS, 9, 10, MASK, 12, SEP], [CLS, 30, MASK, MASK, 8, SEP]])
    expected = model.model(input_ids=ids).logits
    torch.testing.assert_close(model(ids).logits, expected)
    wanted = ids == MASK
    torch.testing.assert_close(model(ids, positions=wanted).logits, expected[wanted])
    torch.testing.assert_close(model(ids, positions=torch.tensor([3, 0])).logits, expected[:, [3, 0]])
    assert not model.shift_logits
    padded = torch.cat((torch.full((2, 3), PAD), ids), dim=1)
    seen = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1, 1]]).expand(2, -1)
    position_ids = (seen.cumsum(dim=1) - 1).clamp(min=0)
    found = model(padded, attention_mask=seen, position_ids=position_ids).logits[:, 3:]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", KINDS)
def test_dropout_views_act(loaded: Callable, make: Callable) -> None:
    model, _ = loaded(make)
    prompt = torch.tensor([[CLS, 9, 10]])
    _, logs = tta_bench.generate(model, prompt, "tta", steps=4, gen_length=6, tta_use_dropout=True, tta_k=3)
    assert logs["forward_passes"] == 12
    assert sum(logs["tta_stats"]["avg_mutual_information_per_step"]) > 1e-5


def test_dropout_views_are_refused_where_nobody_knows_how(loaded: Callable) -> None:
    model, _ = loaded(albert)
    with pytest.raises(TypeError, match=r"tta_use_dropout=True: where the residual branches of model_type 'albert' are"):
        tta_bench.generate(model, torch.tensor([[CLS, 9]]), "tta", steps=2, gen_length=4, tta_use_dropout=True)


def test_a_sequence_that_is_too_long_is_refused(loaded: Callable) -> None:
    prompt = torch.tensor([[CLS, 9]])
    with pytest.raises(ValueError, match="a sequence of 72 tokens: this bert has 64 positions"):
        tta_bench.generate(loaded(bert)[0], prompt, steps=1, gen_length=70, block_length=None)
    with pytest.raises(ValueError, match="a sequence of 64 tokens: this roberta has 63 positions"):
        tta_bench.generate(loaded(roberta)[0], prompt, steps=1, gen_length=62, block_length=None)


def test_layers_that_see_a_window_cannot_have_a_shadow_beyond_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, _ = tta_bench.load(saved(modernbert(local_attention=16), tmp_path))
    prompt = torch.tensor([[CLS, 9, 10]])
    tta_bench.generate(model, prompt, steps=1, gen_length=30)
    with pytest.raises(ValueError, match="has layers that see 8 tokens to each side"):
        tta_bench.generate(model, prompt, "wino", gen_length=30)


def test_a_model_says_how_many_positions_it_really_has() -> None:
    for make, longest in ((roberta, 64 - PAD - 1), (bert, bert().config.max_position_embeddings), (modernbert, None)):
        model = MaskedLM(make())
        assert model.context == (longest or model.config.max_position_embeddings), make.__name__
        if longest:
            model(torch.full((1, longest), 9))
            with pytest.raises(ValueError, match=f"has {longest} positions"):
                model(torch.full((1, longest + 1), 9))


def test_a_model_whose_answers_depend_on_padding_is_not_padded() -> None:
    """ConvBERT's convolutions read what stands beside a token, padding included."""
    torch.manual_seed(0)
    model = MaskedLM(contrasted(ConvBertForMaskedLM(ConvBertConfig(**SHAPE, embedding_size=32, num_hidden_layers=2)), 3.0))
    ids = torch.tensor([[CLS, 9, 10, MASK]])
    model(ids)
    with pytest.raises(ValueError, match="a padded batch: what this convbert says of a prompt depends on its padding; use"):
        model(ids, attention_mask=torch.tensor([[0, 1, 1, 1]]))


@pytest.mark.parametrize("make", [bert, modernbert, mpnet])
@torch.no_grad()
def test_a_mask_hides_whatever_computes_the_attention(make: Callable) -> None:
    torch.manual_seed(0)
    made = contrasted(make(), 3.0)
    made.set_attn_implementation("eager")
    model, ids = MaskedLM(made), torch.tensor([[CLS, 9, 10, MASK, 12, SEP]])
    everything = torch.ones(1, 1, 6, 6, dtype=torch.bool)
    hidden = everything.clone()
    hidden[..., -1] = False
    expected = model(ids, attention_mask=torch.tensor([[1, 1, 1, 1, 1, 0]])).logits[:, :5]
    torch.testing.assert_close(model(ids, attention_mask=hidden).logits[:, :5], expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(model(ids, attention_mask=everything).logits[:, :5], expected, rtol=1e-5, atol=1e-5)


def test_a_model_that_takes_no_mask_of_who_sees_whom_has_no_shadow() -> None:
    torch.manual_seed(0)
    config = DebertaV2Config(**SHAPE, num_hidden_layers=2, relative_attention=True, pos_att_type=["p2c", "c2p"])
    model = MaskedLM(contrasted(DebertaV2ForMaskedLM(config)))
    model.config.mask_token_id = MASK
    tta_bench.generate(model, torch.tensor([[CLS, 9]]), steps=2, gen_length=4)
    with pytest.raises(ValueError, match="a 4-D attention mask: this deberta-v2 does not hide with it what it should"):
        tta_bench.generate(model, torch.tensor([[CLS, 9]]), "wino", gen_length=4)


def test_trusting_code_changes_nothing_for_models_that_need_none(tmp_path: Path) -> None:
    torch.manual_seed(0)
    place = saved(contrasted(roberta(), 3.0), tmp_path)
    for trust in (False, True):
        assert isinstance(tta_bench.load(place, trust_remote_code=trust)[0], MaskedLM)


def test_a_cache_is_refused(loaded: Callable) -> None:
    with pytest.raises(ValueError, match="cache: MaskedLM takes none"):
        tta_bench.generate(loaded(bert)[0], torch.tensor([[CLS, 9]]), steps=2, gen_length=4, cache="dual")


def test_an_answer_ends_at_the_separator(loaded: Callable) -> None:
    assert loaded(bert)[0].end_ids == (SEP,)
    assert tokenizer().eos_token_id is None
