"""Loading a model and its tokenizer by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
from huggingface_hub import snapshot_download
from huggingface_hub.utils import logging as hub_logging
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, AutoTokenizer, PreTrainedTokenizerBase, Qwen2Tokenizer
from transformers.utils import is_accelerate_available
from transformers.utils import logging as transformers_logging

from tta_bench.models import dream, illada, llada, llada_moe
from tta_bench.models.checkpoint import (
    WEIGHTS,
    CheckpointError,
    check_end_ids,
    check_folder,
    check_kind,
    has_code,
    locate,
    read_config,
    read_json,
    tokenizer_files,
    weight_bytes,
)
from tta_bench.models.compiled import Compiled
from tta_bench.models.hf import MaskedLM
from tta_bench.models.native import NativeModel

NATIVE_CODE = (llada, llada_moe, illada, dream)
"""Imported so that transformers knows them."""

TURN_ENDS = ("<|eot_id|>", "<|im_end|>", "<|role_end|>", "<|end_of_turn|>", "[/Answer]")
"""Tokens that end an answer where a chat template writes them."""

LONGEST = 300
"""Characters of another library's error that are repeated."""

SMALL_FILES = ("*.json", "*.txt", "*.jinja", "*.model")
"""Of a checkpoint on a hub: all but the weights."""


def load(
    name_or_path: str | Path,
    device: str = "auto",
    dtype: str = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
    *,
    mask_id: int | None = None,
    end_ids: Sequence[int] | None = None,
    device_map: str | dict[str, Any] | None = None,
    compile: bool = False,
) -> tuple[Any, Any]:
    """Load a masked diffusion model and its tokenizer, in eval mode.

    LLaDA (8B, 1.5, iLLaDA, MoE) and Dream (DiffuCoder) run with this package's own code; any other masked language model of
    transformers with its own, as ``MaskedLM``. Weights, vocabulary and memory are checked before anything is computed.

    Args:
        name_or_path: ``mini`` (embedded), a checkpoint folder, or a hub id.
        device: ``auto`` (cuda if there is one, else cpu), or a torch device.
        dtype: ``auto`` (bfloat16 on cuda, else float32), or float32, bfloat16, float16, float64.
        revision: branch, tag or commit of a hub id.
        trust_remote_code: run code that comes with a checkpoint, where there is none here. Read it before.
        mask_id: id of the mask token; None takes the configuration's, else the tokenizer's.
        end_ids: ids of the tokens that end an answer; None takes those of tokenizer and configuration, and the end of a turn
            that the chat template writes. The model has them as ``end_ids``.
        device_map: spread the model over devices, as in transformers (``auto``, or module -> device); needs ``accelerate``.
        compile: compile the model with ``torch.compile`` for static shapes, see ``tta_bench.models.compiled``.

    Returns:
        The model, whose ``config.mask_token_id`` and ``end_ids`` are set, and its tokenizer, None where the folder has none.

    Raises:
        CheckpointError: the name leads to no usable checkpoint; or the memory that is free does not hold it.
        ValueError: no such device or dtype.
    """
    name, where = str(name_or_path), resolve_device(device)
    precision = resolve_dtype(dtype, where)
    place = locate(name_or_path, trust_remote_code=trust_remote_code)
    if isinstance(place, str):
        place = fetch(place, revision, trust_remote_code=trust_remote_code)
    ends = None if end_ids is None else check_end_ids(tuple(end_ids))
    known = has_code(read_config(place, name))  # else it comes with the checkpoint, and is trusted
    if compile and not known:
        raise CheckpointError(f"model={name}: compile=True does not know the code that comes with a checkpoint; leave it out")
    if device_map is None:
        check_memory(place, name, precision, where)
    config = load_config(place, name, trust_remote_code=trust_remote_code)
    tokenizer = load_tokenizer(place, name, trust_remote_code=trust_remote_code)
    model = load_model(place, name, config, precision, trust_remote_code=trust_remote_code, device_map=device_map)
    model.config.mask_token_id = find_mask_id(model.config, tokenizer, mask_id, name)
    check_vocabulary(model, tokenizer, name)
    model = model if device_map is not None else model.to(where)
    found: Any = MaskedLM(model) if known and not isinstance(model, NativeModel) else model
    found.end_ids = find_end_ids(place, name, model, tokenizer) if ends is None else ends
    check_ends(found, name)
    return (Compiled(found) if compile else found).eval(), tokenizer


