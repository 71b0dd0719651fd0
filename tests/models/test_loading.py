"""From a name to a model: what is found, and what is said where it is not usable."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel

import tta_bench
from tests.models.checkpoints import CLS, MASK, SEP, SIZE, TURN, VOCABULARY, dream, illada, llada, llada_moe, saved, tokenizer
from tests.toy import GOLDEN
from tta_bench.models import loading
from tta_bench.models.checkpoint import MINI_PATH, CheckpointError, fingerprint, locate, weight_bytes


def edit(file: Path, **changes: Any) -> None:
    """Change keys of a JSON file; None removes one."""
    found = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in found.items() if value is not None}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return saved(llada(), tmp_path / "llada", tokenizer(mask_token="[MASK]", eos_token="[SEP]"))


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    return saved(llada(), tmp_path / "sharded", max_shard_size="10KB")


def refused(place: Path | str, said: str, **options: Any) -> None:
    """The load fails with one sentence that names the model and says this."""
    with pytest.raises(CheckpointError, match=said) as caught:
        tta_bench.load(place, device="cpu", **options)
    assert str(caught.value).startswith(f"model={place}: ")
    assert "\n" not in str(caught.value)


def test_names_that_lead_nowhere(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="must be 'mini'"):
        tta_bench.load("nothing here")
    refused(tmp_path, r"no config\.json")
    shutil.copy(GOLDEN / "llada_tiny" / "config.json", tmp_path)
    refused(tmp_path, "no weights")


def test_a_missing_shard(sharded: Path) -> None:
    shard = sorted(sharded.glob("model-*.safetensors"))[1]
    shard.unlink()
    refused(sharded, rf"index\.json lists {shard.name}, not in the folder; copy them")


@pytest.mark.parametrize("kept", [0, 3, 100, -1])
def test_a_weight_file_that_was_cut_off(folder: Path, kept: int) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    refused(folder, r"model\.safetensors (is broken or cut off|has [\d,]+ bytes instead of)")


def test_a_weight_file_whose_header_is_noise(folder: Path) -> None:
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[8:40] = b"?" * 32
    file.write_bytes(content)
    refused(folder, r"model\.safetensors is broken, its header cannot be read")


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_config_that_is_no_json_object(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    refused(folder, r"config\.json (is no JSON|must hold a JSON object)")


def test_weights_that_do_not_fit_the_config(folder: Path) -> None:
    edit(folder / "config.json", n_layers=3)
    refused(folder, r"lacks model\.transformer\.blocks\.2\..* and 6 more; config\.json and weights are not of one model")
    edit(folder / "config.json", n_layers=1)
    refused(folder, r"has no place for: model\.transformer\.blocks\.1\.")
    edit(folder / "config.json", n_layers=2, mlp_hidden_size=64)
    refused(folder, "of another shape than config.json says: .*ff_")


def test_weights_in_another_form_beside_them_do_not_matter(sharded: Path) -> None:
    (sharded / "pytorch_model.bin.index.json").write_text('{"weight_map": {"a": "pytorch_model-1.bin"}}')
    (sharded / "adapter_model.safetensors").write_bytes(b"?")
    tta_bench.load(sharded)


def test_an_index_that_is_none(sharded: Path) -> None:
    (sharded / "model.safetensors.index.json").write_text("{}")
    refused(sharded, "has no weight_map")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"d_model": "abc"}, r"its config\.json cannot be used \("),
        ({"n_heads": 0}, r"its config\.json cannot be used \("),
        ({"rope_scaling": {"type": "yarn", "factor": 4}}, "LLaDA config: rope_type='yarn'"),
        ({"clip_qkv": 8.0}, "LLaDA config: clip_qkv=8.0"),
        ({"norm_after": True}, "LLaDA config: norm_after=True"),
    ],
)
def test_a_config_that_cannot_be_used(folder: Path, changes: dict, said: str) -> None:
    edit(folder / "config.json", **changes)
    refused(folder, said)


def test_a_scaled_rotation_is_seen_in_a_config_that_was_saved_here(tmp_path: Path) -> None:
    dream().save_pretrained(tmp_path)
    edit(tmp_path / "config.json", rope_scaling={"type": "yarn", "factor": 4})
    refused(tmp_path, "Dream config: rope_type='yarn'")


def test_a_head_beside_the_embedding_that_should_be_it(tmp_path: Path) -> None:
    illada(tie_word_embeddings=False).save_pretrained(tmp_path)
    edit(tmp_path / "config.json", tie_word_embeddings=True)
    refused(tmp_path, "config.json says that the head is the embedding")


def test_the_class_of_a_dense_model_refuses_a_mixture_of_experts(tmp_path: Path) -> None:
    llada_moe().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="LLaDAMoEConfig: is the configuration of another architecture"):
        tta_bench.LLaDAModelLM.from_pretrained(tmp_path)


def test_bin_files_that_are_broken(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"garbage")
    refused(folder, "its config.json and weights make no model")


def test_ends_of_a_generation_config_count(folder: Path) -> None:
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [SEP, 9]}))
    assert tta_bench.load(folder)[0].end_ids == (SEP, 9)
    (folder / "generation_config.json").write_text("{")
    refused(folder, r"generation_config\.json is no JSON")
    with pytest.raises(ValueError, match=r"end_ids=\[\]"):
        tta_bench.load(folder, end_ids=[])


def test_a_tokenizer_of_another_vocabulary(folder: Path) -> None:
    saved(llada(size=SIZE - 9), folder, tokenizer())
    refused(folder, rf"the tokenizer has ids up to {SIZE - 1}, the model embeds {SIZE - 9} tokens")


def test_a_tokenizer_that_cannot_be_read(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")
    refused(folder, "its tokenizer cannot be read")


def test_nothing_tells_the_mask_token(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = BertForMaskedLM(BertConfig(vocab_size=SIZE, hidden_size=8, num_hidden_layers=1, num_attention_heads=2))
    place = saved(model, tmp_path, tokenizer(cls_token="[CLS]"))
    refused(place, "neither config.json .* nor the tokenizer .* give its id as model.mask_id")
    found, _ = tta_bench.load(place, mask_id=MASK)
    assert found.config.mask_token_id == MASK


def test_config_and_tokenizer_tell_different_mask_tokens(folder: Path) -> None:
    tokenizer(mask_token="[CLS]").save_pretrained(folder)
    refused(folder, rf"its configuration says {MASK} and the tokenizer says {CLS}; give the right one as model\.mask_id")
    model, _ = tta_bench.load(folder, mask_id=CLS)
    assert model.config.mask_token_id == CLS


def test_a_mask_token_that_the_model_does_not_embed(folder: Path) -> None:
    refused(folder, rf"mask token id 9,999 must be below {SIZE}", mask_id=9999)


@pytest.mark.parametrize("end", [SIZE, -1, MASK])
def test_ends_that_no_answer_can_have(folder: Path, end: int) -> None:
    refused(folder, rf"end_ids=\[{end}\]: {end} must be a token below {SIZE} and not the mask token", end_ids=[end])


def test_quantized_weights(folder: Path) -> None:
    edit(folder / "config.json", quantization_config={"quant_method": "gptq", "bits": 4})
    refused(folder, "its weights are quantized")


def test_shards_without_their_index(sharded: Path) -> None:
    (sharded / "model.safetensors.index.json").unlink()
    refused(sharded, r"weight files and no index \(model\.safetensors\.index\.json\)")


def test_code_that_comes_with_a_checkpoint_is_run_on_request_only(folder: Path) -> None:
    edit(
        folder / "config.json", model_type="marvel", architectures=["MarvelModel"], auto_map={"AutoModel": "marvel.MarvelModel"}
    )
    refused(
        folder, "needs the code that comes with the checkpoint, which is run on request only; .* model.trust_remote_code=true"
    )


MARVEL = """
import torch
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import MaskedLMOutput

