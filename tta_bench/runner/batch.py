"""One batch: problems of like length padded to one shape, decoded together, and what each of them became."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tta_bench.models.checkpoint import CheckpointError
from tta_bench.rng import Noise, digest
from tta_bench.runner.prompts import EncodedPrompt, batch_constraint, chat, decode, first_id, gold_ids, judged_ids, reading
from tta_bench.runner.spec import RunSpec
from tta_bench.runner.store import TOKEN, Record
from tta_bench.sampling.constraints import evaluate_constraint
from tta_bench.sampling.denoiser import Denoiser
from tta_bench.sampling.eos import EosPolicy
from tta_bench.sampling.holdout import holdout_probability
from tta_bench.sampling.sampler import evaluating, sample
from tta_bench.sampling.schedule import Blocks
from tta_bench.sampling.shadow import ShadowView, shadow_probability
from tta_bench.sampling.trace import STATISTICS, instability, step_statistics, token_statistics
from tta_bench.sampling.trajectory import trajectories
from tta_bench.tasks.base import Problem, Task, problem_digest
from tta_bench.types import ConstraintFn, Generation, Observe, StepInfo


@dataclass(frozen=True)
class Item:
    """One record to be made.

    Attributes:
        key: of the record.
        problem: to be answered.
        replicate: which seed.
        prompt: of the problem, encoded.
        traced: whether the trace is to tell of every token.
    """

    key: str
    problem: Problem
    replicate: int
    prompt: EncodedPrompt
    traced: bool = False

    @property
    def head(self) -> Record:
        """What a record says of the problem, whatever became of it."""
        return {
            "key": self.key,
            "problem": self.problem.id,
            "replicate": self.replicate,
            "data": problem_digest(self.problem),
            "prompt": f"{digest(self.prompt.ids, size=8):016x}",
            "cluster": self.problem.cluster or None,
            "cut": self.prompt.cut,
            "lacking": self.prompt.lacking,
        }


@dataclass(frozen=True)
class Probe:
    """What is asked of every token on a canvas besides: how probable it is when it cannot be seen.

    Attributes:
        folds: hidden in one of so many folds; 0 does not ask.
        shadow: as its shadow says.
    """

    folds: int = 0
    shadow: bool = False


@dataclass(frozen=True)
class LoadedModel:
    """A model with its tokenizer, ready to generate.

    Attributes:
        model: callable, on its device.
        tokenizer: of the model.
        mask_id: of the mask token.
        end_ids: tokens that end an answer.
        context: positions that it has; None where that is not known.
    """

    model: Any
    tokenizer: Any
    mask_id: int
    end_ids: tuple[int, ...]
    context: int | None = None


def check_model(spec: RunSpec, loaded: LoadedModel, *, shadow: bool = False) -> None:
    """Refuse settings that the model or its tokenizer cannot follow in any problem.

    Raises:
        CheckpointError: a cache that it does not keep, a chat template or beginning token that it has not, a shadow block
            that its shifted logits rule out, tokens that a constraint names and it has not.
    """
    cache, tokenizer = spec.sampler.parameters.get("cache", "none"), loaded.tokenizer
    name = type(loaded.model).__name__
    if cache != "none" and "cache" not in Denoiser(loaded.model).takes:
        raise CheckpointError(f"sampler.cache={cache}: {name} keeps no keys and values; use cache=none, or a native model")
    if spec.chat_template:
        chat("a prompt", tokenizer)
    if spec.add_bos:
        first_id(tokenizer)
    try:
        spec.constraint.check(tokenizer)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    if getattr(loaded.model, "shift_logits", False):
        if isinstance(spec.strategy().views, ShadowView):
            raise CheckpointError(
                f"sampler={spec.sampler.name}: the logits of {name} are shifted, and a shadow block cannot use them; "
                "take another"
            )
        if shadow:
            raise CheckpointError(f"probe_shadow=true: the logits of {name} are shifted, and no shadow can use them")


def batches(items: Sequence[Item], size: int, *, padded: bool = True) -> Iterator[list[Item]]:
    """Batches of at most ``size`` items that can be decoded together.

    Args:
        items: to be done.
        size: of a batch.
        padded: put prompts of different length into a batch, shortest first so that little is padded; otherwise only items
            of one shape (sequence length and place of the answer), in order of first appearance.
    """
    groups: dict[tuple[int, ...], list[Item]] = defaultdict(list)
    for item in items:
        prompt = item.prompt
        groups[(prompt.appended,) if padded else (len(prompt.ids), prompt.start)].append(item)
    for group in groups.values():
        ordered = sorted(group, key=lambda item: len(item.prompt.ids)) if padded else group
        for i in range(0, len(ordered), size):
            yield ordered[i : i + size]


def decode_batch(
    spec: RunSpec,
    task: Task,
    batch: Sequence[Item],
    loaded: LoadedModel,
    observe: Observe | None = None,
    asked: Probe | None = None,
) -> tuple[list[Record], pd.DataFrame]:
    """Generate the answers of one batch: its records, not scored yet, and their per-step statistics.

    Args:
        spec: the run.
        task: of the problems.
        batch: the items.
        loaded: the model.
        observe: told of every step.
        asked: what else to ask of the tokens of traced items; None asks nothing. What that costs is in no record.
    """
    sampler = spec.strategy()
    tokens, padding, pads = padded_rows([item.prompt.ids for item in batch], loaded)
    prompts = [item.prompt for item in batch]
    constraint = constraint_on(spec, task, batch, loaded, pads) if sampler.uses_constraint else None
    noise = Noise(spec.seed, tuple(item.key for item in batch))
    denoiser = Denoiser(loaded.model, spec.cfg_scale, bool(getattr(loaded.model, "shift_logits", False)))
    generation = sample(
        denoiser,
        sampler,
        Blocks(spec.steps, spec.block_length),
        tokens,
        (tokens == loaded.mask_id) & ~padding,
        mask_id=loaded.mask_id,
        noise=noise,
        padding=padding if any(pads) else None,
        constraint_fn=constraint,
        eos=EosPolicy(spec.eos_policy, loaded.end_ids),
        answer_fn=lambda row, ids: task.answer(batch[row].problem, decode(ids[pads[row] :], prompts[row], loaded.tokenizer)),
        observe=observe,
    )
    rows = [ids[pad:] for ids, pad in zip(generation.tokens.tolist(), pads, strict=True)]
    told = trajectories(generation.steps) if sampler.vote is None and generation.steps else [{} for _ in batch]
    records = [
        {
            **item.head,
            "text": decode(ids, item.prompt, loaded.tokenizer),
            "tokens": ids[item.prompt.start :],
            "filled": item.prompt.ids.count(loaded.mask_id),
            "forward_passes": passes,
            "evaluated_positions": evaluated,
            "nfe": steps * sampler.views.k,
            "drew": bool(noise.purposes),
            "seconds": generation.seconds / len(batch),
            **trajectory,
            **broken,
        }
        for item, ids, passes, evaluated, steps, trajectory, broken in zip(
            batch,
            rows,
            generation.forward_passes,
            generation.evaluated,
            generation.row_steps,
            told,
            violations(constraint, generation.tokens),
            strict=True,
        )
    ]
    trace = trace_frame(batch, generation, sampler.vote.samples if sampler.vote else 1)
    if sampler.vote is None and any(item.traced for item in batch):
        golds = gold_answers(batch, rows, [record["text"] for record in records], task, loaded.tokenizer)
        probed = [
            {"instability": unstable} | probe(denoiser, info, list(golds), asked or Probe())
            for info, unstable in zip(generation.steps, instability(generation.steps), strict=True)
        ]
        trace = with_tokens(trace, token_frame(batch, generation, pads, golds, probed))
    return records, trace


def constraint_on(
    spec: RunSpec, task: Task, batch: Sequence[Item], loaded: LoadedModel, pads: Sequence[int]
) -> ConstraintFn | None:
    """The run's constraint for a batch with these items as rows, behind ``pads`` positions each; None where it has none."""
    prompts, tokenizer = [item.prompt for item in batch], loaded.tokenizer
    return spec.constraint.build(
        lambda: batch_constraint(task, [item.problem for item in batch], prompts, tokenizer, pads),
        reading(prompts, tokenizer, loaded.mask_id, pads),
    )


