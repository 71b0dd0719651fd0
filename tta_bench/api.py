"""The public functions of the usage guide."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tta_bench import catalog
from tta_bench.rng import Noise, keys_of_prompts
from tta_bench.sampling.denoiser import Denoiser, check_cfg_scale
from tta_bench.sampling.sampler import Sampler, sample
from tta_bench.sampling.schedule import BlockSchedule
from tta_bench.sampling.trace import mean_over_rows, step_statistics, token_logs
from tta_bench.types import ConstraintFn, Generation

Logs = dict[str, Any]


def generate(
    model: Any,
    prompt: Tensor,
    sampler: str | Sampler = "low_confidence",
    *,
    steps: int = 64,
    gen_length: int = 64,
    block_length: int | None = 64,
    seed: int | None = 0,
    mask_id: int | None = None,
    shift_logits: bool | None = None,
    cfg_scale: float = 0.0,
    constraint_fn: ConstraintFn | None = None,
    record_canvases: bool = False,
    row_keys: Sequence[str] | None = None,
    **sampler_parameters: Any,
) -> tuple[Tensor, Logs]:
    """Complete prompts with a masked diffusion model.

    Args:
        model: callable, ``model(input_ids)`` -> object with ``.logits`` (B, L, V).
        prompt: token ids (B, P), int64. Masks in it are holes that are filled as well.
        sampler: a name in conf/sampler, or a ``Sampler``.
        steps: denoising steps S.
        gen_length: positions appended; 0 where the prompt's own holes are all there is to fill.
        block_length: editable positions in a block, capped at the number there is; None makes one block.
        seed: of every draw; None takes a fresh one, which ``logs["seed"]`` tells.
        mask_id: id of the mask token; None asks the model's config.
        shift_logits: True where logits at i predict token i + 1; None asks the model, else False.
        cfg_scale: classifier-free guidance; above 0 each step costs two forward passes.
        constraint_fn: token ids (B, P + gen_length) -> violations of that shape, float, >= 0.
        record_canvases: keep the generated region as it went into each model call.
        row_keys: names of the rows for the random numbers; by default a row's key is its content.
        **sampler_parameters: parameters of the named sampler.

    Returns:
        tokens (B, P + gen_length), and logs: ``total_steps``; ``nfe`` = total_steps x views; ``forward_passes`` (model
        evaluations really made, per sequence); ``model_calls``; ``tta_stats`` (a list of S floats for each of
        avg_entropy_per_step, avg_disagreement_per_step, avg_mutual_information_per_step, avg_violation_per_step,
        remask_ratio_per_step, frozen_ratio_per_step); ``token_logs``; ``seconds``; ``seed``; and ``canvases`` if asked for.

    Raises:
        ValueError: an argument is out of range, or there is nothing to fill; the message names it and the rule.
    """
    if sampler_parameters and not isinstance(sampler, str):
        raise ValueError(f"{', '.join(sampler_parameters)}: parameters go with a sampler's name, not with a Sampler")
    strategy: Sampler = catalog.entry("sampler", sampler, sampler_parameters).build() if isinstance(sampler, str) else sampler
    mask_id = find_mask_id(model, mask_id)
    tokens = append_masks(prompt, gen_length, mask_id)
    check_cfg_scale(cfg_scale)
    shift = bool(getattr(model, "shift_logits", False)) if shift_logits is None else shift_logits
    seed = secrets.randbits(63) if seed is None else seed
    keys = keys_of_prompts(prompt.tolist()) if row_keys is None else tuple(row_keys)
    if len(keys) != len(prompt):
        raise ValueError(f"row_keys: has {len(keys)} keys for {len(prompt)} prompts; give one for each row")
    generation = sample(
        Denoiser(model, cfg_scale, shift),
        strategy,
        BlockSchedule(steps, block_length),
        tokens,
        tokens == mask_id,
        mask_id=mask_id,
        noise=Noise(seed, keys),
        constraint_fn=constraint_fn,
    )
    logs = make_logs(generation, strategy) | {"seed": seed}
    if record_canvases:
        start = prompt.shape[1] if gen_length else 0
        logs["canvases"] = [info.canvas.tokens[:, start:] for info in generation.steps]
    return generation.tokens, logs


def make_logs(generation: Generation, sampler: Sampler) -> Logs:
    """The logs of the usage guide, statistics averaged over the rows."""
    statistics = {name: mean_over_rows(values) for name, values in step_statistics(generation.steps).items()}
    names = {
        "avg_entropy_per_step": "entropy",
        "avg_disagreement_per_step": "disagreement",
        "avg_mutual_information_per_step": "mutual_information",
        "avg_violation_per_step": "violation",
        "remask_ratio_per_step": "remask_ratio",
        "frozen_ratio_per_step": "frozen_ratio",
    }
    return {
        "total_steps": len(generation.steps),
        "nfe": len(generation.steps) * sampler.views.k,
        "forward_passes": generation.forward_passes,
        "model_calls": generation.model_calls,
        "tta_stats": {key: statistics[name] for key, name in names.items()},
        "token_logs": token_logs(generation.steps),
        "seconds": generation.seconds,
    }


def generate_with_tta_uncertainty(
    model: Any,
    prompt: Tensor,
    *,
    steps: int = 64,
    gen_length: int = 64,
    block_length: int | None = 64,
    seed: int | None = None,
    mask_id: int | None = None,
    shift_logits: bool | None = None,
    cfg_scale: float = 0.0,
    constraint_fn: ConstraintFn | None = None,
    record_canvases: bool = False,
    row_keys: Sequence[str] | None = None,
    **tta_parameters: Any,
) -> tuple[Tensor, Logs]:
    """``generate`` with the sampler ``tta``; its parameters are those of ``tta_bench.sampling.presets.tta``."""
    return generate(
        model,
        prompt,
        "tta",
        steps=steps,
        gen_length=gen_length,
        block_length=block_length,
        seed=seed,
        mask_id=mask_id,
        shift_logits=shift_logits,
        cfg_scale=cfg_scale,
        constraint_fn=constraint_fn,
        record_canvases=record_canvases,
        row_keys=row_keys,
        **tta_parameters,
    )


def find_mask_id(model: Any, mask_id: int | None) -> int:
    """``mask_id`` if given, else ``model.config.mask_token_id``.

    Raises:
        ValueError: neither is there.
    """
    found = getattr(getattr(model, "config", None), "mask_token_id", None) if mask_id is None else mask_id
    if found is None:
        raise ValueError("mask_id=None: the model's config has no mask_token_id; give mask_id, the id of its mask token")
    return int(found)


def append_masks(prompt: Tensor, gen_length: int, mask_id: int) -> Tensor:
    """Prompt (B, P) with ``gen_length`` masks behind it.

    Raises:
        ValueError: the prompt is no (B, P) integer tensor, or nothing would be there to fill.
    """
    if prompt.dim() != 2 or prompt.dtype != torch.int64 or prompt.shape[0] == 0:
        raise ValueError(
            f"prompt: must be a LongTensor (B, P) with B >= 1, got {prompt.dtype} {tuple(prompt.shape)}; "
            "for a single prompt use prompt[None]"
        )
    if gen_length < 0 or (gen_length == 0 and not bool((prompt == mask_id).any())):
        raise ValueError(f"gen_length={gen_length}: must be at least 1 (0 only where the prompt holds masks to fill)")
    tail = torch.full((prompt.shape[0], gen_length), mask_id, dtype=prompt.dtype, device=prompt.device)
    return torch.cat((prompt, tail), dim=1)
