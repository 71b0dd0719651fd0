"""Where a checkpoint is and what it is, without loading it (and without torch)."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

MINI_PATH = Path(__file__).parent / "mini"
"""Folder of the embedded checkpoint, which the name ``mini`` stands for."""

WEIGHTS = ("*.safetensors", "*.bin")


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
        if not weight_files(folder):
            raise CheckpointError(
                f"model={name_or_path}: the folder has no weights ({' or '.join(WEIGHTS)}); copy them beside its config.json"
            )
        return folder
    if re.fullmatch(r"[\w.-]+/[\w.-]+", str(name_or_path)):
        return str(name_or_path)
    raise CheckpointError(
        f"model={name_or_path}: must be 'mini', an existing checkpoint folder, or a hub id such as GSAI-ML/LLaDA-8B-Base"
    )


def weight_files(folder: Path) -> list[Path]:
    """The weight files of a checkpoint folder, by name."""
    return sorted(file for pattern in WEIGHTS for file in folder.glob(pattern))


def fingerprint(name_or_path: str | Path, revision: str | None = None) -> str:
    """What makes a checkpoint the same one: 16 hex digits over its config and weights, or ``id@revision`` on a hub.

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
    for file in weight_files(place):
        digest.update(file.name.encode())
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 24):
                digest.update(chunk)
    return digest.hexdigest()