class MarvelConfig(PretrainedConfig):
    model_type = "marvel"
    def __init__(self, size=9, mask_token_id=4, **kwargs):
        self.size, self.mask_token_id = size, mask_token_id
        super().__init__(**kwargs)

class MarvelModel(PreTrainedModel):
    config_class = MarvelConfig
    def __init__(self, config):
        super().__init__(config)
        self.table = torch.nn.Embedding(config.size, config.size)
        self.post_init()
    def get_input_embeddings(self):
        return self.table
    def forward(self, input_ids, attention_mask=None):
        return MaskedLMOutput(logits=self.table(input_ids))
"""


def test_code_that_comes_with_a_checkpoint_is_run_when_it_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    place = tmp_path / "marvel"
    place.mkdir()
    (place / "marvel.py").write_text(MARVEL)
    automatic = {"AutoConfig": "marvel.MarvelConfig", "AutoModel": "marvel.MarvelModel"}
    config = {
        "model_type": "marvel",
        "architectures": ["MarvelModel"],
        "auto_map": automatic,
        "size": SIZE,
        "mask_token_id": MASK,
    }
    (place / "config.json").write_text(json.dumps(config))
    from safetensors.torch import save_file

    save_file({"table.weight": torch.randn(SIZE, SIZE)}, place / "model.safetensors", {"format": "pt"})
    tokenizer().save_pretrained(place)
    model, _ = tta_bench.load(place, trust_remote_code=True)
    tokens, _ = tta_bench.generate(model, torch.tensor([[9, 10]]), "low_confidence", steps=2, gen_length=4)
    assert not bool((tokens == MASK).any())
    refused(place, "compile=True does not know the code that comes with a checkpoint", trust_remote_code=True, compile=True)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("diffusion_gemma", "starts from random tokens, not from masks"),
        ("gpt2", r"'gpt2' \(GPT2LMHeadModel\) is not supported"),
    ],
)
def test_other_kinds_of_models(tmp_path: Path, kind: str, said: str) -> None:
    model = GPT2LMHeadModel(GPT2Config(vocab_size=SIZE, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0))
    place = saved(model, tmp_path)
    edit(place / "config.json", model_type=kind)
    refused(place, said)


def hub_of(place: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A hub that has one checkpoint; the patterns it was asked for."""
    asked: list[list[str]] = []

    def download(name: str, revision: str | None, allow_patterns: list[str]) -> str:
        assert (name, revision) == ("owner/name", "abc")
        asked.append(allow_patterns)
        copy = place.parent / "cache"
        copy.mkdir(exist_ok=True)
        for file in {file for pattern in allow_patterns for file in place.glob(pattern)}:
            shutil.copy(file, copy)
        return str(copy)

    monkeypatch.setattr(loading, "snapshot_download", download)
    return asked


