"""Between texts and token ids: prompts in, answers out, violations of characters as violations of tokens."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tta_bench.models.checkpoint import CheckpointError
from tta_bench.runner.store import UNJUDGED
from tta_bench.sampling.constraints.text import REMEMBERED, by_row, readable_pieces, worst_of_tokens
from tta_bench.tasks.base import HOLE, Problem, Task, check_line_breaks
from tta_bench.types import ConstraintFn

PLACE = "{prompt}"
"""Stands, in a form, for the prompt."""


@dataclass(frozen=True)
class Manner:
    """How problems are put to a model.

    Attributes:
        chat_template: as a user's message in the tokenizer's chat template. Templates with holes are put as they are.
        add_bos: with the tokenizer's token for the beginning of a text (BERT's [CLS]) before them.
        end_ids: tokens that end an answer; empty for the tokenizer's own.
        context: positions that the model has; None where that is not known.
        long_prompts: what becomes of a prompt that does not fit with its answer: truncate cuts its beginning, refuse does not.
        prompt_form: text with ``{prompt}`` once, put in the prompt's place. Templates with holes are put as they are.
    """

    chat_template: bool = False
    add_bos: bool = False
    end_ids: tuple[int, ...] = ()
    context: int | None = None
    long_prompts: str = "truncate"
    prompt_form: str = PLACE

    def __post_init__(self) -> None:
        if self.long_prompts not in LONG_PROMPTS:
            raise ValueError(f"long_prompts={self.long_prompts}: must be {' or '.join(LONG_PROMPTS)}")
        if self.prompt_form.count(PLACE) != 1 or HOLE in self.prompt_form:
            raise ValueError(f"prompt_form={self.prompt_form!r}: must hold {PLACE} once, where the prompt goes, and no {HOLE}")
        check_line_breaks("prompt_form", self.prompt_form)

    def put(self, prompt: str) -> str:
        """A prompt in its form."""
        return self.prompt_form.replace(PLACE, prompt)


LONG_PROMPTS = ("truncate", "refuse")


@dataclass(frozen=True)
class EncodedPrompt:
    """Token ids of a prompt with its holes as masks, and of the masks behind it.

    Attributes:
        ids: of the whole sequence.
        start: where the answer begins: the length of the prompt, and for infill what was put before it.
        infill: whether the answer is the whole template.
        end_ids: tokens that end the answer, unless it is an infill.
        cut: tokens of the prompt's beginning that were left out, since the model has no room for them.
        lacking: positions of the answer that the task asks for, and the model has no room for.
    """

    ids: tuple[int, ...]
    start: int
    infill: bool
    end_ids: tuple[int, ...]
    cut: int = 0
    lacking: int = 0

    @property
    def appended(self) -> int:
        """Masks behind the prompt."""
        return 0 if self.infill else len(self.ids) - self.start


def encode(
    problem: Problem, tokenizer: Any, mask_id: int, gen_length: int | None, manner: Manner | None = None
) -> EncodedPrompt:
    """Encode a problem.

    Args:
        problem: to be answered.
        tokenizer: of the model.
        mask_id: what stands at holes, and behind the prompt.
        gen_length: masks behind the prompt; None takes the problem's own, but no more than half of the model's context.
        manner: how it is put; None puts it as it is.

    Raises:
        CheckpointError: the tokenizer has no chat template, or no token for the beginning.
        ValueError: prompt and answer do not fit the model's context, and that is not to be helped, or must not.
    """
    manner = manner or Manner()
    chats = manner.chat_template and not problem.infill
    prompt = problem.prompt if problem.infill else manner.put(problem.prompt)
    text = asked(problem, tokenizer, manner)
    before = [first_id(tokenizer)] if manner.add_bos else []
    ids = list(before)
    for i, piece in enumerate(text.split(HOLE)):
        ids += [mask_id] * (i > 0) + (tokenizer.encode(piece, add_special_tokens=False) if piece else [])
    if before and ids[1:2] == before:
        raise ValueError("model.add_bos=true: the chat template writes the beginning of the text itself; set it to false")
    ends = manner.end_ids or tuple(i for i in (tokenizer.eos_token_id,) if i is not None)
    length = 0 if problem.infill else problem.gen_length if gen_length is None else gen_length
    lacking = 0 if gen_length is not None or manner.context is None else max(0, length - manner.context // 2)
    length -= lacking
    cut = excess(len(ids) - len(before), len(before) + length, problem, manner)
    whole = len(ids)
    ids = [*before, *(shortened(prompt, cut, tokenizer) if chats and cut else ids[len(before) + cut :])]
    if problem.infill:
        return EncodedPrompt(tuple(ids), len(before), True, ends)
    return EncodedPrompt((*ids, *[mask_id] * length), len(ids), False, ends, whole - len(ids), lacking)


def asked(problem: Problem, tokenizer: Any, manner: Manner) -> str:
    """A problem as it is put to the model, before anything is cut; holes as the task writes them.

    Raises:
        CheckpointError: the tokenizer has no chat template.
    """
    if problem.infill:
        return problem.prompt
    prompt = manner.put(problem.prompt)
    return chat(prompt, tokenizer) if manner.chat_template else prompt


def shortened(prompt: str, cut: int, tokenizer: Any) -> list[int]:
    """A prompt in its chat template as token ids, at least ``cut`` fewer, characters of the prompt's beginning left out.

    Raises:
        ValueError: the template alone is too long.
    """

    def put(start: int) -> list[int]:
        return list(tokenizer.encode(chat(prompt[start:], tokenizer), add_special_tokens=False))

    most = len(put(0)) - cut
    start = bisect_left(range(len(prompt)), True, key=lambda place: len(put(place)) <= most)
    if start == len(prompt):
        raise ValueError(
            f"a prompt of {len(prompt)} characters: nothing would be left of it in its chat template; set gen_length to less"
        )
    return put(start)


def excess(prompt: int, besides: int, problem: Problem, manner: Manner) -> int:
    """How many of ``prompt`` tokens must go, so that the rest fits the context with ``besides`` others.

    Raises:
        ValueError: some must, but may not, or there would be none left.
    """
    too_many = 0 if manner.context is None else max(0, prompt + besides - manner.context)
    if not too_many:
        return 0
    told = f"a prompt of {prompt} tokens and {besides} more are {too_many} more than the model's context of {manner.context}"
    if problem.infill:
        raise ValueError(f"{told}; a template with holes cannot be cut")
    if too_many >= prompt:
        raise ValueError(f"{told}; nothing would be left of the prompt: set gen_length to less than {manner.context}")
    if manner.long_prompts == "refuse":
        raise ValueError(f"{told}; shorten it, or let its beginning be cut (long_prompts=truncate)")
    return too_many


def chat(prompt: str, tokenizer: Any) -> str:
    """A prompt as the only message of a user, and the beginning of the answer to it."""
    if not tokenizer.chat_template:
        raise CheckpointError("model.chat_template=true: the tokenizer has no chat template; set it to false")
    return str(tokenizer.apply_chat_template([{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True))


def first_id(tokenizer: Any) -> int:
    """The token that begins a text."""
    for found in (tokenizer.bos_token_id, tokenizer.cls_token_id):
        if found is not None:
            return int(found)
    raise CheckpointError(
        "model.add_bos=true: the tokenizer has no token for the beginning of a text (bos, cls); set it to false"
    )


def answer_ids(ids: Sequence[int], prompt: EncodedPrompt) -> list[int]:
    """The answer's token ids: all of an infill, else what follows the prompt up to the first token that ends it."""
    answer = list(ids[prompt.start :])
    ends = [] if prompt.infill else [place for place, token in enumerate(answer) if token in prompt.end_ids]
    return answer[: ends[0]] if ends else answer


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
    ids = [*nothing[: prompt.start], *tokenizer.encode(gold, add_special_tokens=False)]
    if problem.infill:
        return ids if len(ids) == len(prompt.ids) else nothing
    # What follows the end is not part of the answer.
    return [*ids, *prompt.end_ids[:1], *nothing][: len(prompt.ids)]


