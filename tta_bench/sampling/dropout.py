"""Dropout for models that ship without any."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


@contextmanager
def injected_dropout(model: Any, p: float, seeds: list[int], pads: list[int]) -> Iterator[None]:
    """Dropout on the output of every residual branch of ``model`` while the context lasts.

    Published LLaDA and Dream weights come with dropout 0, so putting the model into train mode changes nothing. Here each
    row of the batch draws its masks from its own generator; the model's parameters and train / eval state are not touched.

    Args:
        model: has ``residual_branches()``, the modules whose output is added to the residual stream.
        p: share of activations set to zero, 0 < p < 1; the others are scaled by 1 / (1 - p).
        seeds: one for each row of the batch that will be evaluated.
        pads: for each row, how many positions at its start are padding and draw nothing.

    Raises:
        TypeError: the model does not say where its residual branches are.
        RuntimeError: no branch was evaluated, so the views could not differ.
    """
    if not hasattr(model, "residual_branches"):
        raise TypeError(
            f"tta_use_dropout=True: {type(model).__name__} has no residual_branches() method, so dropout cannot act on it; "
            "add the method (a list of the modules whose output joins the residual stream) or use temperature views"
        )
    generators: dict[torch.device, list[torch.Generator]] = {}
    calls = 0

    def drop(_module: torch.nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if output.device not in generators:
            # On a further device, for the later layers of a model that is spread over several, other numbers.
            more = len(generators)
            generators[output.device] = [torch.Generator(device=output.device).manual_seed(seed + more) for seed in seeds]
        noise = torch.empty(output.shape, device=output.device)
        for row, (pad, generator) in enumerate(zip(pads, generators[output.device], strict=True)):
            noise[row, :pad] = 1
            kept = noise[row, pad:]
            torch.rand(kept.shape, device=output.device, generator=generator, out=kept)
        return noise.ge_(p).to(output.dtype).mul_(output).div_(1 - p)

    handles = [branch.register_forward_hook(drop) for branch in model.residual_branches()]
    try:
        # Compiled code has been made without the hooks and would not call them.
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        for handle in handles:
            handle.remove()
    if calls == 0:
        raise RuntimeError("tta_use_dropout=True: the model evaluated none of its residual_branches(); the views cannot differ")