def test_a_hub_id_is_fetched_and_then_a_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = hub_of(folder, monkeypatch)
    model, words = tta_bench.load("owner/name", revision="abc", device="cpu")
    assert isinstance(model, tta_bench.LLaDAModelLM)
    assert words.mask_token_id == MASK
    assert "*.safetensors" not in asked[0]  # what it is is known before its weights are fetched
    assert all("*.py" not in patterns for patterns in asked)


def test_a_hub_id_of_another_kind_is_refused_before_its_weights_are_fetched(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(folder / "config.json", model_type="gpt2", architectures=["GPT2LMHeadModel"])
    asked = hub_of(folder, monkeypatch)
    refused("owner/name", "is not supported", revision="abc")
    assert len(asked) == 1


def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("Got: ConnectError: no route to host\nPlease check your internet connection.")

    monkeypatch.setattr(loading, "snapshot_download", unreachable)
    refused(
        "owner/name",
        r"could not be fetched from the hub \(Got: ConnectError: no route to host\)\. Where there is a network: hf download "
        r"owner/name --revision abc --local-dir FOLDER; then copy the folder here and give model\.name_or_path=FOLDER",
        revision="abc",
    )


def test_memory_is_reckoned_before_loading(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = llada()
    n = sum(p.numel() for p in model.parameters())
    assert weight_bytes(folder, "float32") == 4 * n
    assert weight_bytes(folder, "bfloat16") == 2 * n
    monkeypatch.setattr(loading.psutil, "virtual_memory", lambda: SimpleNamespace(available=2 * n))
    monkeypatch.setattr(loading, "load_model", lambda *_, **__: pytest.fail("was loaded all the same"))
    refused(folder, r"needs about 0\.0 GB in float32, 0\.0 GB free on cpu; use a smaller dtype")
    monkeypatch.setattr(loading, "weight_bytes", lambda *_: 16_060_000_000)
    monkeypatch.setattr(loading.psutil, "virtual_memory", lambda: SimpleNamespace(available=11_800_000_000))
    refused(folder, r"needs about 16\.1 GB in bfloat16, 11\.8 GB free on cpu", dtype="bfloat16")


def test_a_folder_without_a_tokenizer_is_for_python_only(tmp_path: Path) -> None:
    llada().save_pretrained(tmp_path)
    _, words = tta_bench.load(tmp_path)
    assert words is None
    with pytest.raises(CheckpointError, match="no tokenizer"):
        fingerprint(tmp_path)


def test_ends_of_answers(folder: Path) -> None:
    assert tta_bench.load(folder)[0].end_ids == (SEP,)
    words = tokenizer(mask_token="[MASK]", eos_token="[PAD]")
    words.chat_template = "{% for m in messages %}{{ m.content }}<|eot_id|>{% endfor %}"
    words.save_pretrained(folder)
    model, _ = tta_bench.load(folder)
    assert model.end_ids == (TURN, 0, SEP)  # of a turn, of the tokenizer, of the configuration
    _, logs = tta_bench.generate(model, torch.tensor([[9]]), steps=4, gen_length=8, eos_policy="stop")
    assert logs["forward_passes"] <= 4
    assert tta_bench.load(folder, end_ids=[7])[0].end_ids == (7,)


def test_dreams_tokenizer_is_qwens_and_needs_no_code(tmp_path: Path) -> None:
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate([*letters, "ab", "abc"])}
    dream(size=len(vocabulary) + 4, mask_token_id=len(vocabulary) + 1).save_pretrained(tmp_path)
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\nab c\n")
    plain = dict.fromkeys(("lstrip", "rstrip", "normalized", "single_word"), False)
    added = enumerate(["<|endoftext|>", "<|mask|>"], len(vocabulary))
    special = {str(i): {"content": token, "special": True, **plain} for i, token in added}
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "DreamTokenizer", "added_tokens_decoder": special, "mask_token": "<|mask|>",
                "auto_map": {"AutoTokenizer": ["tokenization_dream.DreamTokenizer", None]}, "eos_token": "<|endoftext|>",
                "pad_token": "<|endoftext|>",
            }
        )
    )  # fmt: skip
    model, words = tta_bench.load(tmp_path)
    assert words.encode("abcab") == [vocabulary["abc"], vocabulary["ab"]]
    assert words.decode(words.encode("a bé\n12")) == "a bé\n12"
    assert words.mask_token_id == model.config.mask_token_id
    assert model.shift_logits
    tokens, _ = tta_bench.generate(model, torch.tensor([words.encode("abc")]), "dream_entropy", steps=3, gen_length=6)
    assert tokens.shape == (1, 7)


