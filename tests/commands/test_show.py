from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.commands.runs import ENVIRONMENT, make_run, right_up_to
from tta_bench import cli
from tta_bench.tasks.base import Problem
from tta_bench.tasks.json_record import JsonRecord

Show = Callable[[str], str]
"""Of the name of a run: what is said of it."""


@pytest.fixture
def show(tmp_path: Path, capsys: pytest.CaptureFixture) -> Show:
    def shown(name: str) -> str:
        assert cli.main(["show", name, str(tmp_path)]) == 0
        return capsys.readouterr().out

    return shown


def section(text: str, heading: str) -> str:
    """What stands below a heading, without its indent."""
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(heading)) + 1
    return "\n".join(line[2:] for line in lines[start : lines.index("", start)])


def test_it_says_where_a_run_is_how_far_and_how_good(tmp_path: Path, show: Show) -> None:
    run = make_run(tmp_path, "json-tta-1", right_up_to(3), replicates=2, manifest={"status": "running", "batch_backoffs": 2})
    facts = section(show("json"), "json-tta-1").splitlines()
    told = {line[:14].strip(): line[14:] for line in facts}
    assert told["folder"].startswith(f"{run.path} (")
    assert told["folder"].endswith("kB)")
    assert told["status"] == "killed"
    assert told["records"] == "8 (4 problem(s), 2 replicate(s))"
    assert told["errors"] == "none"
    assert told["score"] == "75.0 [-4.6, 154.6] %, 95 % interval over problems"
    assert told["cost"] == "4 forward passes and 0.1 s for an answer"
    assert told["started"] == "2026-01-02T03:04:05+00:00"
    assert told["batch size"] == "64, after 2 time(s) that memory ran out and it was halved"


def test_the_configuration_is_shown_as_it_is_stored(tmp_path: Path, show: Show) -> None:
    run = make_run(tmp_path, "json-tta-1", sampler_tta_temperature_range=[0.0, 0.3])
    assert yaml.safe_load(section(show("json"), "configuration")) == run.config()


def test_one_environment_is_shown_and_of_several_what_they_differ_in(tmp_path: Path, show: Show) -> None:
    make_run(tmp_path, "json-tta-1")
    assert yaml.safe_load(section(show("json-tta-1"), "environment")) == ENVIRONMENT
    other = ENVIRONMENT | {"packages": {"torch": "2.6"}, "threads": 8}
    make_run(tmp_path, "json-tta-2", manifest={"environments": [ENVIRONMENT, other]})
    found = section(show("json-tta-2"), "environment 2 of 2: what differs from 1")
    assert found.splitlines() == ["packages.torch differs: 2.6, was 2.5", "threads differs: 8, was 2"]


def test_how_it_was_chosen(tmp_path: Path, show: Show) -> None:
    chosen = {"rule": "best_on_dev", "on_dev": "b", "scores": {"a": 0.5, "b": 0.75}}
    make_run(tmp_path, "json-tta-1", manifest={"selection": chosen})
    lines = section(show("json"), "how it was chosen").splitlines()
    assert lines == ["by the rule best_on_dev, from these scores on dev:", " 75.0 %  b  <- chosen", " 50.0 %  a"]


def test_errors_are_counted_and_the_first_of_each_type_is_shown_in_full(tmp_path: Path, show: Show) -> None:
    errors = [KeyError("[bold]x"), ValueError("second"), ValueError("third"), RuntimeError("fourth")]

    def fail(_problem: Problem, number: int, _replicate: int) -> Exception:
        try:
            raise errors[number]
        except Exception as error:
            return error

    make_run(tmp_path, "json-tta-1", fail)
    text = show("json")
    assert section(text, "errors").split("\n")[0].split() == ["ValueError", "2", "in", "stage", "generate"]
    assert "raise errors[number]" in section(text, "first KeyError: problem dev-00000, replicate 0, stage generate")
    assert section(text, "first KeyError").endswith("KeyError: '[bold]x'")
    assert section(text, "first ValueError: problem dev-00001").endswith("ValueError: second")
    assert "third" not in text
    assert "none: " in section(text, "example: problem dev-00000, replicate 0")


def test_the_example_is_the_first_problem_that_was_answered(tmp_path: Path, show: Show) -> None:
    first, second = JsonRecord().problems("dev", 2)
    make_run(tmp_path, "json-tta-1", lambda _, i, __: ValueError("x") if i == 0 else '["[red]wrong"]')
    lines = section(show("json"), "example: problem dev-00001, replicate 0").splitlines()
    assert lines == [
        "prompt", f"  {second.prompt}", "target (a right answer)", f"  {second.target}", "answer (score 0)", '  ["[red]wrong"]',
    ]  # fmt: skip
    assert first.prompt not in lines


def test_control_characters_are_not_sent_to_the_terminal(tmp_path: Path, show: Show) -> None:
    make_run(tmp_path, "json-tta-1", lambda *_: "a\x1b[31mb\r\tc")
    assert section(show("json"), "example").splitlines()[-1] == "  a�[31mb�    c"


def test_several_lines_are_shown_as_such(tmp_path: Path, show: Show) -> None:
    make_run(tmp_path, "sudoku-tta-1", task="sudoku", n_problems=1)
    lines = section(show("sudoku"), "example").splitlines()
    assert len(lines) == 3 * (1 + 7)


def test_an_example_that_cannot_be_made_again_says_why(
    tmp_path: Path,
    show: Show,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_run(tmp_path, "json-tta-1")
    monkeypatch.setattr(JsonRecord, "version", "9")
    found = section(show("json"), "example")
    assert "the run was made with version 1, the present one is 9" in found
    assert "answer" in found


def test_a_run_without_records_is_shown(tmp_path: Path, show: Show) -> None:
    make_run(tmp_path, "json-tta-1", n_problems=0)
    assert "none yet" in section(show("json"), "json-tta-1")


def test_a_run_of_version_1_is_shown(tmp_path: Path, show: Show) -> None:
    shutil.copytree(Path(__file__).parents[1] / "runner" / "data" / "version_1" / "runs", tmp_path / "runs")
    text = show("json-tta")
    assert "torch: 2.13.0+cpu" in section(text, "environment")
    assert "answer (score" in section(text, "example")
