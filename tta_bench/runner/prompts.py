"""Between texts and token ids: prompts in, answers out, violations of characters as violations of tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tta_bench.runner.store import UNJUDGED
from tta_bench.tasks.base import HOLE, Problem, Task
from tta_bench.types import ConstraintFn

UNREADABLE = "\N{REPLACEMENT CHARACTER}"
"""Stands in a text for a special token that cannot be read as text."""


@dataclass(frozen=True)
class EncodedPrompt:
    """Token ids of a prompt with its holes as masks, and of the masks behind it.

    Attributes:
        ids: of the whole sequence.
        start: where the answer begins: 0 for infill, else the length of the prompt.
    """

    ids: tuple[int, ...]
    start: int


def encode(problem: Problem, tokenizer: Any, mask_id: int, gen_length: int | None) -> EncodedPrompt:
    """Encode a problem; ``gen_length`` None takes the problem's own."""
    ids: list[int] = []
    for i, piece in enumerate(problem.prompt.split(HOLE)):
        ids += [mask_id] * (i > 0) + (tokenizer.encode(piece, add_special_tokens=False) if piece else [])
    if problem.infill:
        return EncodedPrompt(tuple(ids), 0)
    length = problem.gen_length if gen_length is None else gen_length
    return EncodedPrompt((*ids, *[mask_id] * length), len(ids))


def answer_ids(ids: Sequence[int], prompt: EncodedPrompt, end_id: int | None) -> list[int]:
    """The answer's token ids: all of an infill, else what follows the prompt up to the first end token."""
    answer = list(ids[prompt.start :])
    return answer[: answer.index(end_id)] if prompt.start and end_id in answer else answer


def gold_ids(problem: Problem, prompt: EncodedPrompt, gold: str | None, tokenizer: Any) -> list[int]:
    """The token id that each position of a sequence should hold, ``UNJUDGED`` where none is known.

    Args:
        problem: what is answered.
        prompt: encoded; one id for each of its positions is returned.
        gold: the answer by which tokens are judged; None judges none.
        tokenizer: of the prompt.
    """
    nothing = [UNJUDGED] * len(prompt.ids)
    if gold is None:
        return nothing
    ids = tokenizer.encode(gold, add_special_tokens=False)
    if problem.infill:
        return ids if len(ids) == len(prompt.ids) else nothing
    # What follows the end is not part of the answer.
    ids = [*nothing[: prompt.start], *ids, tokenizer.eos_token_id, *nothing]
    return ids[: len(prompt.ids)]


def judged_ids(ids: Sequence[int], prompt: EncodedPrompt, tokenizer: Any) -> list[int]:
    """The ids of a sequence that is right, ``UNJUDGED`` behind the end of its answer."""
    end = prompt.start + len(answer_ids(ids, prompt, tokenizer.eos_token_id)) + bool(prompt.start)
    return [token if place < end else UNJUDGED for place, token in enumerate(ids)]


def decode(ids: Sequence[int], prompt: EncodedPrompt, tokenizer: Any) -> str:
    """The answer as text."""
    return str(tokenizer.decode(answer_ids(ids, prompt, tokenizer.eos_token_id), skip_special_tokens=True))


def batch_constraint(
    task: Task, problems: Sequence[Problem], prompts: Sequence[EncodedPrompt], tokenizer: Any, pads: Sequence[int]
) -> ConstraintFn:
    """The task's violations as a constraint function for a batch with these problems as rows.

    A token gets the worst violation among its characters. The prompt, the ``pads`` positions before it and what follows the
    end token get none.
    """
    piece = readable_pieces(tokenizer)

    def violations(tokens: Tensor) -> Tensor:
        scores = torch.zeros(tokens.shape)
        for row, ids in enumerate(tokens.tolist()):
            pieces = [piece(i) for i in answer_ids(ids[pads[row] :], prompts[row], tokenizer.eos_token_id)]
            by_character = task.violations(problems[row], "".join(pieces))
            position, place = pads[row] + prompts[row].start, 0
            for text in pieces:
                scores[row, position] = max(by_character[place : place + len(text)], default=0.0)
                position, place = position + 1, place + len(text)
        return scores.to(tokens.device)

    return violations


def readable_pieces(tokenizer: Any) -> Callable[[int], str]:
    """A function from token id to its text, remembered; special tokens read as ``UNREADABLE``."""
    special = set(tokenizer.all_special_ids)
    known: dict[int, str] = {}

    def piece(token: int) -> str:
        if token not in known:
            known[token] = UNREADABLE if token in special else tokenizer.decode([token])
        return known[token]

    return piece
