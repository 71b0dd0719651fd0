"""The public functions of the usage guide."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tta_bench import catalog
from tta_bench.rng import Noise, keys_of_prompts
from tta_bench.sampling.denoiser import Denoiser, check_cfg_scale
from tta_bench.sampling.eos import EosPolicy
from tta_bench.sampling.sampler import Sampler, sample
from tta_bench.sampling.schedule import Blocks
from tta_bench.sampling.trace import mean_over_rows, step_statistics, token_logs
from tta_bench.types import AnswerFn, ConstraintFn, Generation

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
    attention_mask: Tensor | None = None,
    eos_policy: str = "allow",
    eos_id: int | Sequence[int] | None = None,
    constraint_fn: ConstraintFn | None = None,
    answer_fn: AnswerFn | None = None,
    dtype: str | None = None,
    reference_quirks: bool = False,
    record_canvases: bool = False,
    row_keys: Sequence[str] | None = None,
    **sampler_parameters: Any,
) -> tuple[Tensor, Logs]:
    """Complete prompts with a masked diffusion model.

    Args:
        model: callable, ``model(input_ids)`` -> object with ``.logits`` (B, L, V). With padding it is also given
            ``attention_mask`` and, if it takes them, ``position_ids``.
        prompt: token ids (B, P), int64. Masks in it are holes that are filled as well.
        sampler: a name in conf/sampler, or a ``Sampler``.
        steps: denoising steps S. Samplers that decide for themselves when they are done (docs/samplers.md) do not use it.
        gen_length: positions appended; 0 where the prompt's own holes are all there is to fill.
        block_length: editable positions in a block, capped at the number there is; None makes one block.
        seed: of every draw; None takes a fresh one, which ``logs["seed"]`` tells.
        mask_id: id of the mask token; None asks the model's config.
        shift_logits: True where logits at i predict token i + 1; None asks the model, else False.
        cfg_scale: classifier-free guidance; above 0 each step costs two forward passes.
        attention_mask: (B, P), 0 at padding to the left of a prompt, else 1; None where nothing is padded.
        eos_policy: ``allow`` commits ends of sequence as any other token, ``forbid`` only when nothing else is left to commit,
            ``stop`` finishes a row early once a committed end has no mask before it.
        eos_id: token id (or ids) that end a sequence; None asks the model (``end_ids``, which ``load`` sets) and its config.
        constraint_fn: token ids (B, P + gen_length) -> violations of that shape, float, >= 0.
        answer_fn: row number and token ids of the row (prompt and padding included) -> its answer, hashable, for samplers that
            vote; None takes the generated ids up
            to the first that ends the sequence.
        dtype: in which logits are guided and scored; None keeps the model's, at least float32.
        reference_quirks: do as the published code does where it differs from its paper; samplers without such a difference
            (all that have no such parameter) are not changed by it.
        record_canvases: keep the generated region as it went into each model call.
        row_keys: names of the rows for the random numbers; by default a row's key is its content.
        **sampler_parameters: parameters of the named sampler.

    Returns:
        tokens (B, P + gen_length), and logs: ``total_steps``; ``nfe`` = total_steps x views (x samples, where
        a sampler decodes several times); ``forward_passes`` (model
        evaluations really made, per sequence: the mean over rows, which differ where rows end at different times) and
        ``forward_passes_per_row``; ``evaluated_positions_per_row`` (token positions that went through the network: length x
        passes, fewer with a cache); ``model_calls``; ``tta_stats`` (a list of total_steps floats for each of
        avg_entropy_per_step, avg_disagreement_per_step, avg_mutual_information_per_step, avg_violation_per_step,
        remask_ratio_per_step, frozen_ratio_per_step; over the committed tokens, of which those in a block that is done count as
        they were last looked at, unless the sampler takes back there); ``token_logs``; ``seconds``; ``seed``; and ``canvases``
        if asked for.
        A row without masks comes back as it is, at no cost. Where a sampler decodes every prompt several times, the rows in
        ``token_logs`` and ``canvases`` are its decodings, those of a prompt next to each other.

    Raises:
        ValueError: an argument is out of range; the message names it and the rule.
        ModelOutputError: the model returned NaN or infinity; the message names step, row and position.
    """
    strategy = build_sampler(sampler, sampler_parameters, reference_quirks)
    mask_id = find_mask_id(model, mask_id)
    tokens = append_masks(prompt, gen_length, mask_id)
    padding = find_padding(attention_mask, prompt, gen_length)
    check_cfg_scale(cfg_scale)
    shift = bool(getattr(model, "shift_logits", False)) if shift_logits is None else shift_logits
    seed = secrets.randbits(63) if seed is None else seed
    keys = keys_of_prompts(unpadded(prompt, padding)) if row_keys is None else tuple(row_keys)
    if len(keys) != len(prompt):
        raise ValueError(f"row_keys: has {len(keys)} keys for {len(prompt)} prompts; give one for each row")
    eos = EosPolicy(eos_policy, find_eos_ids(model, eos_id))
    start = prompt.shape[1] if gen_length else 0
    generation = sample(
        Denoiser(model, cfg_scale, shift, None if dtype is None else floating_dtype(dtype)),
        strategy,
        Blocks(steps, block_length),
        tokens,
        (tokens == mask_id) if padding is None else (tokens == mask_id) & ~padding,
        mask_id=mask_id,
        noise=Noise(seed, keys),
        padding=padding,
        constraint_fn=constraint_fn,
        eos=eos,
        answer_fn=answer_fn or (lambda _, ids: generated_ids(ids, start, eos)),
    )
    logs = make_logs(generation, strategy) | {"seed": seed}
    if record_canvases:
        logs["canvases"] = [info.canvas.tokens[:, start:].clone() for info in generation.steps]
    return generation.tokens, logs


def build_sampler(sampler: str | Sampler, parameters: Mapping[str, Any], reference_quirks: bool) -> Sampler:
    """The sampler of a name with its parameters, or the sampler itself.

    Raises:
        ValueError: no such name or parameter, a value out of range, or parameters for a sampler that is built already.
    """
    if not isinstance(sampler, str | Sampler):
        raise ValueError(f"sampler={sampler!r}: must be a name in conf/sampler or a Sampler; call a function that makes one")
    if isinstance(sampler, Sampler):
        if parameters or reference_quirks:
            given = [*parameters, *(["reference_quirks"] if reference_quirks else [])]
            raise ValueError(f"{', '.join(given)}: parameters go with a sampler's name, not with a Sampler")
        return sampler
    if reference_quirks and "reference_quirks" in catalog.entry("sampler", sampler).parameters:
        parameters = {**parameters, "reference_quirks": True}
    built: Sampler = catalog.entry("sampler", sampler, parameters).build()
    return built


def make_logs(generation: Generation, sampler: Sampler) -> Logs:
    """The logs of the usage guide, statistics averaged over the rows."""
    statistics = {name: mean_over_rows(values) for name, values in step_statistics(generation.steps).items()}
    passes = sum(generation.forward_passes) / len(generation.forward_passes)
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
        "nfe": len(generation.steps) * sampler.views.k * (sampler.vote.samples if sampler.vote else 1),
        "forward_passes": int(passes) if passes.is_integer() else passes,
        "forward_passes_per_row": list(generation.forward_passes),
        "evaluated_positions_per_row": list(generation.evaluated),
        "model_calls": generation.model_calls,
        "tta_stats": {key: statistics[name] for key, name in names.items()},
        "token_logs": token_logs(generation.steps),
        "seconds": generation.seconds,
    }


def generate_with_tta_uncertainty(
    model: Any, prompt: Tensor, *, seed: int | None = None, **arguments: Any
) -> tuple[Tensor, Logs]:
    """``generate`` with the sampler ``tta``, a fresh seed by default.

    Args:
        model, prompt: as in ``generate``.
        seed: of every draw; None takes a fresh one.
        **arguments: of ``generate``, and the sampler's parameters (``tta_bench.sampling.presets.tta``).
    """
    return generate(model, prompt, "tta", seed=seed, **arguments)


def find_mask_id(model: Any, mask_id: int | None) -> int:
    """``mask_id`` if given, else ``model.config.mask_token_id``.

    Raises:
        ValueError: neither is there.
    """
    found = getattr(getattr(model, "config", None), "mask_token_id", None) if mask_id is None else mask_id
    if found is None:
        raise ValueError("mask_id=None: the model's config has no mask_token_id; give mask_id, the id of its mask token")
    return int(found)


def find_eos_ids(model: Any, eos_id: int | Sequence[int] | None) -> tuple[int, ...]:
    """``eos_id`` if given, else ``model.end_ids`` or ``model.config.eos_token_id``, as a tuple; empty if there is none."""
    told = getattr(model, "end_ids", None) or getattr(getattr(model, "config", None), "eos_token_id", None)
    found = told if eos_id is None else eos_id
    if found is None:
        return ()
    return (int(found),) if isinstance(found, int) else tuple(int(i) for i in found)


def generated_ids(ids: Sequence[int], start: int, eos: EosPolicy) -> tuple[int, ...]:
    """The generated token ids up to the first that ends the sequence; all of them for an infill (``start`` 0)."""
    generated = list(ids[start:])
    ends = [i for i, token in enumerate(generated) if token in eos.ids] if start else []
    return tuple(generated[: ends[0]] if ends else generated)


def append_masks(prompt: Tensor, gen_length: int, mask_id: int) -> Tensor:
    """Prompt (B, P) with ``gen_length`` masks behind it.

    Raises:
        ValueError: the prompt is no (B, P) integer tensor, or the length is negative.
    """
    if not isinstance(prompt, Tensor):
        raise ValueError(f"prompt: must be a LongTensor (B, P), got {type(prompt).__name__}; encode it with the tokenizer")
    if prompt.dim() != 2 or prompt.dtype != torch.int64 or prompt.shape[0] == 0:
        raise ValueError(
            f"prompt: must be a LongTensor (B, P) with B >= 1, got {prompt.dtype} {tuple(prompt.shape)}; "
            "for a single prompt use prompt[None]"
        )
    if not isinstance(gen_length, int) or gen_length < 0:
        raise ValueError(f"gen_length={gen_length}: must be a whole number >= 0; 0 fills the masks in the prompt only")
    tail = torch.full((prompt.shape[0], gen_length), mask_id, dtype=prompt.dtype, device=prompt.device)
    return torch.cat((prompt, tail), dim=1)


def find_padding(attention_mask: Tensor | None, prompt: Tensor, gen_length: int) -> Tensor | None:
    """(B, P + gen_length) bool, True at padding; None where there is none.

    Raises:
        ValueError: the mask is not of the prompt's shape, holds other numbers than 0 and 1, or pads elsewhere than on the left.
    """
    if attention_mask is None:
        return None
    if attention_mask.shape != prompt.shape:
        raise ValueError(
            f"attention_mask: has shape {tuple(attention_mask.shape)}, must have that of the prompt, {tuple(prompt.shape)}"
        )
    if not bool(((attention_mask == 0) | (attention_mask == 1)).all()):
        raise ValueError("attention_mask: must hold 1 at tokens and 0 at padding only")
    padding = attention_mask == 0
    if bool((padding[:, 1:] & ~padding[:, :-1]).any()):
        raise ValueError("attention_mask: padding must be to the left of a prompt; set padding_side='left' in the tokenizer")
    if not bool(padding.any()):
        return None
    return torch.nn.functional.pad(padding, (0, gen_length), value=False)


def unpadded(prompt: Tensor, padding: Tensor | None) -> list[list[int]]:
    """The prompts' token ids without padding."""
    rows = prompt.tolist()
    if padding is None:
        return rows
    return [[t for t, p in zip(row, pads, strict=False) if not p] for row, pads in zip(rows, padding.tolist(), strict=True)]


def floating_dtype(name: str) -> torch.dtype:
    """The torch dtype of a name.

    Raises:
        ValueError: it names none that probabilities can be computed in.
    """
    if name not in ("float32", "float64", "bfloat16", "float16"):
        raise ValueError(f"dtype={name}: must be float64, float32, bfloat16 or float16")
    found: torch.dtype = getattr(torch, name)
    return found