def judged_ids(ids: Sequence[int], prompt: EncodedPrompt) -> list[int]:
    """The ids of a sequence that is right, ``UNJUDGED`` behind the end of its answer."""
    end = prompt.start + len(answer_ids(ids, prompt)) + (not prompt.infill)
    return [token if place < end else UNJUDGED for place, token in enumerate(ids)]


def decode(ids: Sequence[int], prompt: EncodedPrompt, tokenizer: Any) -> str:
    """The answer as text."""
    return str(tokenizer.decode(answer_ids(ids, prompt), skip_special_tokens=True))


def reading(prompts: Sequence[EncodedPrompt], tokenizer: Any, mask_id: int, pads: Sequence[int]) -> dict[str, Any]:
    """How the rows of a batch are read: what constraints are supplied with.

    Args:
        prompts: of the rows, all to be continued, or all templates with holes.
        tokenizer: of the model.
        mask_id: what is still to be filled.
        pads: positions before each prompt.

    Returns:
        ``tokenizer``; ``start``, where the answer of each row begins (all of a template is the answer); ``end_ids``, which end
        it (none ends a template); ``mask_ids``.
    """
    ends = {() if prompt.infill else prompt.end_ids for prompt in prompts}
    if len(ends) > 1:
        raise ValueError("a batch holds answers that end and templates that do not: a constraint cannot read both at once")
    start = [pad + prompt.start for pad, prompt in zip(pads, prompts, strict=True)]
    return {"tokenizer": tokenizer, "start": start, "end_ids": ends.pop(), "mask_ids": (mask_id,)}


def batch_constraint(
    task: Task, problems: Sequence[Problem], prompts: Sequence[EncodedPrompt], tokenizer: Any, pads: Sequence[int]
) -> ConstraintFn:
    """The task's violations as a constraint function for a batch with these problems as rows.

    A token gets the worst violation among its characters. The prompt, the ``pads`` positions before it and what follows the
    end token get none.
    """
    piece = readable_pieces(tokenizer)

    @lru_cache(maxsize=REMEMBERED)
    def judged(row: int, ids: tuple[int, ...]) -> list[float]:
        pieces = [piece(token) for token in answer_ids(ids[pads[row] :], prompts[row])]
        scores = worst_of_tokens(pieces, task.violations(problems[row], "".join(pieces)))
        before = pads[row] + prompts[row].start
        return [0.0] * before + scores + [0.0] * (len(ids) - before - len(scores))

    return by_row(judged)
