"""How problems are put to models of different kinds, from the command line to the record."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml

from tests.models.checkpoints import CLS, MASK, SEP, TURN, dream, llada, saved, tokenizer
from tests.models.test_hf import bert
from tests.quick import QUICK
from tta_bench import cli
from tta_bench.catalog import names
from tta_bench.runner.prompts import UNJUDGED, Manner, decode, encode, gold_ids, judged_ids
from tta_bench.runner.settings import MODEL_KEYS, comparison
from tta_bench.tasks import load
from tta_bench.tasks.base import HOLE, Problem

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}<|eot_id|>{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
)
ADD = Problem("add/0", "1+2=", "3", 4)
FILL = Problem("fill/0", f"a{HOLE}c{HOLE}", "abcd", 0)


def instructed() -> Any:
    words = tokenizer(mask_token="[MASK]", eos_token="[SEP]", bos_token="[CLS]")
    words.chat_template = TEMPLATE
    return words


def test_a_chat_template_goes_around_the_prompt_and_not_around_a_template() -> None:
    words, manner = instructed(), Manner(chat_template=True, end_ids=(TURN, SEP))
    prompt = encode(ADD, words, MASK, None, manner)
    assert words.decode(prompt.ids[: prompt.start]).replace(" ", "") == "<user>1+2=<|eot_id|><a>"
    assert prompt.ids[prompt.start :] == (MASK,) * 4
    assert encode(FILL, words, MASK, None, manner) == encode(FILL, words, MASK, None, Manner(end_ids=(TURN, SEP)))


def test_an_answer_ends_at_the_first_of_its_ends() -> None:
    words = instructed()
    prompt = encode(ADD, words, MASK, None, Manner(chat_template=True, end_ids=(TURN, SEP)))
    three, four = words.encode("34", add_special_tokens=False)
    for end in (TURN, SEP):
        ids = [*prompt.ids[: prompt.start], three, end, four, SEP]
        assert decode(ids, prompt, words) == "3"
        assert judged_ids(ids, prompt)[prompt.start :] == [three, end, UNJUDGED, UNJUDGED]
    assert gold_ids(ADD, prompt, "3", words)[prompt.start :] == [three, TURN, UNJUDGED, UNJUDGED]


def test_the_beginning_of_a_text_is_put_before_prompts_and_templates() -> None:
    words = tokenizer()
    manner = Manner(add_bos=True, end_ids=(SEP,))
    prompt = encode(ADD, words, MASK, None, manner)
    assert prompt.ids[0] == CLS
    assert decode([*prompt.ids[: prompt.start], *words.encode("3", add_special_tokens=False), SEP], prompt, words) == "3"
    template = encode(FILL, words, MASK, None, manner)
    assert template.start == 1
    assert template.appended == 0
    filled = [CLS, *words.encode("abcd", add_special_tokens=False)]
    assert decode(filled, template, words).replace(" ", "") == "abcd"
    assert judged_ids(filled, template) == filled
    assert gold_ids(FILL, template, "abcd", words) == [UNJUDGED, *filled[1:]]


def test_a_prompt_that_does_not_fit_loses_its_beginning_or_is_refused() -> None:
    words = tokenizer()
    long = Problem("long/0", "1+2+3+4+5=", "15", 4)
    ids = words.encode(long.prompt, add_special_tokens=False)
    whole = encode(long, words, MASK, None, Manner(context=len(ids) + 4))
    assert (whole.ids, whole.cut) == ((*ids, *(MASK,) * 4), 0)
    cut = encode(long, words, MASK, None, Manner(context=len(ids) + 1))
    assert (cut.ids, cut.cut, cut.start) == ((*ids[3:], *(MASK,) * 4), 3, len(ids) - 3)
    begun = encode(long, words, MASK, None, Manner(add_bos=True, context=len(ids) + 1))
    assert (begun.ids, begun.cut) == ((CLS, *ids[4:], *(MASK,) * 4), 4)
    with pytest.raises(ValueError, match=rf"a prompt of {len(ids)} tokens and 4 more are 1 more than the model's context"):
        encode(long, words, MASK, None, Manner(context=len(ids) + 3, long_prompts="refuse"))
    with pytest.raises(ValueError, match="a template with holes cannot be cut"):
        encode(FILL, words, MASK, None, Manner(context=2))
    with pytest.raises(ValueError, match="nothing would be left of the prompt: set gen_length to less than 6"):
        encode(long, words, MASK, 6, Manner(context=6))
    with pytest.raises(ValueError, match="long_prompts=drop: must be truncate or refuse"):
        Manner(long_prompts="drop")


def test_a_prompt_is_put_in_its_form_and_a_template_as_it_is() -> None:
    words, form = instructed(), Manner(prompt_form="1+{prompt}=")
    assert encode(ADD, words, MASK, None, form).ids == encode(replace(ADD, prompt=f"1+{ADD.prompt}="), words, MASK, None).ids
    assert encode(FILL, words, MASK, None, form) == encode(FILL, words, MASK, None)
    chat = Manner(prompt_form="1+{prompt}", chat_template=True)
    put = encode(ADD, words, MASK, None, chat)
    assert put.ids == encode(replace(ADD, prompt=f"1+{ADD.prompt}"), words, MASK, None, Manner(chat_template=True)).ids
    shorter = encode(replace(ADD, prompt="9" + ADD.prompt), words, MASK, None, replace(chat, context=len(put.ids)))
    assert shorter.cut > 0


@pytest.mark.parametrize("form", ["", "prompt", "{prompt}{prompt}", "{prompt}" + HOLE])
def test_a_form_without_a_place_for_the_prompt_is_refused(form: str) -> None:
    with pytest.raises(ValueError, match=r"prompt_form=.*: must hold \{prompt\} once, where the prompt goes"):
        Manner(prompt_form=form)


def test_a_chat_template_stays_whole_where_its_prompt_is_cut() -> None:
    words = instructed()
    long = Problem("long/0", "1+2+3+4+5=", "15", 4)
    whole = encode(long, words, MASK, None, Manner(chat_template=True))
    cut = encode(long, words, MASK, None, Manner(chat_template=True, context=len(whole.ids) - 4))
    assert cut.cut == 4
    assert cut.ids == encode(Problem("x", "3+4+5=", "15", 4), words, MASK, None, Manner(chat_template=True)).ids
    with pytest.raises(ValueError, match="nothing would be left of it in its chat template"):
        encode(long, words, MASK, None, Manner(chat_template=True, context=len(whole.ids) - 10))


def test_an_answer_gets_half_of_the_context_at_most_unless_its_length_is_given() -> None:
    words = tokenizer(mask_token="[MASK]")
    prompt = encode(ADD, words, MASK, None, Manner(context=6))
    assert (prompt.appended, prompt.lacking) == (3, 1)
    given = encode(ADD, words, MASK, 4, Manner(context=6))
    assert (given.appended, given.lacking) == (4, 0)
    assert encode(ADD, words, MASK, None, Manner()).lacking == 0


def test_what_was_cut_is_counted_from_the_record_to_the_table(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [{"prompt": "a" * (10 + 200 * (i % 2)) + "=", "target": "a"} for i in range(4)]
    file.write_text("".join(json.dumps(row | {"id": f"p{i}"}) + "\n" for i, row in enumerate(rows)))
    words = ["run", "task=jsonl", f"task.path={file}", "task.id=id", "task.gen_length=200", "n_problems=4", "steps=2", *QUICK]
    cli.main([*words, f"output_dir={tmp_path}"])
    said = " ".join(capsys.readouterr().out.split())
    assert "prompts whose beginning was cut, as they did not fit the model's context" in said
    assert "jsonl: 2 of 4" in said
    assert "answers with fewer positions than the task asks for" in said
    assert "jsonl: 4 of 4" in said
    summary = pd.read_csv(tmp_path / "reports" / "default" / "summary.csv")
    assert summary[["n_cut", "n_short"]].to_numpy().tolist() == [[2, 4], [2, 4]]
    records = [
        json.loads(line) for line in (tmp_path / "runs" / summary["run_id"][0] / "records.jsonl").read_text().splitlines()
    ]
    assert {r["problem"]: (r["cut"], r["lacking"]) for r in records} == {
        "p0": (0, 72), "p1": (83, 72), "p2": (0, 72), "p3": (83, 72)
    }  # fmt: skip
    assert cli.main([*words, "long_prompts=refuse", f"output_dir={tmp_path / 'refused'}"]) != 0
    assert "2 of 4 problems missing (2 ValueError)" in " ".join(capsys.readouterr().err.split())


def test_a_template_that_writes_the_beginning_itself_gets_no_second() -> None:
    words = instructed()
    words.chat_template = "[CLS]" + TEMPLATE
    with pytest.raises(ValueError, match=r"model\.add_bos=true: the chat template writes the beginning of the text itself"):
        encode(ADD, words, MASK, None, Manner(chat_template=True, add_bos=True))


@pytest.mark.parametrize(
    ("make", "words", "said"),
    [
        ("bert", ["sampler.cache=dual"], "sampler.cache=dual: MaskedLM keeps no keys and values; use cache=none"),
        ("bert", ["model.chat_template=true"], "model.chat_template=true: the tokenizer has no chat template; set it to false"),
        ("dream", ["sampler=wino"], "sampler=wino: the logits of DreamModel are shifted"),
        ("dream", ["probe_shadow=true"], "probe_shadow=true: the logits of DreamModel are shifted"),
        ("plain", ["model.add_bos=true"], "model.add_bos=true: the tokenizer has no token for the beginning of a text"),
    ],
)
def test_what_fits_no_problem_is_refused_once(
    tmp_path: Path, make: str, words: list[str], said: str, capsys: pytest.CaptureFixture
) -> None:
    bare = tokenizer(mask_token="[MASK]") if make == "plain" else None
    folder = saved({"bert": long_bert, "dream": dream, "plain": llada}[make](), tmp_path / make, bare)
    common = ["task=arithmetic", f"model.name_or_path={folder}", "n_problems=2", f"output_dir={tmp_path}"]
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", *common, *words])
    assert ended.value.code == cli.BAD_INPUT
    assert said in capsys.readouterr().err
    assert cli.main(["plan", *common, *words]) == cli.BAD_INPUT
    assert said in capsys.readouterr().err


def test_what_a_tokenizer_does_not_have_is_said() -> None:
    bare = tokenizer(mask_token="[MASK]")
    with pytest.raises(ValueError, match=r"model\.chat_template=true: the tokenizer has no chat template"):
        encode(ADD, bare, MASK, None, Manner(chat_template=True))
    with pytest.raises(ValueError, match=r"model\.add_bos=true: the tokenizer has no token for the beginning"):
        encode(ADD, bare, MASK, None, Manner(add_bos=True))


def settings(folder: Path, *words: str) -> Any:
    return comparison(cli.compose([f"model.name_or_path={folder}", f"output_dir={folder.parent}", "n_problems=2", *words]))


def test_what_changes_answers_changes_the_run_and_nothing_else_does(tmp_path: Path) -> None:
    folder = saved(llada(), tmp_path / "model", instructed())
    common = ["task=arithmetic", "steps=4", "gen_length=8", "block_length=4"]
    plain = settings(folder, *common)
    ids = {plain.candidate.run_id}
    for words in (
        ["model.chat_template=true"], ["model.add_bos=true"], [f"model.mask_id={CLS}"], ["model.end_ids=[5]"],
        ["model.compile=true"], ["model.mask_id=0"],
    ):  # fmt: skip
        found = settings(folder, *common, *words)
        ids.add(found.candidate.run_id)
    assert len(ids) == 7
    idle = ["sampler.heed_share=0.5", "sampler.entropy_bound=3.0", "sampler.tta_context_p=0.3"]  # parts that are not used
    for words in (
        ["model.chat_template=false"],
        ["sampler.cache=none"],
        ["model.device_map=auto"],
        ["model.revision=abc"],
        idle,
    ):
        assert settings(folder, *common, *words).candidate.run_id == plain.candidate.run_id
    cached = settings(folder, *common, "sampler.cache=dual")
    assert cached.candidate.run_id != plain.candidate.run_id
    assert cached.baseline.run_id == plain.baseline.run_id
    # A template is put to all models alike.
    sudoku = settings(folder, "task=sudoku", "model.chat_template=true")
    assert sudoku.candidate.run_id == settings(folder, "task=sudoku").candidate.run_id


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["+model.chat=true"], "has no parameter 'chat'; known: name_or_path"),
        (["model.chat_template=3"], "model.chat_template=3: must be true or false"),
        (["model.mask_id=-1"], "mask_id=-1: must be a whole number, at least 0"),
        (["model.end_ids=[x]"], "end_ids=x: must be a whole number"),
        (["sampler.cache=full"], "cache=full: must be one of none, prefix, dual"),
        (["sampler=wino", "+sampler.cache=dual"], "sampler wino has no parameter 'cache'; it belongs to"),
        (["sampler=low_confidence", "sampler.cache=dual", "model.compile=true"], "compiled code keeps no keys and values"),
        (["model.end_ids=5"], "model.end_ids=5: must be a list of token ids"),
        (["model.end_ids=[]"], "end_ids=[]: an answer must end somewhere"),
        (["model=llada_8b_base", "model.revision=main", "task=json"], "a commit hash of the hub (not main)"),
        (["settings=recommended"], "settings=recommended: the model's file in conf/model names no settings"),
        (["model=diffucoder_7b_base", "task=json"], "give model.revision"),
    ],
)
def test_mistakes_are_refused_before_anything_is_loaded(words: list[str], said: str, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["run", "n_problems=2", *words]) == cli.BAD_INPUT
    assert said in capsys.readouterr().err


def records(output: Path) -> dict[str, list[dict[str, Any]]]:
    """Records by sampler."""
    found = {}
    for folder in (output / "runs").iterdir():
        config = yaml.safe_load((folder / "config.yaml").read_text())
        key = config["sampler"]["name"] + ("+" + config["sampler"]["cache"] if "cache" in config["sampler"] else "")
        found[key] = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    return found


def run(output: Path, *words: str) -> dict[str, list[dict[str, Any]]]:
    assert cli.main(["run", f"output_dir={output}", "n_problems=3", "steps=4", *words, *QUICK]) == 0
    return records(output)


def test_an_instructed_model_end_to_end(tmp_path: Path) -> None:
    folder = saved(llada(), tmp_path / "model", instructed())
    words = ["task=arithmetic", f"model.name_or_path={folder}", "model.chat_template=true", "gen_length=8", "eos_policy=stop"]
    found = run(tmp_path / "out", *words)
    assert {name: len(lines) for name, lines in found.items()} == {"low_confidence": 3, "tta": 3}
    assert all(not line["error"] for lines in found.values() for line in lines)


def long_bert() -> Any:
    return bert(max_position_embeddings=128)


@pytest.mark.parametrize("task", ["sudoku", "json"])
def test_bert_and_dream_end_to_end(tmp_path: Path, task: str) -> None:
    torch.manual_seed(0)
    for make in (long_bert, dream):
        folder = saved(make().eval(), tmp_path / make.__name__)
        found = run(tmp_path / "out" / make.__name__, f"task={task}", f"model.name_or_path={folder}", "model.add_bos=true")
        for lines in found.values():
            assert [line["error"] for line in lines] == [None] * 3
            assert [line["forward_passes"] for line in lines] == [4] * 3
            lengths = [len(encode(p, tokenizer(), MASK, None, Manner(add_bos=True)).ids) for p in load(task).problems("dev", 3)]
            assert sorted(line["evaluated_positions"] for line in lines) == sorted(4 * length for length in lengths)


def test_a_cache_is_compared_with_none(tmp_path: Path) -> None:
    words = ["task=json", "sampler=low_confidence", "sampler.cache=dual", "steps=12", "block_length=8"]
    found = run(tmp_path, *words)
    plain, cached = found["low_confidence"], found["low_confidence+dual"]
    assert [line["forward_passes"] for line in plain] == [line["forward_passes"] for line in cached]
    assert all(c["evaluated_positions"] < p["evaluated_positions"] for c, p in zip(cached, plain, strict=True))
    summary = pd.read_csv(tmp_path / "reports" / "default" / "summary.csv").set_index("settings")
    assert summary["evaluated_positions"].tolist() == pytest.approx(
        [sum(line["evaluated_positions"] for line in lines) / 3 for lines in (plain, cached)]
    )
    assert "cache=dual" in summary.index[1]
    note = (tmp_path / "reports" / "default" / "summary.md").read_text()
    assert "Costs match" not in note
    assert "With cache=prefix or cache=dual a pass may evaluate a part of the sequence only" in note
    manifest = json.loads(next((tmp_path / "runs").glob("*/manifest.json")).read_text())
    assert (manifest["mask_id"], manifest["end_ids"]) == (1, [0])


@pytest.mark.parametrize("name", names("model"))
def test_every_model_of_the_configuration_can_be_asked_for(name: str) -> None:
    config = cli.compose([f"model={name}", "task=arithmetic"])
    assert set(config["model"]) <= set(MODEL_KEYS)
    if config["model"]["recommended"] is None:
        return
    recommended = cli.compose([f"model={name}", "task=arithmetic", "settings=recommended", "model.revision=abc", "device=cpu"])
    found = comparison(recommended)
    wanted = config["model"]["recommended"]
    assert (found.baseline.steps, found.baseline.gen_length) == (wanted["steps"], wanted["gen_length"])
    assert found.baseline.block_length == wanted["block_length"]
    assert found.baseline.sampler.parameters["temperature"] == wanted["baseline"]["temperature"]
    assert found.candidate.sampler.name == "tta"