def fetch(name: str, revision: str | None, *, trust_remote_code: bool) -> Path:
    """A folder with the files of a hub id, downloaded unless they are there.

    Raises:
        CheckpointError: the hub cannot be reached, has no such id or revision, or holds a kind of model that cannot be loaded.
    """
    level = hub_logging.get_verbosity()
    hub_logging.set_verbosity_error()  # it tells of every one of its attempts
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=list(SMALL_FILES)))
        check_kind(read_config(folder, name), name, trust_remote_code=trust_remote_code)
        patterns = [WEIGHTS[0], *(["*.py"] if trust_remote_code else [])]
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=[*SMALL_FILES, *patterns]))
        if not any(folder.glob(WEIGHTS[0])):
            folder = Path(snapshot_download(name, revision=revision, allow_patterns=[*SMALL_FILES, *patterns, WEIGHTS[1]]))
    except CheckpointError:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        at = f" --revision {revision}" if revision else ""
        raise CheckpointError(
            f"model={name}: could not be fetched from the hub ({reason}). Where there is a network: hf download {name}{at} "
            "--local-dir FOLDER; then copy the folder here and give model.name_or_path=FOLDER"
        ) from error
    finally:
        hub_logging.set_verbosity(level)
    check_folder(folder, name, trust_remote_code=trust_remote_code)
    return folder


def load_config(folder: Path, name: str, *, trust_remote_code: bool) -> Any:
    """The configuration of a folder.

    Raises:
        CheckpointError: it asks for something that cannot be computed, or cannot be read.
    """
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:
        raise CheckpointError(f"model={name}: its config.json cannot be used ({said(error)})") from error


def said(error: Exception) -> str:
    """An error in a line."""
    text = " ".join(str(error).split())
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}"


def load_model(
    folder: Path,
    name: str,
    config: Any,
    dtype: torch.dtype,
    *,
    trust_remote_code: bool,
    device_map: str | dict[str, Any] | None,
) -> Any:
    """The model of a folder, every weight of which was found there.

    Raises:
        CheckpointError: a weight is missing, superfluous or of another shape, or a file cannot be read.
    """
    loader = AutoModelForMaskedLM if has_code(read_config(folder, name)) else AutoModel
    options: dict[str, Any] = {} if device_map is None else {"device_map": device_map}
    try:
        with quiet():
            model, told = loader.from_pretrained(
                folder,
                config=config,
                dtype=dtype,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                trust_remote_code=trust_remote_code,
                **options,
            )
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if device_map is not None and not is_accelerate_available():
            raise CheckpointError(f'model={name}: device_map needs accelerate: pip install "tta_bench[devices]"') from error
        spread = "" if device_map is None else f", with device_map={device_map}"
        raise CheckpointError(f"model={name}: its config.json and weights make no model{spread} ({said(error)})") from error
    problems = {
        "lacks": sorted(told["missing_keys"]),
        "has weights of another shape than config.json says:": sorted(str(key[0]) for key in told["mismatched_keys"]),
        "has weights that its model has no place for:": sorted(told["unexpected_keys"])
        if isinstance(model, NativeModel)
        else [],
    }
    for what, keys in problems.items():
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise CheckpointError(
                f"model={name}: the checkpoint {what} {', '.join(keys[:3])}{more}; config.json and weights are not of one model"
            )
    check_tying(model, name)
    return model


def check_tying(model: Any, name: str) -> None:
    """Refuse a native model with a head of its own although its configuration says that this is the embedding.

    Raises:
        CheckpointError: it has; transformers would take the head, published code the embedding.
    """
    if not isinstance(model, NativeModel) or not model.config.tie_word_embeddings:
        return
    head, embedding = (part.weight for part in (model.get_output_embeddings(), model.get_input_embeddings()))
    if head is not embedding and head.device.type != "meta" and not torch.equal(head, embedding):
        raise CheckpointError(
            f"model={name}: config.json says that the head is the embedding (tie_word_embeddings, weight_tying), and the "
            "weights hold another head; set it to what the authors of the checkpoint mean"
        )


def load_tokenizer(folder: Path, name: str, *, trust_remote_code: bool) -> PreTrainedTokenizerBase | None:
    """The tokenizer of a folder, None where it has none. Dream's, which comes as code, is Qwen2's.

    Raises:
        CheckpointError: it cannot be read.
    """
    if not tokenizer_files(folder):
        return None
    settings = folder / "tokenizer_config.json"
    kind = read_json(settings, name).get("tokenizer_class") if settings.is_file() else None
    loader = Qwen2Tokenizer if kind == "DreamTokenizer" else AutoTokenizer
    try:
        found: PreTrainedTokenizerBase = loader.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:
        raise CheckpointError(
            f"model={name}: its tokenizer cannot be read ({said(error)}); copy its tokenizer files again"
        ) from error
    return found


def find_mask_id(config: Any, tokenizer: PreTrainedTokenizerBase | None, mask_id: int | None, name: str) -> int:
    """The id of the mask token: as given, else the configuration's, else the tokenizer's.

    Raises:
        CheckpointError: none tells, or configuration and tokenizer tell different ones.
    """
    if mask_id is not None:
        return mask_id
    told = {
        "its configuration": getattr(config, "mask_token_id", None),
        "the tokenizer": getattr(tokenizer, "mask_token_id", None),
    }
    known = {source: found for source, found in told.items() if found is not None}
    if not known:
        raise CheckpointError(
            f"model={name}: neither config.json (mask_token_id) nor the tokenizer (mask_token) tells the mask token; give "
            "its id as model.mask_id, or mask_id in Python"
        )
    if len(set(known.values())) > 1:
        says = " and ".join(f"{source} says {found}" for source, found in known.items())
        raise CheckpointError(
            f"model={name}: the id of the mask token is not clear, {says}; give the right one as model.mask_id"
        )
    return int(next(iter(known.values())))