def test_fingerprint_follows_the_weights_not_the_name(tmp_path: Path) -> None:
    shutil.copytree(MINI_PATH, tmp_path / "copy")
    assert fingerprint(tmp_path / "copy") == fingerprint("mini")
    file = tmp_path / "copy" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert fingerprint(tmp_path / "copy") != fingerprint("mini")


def test_fingerprint_follows_all_that_changes_answers(tmp_path: Path) -> None:
    dream().save_pretrained(tmp_path)
    (tmp_path / "vocab.json").write_text(json.dumps(VOCABULARY))
    found = {fingerprint(tmp_path)}
    names = ["vocab.json", "chat_template.jinja", "added_tokens.json", "spiece.model", "generation_config.json", "modeling.py"]
    for name in names:
        (tmp_path / name).write_text("other")
        found.add(fingerprint(tmp_path))
    assert len(found) == 1 + len(names)
    (tmp_path / "README.md").write_text("does not matter")
    assert fingerprint(tmp_path) in found


def test_hub_ids_stay_hub_ids_and_need_a_revision_to_be_told_apart() -> None:
    assert locate("GSAI-ML/LLaDA-8B-Base") == "GSAI-ML/LLaDA-8B-Base"
    assert fingerprint("GSAI-ML/LLaDA-8B-Base", "abc") == "GSAI-ML/LLaDA-8B-Base@abc"
    for revision in (None, "main"):
        with pytest.raises(CheckpointError, match=rf"give model\.revision, a commit hash of the hub \(not {revision}\)"):
            fingerprint("GSAI-ML/LLaDA-8B-Base", revision)


def test_devices_and_dtypes_that_do_not_exist_are_named() -> None:
    with pytest.raises(ValueError, match="device=abacus"):
        tta_bench.load("mini", device="abacus")
    with pytest.raises(ValueError, match="dtype=int3"):
        tta_bench.load("mini", dtype="int3")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a cuda device")
def test_a_missing_cuda_device_is_said() -> None:
    with pytest.raises(ValueError, match=r"sees 0 cuda device"):
        tta_bench.load("mini", device="cuda")
