"""Where a checkpoint is and what it is, without loading it (and without torch)."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MINI_PATH = Path(__file__).parent / "mini"
"""Folder of the embedded checkpoint, which the name ``mini`` stands for."""

WEIGHTS = ("model*.safetensors", "pytorch_model*.bin")
"""Of a checkpoint, the form that is preferred first."""

TOKENIZER = ("tokenizer*", "vocab.*", "merges.txt", "*.model")
BESIDES = ("*.jinja", "special_tokens_map.json", "added_tokens.json", "generation_config.json", "*.py")
"""Files that change answers, besides config, weights and tokenizer."""
NATIVE = ("llada", "illada", "Dream")
"""Values of ``model_type`` in config.json for which this package has code of its own."""

BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
"""Of a weight."""


class CheckpointError(ValueError):
    """A model name or checkpoint folder that cannot be used."""


@dataclass(frozen=True)
class ModelSettings:
    """Which model, and how it is loaded; see ``tta_bench.load``."""

    name_or_path: str
    revision: str | None = None
    trust_remote_code: bool = False
    mask_id: int | None = None
    end_ids: tuple[int, ...] | None = None
    device_map: str | None = None
    compile: bool = False


def check_end_ids(end_ids: tuple[int, ...]) -> tuple[int, ...]:
    """The same, unless it is empty.

    Raises:
        ValueError: it is.
    """
    if not end_ids:
        raise ValueError("end_ids=[]: an answer must end somewhere; give a token id, or null for the checkpoint's own")
    return end_ids


def locate(name_or_path: str | Path, *, trust_remote_code: bool = False) -> Path | str:
    """The folder of a checkpoint, or the name itself where it is a hub id (``owner/name``).

    Raises:
        CheckpointError: neither ``mini``, nor a folder with config.json and whole weights, nor a hub id; or a model of a kind
            that cannot be loaded.
    """
    if str(name_or_path) == "mini":
        return MINI_PATH
    folder = Path(name_or_path).expanduser()
    if str(name_or_path) and folder.is_dir():
        check_folder(folder, str(name_or_path), trust_remote_code=trust_remote_code)
        return folder
    if re.fullmatch(r"[\w.-]+/[\w.-]+", str(name_or_path)):
        return str(name_or_path)
    raise CheckpointError(
        f"model={name_or_path}: must be 'mini', an existing checkpoint folder, or a hub id such as GSAI-ML/LLaDA-8B-Base"
    )


def check_folder(folder: Path, name: str, *, trust_remote_code: bool) -> None:
    """Refuse a folder that lacks config, weights or a shard, has a broken file, or holds another kind of model."""
    config = read_config(folder, name)
    files = weight_files(folder)
    if not files:
        raise CheckpointError(
            f"model={name}: the folder has no weights ({' or '.join(WEIGHTS)}); copy them beside its config.json"
        )
    check_kind(config, name, trust_remote_code=trust_remote_code)
    indexes = list(folder.glob(files[0].name.partition(".")[0].partition("-")[0] + ".*.index.json"))
    for index in indexes:
        missing = {str(file) for file in shards(index, name) if not (folder / str(file)).is_file()}
        if missing:
            raise CheckpointError(
                f"model={name}: {index.name} lists {', '.join(sorted(missing))}, not in the folder; copy them"
            )
    if len(files) > 1 and not indexes:
        raise CheckpointError(
            f"model={name}: the folder has {len(files)} weight files and no index (model.safetensors.index.json); copy it "
            "beside them"
        )
    for file in folder.glob(WEIGHTS[0]):
        read_header(file, name)


def shards(index: Path, name: str) -> set[Any]:
    """The files that an index lists.

    Raises:
        CheckpointError: it is no index.
    """
    listed = read_json(index, name).get("weight_map")
    if not isinstance(listed, dict):
        raise CheckpointError(f"model={name}: {index.name} has no weight_map, which says where each weight is; copy it again")
    return set(listed.values())


def read_config(folder: Path, name: str) -> dict[str, Any]:
    """A checkpoint's config.json.

    Raises:
        CheckpointError: there is none, or it cannot be read.
    """
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"model={name}: the folder has no config.json, so it is no checkpoint")
    return read_json(folder / "config.json", name)


def read_json(file: Path, name: str) -> dict[str, Any]:
    """A mapping in a JSON file of a checkpoint."""
    try:
        found = json.loads(file.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"model={name}: {file.name} is no JSON ({error}); copy it again") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"model={name}: {file.name} must hold a JSON object; copy it again")
    return found


def check_kind(config: Mapping[str, Any], name: str, *, trust_remote_code: bool) -> None:
    """Refuse a model that is no masked language model, or needs code that may not be run.

    Raises:
        CheckpointError: it is one of these.
    """
    kind, architectures = config.get("model_type"), config.get("architectures") or []
    if kind in NATIVE and "quantization_config" in config:
        raise CheckpointError(
            f"model={name}: its weights are quantized (quantization_config), which is not supported; use the checkpoint "
            "that is not"
        )
    if has_code(config):
        return
    if str(kind).startswith("diffusion_gemma"):
        raise CheckpointError(
            f"model={name}: {kind} starts from random tokens, not from masks, and no sampler here can decode that; "
            "see docs/models.md"
        )
    if "auto_map" in config:
        if trust_remote_code:
            return
        raise CheckpointError(
            f"model={name}: model_type {kind!r} needs the code that comes with the checkpoint, which is run on request only; "
            "read it, then set model.trust_remote_code=true (in Python trust_remote_code=True), "
            f"or use a model with code here ({', '.join(NATIVE)}, any ...ForMaskedLM)"
        )
    raise CheckpointError(
        f"model={name}: model_type {kind!r} ({', '.join(map(str, architectures)) or 'no architecture'}) is not supported; "
        f"supported: {', '.join(NATIVE)}, and any ...ForMaskedLM of transformers"
    )


def has_code(config: Mapping[str, Any]) -> bool:
    """Whether this package or transformers has the code of a masked language model with this config.json."""
    masked = any(str(architecture).endswith("ForMaskedLM") for architecture in config.get("architectures") or [])
    return masked or config.get("model_type") in NATIVE


def tokenizer_files(folder: Path) -> list[Path]:
    """The files of a checkpoint folder's tokenizer, by pattern and name."""
    return [file for pattern in TOKENIZER for file in sorted(folder.glob(pattern))]


