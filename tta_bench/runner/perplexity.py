"""How probable a model finds the answers of a run: the pseudo-log-likelihood of each, kept beside the run's records."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from tta_bench.likelihood import pseudo_log_likelihood
from tta_bench.models.checkpoint import ModelSettings
from tta_bench.models.loading import resolve_device, resolve_dtype
from tta_bench.rng import digest
from tta_bench.runner.batch import LoadedModel
from tta_bench.runner.difference import identity
from tta_bench.runner.environment import describe
from tta_bench.runner.evaluate import Item, Rows, evaluate_all
from tta_bench.runner.execute import ModelSource
from tta_bench.runner.failure import answered
from tta_bench.runner.progress import RunWatch
from tta_bench.runner.prompts import LONG_PROMPTS, Manner, encode
from tta_bench.runner.settings import flag, known_fingerprint, model_settings
from tta_bench.runner.store import JUDGED, Record, RunFolder, text_digest
from tta_bench.runner.work import Tally
from tta_bench.tasks.base import Problem, problem_digest

MEASURE_VERSION = 1
"""Of what is measured. Raised when equal settings would give other numbers."""

Known = dict[tuple[str, str, str, bool], Record]
"""What is known of an answer, by judge, digests of problem and text, and whether it ended: the same is not evaluated twice."""


@dataclass(frozen=True)
class Judge:
    """A model that is asked how probable answers are.

    Attributes:
        settings: what to load.
        fingerprint: what the weights are.
        device: where to load it.
        dtype: of its weights.
        chat_template, add_bos: how it is put the problems.
        long_prompts: what becomes of prompts that do not fit.
    """

    settings: ModelSettings
    fingerprint: str
    device: str
    dtype: str
    chat_template: bool
    add_bos: bool
    long_prompts: str

    def config(self) -> dict[str, Any]:
        """In plain types, the same for equal judges."""
        return {
            "schema": 1,
            "measure": MEASURE_VERSION,
            "model": {"name": self.settings.name_or_path, "fingerprint": self.fingerprint},
            "device": torch.device(self.device).type,
            "dtype": self.dtype,
            "chat_template": self.chat_template,
            "add_bos": self.add_bos,
            "mask_id": self.settings.mask_id,
            "compile": self.settings.compile,
            "long_prompts": self.long_prompts,
        }

    @property
    def judge_id(self) -> str:
        """12 hex digits over the configuration without the model's name."""
        return f"{digest(json.dumps(identity(self.config()), sort_keys=True), size=6):012x}"

    def folder(self, run: RunFolder) -> RunFolder:
        """Where what it says of a run is kept."""
        return RunFolder(run.path / JUDGED / self.judge_id)


def judge_of(config: Mapping[str, Any], run: Mapping[str, Any]) -> Judge:
    """The judge that a resolved configuration names, or else the model that answered, put the problems as it was then.

    Args:
        config: with ``model``, whose ``name_or_path`` is None where none is named.
        run: configuration of the run.

    Raises:
        ValueError: the weights of the model that answered are others now, or a setting is out of range.
    """
    own = config["model"]["name_or_path"] is None
    as_then = {key: run.get(key) for key in ("mask_id", "end_ids")} | {
        key: bool(run.get(key)) for key in ("chat_template", "add_bos")
    }
    node = {**config["model"], **({"name_or_path": run["model"]["name"], **as_then} if own else {})}
    settings, device = model_settings(node), resolve_device(str(config["device"]))
    fingerprint = known_fingerprint(settings)
    if own and fingerprint != run["model"]["fingerprint"]:
        raise ValueError(
            f"model {settings.name_or_path}: its weights are not those that answered; give them with model.name_or_path=FOLDER "
            "or model.revision=COMMIT, which makes them a judge like any other"
        )
    return Judge(
        settings=settings,
        fingerprint=fingerprint,
        device=str(device),
        dtype=str(resolve_dtype(str(config["dtype"]), device)).removeprefix("torch."),
        chat_template=flag(node, "chat_template", "model."),
        add_bos=flag(node, "add_bos", "model."),
        long_prompts=str(run.get("long_prompts", LONG_PROMPTS[0])),
    )


