"""Where a checkpoint is and what it is, without loading it (and without torch)."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

MINI_PATH = Path(__file__).parent / "mini"
"""Folder of the embedded checkpoint, which the name ``mini`` stands for."""

WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
MODEL_TYPES = ("llada",)
"""Values of ``model_type`` in config.json that this package can load."""


class CheckpointError(ValueError):
    """A model name or checkpoint folder that cannot be used."""


def locate(name_or_path: str | Path) -> Path | str:
    """The folder of a checkpoint, or the name itself where it is a hub id (``owner/name``).

    Raises:
        CheckpointError: neither ``mini``, nor a folder with config.json and weights, nor a hub id.
    """
    if str(name_or_path) == "mini":
        return MINI_PATH
    folder = Path(name_or_path)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise CheckpointError(f"model={name_or_path}: the folder has no config.json, so it is no checkpoint")
        _check_folder(folder, str(name_or_path))
        return folder
    if re.fullmatch(r"[\w.-]+/[\w.-]+", str(name_or_path)):
        return str(name_or_path)
    raise CheckpointError(
        f"model={name_or_path}: must be 'mini', an existing checkpoint folder, or a hub id such as GSAI-ML/LLaDA-8B-Base"
    )


def _check_folder(folder: Path, name: str) -> None:
    """Refuse a folder with config.json that lacks weights, a shard or a tokenizer, or holds another kind of model."""
    if not weight_files(folder):
        raise CheckpointError(
            f"model={name}: the folder has no weights ({' or '.join(WEIGHTS)}); copy them beside its config.json"
        )
    model_type = json.loads((folder / "config.json").read_text()).get("model_type")
    if model_type not in MODEL_TYPES:
        raise CheckpointError(f"model={name}: model_type {model_type!r} is not supported; supported: {', '.join(MODEL_TYPES)}")
    for index in folder.glob("*.index.json"):
        missing = {f for f in json.loads(index.read_text())["weight_map"].values() if not (folder / f).is_file()}
        if missing:
            raise CheckpointError(
                f"model={name}: {index.name} lists {', '.join(sorted(missing))}, not in the folder; copy them"
            )
    if not any(folder.glob("tokenizer*")):
        raise CheckpointError(f"model={name}: the folder has no tokenizer (tokenizer.json ...); copy it beside its config.json")


def weight_files(folder: Path) -> list[Path]:
    """The weight files of a checkpoint folder, by name."""
    return sorted(file for pattern in WEIGHTS for file in folder.glob(pattern))


def fingerprint(name_or_path: str | Path, revision: str | None = None) -> str:
    """What makes a checkpoint the same one: 16 hex digits over config, weights and tokenizer, or ``id@revision`` on a hub.

    Raises:
        CheckpointError: a hub id without a revision, whose weights could change under the same name.
    """
    place = locate(name_or_path)
    if isinstance(place, str):
        if revision is None:
            raise CheckpointError(
                f"model={place}: give model.revision (a commit hash of the hub), so that results stay tied to it"
            )
        return f"{place}@{revision}"
    digest = hashlib.blake2b(digest_size=8)
    digest.update(json.dumps(json.loads((place / "config.json").read_text()), sort_keys=True).encode())
    for file in [*weight_files(place), *sorted(place.glob("tokenizer*"))]:
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 24):
                digest.update(chunk)
    return digest.hexdigest()
