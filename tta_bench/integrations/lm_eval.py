"""The model ``tta_bench`` of lm-evaluation-harness.

Reference: Gao et al., "The Language Model Evaluation Harness", https://github.com/EleutherAI/lm-evaluation-harness
(tried with release 0.4.13).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.api.registry import register_model
from tqdm import tqdm

from tta_bench.api import generate
from tta_bench.integrations.decoder import Prompt, answers, cut, failed, setup
from tta_bench.integrations.lm_eval_requests import alike, described, document, keys_of, plain, repeated, traced, wanted
from tta_bench.integrations.refusal import RefusedError
from tta_bench.likelihood import ChoiceBounds, batched, choice_bounds
from tta_bench.rng import digest
from tta_bench.runner.evaluate import Rows
from tta_bench.runner.prompts import first_id
from tta_bench.runner.settings import flag, whole
from tta_bench.runner.threads import limit_threads

log = logging.getLogger(__name__)

ROWS = 16
"""Sequences that are evaluated together for a likelihood where ``batch_size`` is ``auto``."""


@register_model("tta_bench")
class TtaBenchLM(TemplateLM):
    """Answers by a sampler, likelihoods by LLaDA's Monte Carlo bound.

    Args:
        pretrained: a name in conf/model (``mini``), a checkpoint folder, or a hub id.
        batch_size: prompts decoded, or sequences evaluated, together; ``auto`` finds out what memory has room for.
        max_batch_size: the most that ``auto`` takes.
        mc_num: draws for each likelihood, see ``choice_bounds``.
        check_greedy: also find out whether a continuation is what the model writes itself, most confident token first, one a
            step: as many forward passes more as it has tokens. False tells no of all.
        trace_file: JSONL to which a line for every answer is added, with its tokens and statistics; None writes none.
        **settings: of ``decoder.setup``: ``sampler``, ``steps``, ``gen_length``, ``seed``, ``dtype``, ``device``, ``revision``,
            ..., and the sampler's parameters.

    Raises:
        RefusedError: a setting is unknown, out of range or does not fit the others.
    """

    def __init__(
        self,
        pretrained: str = "mini",
        *,
        batch_size: int | str | None = None,
        max_batch_size: int | None = None,
        mc_num: int = 128,
        check_greedy: bool = True,
        trace_file: str | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        limit_threads()
        try:
            self.setup = setup(str(pretrained), settings | available(settings.get("device")))
            self.batch_size = read_batch_size(batch_size)
            self.mc_num = whole({"mc_num": mc_num}, "mc_num", 1)
            self.check_greedy = flag({"check_greedy": check_greedy}, "check_greedy")
            self.loaded = self.setup.load()
        except ValueError as error:
            raise RefusedError(str(error)) from error
        self.max_batch_size, self.rows = max_batch_size, Rows(self.batch_size or ROWS)
        self.tokenizer = self.loaded.tokenizer
        self._device = next(p.device for p in self.loaded.model.parameters() if p.device.type != "meta")
        self.trace_file = Path(trace_file) if trace_file else None
        self.write_trace({"settings": self.digest, "config": self.get_model_info()["tta_bench"]})

    @property
    def digest(self) -> str:
        """16 hex digits over all settings that an answer or a likelihood depends on."""
        return f"{digest(self.setup.digest, self.mc_num, self.check_greedy, size=8):016x}"

    def get_model_info(self) -> dict[str, Any]:
        """What the results tell of the model."""
        likelihood = {"mc_num": self.mc_num, "check_greedy": self.check_greedy}
        return {"tta_bench": self.setup.spec.config() | likelihood, "tta_bench_settings": self.digest}

    def set_cache_hook(self, cache_hook: Any) -> None:
        """Have every key of a cache file carry the settings: the harness's own are made of the prompt alone."""
        super().set_cache_hook(cache_hook)
        if cache_hook.dbdict is not None:  # the one object through which the harness, too, looks into the file
            prefix = f"{self.digest}/"
            cache_hook.dbdict.encode_key = prefix.__add__
            cache_hook.dbdict.decode_key = lambda key: key.removeprefix(prefix)

    @property
    def eot_token_id(self) -> int | None:
        """The first token that ends an answer."""
        return self.loaded.end_ids[0] if self.loaded.end_ids else None

    @property
    def max_length(self) -> int | None:
        """Positions of the model; None where that is not known."""
        return self.loaded.context

    @property
    def tokenizer_name(self) -> str:
        """Names the tokenizer in the harness's cache of requests."""
        return f"{self.setup.spec.model}-{self.setup.spec.fingerprint}".replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str:
        """The template of the tokenizer, or the one of several that is named; empty where none is asked for.

        Raises:
            RefusedError: the tokenizer has none.
        """
        if not chat_template:
            return ""
        if not self.tokenizer.chat_template:
            raise RefusedError(
                f"apply_chat_template: the tokenizer of {self.setup.spec.model} has no chat template; leave it out"
            )
        return str(self.tokenizer.get_chat_template(chat_template if isinstance(chat_template, str) else None))

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Messages as the model is given them; the last one is continued where it is not to be answered."""
        self.chat_template(True)
        return str(
            self.tokenizer.apply_chat_template(
                chat_history,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )
        )

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Token ids of a text, without any that the text does not name."""
        return list(self.tokenizer.encode(string, add_special_tokens=False))

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Answers, up to the first string that ends them."""
        found: dict[int, str] = {}
        with tqdm(total=len(requests), desc="Decoding", disable=disable_tqdm) as bar:
            for numbers in alike(requests):
                for number, text in self.decode([requests[i] for i in numbers]):
                    found[numbers[number]] = text
                    bar.update()
        return [found[number] for number in range(len(requests))]

    def decode(self, requests: Sequence[Instance]) -> Iterator[tuple[int, str]]:
        """The answers to requests of one task with the same arguments, each with its number, as they come."""
        wants = wanted(requests[0].args[1], self.setup)
        keys = keys_of(requests)
        if self.cache_hook.dbdict is not None and not wants.samples and repeated(keys):
            raise RefusedError(
                "use_cache: keeps one answer to a prompt, and the task repeats its prompts; leave --use_cache out, or set "
                "--gen_kwargs do_sample=true, with which the harness keeps answers out of its cache"
            )
        place = {key: number for number, key in enumerate(keys)}
        prompts = [Prompt(key, request.args[0], wants.gen_length) for key, request in zip(keys, requests, strict=True)]
        shortened = 0
        for record, steps in answers(self.setup, self.loaded, prompts, self.batch_size, self.max_batch_size):
            if record["error"]:
                raise failed(record)
            number = place[record["key"]]
            request, text = requests[number], cut(record["text"], wants.until)
            shortened += bool(record["cut"] or record["lacking"])
            if not wants.samples:
                self.cache_hook.add_partial("generate_until", request.args, text)
            self.write_trace(traced(request, record, steps) | {"answer": text, "settings": self.digest})
            yield number, text
        if shortened:
            log.warning(
                "%s: %d of %d did not fit the model's context of %s: the beginning of a prompt was cut, or its answer got less "
                "room; long_prompts=refuse, with gen_length, makes it an error",
                requests[0].task_name,
                shortened,
                len(requests),
                self.loaded.context,
            )

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Bounds of log p(continuation | context) in nats, those of a document's choices with common random numbers."""
        found: list[tuple[float, bool]] = []
        with tqdm(total=len(requests), desc="Likelihoods", disable=disable_tqdm) as bar:
            for _, group in groupby(requests, key=lambda one: (one.task_name, one.doc_id, one.args[0])):
                choices = list(group)
                told = self.judge(choices)
                for request, answer in zip(choices, told, strict=True):
                    self.cache_hook.add_partial("loglikelihood", request.args, answer)
                found += told
                bar.update(len(choices))
        return found

    def judge(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        """Bound and greediness of continuations of one context."""
        context, continuations = self.encoded(requests[0].args[0], [request.args[1] for request in requests])
        name = None if requests[0].doc_id is None else document(requests[0], "")
        bounds = self.bounds(context, continuations, name)
        found = []
        for request, ids, value, error in zip(requests, continuations, bounds.values, bounds.standard_errors, strict=True):
            greedy = self.check_greedy and self.writes(context, ids)
            line = {"value": value, "standard_error": error, "is_greedy": greedy, "n_tokens": len(ids)}
            self.write_trace(described(request) | line | {"settings": self.digest})
            found.append((value, greedy))
        return found

    def encoded(self, context: str, continuations: Sequence[str]) -> tuple[list[int], list[list[int]]]:
        """Token ids of a context and what may follow it, as the harness splits them; blanks between them go to the latter.

        The beginning of the context is cut so that the longest fits the model with it.

        Raises:
            RefusedError: a continuation has no tokens or leaves no room for others, or the context must not be cut.
        """
        spec, most = self.setup.spec, self.loaded.context
        head = [first_id(self.tokenizer)] if spec.add_bos else []
        pairs = [self._encode_pair(context, text) if context else ([], self.tok_encode(text)) for text in continuations]
        before, after = pairs[0][0], [ids for _, ids in pairs]
        for text, ids in zip(continuations, after, strict=True):
            if not ids:
                raise RefusedError(f"continuation {text!r}: has no tokens, so there is nothing to judge")
        longest = max(map(len, after))
        room = len(before) if most is None else most - longest - len(head)
        if room < 0 or (room < len(before) and spec.long_prompts == "refuse"):
            remedy = "shorten the continuation" if room < 0 else "long_prompts=truncate cuts the beginning of the context"
            raise RefusedError(
                f"context and continuation have {len(head) + len(before) + longest} tokens, more than the {most} positions of "
                f"the model; {remedy}"
            )
        return [*head, *before[max(0, len(before) - room) :]], after

    def bounds(self, context: Sequence[int], continuations: Sequence[Sequence[int]], name: str | None) -> ChoiceBounds:
        """``choice_bounds``, with the draws that ``tta-bench likelihood`` makes for the problem ``name``."""
        spec = self.setup.spec
        return self.rows.fitting(
            lambda size: choice_bounds(
                self.loaded.model,
                self.tensor(context),
                [self.tensor(ids) for ids in continuations],
                mc_num=self.mc_num,
                batch_size=size,
                seed=spec.seed,
                key=name,
                cfg_scale=spec.cfg_scale,
                mask_id=self.loaded.mask_id,
            )
        )

    def writes(self, context: Sequence[int], ids: Sequence[int]) -> bool:
        """Whether the model continues so by itself: ``low_confidence``, one token a step."""
        n, spec = len(ids), self.setup.spec
        tokens, _ = generate(
            self.loaded.model,
            self.tensor(context)[None],
            "low_confidence",
            steps=n,
            gen_length=n,
            block_length=None,
            mask_id=self.loaded.mask_id,
            cfg_scale=spec.cfg_scale,
        )
        return bool(tokens[0, len(context) :].tolist() == list(ids))

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Bounds of log p(text) in nats. A text that is longer than the context is judged by halves of a context, each given
        as much of what stands before it as there is room for: a sum of bounds, and a bound of the sum."""
        found = []
        for request in tqdm(requests, desc="Likelihoods of whole texts", disable=disable_tqdm):
            ids = self.tok_encode(request.args[0])
            if not ids:
                raise RefusedError(f"text {request.args[0]!r}: has no tokens, so there is nothing to judge")
            parts = [self.bounds(before, [part], None) for before, part in self.windows(ids)]
            value = sum(sum(part.values) for part in parts)
            self.write_trace(described(request) | {"value": value, "n_tokens": len(ids), "settings": self.digest})
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, value)
            found.append(value)
        return found

    def windows(self, ids: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
        """Parts of a text, each with what stands before it, that fit the model's context together."""
        head = [first_id(self.tokenizer)] if self.setup.spec.add_bos else []
        most = len(ids) if self.loaded.context is None else self.loaded.context - len(head)
        size = len(ids) if len(ids) <= most else most // 2
        done = 0
        for part in batched(ids, size):
            yield [*head, *ids[max(0, done + len(part) - most) : done]], part
            done += len(part)

    def _loglikelihood_tokens(self, requests: list[Any], **_: Any) -> list[tuple[float, bool]]:
        """Bounds for contexts and continuations that are token ids already."""
        found = []
        for _, context, continuation in requests:
            bounds = self.bounds(context, [continuation], None)
            found.append((sum(bounds.values), self.check_greedy and self.writes(context, continuation)))
        return found

    def tensor(self, ids: Sequence[int]) -> torch.Tensor:
        """Token ids on the model's device, (L,)."""
        return torch.tensor(list(ids), dtype=torch.int64, device=self._device)

    def write_trace(self, line: Mapping[str, Any]) -> None:
        """Add a line to the trace file, if there is to be one.

        Raises:
            RefusedError: it cannot be written to.
        """
        if self.trace_file is None:
            return
        try:
            with self.trace_file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(plain(line), ensure_ascii=False, allow_nan=False) + "\n")
        except OSError as error:
            raise RefusedError(f"trace_file={self.trace_file}: cannot be written to ({error.strerror})") from error


def available(device: str | None) -> dict[str, str]:
    """The device for a model: its default, where the harness asks for ``cuda:0``, which is its own, and there is none."""
    if device == "cuda:0" and not torch.cuda.is_available():
        log.warning("device=cuda:0: there is none, and it is the harness's default, so the model is put on the cpu")
        return {"device": "cpu"}
    return {} if device is None else {"device": device}


def read_batch_size(value: int | str | None) -> int | None:
    """A batch size as the harness passes it: a number, or ``auto``, perhaps with what follows a colon, as None.

    Raises:
        ValueError: it is neither.
    """
    if value is None or str(value).partition(":")[0] == "auto":
        return None
    if not str(value).isdecimal() or int(value) < 1:
        raise ValueError(f"batch_size={value}: must be a whole number, at least 1, or auto")
    return int(value)