def judge_run(
    folder: RunFolder,
    problems: Mapping[str, Problem],
    judge: Judge,
    model: ModelSource,
    known: Known,
    rows: Rows,
    *,
    watch: RunWatch,
    max_failures: int,
    check_stop: Callable[[], None] = lambda: None,
) -> None:
    """Evaluate the answers of a run that the judge has not evaluated yet. The run is held meanwhile.

    Args:
        folder: the run.
        problems: that its records are about, by id.
        judge: who is asked.
        model: the judge's, asked for only if something is missing.
        known: answers that need no evaluation; added to.
        rows: evaluated together.
        watch: told about progress.
        max_failures: answers that may fail before it is given up.
        check_stop: called after every answer; may raise KeyboardInterrupt.

    Raises:
        BusyError: a process is at work on the run.
        StoreError: the folder cannot be written to, or holds something else.
        TooManyFailuresError: see ``evaluate_all``.
    """
    with folder.claimed():
        place, tally = judge.folder(folder), Tally()
        run = place.open(judge.config())
        said, ends = place.records(), frozenset(folder.manifest().get("end_ids") or ())
        answers = {key: record for key, record in folder.records().items() if answered(record)}
        for record in said.values():
            tally.add(record)
            if not record["error"]:
                known[judge.judge_id, record["data"], record["answer"], record["ended"]] = record
        missing = [
            record
            for key, record in answers.items()
            if key not in tally.good or said[key]["answer"] != text_digest(record["text"])
        ]
        items = [item(record, problems[record["problem"]], ends, judge, model, known, rows) for record in missing]
        watch.reused(len(answers) - len(items))
        named = {"judge_id": judge.judge_id, "run_id": folder.path.name, "model_fingerprint": judge.fingerprint}
        here = describe(
            judge.device, judge.dtype, "tta_bench.likelihood.pseudo_log_likelihood", folder.config()["task"]["target"]
        )
        evaluate_all(run, items, tally, named, here, watch=watch, max_failures=max_failures, check_stop=check_stop)


def item(
    record: Record, problem: Problem, ends: frozenset[int], judge: Judge, model: ModelSource, known: Known, rows: Rows
) -> Item:
    """What is to be made of an answer's record; ``ends`` are tokens that end an answer of the run."""
    head = {key: record[key] for key in ("key", "problem", "replicate")} | {"data": problem_digest(problem)}
    ended = not problem.infill and not ends.isdisjoint(record["tokens"])
    head |= {"answer": text_digest(record["text"]), "ended": ended}
    same = (judge.judge_id, head["data"], head["answer"], ended)

    def measure() -> Record:
        if same not in known:
            known[same] = judged(problem, record["text"], ended, judge, model.get(), rows)
            return known[same]
        return {name: known[same][name] for name in ("log_probability", "n_tokens", "cut")} | {"forward_passes": 0}

    return Item(head, measure)


def judged(problem: Problem, text: str, ended: bool, judge: Judge, loaded: LoadedModel, rows: Rows) -> Record:
    """What the judge says of one answer: nats, summed over its tokens, each given all the others and the prompt.

    Where the answer ended, the judge is shown that it does: its own token for the end stands behind the text, and is not judged
    itself. Of a template that was filled, the tokens at its holes are judged. A text without tokens has none.

    Raises:
        ValueError: it does not fit the judge's context, or the judge's tokens do not fit the template.
    """
    answer = loaded.tokenizer.encode(text, add_special_tokens=False)
    if not answer:
        return {"log_probability": 0.0, "n_tokens": 0, "cut": 0, "forward_passes": 0}
    manner = Manner(judge.chat_template, judge.add_bos, (), loaded.context, judge.long_prompts)
    if not problem.infill and loaded.context is not None and len(answer) + ended + judge.add_bos >= loaded.context:
        raise ValueError(
            f"an answer of {len(answer)} tokens leaves nothing of the judge's context of {loaded.context} to the prompt; take "
            "another judge"
        )
    behind = list(loaded.end_ids[:1]) if ended else []
    prompt = encode(problem, loaded.tokenizer, loaded.mask_id, len(answer) + len(behind), manner)
    before, template = list(prompt.ids[: prompt.start]), prompt.ids[prompt.start : len(prompt.ids) - len(behind)]
    if problem.infill and (
        len(answer) != len(template)
        or any(told not in (loaded.mask_id, given) for told, given in zip(template, answer, strict=True))
    ):
        raise ValueError("in the judge's tokens the answer is not the template with its holes filled; take the run's own model")
    places = [len(before) + i for i, token in enumerate(template) if token == loaded.mask_id]
    device = next(p.device for p in loaded.model.parameters() if p.device.type != "meta")
    tokens = torch.tensor([*before, *answer, *behind], dtype=torch.int64, device=device)
    found = rows.fitting(
        lambda size: pseudo_log_likelihood(
            loaded.model, tokens, start=len(before), positions=places, batch_size=size, mask_id=loaded.mask_id
        )
    )
    return {
        "log_probability": found.value,
        "n_tokens": len(found.token_log_probabilities),
        "cut": prompt.cut,
        "forward_passes": found.forward_passes,
    }
