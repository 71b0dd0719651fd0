"""Runs as logs of Inspect, which ``inspect view`` opens. Needs no torch.

Reference: https://inspect.aisi.org.uk/eval-logs.html (tried with release 0.3.285).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from inspect_ai.log import (
    EvalConfig,
    EvalDataset,
    EvalError,
    EvalLog,
    EvalMetric,
    EvalPlan,
    EvalPlanStep,
    EvalResults,
    EvalRevision,
    EvalSample,
    EvalScore,
    EvalSpec,
    EvalStats,
)
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessageAssistant,
    ChatMessageUser,
    GenerateConfig,
    ModelOutput,
    ModelUsage,
)
from inspect_ai.scorer import Score

from tta_bench.analysis.load import Run
from tta_bench.analysis.stats import mean_interval
from tta_bench.runner.environment import environments
from tta_bench.runner.failure import answered
from tta_bench.runner.store import Record
from tta_bench.tasks.base import Problem, Task

STATUS = {"done": "success", "incomplete": "success", "interrupted": "cancelled", "failed": "error"}
"""What Inspect calls how far a run is; of one that is at work, or was killed, it says that it started."""

TOLD_ELSEWHERE = ("schema", "key", "problem", "replicate", "text", "tokens", "score", "error")
"""Fields of a record that a sample has a place of its own for, or that mean nothing there."""


def eval_log(run: Run, status: str, task: Task, problems: Mapping[str, Problem], records: Sequence[Record]) -> EvalLog:
    """A run as a log: a sample for each record, its replicate as epoch.

    Args:
        run: its configuration and manifest.
        status: how far it is, as ``tta-bench ls`` says.
        task: of the run; tells what it reads as the answer.
        problems: those of the records, by id.
        records: the last of each key, errors included.
    """
    ordered = sorted(records, key=lambda record: (record["problem"], record["replicate"]))
    model = f"tta_bench/{run.config['model']['name']}"
    samples = [sample_of(record, problems[record["problem"]], task, model) for record in ordered]
    told = run.manifest
    return EvalLog(
        status=STATUS.get(status, "started"),
        eval=spec_of(run, sorted(problems), model, 1 + max((record["replicate"] for record in records), default=0)),
        plan=EvalPlan(
            steps=[EvalPlanStep(solver=run.sampler, params=parameters(run.config["sampler"]))],
            config=GenerateConfig(max_tokens=run.config.get("gen_length"), seed=run.config.get("seed")),
        ),
        results=results_of(run, task, len(samples)),
        stats=EvalStats(
            started_at=told.get("started", ""),
            completed_at=told.get("updated", ""),
            model_usage={model: sum((sample.output.usage for sample in samples if sample.output.usage), ModelUsage())},
        ),
        samples=samples,
    )


def spec_of(run: Run, problems: Sequence[str], model: str, epochs: int) -> EvalSpec:
    """What was evaluated, with which code."""
    config, places = run.config, environments(run.manifest)
    here = places[-1] if places else {}
    git = here.get("git")
    return EvalSpec(
        eval_id=run.run_id,
        run_id=run.run_id,
        task_id=run.run_id,
        created=run.manifest.get("started") or frozen_at(run),
        task=run.task,
        task_version=str(config["task"]["version"]),
        task_args=parameters(config["task"]),
        solver=run.sampler,
        solver_args=parameters(config["sampler"]),
        tags=[str(config["split"]), run.sampler],
        dataset=EvalDataset(name=f"{run.task} {config['split']}", samples=len(problems), sample_ids=list(problems)),
        model=model,
        model_args={key: value for key, value in config.items() if key not in ("task", "sampler", "schema")},
        config=EvalConfig(epochs=epochs, epochs_reducer=["mean"]),
        revision=EvalRevision(type="git", origin="", commit=git["commit"], dirty=git["dirty"]) if git else None,
        packages={"tta_bench": str(here.get("tta_bench", "unknown")), **here.get("packages", {})},
        metadata={"config": config, "environments": places},
    )


def frozen_at(run: Run) -> datetime:
    """When a run was begun that has no manifest yet."""
    assert run.folder
    return datetime.fromtimestamp((run.folder.path / "config.yaml").stat().st_mtime, UTC)


def parameters(node: Mapping[str, Any]) -> dict[str, Any]:
    """Of a task or sampler in a configuration, without its name."""
    return {key: value for key, value in node.items() if key not in ("name", "version", "target")}


def results_of(run: Run, task: Task, n_samples: int) -> EvalResults:
    """The mean score over problems, replicates averaged first, with its 95 % interval; no score where there is none."""
    scores = run.records.groupby("problem")["score"].mean()
    n_scored = len(run.records)
    if not n_scored:
        return EvalResults(total_samples=n_samples, completed_samples=0)
    found = mean_interval(scores.to_numpy(), clusters=run.clusters(list(scores.index)))
    values = {"mean": found.value, "ci_low": found.ci_low, "ci_high": found.ci_high}
    metrics = {name: EvalMetric(name=name, value=value) for name, value in values.items() if value == value}
    score = EvalScore(
        name=task.name,
        scorer=task.name,
        reducer="mean",
        scored_samples=n_scored,
        unscored_samples=n_samples - n_scored,
        metrics=metrics,
    )
    return EvalResults(total_samples=n_samples, completed_samples=n_scored, scores=[score])


def sample_of(record: Record, problem: Problem, task: Task, model: str) -> EvalSample:
    """A record as a sample."""
    error = record["error"]
    sample = EvalSample(
        id=problem.id,
        epoch=record["replicate"] + 1,
        input=problem.prompt,
        target=problem.target,
        messages=[ChatMessageUser(content=problem.prompt, id=f"{record['key']}-prompt")],
        metadata={key: value for key, value in record.items() if key not in TOLD_ELSEWHERE and value is not None},
        error=eval_error(error) if error else None,
    )
    if not answered(record):
        return sample
    answer = ChatMessageAssistant(content=record["text"], model=model, source="generate", id=f"{record['key']}-answer")
    usage = ModelUsage(output_tokens=len(record["tokens"]), total_tokens=len(record["tokens"]))
    return sample.model_copy(
        update={
            "messages": [*sample.messages, answer],
            "output": ModelOutput(
                model=model, choices=[ChatCompletionChoice(message=answer)], usage=usage, time=record["seconds"]
            ),
            "model_usage": {model: usage},
            "scores": None if record.get("score") is None else {task.name: score_of(record, problem, task)},
            "total_time": record["seconds"],
            "working_time": record["seconds"],
        }
    )


def eval_error(error: Mapping[str, Any]) -> EvalError:
    """The error of a record."""
    message, trace = f"{error['stage']}: {error['type']}: {error['message']}", error["traceback"]
    return EvalError(message=message, traceback=trace, traceback_ansi=trace)


def score_of(record: Record, problem: Problem, task: Task) -> Score:
    """A record's score, with what the task reads as the answer."""
    read = task.answer(problem, record["text"])
    found = "no answer is found in the text" if read is None else f"the answer is {read}"
    return Score(
        value=record["score"],
        answer=None if read is None else str(read),
        explanation=f"{found}\nscore {record['score']:g} of 0 to 1\na right answer: {problem.target}",
    )