def check_vocabulary(model: Any, tokenizer: PreTrainedTokenizerBase | None, name: str) -> None:
    """Refuse a tokenizer or a mask token whose ids the model has no embedding for.

    Raises:
        CheckpointError: the model embeds fewer ids.
    """
    size = model.get_input_embeddings().weight.shape[0]
    largest = max(tokenizer.get_vocab().values(), default=0) if tokenizer else 0
    if largest >= size:
        raise CheckpointError(
            f"model={name}: the tokenizer has ids up to {largest:,}, the model embeds {size:,} tokens; they are not of one "
            "checkpoint, copy the tokenizer that belongs to it"
        )
    mask = model.config.mask_token_id
    if not 0 <= mask < size:
        raise CheckpointError(
            f"model={name}: mask token id {mask:,} must be below {size:,}, the tokens that the model embeds; "
            "model.mask_id=null (in Python mask_id=None) takes the checkpoint's own"
        )


def check_ends(model: Any, name: str) -> None:
    """Refuse ends of an answer that no answer can have.

    Raises:
        CheckpointError: one is the mask token, or out of range.
    """
    inner: Any = model.model if isinstance(model, MaskedLM) else model
    size, mask = inner.get_input_embeddings().weight.shape[0], model.config.mask_token_id
    for end in model.end_ids:
        if not 0 <= end < size or end == mask:
            raise CheckpointError(
                f"model={name}: end_ids={list(model.end_ids)}: {end:,} must be a token below {size:,} and not the mask token; "
                "model.end_ids=null (in Python end_ids=None) takes the checkpoint's own"
            )


def find_end_ids(folder: Path, name: str, model: Any, tokenizer: PreTrainedTokenizerBase | None) -> tuple[int, ...]:
    """Token ids that end an answer, those that end a turn first.

    The end of a turn counts where the chat template writes it. Where nothing ends a sequence, the separator does (BERT).
    """
    found: list[Any] = []
    if tokenizer is not None:
        template, vocabulary = str(tokenizer.chat_template or ""), tokenizer.get_vocab()
        found = [vocabulary[token] for token in TURN_ENDS if token in template and token in vocabulary]
        found.append(tokenizer.eos_token_id)
    file = folder / "generation_config.json"
    told = read_json(file, name) if file.is_file() else {}
    for ids in (getattr(model.config, "eos_token_id", None), told.get("eos_token_id")):
        found += ids if isinstance(ids, list) else [ids]
    ends = tuple(dict.fromkeys(int(i) for i in found if i is not None))
    if not ends and tokenizer is not None and tokenizer.sep_token_id is not None:
        return (int(tokenizer.sep_token_id),)
    return ends


def check_memory(folder: Path, name: str, dtype: torch.dtype, device: torch.device) -> None:
    """Refuse a model whose weights do not fit the memory that is free.

    Raises:
        CheckpointError: they do not.
    """
    precision = str(dtype).removeprefix("torch.")
    needed = weight_bytes(folder, precision)
    places = {str(device): torch.cuda.mem_get_info(device)[0]} if device.type == "cuda" else {}
    places["cpu"] = psutil.virtual_memory().available  # weights go through it on their way to a device
    for place, free in places.items():
        if needed <= free:
            continue
        raise CheckpointError(
            f"model={name}: needs about {needed / 1e9:.1f} GB in {precision}, {free / 1e9:.1f} GB free on {place}; use "
            "a smaller dtype (bfloat16, float16), another device, or model.device_map=auto"
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Without the progress bar and the report of weights that transformers prints: what matters of it is an error here."""
    bars, level = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


def resolve_device(device: str, *, here: bool = True) -> torch.device:
    """``auto`` as cuda or cpu; anything else as torch understands it.

    Args:
        device: as configured.
        here: whether this process is to use it; False for one that another machine has.

    Raises:
        ValueError: torch knows no such device, or it is not available here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device={device}: torch knows no such device; use auto, cpu, cuda or cuda:N") from error
    available = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if found.type not in available:
        raise ValueError(f"device={device}: must be auto, cpu, cuda, cuda:N or mps")
    if here and (found.index or 0) >= available[found.type]:
        raise ValueError(
            f"device={device}: this torch sees {available[found.type]} {found.type} device(s); use device=cpu or device=auto"
        )
    return found


def resolve_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """``auto`` as bfloat16 on cuda and float32 elsewhere; else the torch dtype of that name."""
    if dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    names = ("float32", "bfloat16", "float16", "float64")
    if dtype not in names:
        raise ValueError(f"dtype={dtype}: must be auto or one of {', '.join(names)}")
    return {name: getattr(torch, name) for name in names}[dtype]
