"""The native models: equal to the published code, to independent implementations, and to themselves after saving."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3MoeForCausalLM,
)

import tta_bench
from tests.models.checkpoints import NATIVE, dream, illada, llada, llada_moe
from tests.toy import GOLDEN

VARIANTS = [
    pytest.param(llada, {}, id="llada"),
    pytest.param(llada, {"n_kv_heads": 2}, id="llada-grouped"),
    pytest.param(llada, {"multi_query_attention": True}, id="llada-multi-query"),
    pytest.param(llada, {"weight_tying": True}, id="llada-tied"),
    pytest.param(llada, {"include_qkv_bias": True, "rope_full_precision": False, "scale_logits": True}, id="llada-bias"),
    pytest.param(llada, {"mlp_hidden_size": None, "mlp_ratio": 2, "embedding_size": 64}, id="llada-ratio"),
    pytest.param(dream, {}, id="dream"),
    pytest.param(dream, {"tie_word_embeddings": True, "num_key_value_heads": 4}, id="dream-tied"),
    pytest.param(illada, {}, id="illada-tied"),
    pytest.param(illada, {"tie_word_embeddings": False, "attention_bias": True}, id="illada-untied"),
    pytest.param(llada_moe, {}, id="llada-moe"),
    pytest.param(llada_moe, {"qk_layernorm": False, "num_key_value_heads": 4}, id="llada-moe-plain"),
]

IDS = torch.tensor([[9, 12, 30, 8, 4, 4], [7, 7, 4, 21, 35, 11]])


@pytest.fixture(params=["llada_tiny", "dream_tiny"])
def published(request: pytest.FixtureRequest) -> tuple[Any, dict[str, torch.Tensor]]:
    """A checkpoint saved by published modelling code, and the logits that this gave for it."""
    model, tokenizer = tta_bench.load(GOLDEN / request.param, device="cpu", dtype="float32")
    assert tokenizer is None
    return model, load_file(GOLDEN / request.param / "expected.safetensors")


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_published_logits_batched_and_one_by_one(published: tuple) -> None:
    model, expected = published
    close(model(expected["input_ids"]).logits, expected["logits"])
    for ids, logits in zip(expected["input_ids"], expected["logits"], strict=True):
        close(model(ids[None]).logits[0], logits)


@torch.no_grad()
def test_published_logits_padded_on_either_side(published: tuple) -> None:
    model, expected = published
    ids, pad = expected["input_ids"], 5
    filler = torch.full((len(ids), pad), 1)
    hidden, seen = torch.zeros_like(filler), torch.ones_like(ids)
    left = torch.cat((hidden, seen), dim=1)
    position_ids = (left.cumsum(dim=1) - 1).clamp(min=0)
    found = model(torch.cat((filler, ids), dim=1), attention_mask=left, position_ids=position_ids).logits[:, pad:]
    close(found, expected["logits"])
    # Rotary positions are relative, so they may as well be counted from the padding.
    close(model(torch.cat((filler, ids), dim=1), attention_mask=left).logits[:, pad:], expected["logits"])
    right = torch.cat((seen, hidden), dim=1)
    close(model(torch.cat((ids, filler), dim=1), attention_mask=right).logits[:, :-pad], expected["logits"])


@torch.no_grad()
def test_published_logits_at_some_positions(published: tuple) -> None:
    model, expected = published
    ids, logits = expected["input_ids"], expected["logits"]
    wanted = torch.zeros_like(ids, dtype=torch.bool)
    wanted[0, 3], wanted[1, :2], wanted[2, -1] = True, True, True
    close(model(ids, positions=wanted).logits, logits[wanted])
    close(model(ids, positions=torch.tensor([3, 0])).logits, logits[:, [3, 0]])
    own = torch.tensor([[1, 2], [5, 5], [0, 7]])
    close(model(ids, positions=own).logits, torch.stack([row[at] for row, at in zip(logits, own, strict=True)]))


def test_the_head_is_computed_where_it_is_needed_only() -> None:
    model, widths = llada(), []
    head = model.get_output_embeddings()
    head.register_forward_hook(lambda _, inputs, __: widths.append(inputs[0].shape[:-1].numel()))
    prompt = torch.full((2, 30), 9)
    tta_bench.generate(model, prompt, "low_confidence", steps=2, gen_length=8)
    assert widths == [16, 16]


@pytest.mark.parametrize(
    "positions", [torch.ones(2, 3), torch.ones(3, 6, dtype=torch.int64), torch.ones(1, 6, dtype=torch.bool)]
)
def test_positions_of_another_shape_are_refused(positions: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"positions: torch.* must be int64"):
        llada()(IDS, positions=positions)


def test_a_mask_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="attention_mask: has shape"):
        llada()(IDS, attention_mask=torch.ones(2, 6, 6))


@torch.no_grad()
@pytest.mark.parametrize("make", NATIVE)
def test_masks_say_who_sees_whom(make: Callable) -> None:
    model = make()
    plain = model(IDS).logits
    everything = torch.ones(2, 1, 6, 6, dtype=torch.bool)
    close(model(IDS, attention_mask=everything).logits, plain)
    close(model(IDS, attention_mask=torch.zeros(2, 1, 6, 6)).logits, plain)  # added to the scores
    blind = everything.clone()
    blind[:, :, :5, 5] = False
    changed = IDS.clone()
    changed[:, 5] = 20
    close(model(IDS, attention_mask=blind).logits[:, :5], model(changed, attention_mask=blind).logits[:, :5])
    assert not torch.allclose(plain[:, :5], model(changed).logits[:, :5])
    bias = torch.zeros(2, 1, 6, 6).masked_fill(~blind, -torch.inf)
    close(model(IDS, attention_mask=bias).logits, model(IDS, attention_mask=blind).logits)


@torch.no_grad()
@pytest.mark.parametrize(("make", "options"), VARIANTS)
@pytest.mark.parametrize("shards", [{}, {"max_shard_size": "10KB"}], ids=["whole", "sharded"])
def test_saving_and_loading_changes_nothing(make: Callable, options: dict, shards: dict, tmp_path: Path) -> None:
    model = make(**options)
    model.save_pretrained(tmp_path, **shards)
    assert (tmp_path / "model.safetensors.index.json").is_file() == bool(shards)
    again = type(model).from_pretrained(tmp_path)
    assert all(torch.equal(value, weights(model)[name]) for name, value in again.state_dict().items())
    close(again(IDS).logits, model(IDS).logits)
    for auto in (AutoModel, AutoModelForMaskedLM):
        assert type(auto.from_pretrained(tmp_path)) is type(model)
    assert type(AutoConfig.from_pretrained(tmp_path)) is type(model.config)
    loaded, _ = tta_bench.load(tmp_path, device="cpu")
    close(loaded(IDS).logits, model(IDS).logits)


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (llada, ["model.transformer.wte.weight", "model.transformer.ff_out.weight", "model.transformer.ln_f.weight"]),
        (llada, [f"model.transformer.blocks.1.{n}.weight" for n in ("attn_norm", "ff_norm", "q_proj", "attn_out", "up_proj")]),
        (dream, ["lm_head.weight", "model.layers.1.self_attn.k_proj.bias", "model.layers.0.mlp.down_proj.weight"]),
        (illada, ["model.layers.1.self_attn.o_proj.weight", "model.layers.0.post_attention_layernorm.weight"]),
        (llada_moe, ["model.layers.1.self_attn.q_norm.weight", "model.layers.0.mlp.gate.weight", "lm_head.weight"]),
        (llada_moe, [f"model.layers.0.mlp.experts.5.{n}_proj.weight" for n in ("gate", "up", "down")]),
    ],
)
def test_weights_have_their_published_names(make: Callable, names: list[str], tmp_path: Path) -> None:
    make().save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert set(names) <= set(file.keys())


@pytest.mark.parametrize("name", ["llada_tiny", "dream_tiny"])
def test_a_published_checkpoint_is_saved_as_it_was(name: str, tmp_path: Path) -> None:
    AutoModel.from_pretrained(GOLDEN / name).save_pretrained(tmp_path)
    before, after = (load_file(folder / "model.safetensors") for folder in (GOLDEN / name, tmp_path))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    old, new = (json.loads((folder / "config.json").read_text()) for folder in (GOLDEN / name, tmp_path))
    same = [key for key in old if key not in ("transformers_version", "use_cache", "n_kv_heads", "rope_scaling")]
    assert {key: new.get(key) for key in same} == {key: old[key] for key in same}


@pytest.mark.parametrize("make", NATIVE)
def test_activation_checkpointing_changes_no_gradient(make: Callable) -> None:
    model = make().train()

    def gradients() -> list[torch.Tensor]:
        model.zero_grad()
        model(IDS).logits.logsumexp(dim=-1).sum().backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    plain = gradients()
    calls: list[int] = []
    layer = model.anatomy().layers[0]
    layer.get_submodule("self_attn.q_proj" if hasattr(layer, "self_attn") else "q_proj").register_forward_hook(
        lambda *_: calls.append(1)
    )
    # transformers 5 renamed it on the way.
    getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
    for mine, other in zip(gradients(), plain, strict=True):
        torch.testing.assert_close(mine, other)
    assert len(calls) == 2  # forward, and once more on the way back


@torch.no_grad()
@pytest.mark.parametrize(("make", "options"), VARIANTS)
def test_other_dtypes_stay_near(make: Callable, options: dict) -> None:
    model = make(**options)
    expected = model.double()(IDS).logits
    assert expected.dtype == torch.float64
    for dtype, share in ((torch.float32, 1e-4), (torch.bfloat16, 0.15), (torch.float16, 0.03)):
        found = make(**options).to(dtype)(IDS).logits
        assert found.dtype == dtype
        error = (found.double() - expected).abs().mean() / expected.abs().mean()
        assert error < share, (dtype, float(error))


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@torch.no_grad()
def oracle_logits(oracle: Any, ids: torch.Tensor) -> torch.Tensor:
    """An autoregressive model of transformers that is told to look both ways."""
    everything = torch.zeros(len(ids), 1, ids.shape[1], ids.shape[1])
    return oracle.eval()(input_ids=ids, attention_mask=everything, use_cache=False).logits


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"tie_word_embeddings": True}, {"rope_theta": 100.0, "rms_norm_eps": 1e-3}])
def test_dream_is_qwen2_that_looks_both_ways(options: dict) -> None:
    model = dream(**options)
    kept = ("vocab_size", "hidden_size", "num_attention_heads", "num_key_value_heads", "num_hidden_layers", "rms_norm_eps")
    shape = {name: getattr(model.config, name) for name in (*kept, "intermediate_size", "tie_word_embeddings")}
    rotary = {"rope_type": "default", "rope_theta": model.config.rope_theta}
    oracle = Qwen2ForCausalLM(Qwen2Config(**shape, rope_parameters=rotary, max_position_embeddings=64))
    oracle.load_state_dict(weights(model))
    close(model(IDS).logits, oracle_logits(oracle, IDS))


@torch.no_grad()
def test_illada_is_llama_that_looks_both_ways() -> None:
    model = illada()
    kept = ("vocab_size", "hidden_size", "num_attention_heads", "num_key_value_heads", "num_hidden_layers", "rms_norm_eps")
    shape = {name: getattr(model.config, name) for name in (*kept, "intermediate_size", "tie_word_embeddings")}
    rotary = {"rope_type": "default", "rope_theta": model.config.rope_theta}
    oracle = LlamaForCausalLM(LlamaConfig(**shape, rope_parameters=rotary, max_position_embeddings=64))
    oracle.load_state_dict(weights(model))
    close(model(IDS).logits, oracle_logits(oracle, IDS))


@torch.no_grad()
def test_llada_is_llama_that_looks_both_ways() -> None:
    model = llada(n_kv_heads=2)
    c = model.config
    oracle = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=c.vocab_size, hidden_size=c.d_model, num_attention_heads=c.n_heads, num_key_value_heads=c.n_kv_heads,
            num_hidden_layers=c.n_layers, intermediate_size=c.mlp_hidden_size, rms_norm_eps=c.rms_norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": c.rope_theta}, max_position_embeddings=64,
        )
    )  # fmt: skip
    names = {
        "attn_norm": "input_layernorm", "ff_norm": "post_attention_layernorm", "q_proj": "self_attn.q_proj",
        "k_proj": "self_attn.k_proj", "v_proj": "self_attn.v_proj", "attn_out": "self_attn.o_proj",
        "ff_proj": "mlp.gate_proj", "up_proj": "mlp.up_proj", "ff_out": "mlp.down_proj",
    }  # fmt: skip
    found = {"model.embed_tokens.weight": "wte", "model.norm.weight": "ln_f", "lm_head.weight": "ff_out"}
    state = {theirs: weights(model)[f"model.transformer.{mine}.weight"] for theirs, mine in found.items()}
    for i in range(c.n_layers):
        for mine, theirs in names.items():
            state[f"model.layers.{i}.{theirs}.weight"] = weights(model)[f"model.transformer.blocks.{i}.{mine}.weight"]
    oracle.load_state_dict(state)
    close(model(IDS).logits, oracle_logits(oracle, IDS))


@torch.no_grad()
def test_llada_moe_is_qwen3_moe_that_looks_both_ways(tmp_path: Path) -> None:
    """Its experts are chosen after a softmax over all, and their weights stay what they are there."""
    model = llada_moe()
    c = model.config
    model.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(
        json.dumps(
            {
                "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "vocab_size": c.vocab_size,
                "hidden_size": c.hidden_size, "num_hidden_layers": c.num_hidden_layers, "head_dim": 8,
                "num_attention_heads": c.num_attention_heads, "num_key_value_heads": c.num_key_value_heads,
                "num_experts": c.num_experts, "num_experts_per_tok": c.num_experts_per_tok, "norm_topk_prob": False,
                "moe_intermediate_size": c.expert_intermediate_size, "rms_norm_eps": c.rms_norm_eps, "decoder_sparse_step": 1,
                "rope_parameters": {"rope_type": "default", "rope_theta": c.rope_theta}, "attention_bias": False,
                "tie_word_embeddings": False, "max_position_embeddings": 64, "mlp_only_layers": [],
            }
        )
    )  # fmt: skip
    oracle, told = Qwen3MoeForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    close(model(IDS).logits, oracle_logits(oracle, IDS))


def test_a_moe_is_told_from_a_dense_model_by_its_experts(tmp_path: Path) -> None:
    llada_moe().save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "llada"
    assert type(AutoConfig.from_pretrained(tmp_path)) is tta_bench.LLaDAMoEConfig


@pytest.mark.parametrize(
    ("make", "options", "said"),
    [
        (llada, {"alibi": True}, "LLaDA config: alibi"),
        (llada, {"block_type": "sequential"}, "LLaDA config: block_type"),
        (llada, {"n_kv_heads": 3}, "multiple of n_kv_heads"),
        (dream, {"use_sliding_window": True}, "Dream config: use_sliding_window"),
        (dream, {"rope_scaling": {"type": "yarn", "factor": 4}}, "Dream config: rope_type"),
        (illada, {"layer_norm_eps": 1e-5}, "iLLaDA config: layer_norm_eps"),
        (illada, {"num_key_value_heads": 3}, "num_key_value_heads=3"),
        (llada_moe, {"shared_expert_intermediate_size": 8}, "LLaDA-MoE config: shared_expert"),
        (llada_moe, {"moe_layer_freq": [1, 0]}, "LLaDA-MoE config: moe_layer_freq"),
    ],
)
def test_variants_that_nobody_published_are_refused(make: Callable, options: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make(**options)


@pytest.mark.parametrize("rotary", [{"rope_scaling": None, "rope_theta": 70.0}, {"rope_parameters": {"rope_theta": 70.0}}])
def test_the_base_of_rotary_positions_is_read_wherever_it_stands(rotary: dict) -> None:
    assert dream(**rotary).config.rope_theta == 70


@pytest.mark.parametrize("make", NATIVE)
def test_embeddings_can_be_resized(make: Callable) -> None:
    model = make()
    model.resize_token_embeddings(80)
    assert model(IDS).logits.shape[-1] == 80


@torch.no_grad()
def test_a_model_may_lie_on_several_devices(tmp_path: Path) -> None:
    """The second half on the disk: what accelerate does with a model that is larger than its device."""
    pytest.importorskip("accelerate")
    for make in (llada, dream):
        folder = tmp_path / make.__name__
        expected = make()(IDS).logits
        make().save_pretrained(folder, max_shard_size="10KB")
        layers = "model.transformer.blocks" if make is llada else "model.layers"
        rest = ("wte", "ln_f", "ff_out") if make is llada else ("embed_tokens", "norm")
        places: dict[str, Any] = {f"model.transformer.{n}" if make is llada else f"model.{n}": "cpu" for n in rest}
        places |= {f"{layers}.0": "cpu", f"{layers}.1": "disk"} | ({} if make is llada else {"lm_head": "cpu"})
        model = type(make()).from_pretrained(folder, device_map=places, offload_folder=tmp_path / "offload")
        assert set(model.hf_device_map.values()) == {"cpu", "disk"}
        close(model(IDS).logits, expected)


def test_device_map_reaches_the_loader(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    shutil.copytree(GOLDEN / "llada_tiny", tmp_path / "copy")
    model, _ = tta_bench.load(tmp_path / "copy", device_map="auto")
    expected = load_file(GOLDEN / "llada_tiny" / "expected.safetensors")
    with torch.no_grad():
        close(model(expected["input_ids"]).logits.cpu(), expected["logits"])
