"""Inspect with the provider ``tta_bench``, and runs as its logs."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

import tta_bench
from tests.commands.runs import make_run, right_up_to
from tests.quick import QUICK
from tta_bench import cli, tasks
from tta_bench.runner.store import RunFolder

pytestmark = [
    pytest.mark.slow,
    # Inspect's own use of tenacity and anyio.
    pytest.mark.filterwarnings("ignore:The 'initial' parameter is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject:ResourceWarning"),
]

SETTINGS = {"sampler": "remdm_cap", "temperature": 1.0, "steps": 6, "gen_length": 12}
PROMPTS = {"dev-00000": "sort dbca=", "dev-00001": "reverse abcdef=", "dev-00002": "sort zyx="}


def evaluate(folder: Path, *, epochs: int = 1, prompts: dict[str, str] | None = None, **model_args: Any) -> Any:
    """The log of a little task."""
    from inspect_ai import Task, eval
    from inspect_ai.dataset import Sample
    from inspect_ai.model import GenerateConfig
    from inspect_ai.scorer import includes

    config = GenerateConfig(**model_args.pop("config", {}))
    samples = [Sample(id=name, input=prompt, target="a") for name, prompt in (prompts or PROMPTS).items()]
    (log,) = eval(
        Task(dataset=samples, scorer=includes(), config=config, name="little"),
        model="tta_bench/mini",
        model_args=model_args or SETTINGS,
        epochs=epochs,
        display="none",
        log_dir=str(folder / "logs"),
    )
    gc.collect()  # what Inspect leaves open is found here, not in another test
    return log


def answer(mini: tuple, name: str, epoch: int, seed: int = 0) -> str:
    model, tokenizer = mini
    prompt = tokenizer.encode(PROMPTS[name], return_tensors="pt")
    keys = [f"{name}/{epoch - 1}"]
    tokens, _ = tta_bench.generate(model, prompt, **SETTINGS, seed=seed, block_length=None, row_keys=keys)
    ids = tokens[0, prompt.shape[1] :].tolist()
    ends = [place for place, token in enumerate(ids) if token in model.end_ids]
    return str(tokenizer.decode(ids[: ends[0]] if ends else ids, skip_special_tokens=True))


def completions(log: Any) -> dict[tuple[str, int], str]:
    assert log.status == "success", log.error
    return {(sample.id, sample.epoch): sample.output.completion for sample in log.samples}


def test_answers_are_those_of_generate(tmp_path: Path, mini: tuple) -> None:
    """Sample and epoch name the random numbers, as problem and replicate do in a run."""
    log = evaluate(tmp_path, epochs=2)
    found = completions(log)
    assert found == {(name, epoch): answer(mini, name, epoch) for name in PROMPTS for epoch in (1, 2)}
    assert len(set(found.values())) == 6
    assert completions(evaluate(tmp_path, epochs=2, **SETTINGS, batch_size=1)) == found
    output = log.samples[0].output
    assert (output.metadata["key"], output.metadata["forward_passes"]) == ("dev-00000/0", 6)
    assert (output.usage.input_tokens, output.usage.output_tokens) == (len(PROMPTS["dev-00000"]), 12)
    other = completions(evaluate(tmp_path, config={"seed": 5}))
    assert other == {(name, 1): answer(mini, name, 1, seed=5) for name in PROMPTS}


def test_lengths_and_stops(tmp_path: Path) -> None:
    log = evaluate(tmp_path, sampler="low_confidence", steps=4, config={"max_tokens": 8})
    assert {sample.output.usage.output_tokens for sample in log.samples} == {8}
    whole = completions(log)
    stop = whole["dev-00001", 1][2]
    cut = evaluate(tmp_path, sampler="low_confidence", steps=4, config={"max_tokens": 8, "stop_seqs": [stop]})
    assert completions(cut) == {key: text.split(stop)[0] for key, text in whole.items()}
    reasons = {sample.id: sample.output.stop_reason for sample in cut.samples}
    assert reasons["dev-00001"] == "stop"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"temperature": 0.3}, "temperature=0.3: is asked for by the request, and the sampler's is 1.0"),
        ({"num_choices": 2}, "num_choices=2: a prompt has one answer; use --epochs"),
        ({"frequency_penalty": 0.5}, "frequency_penalty=0.5: means nothing to a sampler"),
        ({"system_message": "be brief"}, "messages: are of system, user, and without a chat template"),
        ({"max_tokens": 8}, ""),
    ],
)
def test_what_a_request_must_not_ask_for(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    log = evaluate(tmp_path, config=config)
    assert log.status == ("error" if message else "success")
    assert message in (log.error.message if log.error else "")


def test_settings_are_checked() -> None:
    from inspect_ai.model import get_model

    for arguments, message in (
        ({"stepz": 3}, "did you mean steps"),
        ({"steps": 3, "batch_size": 0}, "batch_size=0: must be a whole number, at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            get_model("tta_bench/mini", **arguments)


def test_chats_need_a_template(monkeypatch: pytest.MonkeyPatch) -> None:
    from inspect_ai.model import ChatMessageSystem, ChatMessageUser, get_model

    api = get_model("tta_bench/mini", **SETTINGS, chat_template=True).api
    messages = [ChatMessageSystem(content="letters"), ChatMessageUser(content="sort ba=")]
    with pytest.raises(ValueError, match="chat_template=true: the tokenizer of mini has no chat template; set it to false"):
        api.text(messages)
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}; {% endfor %}{% if add_generation_prompt %}a: {% endif %}"
    monkeypatch.setattr(api.desk.loaded.tokenizer, "chat_template", template)
    assert api.text(messages) == "system: letters; user: sort ba=; a: "


def exported(folder: Path, name: str, target: str = "logs") -> Any:
    from inspect_ai.log import read_eval_log

    assert cli.main(["export", name, str(folder), "--to", str(folder / target)]) == 0
    return read_eval_log(str(folder / target / f"{RunFolder(next(folder.glob(f'runs/{name}*'))).path.name}.eval"))


def test_a_run_is_a_log(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    from inspect_ai.log import list_eval_logs

    out = tmp_path / "outputs"
    words = ["task=listops", "n_problems=4", "replicates=2", "sampler=remdm_cap", "steps=4", f"output_dir={out}", *QUICK]
    assert cli.main(["run", *words]) == 0
    folder = RunFolder(next(out.glob("runs/listops-remdm_cap-*")))
    log = exported(out, "listops-remdm_cap")
    assert f"inspect view --log-dir {out}/logs" in capsys.readouterr().out.replace("\n", "")
    records, problems = folder.records(), {p.id: p for p in tasks.load("listops").problems("dev", 4)}
    assert log.status == "success"
    assert sorted(f"{sample.id}/{sample.epoch - 1}" for sample in log.samples) == sorted(records)
    for sample in log.samples:
        record, problem = records[f"{sample.id}/{sample.epoch - 1}"], problems[sample.id]
        assert (sample.input, sample.target) == (problem.prompt, problem.target)
        assert sample.output.completion == record["text"]
        assert sample.scores["listops"].value == record["score"]
        assert sample.scores["listops"].answer == record["text"]
        assert problem.target in sample.scores["listops"].explanation
        assert sample.metadata["forward_passes"] == record["forward_passes"] == 4
        assert sample.metadata["seconds"] == sample.total_time == record["seconds"]
    config, manifest = folder.config(), folder.manifest()
    assert (log.eval.task, log.eval.model, log.eval.solver) == ("listops", "tta_bench/mini", "remdm_cap")
    assert log.eval.solver_args == {k: v for k, v in config["sampler"].items() if k not in ("name", "target")}
    assert log.eval.config.epochs == 2
    assert log.eval.metadata["config"] == config
    assert log.eval.created == log.stats.started_at == manifest["started"]
    assert (log.eval.revision.commit if log.eval.revision else None) == (manifest["git"] or {}).get("commit")
    mean = sum(record["score"] for record in records.values()) / 8
    assert log.results.scores[0].metrics["mean"].value == pytest.approx(mean)
    (listed,) = list_eval_logs(str(out / "logs"))
    assert listed.task == "listops"
    assert exported(out, "listops-remdm_cap").model_dump() == log.model_dump()  # again, in its place


def test_errors_are_errors(tmp_path: Path) -> None:
    def some(problem: Any, number: int, _: int) -> str | Exception:
        return ArithmeticError("no") if number == 1 else problem.target

    make_run(tmp_path, "json-tta-1", some, n_problems=3, manifest={"status": "incomplete"})
    log = exported(tmp_path, "json-tta-1")
    good, bad, _ = log.samples
    assert (good.error, good.scores["json"].value) == (None, 1.0)
    assert (bad.error.message, bad.scores, bad.output.choices) == ("generate: ArithmeticError: no", None, [])
    assert "ArithmeticError: no" in bad.error.traceback
    (score,) = log.results.scores
    assert (score.scored_samples, score.unscored_samples, log.results.completed_samples) == (2, 1, 2)


@pytest.mark.parametrize(("status", "told"), [("interrupted", "cancelled"), ("failed", "error"), ("running", "started")])
def test_how_far_a_run_is(tmp_path: Path, status: str, told: str) -> None:
    folder = make_run(tmp_path, "json-tta-1", right_up_to(2), n_problems=3, manifest={"status": status})
    assert exported(tmp_path, "json-tta-1").status == told
    (folder.path / "manifest.json").unlink()
    assert exported(tmp_path, "json-tta-1").status == "started"


def test_a_task_that_changed_is_not_exported(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = make_run(tmp_path, "json-tta-1", n_problems=2)
    file = folder.path / "config.yaml"
    config = yaml.safe_load(file.read_text())
    config["task"]["version"] = "0"
    file.write_text(json.dumps(config))
    assert cli.main(["export", "json-tta-1", str(tmp_path), "--to", str(tmp_path / "logs")]) == 2
    assert "task json: the run was made with version 0" in capsys.readouterr().err
    assert not (tmp_path / "logs").exists()
