from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.analysis.folders import write_run
from tests.quick import QUICK
from tta_bench import cli
from tta_bench.analysis import report
from tta_bench.analysis.compare import compare, made
from tta_bench.analysis.describe import describer, shown
from tta_bench.analysis.load import load_study
from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.proportions import wilson_limits
from tta_bench.analysis.robustness import robustness
from tta_bench.analysis.section import Section

FORMS: tuple[dict[str, Any], ...] = (
    {},
    {"prompt_form": "\n\n{prompt}"},
    {"dtype": "bfloat16"},
)


def table(folder: Path) -> Section | None:
    study = load_study(folder)
    return robustness(made(compare(study)), study, describer(study), TestPlan(n_resamples=999))


def test_flips_by_hand(tmp_path: Path) -> None:
    plain = np.array([[1.0], [1.0], [1.0], [0.0], [0.0], [0.0]])
    other = np.array([[1.0], [0.0], [0.0], [1.0], [0.0], [0.0]])  # two lost, one gained
    for settings, scores in zip(FORMS, (plain, other, plain), strict=True):
        for name in ("low_confidence", "tta"):
            write_run(tmp_path, {"name": name}, scores, settings=settings, text=settings.get("dtype", ""))
    section = table(tmp_path)
    assert section
    assert len(section.frame) == 4  # of each sampler two variants
    for sampler in ("low_confidence", "tta"):
        rows = section.frame[section.frame["sampler"] == sampler].set_index("variant")
        reference = "prompt_form={prompt} dtype=float32"
        assert set(rows["reference"]) == {reference}
        form = rows.loc["prompt_form=\\n\\n{prompt} dtype=float32"]
        assert form[["n_problems", "reference_score", "score"]].tolist() == pytest.approx([6, 0.5, 2 / 6])
        assert form[["flips", "gained", "lost", "delta"]].tolist() == pytest.approx([3 / 6, 1 / 6, 2 / 6, -1 / 6])
        assert form[["flips_low", "flips_high"]].tolist() == pytest.approx(wilson_limits(3, 6))
        assert form[["other_text", "ever_flips", "spread"]].tolist() == pytest.approx([0, 0.5, 1 / 6])
        precision = rows.loc["prompt_form={prompt} dtype=bfloat16"]
        assert precision[["flips", "delta", "other_text", "ever_flips"]].tolist() == pytest.approx([0, 0, 1, 0.5])
        assert set(rows["settings"]) == {"steps=8"}


def test_replicates_flip_one_by_one(tmp_path: Path) -> None:
    """Means that agree hide replicates that do not."""
    for settings, scores in zip(FORMS[:2], ([[1.0, 0.0]] * 3, [[0.0, 1.0]] * 3), strict=True):
        for name in ("low_confidence", "tta"):
            write_run(tmp_path, {"name": name}, np.array(scores), settings=settings)
    section = table(tmp_path)
    assert section
    assert section.frame[["delta", "flips", "gained", "lost", "ever_flips"]].to_numpy() == pytest.approx(
        np.array([[0, 1, 0.5, 0.5, 1]] * 2)
    )


def test_what_differs_in_more_than_form_is_no_variant(tmp_path: Path) -> None:
    for steps in (4, 8):
        for name in ("low_confidence", "tta"):
            write_run(tmp_path, {"name": name}, np.array([[1.0], [0.0]]), steps=steps)
    assert table(tmp_path) is None


def test_another_file_is_another_data_set(tmp_path: Path) -> None:
    """Rows are numbered, so problems of two files have the same names."""
    for path in ("a.jsonl", "b.jsonl"):
        task = {"name": "toy", "version": "1", "target": "t", "data": path[0] * 16, "path": path}
        for name in ("low_confidence", "tta"):
            write_run(tmp_path, {"name": name}, np.array([[1.0], [0.0]]), settings={"task": task})
    assert table(tmp_path) is None


def test_a_setting_is_one_word() -> None:
    assert shown("\n\n{prompt} :") == "\\n\\n{prompt}\N{OPEN BOX}:"
    assert shown([0.0, 0.3]) == "[0.0,0.3]"
    long = [shown("Question: " + "x" * 60 + end) for end in ("a", "b")]
    assert all(len(text) < 45 and " " not in text for text in long)
    assert long[0] != long[1]


def test_a_sweep_over_forms_batches_and_precision(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["run", "-m", "task=arithmetic", "n_problems=4", "steps=2", "pin_batch_size=true", "batch_size=1,4"]
    forms = 'prompt_form="{prompt}","\n\n{prompt}"'
    assert cli.main([*words, forms, "dtype=float32,bfloat16", *QUICK, f"output_dir={tmp_path}"]) == 0
    assert "robustness" in capsys.readouterr().out
    frame = pd.read_csv(tmp_path / "reports" / "default" / "tables" / "robustness.csv")
    assert len(frame) == 2 * 7
    assert set(frame["variant"]) | set(frame["reference"]) == {
        f"prompt_form={form} dtype={dtype} batch_size={size}"
        for form in ("{prompt}", "\\n\\n{prompt}") for dtype in ("float32", "bfloat16") for size in (1, 4)
    }  # fmt: skip
    # In float32 on a CPU, the size of a batch changes nothing.
    sizes = frame[frame["variant"] == "prompt_form={prompt} dtype=float32 batch_size=4"]
    assert sizes[["flips", "other_text"]].to_numpy().tolist() == [[0, 0]] * 2
    page = (tmp_path / "reports" / "default" / "report.html").read_text()
    assert "Robustness" in page
    assert list((tmp_path / "reports" / "default" / "figures").glob("flip_rates.*"))
    assert "robustness" in report.TABLES


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["task=sudoku", 'prompt_form="{prompt}\n"'], "prompt_form='{prompt}\\n': task sudoku fills holes in its prompts"),
        (["task=json", 'prompt_form="{prompt}\\n"'], "holds a backslash and an n; type a line break as $'KEY="),
        (["task=jsonl", "task.path=x.jsonl", 'task.prompt="Q: {prompt}\\nA:"'], "holds a backslash and an n"),
        (["task=json", "prompt_form=Q"], "prompt_form='Q': must hold {prompt} once"),
        (["task=json", "pin_batch_size=true"], "pin_batch_size=true: needs a number, as batch_size=8"),
        (["task=json", "pin_batch_size=1"], "pin_batch_size=1: must be true or false"),
    ],
)
def test_what_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture, words: list[str], said: str) -> None:
    assert cli.main(["run", *words, "n_problems=2", f"output_dir={tmp_path}"]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.glob("runs/*"))
