"""The model card of mini says what the committed study measured."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from huggingface_hub import ModelCard

from tta_bench.models.checkpoint import MINI_PATH

SUMMARY = Path(__file__).parents[2] / "experiments" / "samplers" / "report" / "summary.csv"


@pytest.fixture(scope="module")
def measured() -> pd.DataFrame:
    found = pd.read_csv(SUMMARY)
    return found[found["sampler"] == "low_confidence"].set_index(["task", "settings"])


def test_the_scores_and_intervals_are_those_of_the_study(measured: pd.DataFrame) -> None:
    text = ModelCard.load(MINI_PATH / "README.md").text
    (table,) = re.findall(r"\| task \| 4 \|.*?\n\n", text, flags=re.DOTALL)
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()]
    assert [row[0] for row in rows] == ["sudoku", "listops", "arithmetic", "json"]
    for task, *cells in rows:
        for steps, cell in zip(head[1:], cells, strict=True):
            row = measured.loc[(task, f"steps={steps}")]
            half = 50 * (row["score_ci_high"] - row["score_ci_low"])
            assert cell == f"{100 * row['score']:.1f} \N{PLUS-MINUS SIGN}{half:.1f}"
            assert row["n_problems"] == 300


def test_the_metadata_are_read_by_the_hubs_library(measured: pd.DataFrame) -> None:
    data = ModelCard.load(MINI_PATH / "README.md").data
    assert (data.license, data.library_name, data.pipeline_tag) == ("apache-2.0", "tta_bench", "text-generation")
    told = {result.dataset_name: result.metric_value for result in data.eval_results}
    tasks = ("sudoku", "listops", "arithmetic", "json")
    assert told == {f"tta_bench {task}": round(100 * measured.loc[(task, "steps=16"), "score"], 1) for task in tasks}


def test_the_example_of_the_card_runs(capsys: pytest.CaptureFixture) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (MINI_PATH / "README.md").read_text(), flags=re.DOTALL)
    exec(compile(code, "README.md", "exec", dont_inherit=True), {})
    assert capsys.readouterr().out == "sort kmbfhost=bfhkmost\n"
