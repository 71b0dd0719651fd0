"""Prompts of another harness are answered as a run would; what cannot be done is refused. Needs neither of the harnesses."""

from __future__ import annotations

import json
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tta_bench
from tests.quick import QUICK
from tta_bench import catalog, cli
from tta_bench.integrations import desk, lm_eval_cli
from tta_bench.integrations.decoder import DEFAULTS, MODEL, Prompt, answers, check_drawing, cut, failed, setup
from tta_bench.integrations.lm_eval_requests import Wanted, alike, keys_of, repeated, wanted
from tta_bench.integrations.refusal import RefusedError
from tta_bench.runner.settings import MODEL_KEYS

SETTINGS = {"sampler": "remdm_cap", "temperature": 1.0, "steps": 4, "gen_length": 12}


def decode(settings: dict[str, Any], *prompts: Prompt, batch_size: int | None = None) -> dict[str, dict[str, Any]]:
    made = setup("mini", settings)
    return {record["key"]: record for record, _ in answers(made, made.load(), prompts, batch_size)}


def test_an_answer_is_that_of_a_run(tmp_path: Path) -> None:
    """The same settings, prompt and key of random numbers; the run names its key by problem and replicate."""
    out = tmp_path / "outputs"
    words = ["task=listops", "n_problems=3", "replicates=2", "sampler=remdm_cap", "sampler.temperature=1.0", "steps=4"]
    assert cli.main(["run", *words, "gen_length=12", f"output_dir={out}", *QUICK]) == 0
    (folder,) = out.glob("runs/listops-remdm_cap-*")
    lines = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    problems = {problem.id: problem for problem in tta_bench.tasks.load("listops").problems("dev", 3)}
    prompts = [Prompt(line["key"], problems[line["problem"]].prompt, 64) for line in lines]
    found = decode(SETTINGS, *prompts, batch_size=4)
    assert [found[line["key"]]["tokens"] for line in lines] == [line["tokens"] for line in lines]
    assert len({tuple(line["tokens"]) for line in lines}) == 6  # it draws: another key has another answer
    assert {found[line["key"]]["forward_passes"] for line in lines} == {4}


def test_an_answer_is_that_of_generate(mini: tuple) -> None:
    model, tokenizer = mini
    prompt = tokenizer.encode("sort dbca=", return_tensors="pt")
    tokens, _ = tta_bench.generate(model, prompt, **SETTINGS, block_length=None, row_keys=["7/1"])
    record = decode(SETTINGS, Prompt("7/1", "sort dbca=", 64))["7/1"]
    assert record["tokens"] == tokens[0, prompt.shape[1] :].tolist()
    assert record["n_prompt"] == prompt.shape[1]