def violations(constraint: ConstraintFn | None, tokens: Tensor) -> list[dict[str, int]]:
    """How many tokens of each answer break the constraint in the end, for its record; nothing without a constraint.

    Args:
        constraint: that the sampler saw.
        tokens: decoded sequences (B, L).
    """
    if constraint is None:
        return [{} for _ in tokens]
    return [{"violations": int(n)} for n in (evaluate_constraint(constraint, tokens) > 0).sum(dim=1)]


def padded_rows(rows: Sequence[Sequence[int]], loaded: LoadedModel) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """Rows of token ids with padding to their left: (B, L) ids, (B, L) bool where padding is, and its length in each row."""
    longest = max(map(len, rows))
    pads = [longest - len(row) for row in rows]
    filler = loaded.tokenizer.pad_token_id or 0
    # Of a model that is spread over devices, parts may be nowhere until they are needed.
    device = next(p.device for p in loaded.model.parameters() if p.device.type != "meta")
    tokens = torch.tensor([[filler] * pad + list(row) for pad, row in zip(pads, rows, strict=True)], device=device)
    places = torch.arange(longest, device=device)
    return tokens, places < torch.tensor(pads, device=device)[:, None], pads


def trace_frame(batch: Sequence[Item], generation: Generation, samples: int = 1) -> pd.DataFrame:
    """One row per record and step that it took, averaged over the ``samples`` of a record."""
    statistics = step_statistics(generation.steps, samples)
    n_steps = len(generation.steps)
    columns: dict[str, Any] = {
        "key": [item.key for item in batch for _ in range(n_steps)],
        "step": list(range(n_steps)) * len(batch),
    }
    frame = pd.DataFrame(columns | {name: statistics[name].T.ravel() for name in STATISTICS})
    return frame[frame["committed_ratio"].notna()]


