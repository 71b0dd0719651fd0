"""Every snippet of the usage guide, in its order, on ``mini``: only imports and the model's name are replaced."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch

from tests.analysis.folders import write_run
from tta_bench import catalog, testing

GUIDE = Path(__file__).with_name("usage_guide.md")
REPLACED = {
    "from tta_uncertainty_sampling import generate_with_tta_uncertainty": "from tta_bench import generate_with_tta_uncertainty",
    "from modeling_llada import LLaDAModelLM": "from tta_bench import LLaDAModelLM",
    "import experiment_utils": "import tta_bench as experiment_utils",
    '"GSAI-ML/LLaDA-8B-Base"': "MINI",
}


def snippets() -> list[str]:
    text = GUIDE.read_text()
    for old, new in REPLACED.items():
        assert old in text
        text = text.replace(old, new)
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """The variables of all snippets after running them in order."""
    import sys

    from tta_bench.models.checkpoint import MINI_PATH

    matplotlib.use("agg")
    # The guide annotates with torch without importing it.
    found: dict[str, Any] = {"MINI": MINI_PATH, "torch": torch, "__name__": "guide"}
    for source in snippets():
        exec(compile(source, "guide", "exec"), found)
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
    return found


def test_there_are_snippets() -> None:
    assert len(snippets()) >= 12


@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")
def test_the_snippets_run_and_say_what_the_guide_says(names: dict[str, Any]) -> None:
    prompt, result, logs = names["prompt_tokens"], names["result"], names["logs"]
    assert result.shape[1] == prompt.shape[1] + 64
    assert names["model"].config.mask_token_id not in result
    assert logs["nfe"] == logs["total_steps"] * 10  # the last call has tta_k=10
    assert logs["forward_passes"] == 64
    assert len(logs["tta_stats"]["avg_entropy_per_step"]) == 64
    assert {"avg_disagreement_per_step", "avg_violation_per_step", "remask_ratio_per_step", "frozen_ratio_per_step"} <= set(
        logs["tta_stats"]
    )
    assert len(logs["token_logs"]) == 64


def test_the_benchmark_of_the_guide_compares_20_samples_at_three_numbers_of_views(names: dict[str, Any]) -> None:
    import tta_bench

    results = names["results"]
    assert set(results.records["tta_k"].dropna()) == {3, 5, 7}
    assert results.records.groupby(["task", "sampler", "tta_k"], dropna=False)["problem"].nunique().eq(20).all()
    summary = tta_bench.analyze_icml_results(results)
    assert summary.groupby("task").size().tolist() == [4] * 4


def test_the_constraints_of_the_guide_are_accepted(names: dict[str, Any]) -> None:
    for name in ("json_format_constraint", "math_constraint"):
        function, tokenizer = names[name], names["tokenizer"]
        _, logs = names["generate_with_tta_uncertainty"](
            names["model"], names["prompt_tokens"], steps=4, gen_length=8, seed=0,
            constraint_fn=lambda t, function=function, tokenizer=tokenizer: function(t, tokenizer),
        )  # fmt: skip
        assert len(logs["tta_stats"]["avg_violation_per_step"]) == 4


def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    sources = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[2] / "README.md").read_text(), flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "outputs", {"name": "tta"}, np.eye(3))
    found: dict[str, Any] = {"my_sampler": lambda: catalog.entry("sampler", "low_confidence").build()}
    for source in sources:
        exec(compile(source, "README", "exec", dont_inherit=True), found)
    found["test_my_sampler"](found["CHECKS"][0])
    assert "8 40" in capsys.readouterr().out
    assert len(found["summary"]) == 16
    assert len(found["frame"]) == 9
    assert found["logs"]["forward_passes"] == 40


def test_the_sampler_of_the_contributing_guide_conforms() -> None:
    (source,) = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(), flags=re.DOTALL)
    found: dict[str, Any] = {"__name__": "guide"}
    exec(compile(source, "CONTRIBUTING", "exec", dont_inherit=True), found)
    assert found["logs"]["forward_passes"] >= 6
    for check in testing.CHECKS:
        check(found["my_sampler"]())


def test_the_benchmark_takes_functions_of_your_own(mini: tuple, tmp_path: Path) -> None:
    import tta_bench

    model, tokenizer = mini

    def mine(**options: Any) -> Any:
        return tta_bench.generate(sampler="random", **{k: v for k, v in options.items() if k != "tta_k"})

    results = tta_bench.run_academic_benchmark(model, tokenizer, mine, mine, thresholds=[1], samples=5, tasks=["json"], steps=4)
    summary = tta_bench.analyze_icml_results(results, report_dir=tmp_path)
    assert summary["delta"].dropna().tolist() == [0.0]
    assert summary["verdict"].tolist() == ["", "equivalent"]
    assert (tmp_path / "report.html").is_file()
    with pytest.raises(ValueError, match="at least one value of tta_k"):
        tta_bench.run_academic_benchmark(model, tokenizer, thresholds=[])
