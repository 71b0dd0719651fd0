"""lm-evaluation-harness with the model ``tta_bench``: its answers and likelihoods are those of this package."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import tta_bench
from tests.quick import QUICK
from tta_bench import cli

pytestmark = pytest.mark.slow

GSM8K = Path(__file__).parents[1] / "tasks" / "data" / "gsm8k_rows.jsonl"
DRAWING = "pretrained=mini,sampler=remdm_cap,temperature=1.0,steps=8,gen_length=24"
PROMPT = "Question: {{question}}\nAnswer:"


def make_task(folder: Path, name: str, rows: Path, **config: Any) -> None:
    """A task of the harness over a file of rows."""
    data = {"data_files": {"test": str(rows)}, "cache_dir": str(folder / "cache")}
    node = {"task": name, "dataset_path": "json", "dataset_kwargs": data, "test_split": "test", "metadata": {"version": 1.0}}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(node | config))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the tasks ``words`` (questions of GSM8K, answered in words) and ``letters`` (multiple choice)."""
    answers = {"output_type": "generate_until", "doc_to_text": PROMPT, "doc_to_target": "{{answer}}"}
    asks = {"until": ["Question:"], "do_sample": False, "temperature": 0.0, "max_gen_toks": 24}
    make_task(tmp_path, "words", GSM8K, **answers, generation_kwargs=asks)
    rows = [
        {"prompt": f"sort {word}=", "choices": [word, "abc", "c"], "target": "B", "right": 1} for word in ("cab", "bca", "acb")
    ]
    (tmp_path / "letters.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    chooses = {"output_type": "multiple_choice", "doc_to_text": "{{prompt}}", "doc_to_target": "right"}
    make_task(tmp_path, "letters", tmp_path / "letters.jsonl", **chooses, doc_to_choice="choices")
    return tmp_path


def evaluate(folder: Path, task: str, model_args: str, *, repeats: int = 1, **more: Any) -> dict[str, Any]:
    """What the harness finds, on the first four documents."""
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.tasks import TaskManager

    import tta_bench.integrations.lm_eval  # noqa: F401

    tasks = TaskManager(include_path=str(folder), include_defaults=False)
    loaded = tasks.load([task])["tasks"][task]
    loaded.set_config("repeats", repeats)
    options = {"batch_size": 3, "limit": 4, "bootstrap_iters": 0} | more
    return simple_evaluate("tta_bench", model_args=model_args, tasks=[loaded], task_manager=tasks, **options)


def texts(found: dict[str, Any], task: str = "words") -> list[list[str]]:
    return [list(sample["resps"][0]) for sample in sorted(found["samples"][task], key=lambda sample: sample["doc_id"])]


def test_samples_are_those_of_a_run(folder: Path) -> None:
    """Document i is row-0000i, its repeats are the replicates; whatever the batches."""
    words = ["task=gsm8k", f"task.path={GSM8K}", "split=test", "n_problems=4", "replicates=2", "sampler=remdm_cap", "steps=8"]
    more = ["sampler.temperature=1.0", "gen_length=24", f"output_dir={folder}/outputs"]
    assert cli.main(["run", *words, *more, *QUICK]) == 0
    (run,) = folder.glob("outputs/runs/gsm8k-remdm_cap-*")
    records = {record["key"]: record for record in map(json.loads, (run / "records.jsonl").read_text().splitlines())}
    expected = [[records[f"row-{i:05d}/{replicate}"]["text"] for replicate in range(2)] for i in range(4)]
    trace = folder / "trace.jsonl"
    found = evaluate(folder, "words", f"{DRAWING},trace_file={trace}", repeats=2)
    assert texts(found) == expected
    assert len({text for pair in expected for text in pair}) == 8
    assert texts(evaluate(folder, "words", DRAWING, batch_size="auto:4", max_batch_size=2)) == [pair[:1] for pair in expected]
    head, *lines = map(json.loads, trace.read_text().splitlines())
    assert head["config"]["sampler"]["name"] == "remdm_cap"
    assert found["config"]["tta_bench_settings"] == head["settings"] == lines[0]["settings"]
    assert {line["key"]: line["tokens"] for line in lines} == {key: record["tokens"] for key, record in records.items()}
    assert all(len(line["steps"]["entropy"]) == 8 and line["forward_passes"] == 8 for line in lines)


def test_two_settings_share_a_cache_file_and_no_answer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = {"use_cache": str(folder / "cache.db")}
    first, second = (evaluate(folder, "words", f"{DRAWING},seed={seed}", **cache) for seed in (0, 1))
    assert texts(first) == texts(evaluate(folder, "words", f"{DRAWING},seed=0"))
    assert texts(second) == texts(evaluate(folder, "words", f"{DRAWING},seed=1")) != texts(first)
    chosen = evaluate(folder, "letters", "steps=1,mc_num=4", **cache)
    with monkeypatch.context() as without_model:
        without_model.setattr("tta_bench.integrations.lm_eval.answers", None)
        without_model.setattr("tta_bench.integrations.lm_eval.choice_bounds", None)
        assert texts(evaluate(folder, "words", f"{DRAWING},seed=1", **cache)) == texts(second)
        assert texts(evaluate(folder, "letters", "steps=1,mc_num=4", **cache), "letters") == texts(chosen, "letters")
        with pytest.raises(TypeError):
            evaluate(folder, "letters", "steps=1,mc_num=8", **cache)
    with pytest.raises(ValueError, match=r"use_cache: keeps one answer to a prompt, and the task repeats its prompts"):
        evaluate(folder, "words", f"{DRAWING},seed=2", repeats=2, **cache)
    drawn = evaluate(folder, "words", f"{DRAWING},seed=2", repeats=2, gen_kwargs={"do_sample": True}, **cache)
    assert all(one != other for one, other in texts(drawn))


def test_what_is_done_is_in_the_cache_when_a_later_prompt_fails(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tta_bench.integrations import lm_eval

    answers = lm_eval.answers

    def failing(*arguments: Any) -> Any:
        for number, found in enumerate(answers(*arguments)):
            if number == 2:
                raise RuntimeError("no more")
            yield found

    cache = {"use_cache": str(folder / "cache.db")}
    monkeypatch.setattr(lm_eval, "answers", failing)
    with pytest.raises(RuntimeError, match="no more"):
        evaluate(folder, "words", DRAWING, **cache)
    asked: list[int] = []
    monkeypatch.setattr(lm_eval, "answers", lambda *arguments: asked.append(len(arguments[2])) or answers(*arguments))
    assert texts(evaluate(folder, "words", DRAWING, **cache)) == texts(evaluate(folder, "words", DRAWING))
    assert asked == [2, 4]


def test_stop_strings_cut(folder: Path) -> None:
    whole = texts(evaluate(folder, "words", DRAWING))
    stops = [whole[0][0][3:5], whole[1][0][6]]
    found = texts(evaluate(folder, "words", DRAWING, gen_kwargs={"until": stops}))
    expected = [min((text.split(stop)[0] for stop in stops), key=len) for (text,) in whole]
    assert [text for (text,) in found] == expected
    assert expected[0] == whole[0][0][:3]


def test_lengths_are_the_models_own_or_the_requests(folder: Path) -> None:
    """``gen_length`` of the model, if it is there, else the task's; the first is exact, the other at most half the context."""
    trace = folder / "trace.jsonl"
    for arguments, kwargs, length in (
        ("steps=4,gen_length=16", {}, 16),
        ("steps=4", {}, 24),
        ("steps=4", {"max_gen_toks": 500}, 128),
    ):
        trace.unlink(missing_ok=True)
        evaluate(folder, "words", f"{arguments},trace_file={trace}", gen_kwargs=kwargs, limit=1)
        assert len(json.loads(trace.read_text().splitlines()[1])["tokens"]) == length


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"do_sample": True, "temperature": 0.7}, r"temperature=0.7: .* the sampler's is 1.0"),
        ({"do_sample": True, "top_p": 0.8}, r"top_p=0.8: .* the sampler's is 0.9"),
        ({"num_beams": 4}, r"num_beams=4: .* means nothing to a sampler of masked diffusion"),
    ],
)
def test_what_a_request_must_not_ask_for(folder: Path, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(folder, "words", DRAWING, gen_kwargs=kwargs)
    evaluate(folder, "words", DRAWING, gen_kwargs={"do_sample": False, "temperature": 0.7, "top_p": 0.8}, limit=1)


def test_likelihoods_are_those_of_the_likelihood_command(folder: Path) -> None:
    words = ["task=jsonl", f"task.path={folder}/letters.jsonl", "task.scorer=multiple_choice", "task.choices=choices"]
    more = ["n_problems=3", "split=test", "mc_num=32", "model=mini", f"output_dir={folder}/outputs"]
    assert cli.main(["likelihood", *words, *more]) == 0
    (place,) = folder.glob("outputs/likelihood/*")
    records = [json.loads(line) for line in (place / "records.jsonl").read_text().splitlines()]
    found = evaluate(folder, "letters", "pretrained=mini,steps=1,mc_num=32")
    samples = sorted(found["samples"]["letters"], key=lambda sample: sample["doc_id"])
    values = [[response[0][0] for response in sample["resps"]] for sample in samples]
    assert values == [record["log_likelihood"] for record in records]
    assert len(values) == 3


def requests(kind: str, *arguments: tuple[str, ...]) -> list[Any]:
    from lm_eval.api.instance import Instance

    return [Instance(kind, {}, argument, 0) for argument in arguments]


def bound(mini: tuple, prompt: str, *texts: str, **options: Any) -> tuple[float, ...]:
    model, tokenizer = mini
    ids = [torch.tensor(tokenizer.encode(text, add_special_tokens=False), dtype=torch.int64) for text in (prompt, *texts)]
    return tta_bench.choice_bounds(model, ids[0], ids[1:], **options).values


def test_likelihoods_of_single_texts(mini: tuple) -> None:
    from tta_bench.integrations.lm_eval import TtaBenchLM

    lm = TtaBenchLM(steps=1, mc_num=16, seed=3, batch_size=5)
    options = {"mc_num": 16, "seed": 3}
    model, tokenizer = mini
    prompt = tokenizer.encode("sort dbca=", return_tensors="pt")
    tokens, _ = tta_bench.generate(model, prompt, "low_confidence", steps=4, gen_length=4, block_length=None)
    written = tokenizer.decode(tokens[0, prompt.shape[1] :])
    pairs = [("sort dbca=", written), ("sort dbca=", "dddd"), ("", "abc"), ("blank ", "x")]
    found = lm.loglikelihood(requests("loglikelihood", *pairs))
    both = bound(mini, "sort dbca=", written, "dddd", **options)  # of one context, so with common random numbers
    values = [*both, *bound(mini, "", "abc", **options), *bound(mini, "blank", " x", **options)]
    assert [value for value, _ in found] == values
    assert [greedy for _, greedy in found[:2]] == [True, False]
    assert found == lm.loglikelihood(requests("loglikelihood", *pairs))
    without = TtaBenchLM(steps=1, mc_num=16, seed=3, check_greedy=False).loglikelihood(requests("loglikelihood", *pairs))
    assert without == [(value, False) for value in values]


def test_likelihoods_of_long_texts(mini: tuple) -> None:
    from tta_bench.integrations.lm_eval import TtaBenchLM

    lm = TtaBenchLM(steps=1, mc_num=4)
    text = "abcdefghij" * 30
    short, long = lm.loglikelihood_rolling(requests("loglikelihood_rolling", (text[:256],), (text,)))
    assert short == bound(mini, "", text[:256], mc_num=4)[0]
    parts = [("", text[:128]), (text[:128], text[128:256]), (text[300 - 256 : 256], text[256:])]
    assert long == sum(bound(mini, before, part, mc_num=4)[0] for before, part in parts)
    # A context that does not fit loses its beginning, the same for all that may follow it.
    pairs = [(text, "a"), (text, "abcdef")]
    found = lm.loglikelihood(requests("loglikelihood", *pairs))
    assert [value for value, _ in found] == list(bound(mini, text[-250:], "a", "abcdef", mc_num=4))
    refusing = TtaBenchLM(steps=1, mc_num=4, long_prompts="refuse")
    with pytest.raises(ValueError, match=r"306 tokens, more than the 256 positions .* long_prompts=truncate"):
        refusing.loglikelihood(requests("loglikelihood", *pairs))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stepz": 3}, "did you mean steps"),
        ({"steps": 3, "mc_num": 0}, "mc_num=0: must be a whole number, at least 1"),
        ({"steps": 3, "check_greedy": "maybe"}, "check_greedy=maybe: must be true or false"),
        ({"steps": 3, "batch_size": "many"}, "batch_size=many: must be a whole number, at least 1, or auto"),
        ({"steps": 3, "trace_file": "/nowhere/trace"}, "trace_file=/nowhere/trace: cannot be written to"),
        ({"steps": 3, "device": "cuda:7"}, "device=cuda:7"),
    ],
)
def test_settings_are_checked(arguments: dict[str, Any], message: str) -> None:
    from tta_bench.integrations.lm_eval import TtaBenchLM
    from tta_bench.integrations.refusal import RefusedError

    with pytest.raises(RefusedError, match=message):
        TtaBenchLM(**arguments)