def gold_answers(
    batch: Sequence[Item], rows: Sequence[Sequence[int]], texts: Sequence[str], task: Task, tokenizer: Any
) -> dict[int, np.ndarray]:
    """For the rows of traced items, the right token at each position of the sequence, ``UNJUDGED`` where it is not known.

    Args:
        batch: items.
        rows: their decoded sequences, without padding.
        texts: what these answer; right is the answer nearest to it.
        task: tasks that have no ``gold`` judge no tokens.
        tokenizer: of the model.
    """
    gold = getattr(task, "gold", None)
    found = {}
    for place, (item, ids, text) in enumerate(zip(batch, rows, texts, strict=True)):
        if item.traced:
            right = gold(item.problem, text) if gold else None
            # What is right as it stands needs no encoding, which may split it into other tokens.
            known = judged_ids(ids, item.prompt) if right == text else gold_ids(item.problem, item.prompt, right, tokenizer)
            found[place] = np.array(known)
    return found


def probe(denoiser: Denoiser, info: StepInfo, rows: Sequence[int], asked: Probe) -> dict[str, Tensor]:
    """``holdout`` and ``shadow``, (B, L) each, of the tokens that stand once the step has committed, as far as they are asked.

    Only ``rows`` are evaluated.
    """
    if asked == Probe():
        return {}
    told = torch.zeros_like(info.canvas.editable)
    told[list(rows)] = True
    tokens = torch.where(info.committed, info.prediction.tokens, info.canvas.tokens)
    canvas = replace(info.canvas, tokens=tokens, editable=info.canvas.editable & told)
    nothing = torch.zeros(tokens.shape, device=tokens.device)
    some = bool(canvas.editable.any())
    with torch.inference_mode(), evaluating(denoiser.model):
        found = {"holdout": holdout_probability(denoiser, canvas, asked.folds) if some else nothing} if asked.folds else {}
        return found | ({"shadow": shadow_probability(denoiser, canvas) if some else nothing} if asked.shadow else {})


def token_frame(
    batch: Sequence[Item],
    generation: Generation,
    pads: Sequence[int],
    golds: Mapping[int, np.ndarray],
    probed: Sequence[Mapping[str, Tensor]],
) -> pd.DataFrame:
    """One row per row in ``golds`` and step, with lists over the tokens on its canvas, named ``TOKEN`` + statistic.

    The statistics are those of ``token_statistics``, ``position`` counted without padding, ``gold``, the right token there, and
    what was ``probed`` at each step.
    """
    rows, found = list(golds), []
    for step, (info, more) in enumerate(zip(generation.steps, probed, strict=True)):
        for row, values in zip(rows, token_statistics(info, rows, more), strict=True):
            position = values["position"] - pads[row]
            told = values | {"position": position, "gold": golds[row][position]}
            found.append({"key": batch[row].key, "step": step} | {TOKEN + name: value for name, value in told.items()})
    return pd.DataFrame(found)


def with_tokens(trace: pd.DataFrame, tokens: pd.DataFrame) -> pd.DataFrame:
    """A trace with the lists of its traced records; None in the other rows."""
    joined = trace.merge(tokens, on=["key", "step"], how="left")
    lists = [str(name) for name in joined if str(name).startswith(TOKEN)]
    return joined.assign(**{name: joined[name].astype(object).where(joined[name].notna(), None) for name in lists})
