from __future__ import annotations

import json
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tta_bench import catalog, cli
from tta_bench.tasks.dataset import Dataset

PAGE = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text()
ROW = {
    "key": 1000,
    "prompt": "Describe rain, in capitals and without commas.",
    "instruction_id_list": ["punctuation:no_comma", "change_case:english_capital"],
    "kwargs": [{}, {}],
}


@dataclass
class InputExample:
    """The arguments of lm-eval's checker."""

    key: int
    instruction_id_list: list[str]
    prompt: str
    kwargs: list[dict[str, Any]]


def strict(row: InputExample, text: str) -> SimpleNamespace:
    rules = {"punctuation:no_comma": "," not in text, "change_case:english_capital": text.isupper()}
    return SimpleNamespace(follow_instruction_list=[rules[name] for name in row.instruction_id_list])


def loose(row: InputExample, text: str) -> SimpleNamespace:
    return strict(row, text.partition("\n")[2])


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The words of the documented command, where its scorer lies on the path, and lm-eval's checker knows two instructions."""
    utils = ModuleType("lm_eval.tasks.ifeval.utils")
    vars(utils).update(
        InputExample=InputExample, test_instruction_following_strict=strict, test_instruction_following_loose=loose
    )
    ifeval = ModuleType("lm_eval.tasks.ifeval")
    vars(ifeval).update(utils=utils)
    for name, module in (("lm_eval", ModuleType("lm_eval")), ("lm_eval.tasks", ModuleType("lm_eval.tasks"))):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "lm_eval.tasks.ifeval", ifeval)
    monkeypatch.setitem(sys.modules, "lm_eval.tasks.ifeval.utils", utils)
    (code,) = re.findall(r"```python\n# my_ifeval.py\n(.*?)```", PAGE, flags=re.DOTALL)
    (line,) = re.findall(r"```\n(PYTHONPATH=. tta-bench run .*?)```", PAGE, flags=re.DOTALL)
    (tmp_path / "my_ifeval.py").write_text(code)
    (tmp_path / "ifeval.jsonl").write_text(json.dumps(ROW))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_ifeval", raising=False)
    monkeypatch.chdir(tmp_path)
    return shlex.split(line.replace("\\\n", " "))[3:]


def with_options(command: list[str], options: str) -> list[str]:
    return [f"task.scorer_options={options}" if word.startswith("task.scorer_options=") else word for word in command]


def built(words: list[str]) -> Dataset:
    task = catalog.entry_of("task", cli.compose(words)["task"]).build()
    assert isinstance(task, Dataset)
    return task


def test_the_documented_scorer_of_ones_own_works(command: list[str]) -> None:
    task = built(with_options(command, "null"))
    (problem,) = task.problems("test")
    assert (problem.id, problem.prompt, problem.gen_length) == ("1000", ROW["prompt"], 512)
    assert [task.score(problem, text) for text in ("RAIN FALLS", "RAIN, FALLS", "Rain, falls")] == [1.0, 0.0, 0.0]
    each = built(with_options(command, "{each: true}"))
    assert [each.score(problem, text) for text in ("RAIN FALLS", "RAIN, FALLS", "Rain, falls")] == [1.0, 0.5, 0.0]
    assert built(command).score(problem, "Sure, here:\nRAIN FALLS") == 1.0


def test_a_row_that_it_cannot_score_is_refused(command: list[str]) -> None:
    Path("ifeval.jsonl").write_text(json.dumps({**ROW, "kwargs": []}))
    with pytest.raises(ValueError, match="row 1: cannot be scored: needs instruction_id_list and kwargs"):
        built(command).problems("test")