def weight_files(folder: Path) -> list[Path]:
    """The weight files of a checkpoint folder, by name: safetensors where there are any."""
    return next((files for pattern in WEIGHTS if (files := sorted(folder.glob(pattern)))), [])


def read_header(file: Path, name: str) -> dict[str, Any]:
    """What a safetensors file says of its tensors: name -> dtype, shape, data_offsets.

    Raises:
        CheckpointError: the file is shorter than that, or says something that cannot be read.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > size - 8:
            raise CheckpointError(f"model={name}: {file.name} is broken or cut off ({size:,} bytes); copy it again")
        try:
            header = json.loads(stream.read(length))
            end = max((tensor["data_offsets"][1] for key, tensor in header.items() if key != "__metadata__"), default=0)
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"model={name}: {file.name} is broken, its header cannot be read; copy it again") from error
    if size != 8 + length + end:
        raise CheckpointError(f"model={name}: {file.name} has {size:,} bytes instead of {8 + length + end:,}; copy it again")
    return {key: tensor for key, tensor in header.items() if key != "__metadata__"}


def weight_bytes(folder: Path, dtype: str) -> int:
    """Bytes of a checkpoint's weights once they are of a dtype.

    Weights in pytorch_model*.bin do not tell their dtype and are taken as they are.
    """
    headers = [read_header(file, str(folder)) for file in folder.glob(WEIGHTS[0])]
    if not headers:
        return sum(file.stat().st_size for file in weight_files(folder))
    return sum(math.prod(tensor["shape"]) for header in headers for tensor in header.values()) * BYTES[dtype]


def fingerprint(name_or_path: str | Path, revision: str | None = None, *, trust_remote_code: bool = False) -> str:
    """What makes a checkpoint the same one: 16 hex digits over all that is loaded of a folder, or ``id@revision`` on a hub.

    Raises:
        CheckpointError: see ``locate``; a folder without a tokenizer; or a hub id without a commit, whose weights could
            change under the same name.
    """
    place = locate(name_or_path, trust_remote_code=trust_remote_code)
    if isinstance(place, str):
        if revision is None or not re.fullmatch(r"[0-9a-f]+", revision):
            raise CheckpointError(
                f"model={place}: is no folder here; for the hub, give model.revision, a commit hash of the hub (not "
                f"{revision}), so that results stay tied to the weights"
            )
        return f"{place}@{revision}"
    digest = hashlib.blake2b(digest_size=8)
    digest.update(json.dumps(json.loads((place / "config.json").read_text()), sort_keys=True).encode())
    if not tokenizer_files(place):
        raise CheckpointError(
            f"model={name_or_path}: the folder has no tokenizer (tokenizer.json ...), and tasks are texts; copy it beside its "
            "config.json"
        )
    more = [file for pattern in BESIDES for file in sorted(place.glob(pattern))]
    for file in [*weight_files(place), *tokenizer_files(place), *more]:
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 24):
                digest.update(chunk)
    return digest.hexdigest()