def test_statistics_are_those_of_the_answer() -> None:
    made = setup("mini", {"sampler": "tta", "steps": 5})
    prompts = [Prompt(f"{i}/0", "sort dbca=", 6 + i) for i in range(3)]  # different lengths are different batches
    found = {record["key"]: (record, steps) for record, steps in answers(made, made.load(), prompts, None)}
    assert {key: len(record["tokens"]) for key, (record, _) in found.items()} == {"0/0": 6, "1/0": 7, "2/0": 8}
    assert all(list(steps["step"]) == list(range(5)) for _, steps in found.values())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sampler": "tta", "steps": 8, "tta_kk": 3}, "sampler tta has no parameter 'tta_kk'; did you mean tta_k"),
        ({"sampler": "tta", "stepz": 8}, "did you mean steps or draft_steps?"),
        ({"steps": 8, "tta_k": 3}, "low_confidence has no parameter 'tta_k'; it belongs to tta"),
        ({"sampler": "ttta"}, "unknown sampler 'ttta'; did you mean tta"),
        ({"sampler": "tta"}, "steps is missing: sampler tta spreads its commits over so many steps"),
        ({"steps": 0}, "steps=0: must be a whole number, at least 1"),
        ({"steps": 3, "gen_length": 8, "block_length": 4}, "steps=3: must be divisible by the number of blocks, 2"),
        ({"steps": 8, "temperature": "hot"}, "sampler.temperature='hot'"),
        ({"steps": 8, "dtype": "int8"}, "dtype=int8: must be auto or one of"),
        ({"steps": 8, "compile": True, "cache": "dual"}, "use cache=none instead of cache=dual"),
        ({"steps": 8, "trust_remote_code": "maybe"}, "trust_remote_code=maybe: must be true or false"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        setup("mini", settings)


def test_names_of_models_are_those_of_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere"):
        setup(str(tmp_path / "nowhere"), {"steps": 8})
    assert {catalog.saved("model", name).keys() - {"_target_"} <= set(MODEL_KEYS) for name in catalog.names("model")} == {True}


def test_no_parameter_of_a_sampler_is_hidden_by_a_setting() -> None:
    taken = {*DEFAULTS, *MODEL, "pretrained", "batch_size", "max_batch_size", "mc_num", "check_greedy", "trace_file"}
    for name in catalog.names("sampler"):
        assert not taken & set(catalog.parameters("sampler", name)), name


def test_a_digest_tells_settings_apart_and_nothing_else() -> None:
    made = [setup("mini", {"sampler": "tta", "steps": 8, **more}) for more in ({}, {"tta_k": 3}, {"seed": 1}, {"steps": 4})]
    assert len({one.digest for one in made}) == 4
    assert setup("mini", {"steps": 8.0, "sampler": "tta", "device": "cpu"}).digest == made[0].digest
    # Steps that a sampler does not use are no setting of it.
    assert len({setup("mini", {"sampler": "threshold", **more}).digest for more in ({}, {"steps": 8})}) == 1


def test_a_prompt_that_cannot_be_put_fails_alone() -> None:
    settings = {"steps": 2, "gen_length": 8, "long_prompts": "refuse"}
    prompts = [Prompt("0/0", "sort ba=", 1), Prompt("1/0", "x" * 300, 1), Prompt("2/0", "a▢b", 1)]
    found = decode(settings, *prompts)
    assert [found[f"{i}/0"]["error"] is None for i in range(3)] == [True, False, False]
    assert "long_prompts=truncate" in str(failed(found["1/0"]))
    assert str(failed(found["2/0"])).startswith("2/0: the prompt holds ▢")
    assert all(isinstance(failed(found[key]), RefusedError) for key in ("1/0", "2/0"))
    assert decode({"steps": 2, "gen_length": 8}, prompts[1])["1/0"]["cut"] == 52


def test_a_length_of_the_request_is_no_more_than_half_the_context() -> None:
    record = decode({"steps": 2}, Prompt("0/0", "sort ba=", 200))["0/0"]
    assert (len(record["tokens"]), record["lacking"]) == (128, 72)


def test_a_model_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ArithmeticError("no")

    monkeypatch.setattr("tta_bench.integrations.decoder.decode_batch", broken)
    record = decode(SETTINGS, Prompt("0/0", "sort ba=", 1))["0/0"]
    assert isinstance(failed(record), RuntimeError)
    assert str(failed(record)).startswith("0/0: ArithmeticError: no\nTraceback")


@pytest.mark.parametrize(
    ("text", "stops", "kept"),
    [("a\n\nb.c", ("\n\n", "."), "a"), ("a.b\n\n", ("\n\n", "."), "a"), ("abc", ("d", ""), "abc"), ("stop", ("stop",), "")],
)
def test_an_answer_ends_at_the_first_of_its_stops(text: str, stops: tuple[str, ...], kept: str) -> None:
    assert cut(text, stops) == kept


def test_how_tokens_are_drawn_is_the_samplers() -> None:
    made = setup("mini", {"sampler": "dream_entropy", "steps": 8, "temperature": 0.5, "top_p": 0.9})
    for fine in ({"temperature": 0.5}, {"temperature": 0.0, "top_p": 1.0, "top_k": None}, {"top_p": 0.9, "top_k": -1}, {}):
        check_drawing(fine, made, "leave it out")
    for name, value in {"temperature": 0.7, "top_p": 0.8, "top_k": 5}.items():
        with pytest.raises(RefusedError, match=rf"^{name}={value}: .* give it {name}={value} .*, or leave it out$"):
            check_drawing({name: value}, made, "leave it out")


def test_prompts_that_wait_are_decoded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes while a batch is at work is taken along by the next one; a prompt that fails, fails alone."""
    made = setup("mini", SETTINGS | {"long_prompts": "refuse"})
    at_desk = desk.Desk(made.load(), 4)
    batches: list[list[str]] = []

    def watched(asked: Any, loaded: Any, prompts: Any, size: Any) -> Any:
        batches.append([prompt.key for prompt in prompts])
        return answers(asked, loaded, prompts, size)

    monkeypatch.setattr(desk, "answers", watched)
    prompts = [Prompt(f"{i}/0", text, 12) for i, text in enumerate(("sort dbca=", "reverse abcdef=", "sort zyx="))]
    alone = decode(SETTINGS, *prompts, batch_size=1)
    waiting = [*prompts, Prompt("long/0", "x" * 300, 12), *prompts, Prompt("more/0", "sort ba=", 12)]
    with ThreadPoolExecutor(len(waiting)) as pool:
        with at_desk.at_work:
            futures = [pool.submit(at_desk.answer, made, prompt) for prompt in waiting]
            while len(at_desk.queue) < len(waiting):
                time.sleep(0.01)
        found = [future.exception() or future.result()["text"] for future in futures]
    assert found[:3] == found[4:7] == [alone[prompt.key]["text"] for prompt in prompts]
    assert str(found[3]).startswith("long/0: a prompt of 300 tokens")
    assert sorted(key for batch in batches for key in batch) == sorted(prompt.key for prompt in waiting)
    assert all(len(set(batch)) == len(batch) <= 4 for batch in batches)
    assert len(batches) <= 4


def request(doc_id: int | None, *, idx: int = 0, prompt: str = "p", task: str = "t", **arguments: Any) -> Any:
    """A request of lm-evaluation-harness, as far as it is looked at."""
    return SimpleNamespace(doc_id=doc_id, idx=idx, args=(prompt, arguments), task_name=task)


def test_documents_of_the_harness_are_rows_of_a_run() -> None:
    requests = [request(0), request(0), request(12), request(0, idx=1), request(0), request(None), request(None, prompt="q")]
    *keys, one, other = keys_of(requests)
    assert keys == ["row-00000/0", "row-00000/1", "row-00012/0", "row-00000-1/0", "row-00000/2"]
    assert one.endswith("/0")
    assert one != other
    assert repeated(keys)
    assert not repeated(keys[1:4])
    kinds = [request(0, until="a"), request(0, until="b"), request(1, until="a"), request(0, task="u", until="a")]
    assert alike(kinds) == [[0, 2], [1], [3]]


def test_what_a_request_of_the_harness_says() -> None:
    made = setup("mini", SETTINGS)
    assert wanted({}, made) == Wanted((), 256, False)
    told = {"until": ["a", "b"], "max_gen_toks": 8, "max_tokens": 9, "do_sample": False, "temperature": 0.7, "top_p": 0.5}
    assert wanted(told, made) == Wanted(("a", "b"), 8, False)
    assert wanted({"until": "a", "do_sample": True, "temperature": 1.0}, made) == Wanted(("a",), 256, True)
    for bad in ({"do_sample": True, "temperature": 0.7}, {"num_beams": 2}, {"stop": ["a"]}):
        with pytest.raises(RefusedError, match=rf"^{list(bad)[-1]}="):
            wanted(bad, made)


def test_without_the_harness_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval.__main__", None)
    assert lm_eval_cli.main() == 2
    assert 'is not installed; pip install "tta_bench[lm-eval]"' in capsys.readouterr().err