def test_chat_templates(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    from tta_bench.integrations.lm_eval import TtaBenchLM

    lm = TtaBenchLM(steps=1)
    assert lm.chat_template(False) == ""
    with pytest.raises(ValueError, match="apply_chat_template: the tokenizer of mini has no chat template; leave it out"):
        evaluate(folder, "words", "steps=4", apply_chat_template=True)
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}; {% endfor %}{% if add_generation_prompt %}a: {% endif %}"
    monkeypatch.setattr(lm.tokenizer, "chat_template", template)
    assert lm.chat_template(True) == template
    history = [{"role": "user", "content": "sort ba="}]
    assert lm.apply_chat_template(history) == "user: sort ba=; a: "
    begun = [*history, {"role": "assistant", "content": "a"}]
    assert lm.apply_chat_template(begun, add_generation_prompt=False) == "user: sort ba=; assistant: a"
    assert lm.tokenizer_name == f"mini-{lm.setup.spec.fingerprint}"
    found = evaluate(folder, "words", "steps=4", apply_chat_template=True, limit=1)
    (sample,) = found["samples"]["words"]
    assert sample["arguments"][0][0].startswith("user: Question: ")
    assert sample["arguments"][0][0].endswith("Answer:; a: ")


def test_the_command_line(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """The harness's own, and what it passes to models by itself."""
    from tta_bench.integrations.lm_eval_cli import main

    words = ["--tasks", "words", "--include_path", str(folder), "--limit", "2", "--output_path", str(folder / "results")]

    def call(arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["tta-bench-lm-eval", "--model", "tta_bench", "--model_args", arguments, *words])
        return main()

    assert call("pretrained=mini,sampler=tta,tta_k=3,steps=8") == 0
    assert "tta_bench ({'pretrained': 'mini', 'sampler': 'tta', 'tta_k': 3, 'steps': 8})" in capsys.readouterr().out
    (results,) = folder.glob("results/**/results_*.json")
    assert json.loads(results.read_text())["config"]["tta_bench"]["sampler"]["tta_k"] == 3
    assert call("pretrained=mini,sampler=tta,tta_kk=3,steps=8") == 2
    assert "tta-bench-lm-eval: sampler tta has no parameter 'tta_kk'; did you mean tta_k" in capsys.readouterr().err
