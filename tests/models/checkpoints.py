"""Tiny checkpoints of every kind, with random weights, as folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

import tta_bench

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<|eot_id|>")
CHARACTERS = 'abcdefghijklmnopqrstuvwxyz0123456789=+ .|\n<>_?"{}:,'
VOCABULARY = {token: i for i, token in enumerate([*SPECIAL, *CHARACTERS])}
SIZE = len(VOCABULARY)
PAD, UNKNOWN, CLS, SEP, MASK, TURN = range(6)


def tokenizer(**special: str) -> PreTrainedTokenizerFast:
    """A tokenizer of characters; with BERT's special tokens unless others are given."""
    made = Tokenizer(WordLevel(VOCABULARY, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    named = special or {"mask_token": "[MASK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", **named)


def contrasted(model: Any, scale: float = 8.0) -> Any:
    """A model whose random weights are large enough that its predictions differ."""
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2:
            parameter.data.mul_(scale)
        elif name.endswith("bias"):
            parameter.data.normal_()
        else:
            parameter.data.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def special_ids(size: int) -> dict[str, int]:
    return {"vocab_size": size, "mask_token_id": MASK, "eos_token_id": SEP, "pad_token_id": PAD}


def llada(layers: int = 2, size: int = SIZE, **options: Any) -> tta_bench.LLaDAModelLM:
    torch.manual_seed(0)
    shape = {"d_model": 32, "n_heads": 4, "n_layers": layers, "mlp_hidden_size": 48, "embedding_size": size}
    return contrasted(tta_bench.LLaDAModelLM(tta_bench.LLaDAConfig(**{**special_ids(size), **shape, **options})))


def decoder_shape(layers: int) -> dict[str, int]:
    return {"hidden_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": layers}


def dream(layers: int = 2, size: int = SIZE, **options: Any) -> tta_bench.DreamModel:
    torch.manual_seed(0)
    config = {**special_ids(size), **decoder_shape(layers), "intermediate_size": 48, **options}
    return contrasted(tta_bench.DreamModel(tta_bench.DreamConfig(**config)))


def illada(layers: int = 2, size: int = SIZE, **options: Any) -> tta_bench.ILLaDAForCausalLM:
    torch.manual_seed(0)
    config = {**special_ids(size), **decoder_shape(layers), "intermediate_size": 48, **options}
    return contrasted(tta_bench.ILLaDAForCausalLM(tta_bench.ILLaDAConfig(**config)))


def llada_moe(layers: int = 2, size: int = SIZE, **options: Any) -> tta_bench.LLaDAMoEModelLM:
    torch.manual_seed(0)
    experts = {"num_experts": 6, "num_experts_per_tok": 2, "expert_intermediate_size": 16}
    config = {**special_ids(size), **decoder_shape(layers), **experts, **options}
    return contrasted(tta_bench.LLaDAMoEModelLM(tta_bench.LLaDAMoEConfig(**config)))


NATIVE = (llada, dream, illada, llada_moe)


def saved(model: Any, folder: Path, words: PreTrainedTokenizerFast | None = None, **options: Any) -> Path:
    """A folder with the model and its tokenizer."""
    model.save_pretrained(folder, **options)
    (words or tokenizer()).save_pretrained(folder)
    return folder
