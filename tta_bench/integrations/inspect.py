"""The model provider ``tta_bench`` of Inspect: ``inspect eval task.py --model tta_bench/mini -M sampler=tta -M steps=8``.

Reference: UK AI Security Institute, "Inspect AI: Framework for Large Language Model Evaluations", https://inspect.aisi.org.uk
(tried with release 0.3.285).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from anyio import to_thread
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    ModelUsage,
)
from inspect_ai.solver._task_state import sample_state  # nothing public tells a provider which sample it answers
from inspect_ai.tool import ToolChoice, ToolInfo

from tta_bench.integrations.decoder import NEUTRAL, Prompt, Setup, check_drawing, cut, setup
from tta_bench.integrations.desk import Desk
from tta_bench.integrations.refusal import RefusedError
from tta_bench.rng import digest
from tta_bench.runner.batch import LoadedModel
from tta_bench.runner.store import Record, record_key
from tta_bench.runner.threads import limit_threads

DEFAULT_LENGTH = 256
"""Of an answer where neither ``--max-tokens`` nor ``gen_length`` says."""

THREADS = 32
"""Requests that wait at a time; Inspect has 40 threads for all of its work."""

REFUSED = (
    "best_of", "frequency_penalty", "presence_penalty", "logit_bias", "logprobs", "top_logprobs", "prompt_logprobs",
    "response_schema",
)  # fmt: skip
"""Options of a request that would change the answer, or be part of it, and mean nothing to a sampler of masked diffusion."""


class TtaBenchAPI(ModelAPI):
    """Answers by a sampler.

    Args:
        model_name: a name in conf/model (``mini``), a checkpoint folder, or a hub id.
        base_url, api_key, config: as Inspect passes them; the first two mean nothing here.
        batch_size: prompts decoded together; None finds out what memory has room for.
        **model_args: of ``decoder.setup``: ``sampler``, ``steps``, ``gen_length``, ``seed``, ``dtype``, ``device``,
            ``revision``, ``chat_template``, ..., and the sampler's parameters.

    Raises:
        RefusedError: a setting is unknown, out of range or does not fit the others.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig | None = None,
        batch_size: int | None = None,
        **model_args: Any,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config or GenerateConfig())
        limit_threads()
        if batch_size is not None and (not isinstance(batch_size, int) or batch_size < 1):
            raise RefusedError(
                f"batch_size={batch_size}: must be a whole number, at least 1; leave it out to have it found out"
            )
        try:
            self.setup = setup(model_name, model_args)
            self.desk = Desk(self.setup.load(), batch_size)
        except ValueError as error:
            raise RefusedError(str(error)) from error

    def max_tokens(self) -> int:
        """Positions of an answer where nothing else is said."""
        return DEFAULT_LENGTH

    def max_connections(self) -> int:
        """Requests that wait at a time: a batch and the next one, as long as there are threads for them."""
        return min(2 * (self.desk.size or THREADS), THREADS)

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        """Answer the messages of a chat; the random numbers are those of the sample's id and epoch."""
        check(config, tools, self.setup)
        text = self.text(input)
        asked = self.setup if config.seed is None else reseeded(self.setup, config.seed)
        prompt = Prompt(key_of_sample(text), text, config.max_tokens or DEFAULT_LENGTH)
        record = await to_thread.run_sync(self.desk.answer, asked, prompt)
        return output(self.model_name, record, config.stop_seqs or (), self.desk.loaded)

    def text(self, messages: Sequence[ChatMessage]) -> str:
        """The messages as the model is given them: in its chat template, or a single one as it is.

        Raises:
            RefusedError: there are several, and the model has no chat template; or they are not texts.
        """
        for message in messages:
            if message.role == "tool":
                raise RefusedError("messages: one is of a tool, which this model cannot call; use a task without tools")
            if not isinstance(message.content, str) and any(part.type != "text" for part in message.content):
                raise RefusedError("messages: one holds something else than text, which this model cannot read")
        if not self.setup.chat_template:
            if [message.role for message in messages] != ["user"]:
                roles = ", ".join(message.role for message in messages)
                raise RefusedError(
                    f"messages: are of {roles}, and without a chat template a prompt is one message of a user; give "
                    "-M chat_template=true if the model has one"
                )
            return str(messages[0].text)
        tokenizer = self.desk.loaded.tokenizer
        if not tokenizer.chat_template:
            raise RefusedError(f"chat_template=true: the tokenizer of {self.model_name} has no chat template; set it to false")
        told = [{"role": message.role, "content": message.text} for message in messages]
        return str(tokenizer.apply_chat_template(told, tokenize=False, add_generation_prompt=True))


def check(config: GenerateConfig, tools: Sequence[ToolInfo], setup: Setup) -> None:
    """Refuse what a sampler of masked diffusion does not do.

    Raises:
        RefusedError: it is asked for.
    """
    if tools:
        raise RefusedError(f"tools: {tools[0].name} cannot be called by this model; use a task without tools")
    for name in REFUSED:
        if getattr(config, name, None):
            raise RefusedError(
                f"{name}={getattr(config, name)!r}: means nothing to a sampler of masked diffusion; leave it out"
            )
    if (config.num_choices or 1) > 1:
        raise RefusedError(f"num_choices={config.num_choices}: a prompt has one answer; use --epochs")
    check_drawing({name: getattr(config, name) for name in NEUTRAL}, setup, "leave it out")


def reseeded(setup: Setup, seed: int) -> Setup:
    """The same decoding with another seed."""
    return replace(setup, spec=replace(setup.spec, seed=seed))


def key_of_sample(text: str) -> str:
    """The key of the random numbers: sample and epoch, as a run has problem and replicate; outside of a task, the text's."""
    state = sample_state()
    if state is None:
        return record_key(f"{digest(text):032x}", 0)
    return record_key(str(state.sample_id), state.epoch - 1)


def output(model: str, record: Record, stops: Sequence[str], loaded: LoadedModel) -> ModelOutput:
    """An answer as Inspect has it; its ``metadata`` tell what it cost."""
    text = cut(record["text"], stops)
    ended = text != record["text"] or any(token in loaded.end_ids for token in record["tokens"])
    n_prompt, n_answer = record["n_prompt"], len(record["tokens"])
    told = ("key", "forward_passes", "evaluated_positions", "nfe", "seconds", "cut", "lacking")
    return ModelOutput(
        model=model,
        choices=[
            ChatCompletionChoice(
                message=ChatMessageAssistant(content=text, model=model, source="generate"),
                stop_reason="stop" if ended else "max_tokens",
            )
        ],
        usage=ModelUsage(input_tokens=n_prompt, output_tokens=n_answer, total_tokens=n_prompt + n_answer),
        time=record["seconds"],
        metadata={key: record[key] for key in told},
    )
