"""Loading a model and its tokenizer by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from tta_bench.models.checkpoint import MODEL_TYPES, CheckpointError, locate
from tta_bench.models.llada import LLaDAModelLM


def load(
    name_or_path: str | Path,
    device: str = "auto",
    dtype: str = "auto",
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> tuple[LLaDAModelLM, PreTrainedTokenizerBase]:
    """Load a masked diffusion model and its tokenizer, in eval mode.

    Args:
        name_or_path: ``mini`` (embedded), a checkpoint folder, or a hub id.
        device: ``auto`` (cuda if there is one, else cpu), or a torch device.
        dtype: ``auto`` (bfloat16 on cuda, else float32), or float32, bfloat16, float16, float64.
        revision: branch, tag or commit of a hub id.
        trust_remote_code: passed to the tokenizer's loader; the model's code is always this package's own.

    Raises:
        CheckpointError: the name leads to no usable checkpoint.
    """
    place = locate(name_or_path)
    config = AutoConfig.from_pretrained(place, revision=revision)
    if config.model_type not in MODEL_TYPES:
        raise CheckpointError(
            f"model={name_or_path}: model_type {config.model_type!r} is not supported; supported: {', '.join(MODEL_TYPES)}"
        )
    where = resolve_device(device)
    bars = transformers_logging.is_progress_bar_enabled()
    if isinstance(place, Path):
        transformers_logging.disable_progress_bar()
    try:
        model: Any = LLaDAModelLM.from_pretrained(place, revision=revision, dtype=resolve_dtype(dtype, where))
    finally:
        if bars:
            transformers_logging.enable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(place, revision=revision, trust_remote_code=trust_remote_code)
    return model.to(where).eval(), tokenizer


def resolve_device(device: str) -> torch.device:
    """``auto`` as cuda or cpu; anything else as torch understands it.

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
    if (found.index or 0) >= available[found.type]:
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
