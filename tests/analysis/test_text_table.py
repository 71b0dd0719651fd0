from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.analysis.folders import write_run
from tta_bench.analysis.compare import compare, made
from tta_bench.analysis.describe import describer
from tta_bench.analysis.load import load_study
from tta_bench.analysis.plan import Allowances, TestPlan
from tta_bench.analysis.stats import mean_interval
from tta_bench.analysis.texts import distinct, ngrams, repetition, self_bleu, text_table
from tta_bench.runner.store import RunFolder, text_digest


def test_by_hand() -> None:
    words = ["a", "b", "a", "b", "a", "b"]
    assert ngrams(words, 4) == [("a", "b", "a", "b"), ("b", "a", "b", "a"), ("a", "b", "a", "b")]
    assert repetition(words) == pytest.approx(1 / 3)
    assert repetition(["a"]) == 0.0
    assert distinct([words, ["c"]], 1) == pytest.approx(3 / 7)
    assert distinct([words, ["c"]], 2) == pytest.approx(2 / 5)
    assert np.isnan(distinct([[], []], 1))


def test_the_table_of_texts(tmp_path: Path) -> None:
    for name, text in (("low_confidence", "x y x y x y"), ("tta", "")):
        write_run(tmp_path, {"name": name}, np.array([[1.0, 0.0], [0.0, np.nan], [1.0, 1.0]]), steps=4, text=text)
    study = load_study(tmp_path, allow=Allowances(missing=True))  # one problem failed once
    found = made(compare(study))
    section = text_table(found, study, describer(study), TestPlan())
    assert section
    table = section.frame.set_index("sampler")
    assert table.loc["low_confidence", ["n_problems", "characters", "words", "empty"]].tolist() == [2, 11, 6, 0]
    assert table.loc["low_confidence", "repetition"] == pytest.approx(1 / 3)
    assert table.loc["low_confidence", "distinct_1"] == pytest.approx(2 / 24)  # four answers
    assert table.loc["tta", ["characters", "words", "empty"]].tolist() == [0, 0, 1]
    assert np.isnan(table.loc["tta", "distinct_1"])


def test_self_bleu_by_hand() -> None:
    """Of a b c d against a b c e: 3/4, 2/3, 1/2 of the n-grams, and half of one for the fourth, which has none."""
    expected = (3 / 4 * 2 / 3 * 1 / 2 * 1 / 2) ** (1 / 4)
    assert self_bleu(["a b c d", "a b c e"]) == pytest.approx(expected)
    assert self_bleu(["a b c d", "a b c e", "a b c d"]) == pytest.approx((2 + expected) / 3)
    assert self_bleu(["x", "x"]) == pytest.approx(1.0)
    assert self_bleu(["x", "y"]) == 0.0
    assert self_bleu(["a b c d", " ", "a b c d"]) == pytest.approx(1.0)
    assert np.isnan(self_bleu(["a b c d", ""]))


def judge(run: RunFolder, name: str, fingerprint: str, said: dict[str, tuple[float, int]], **more: str) -> None:
    """What a judge left behind: log-probability and number of tokens by key."""
    folder = RunFolder(run.path / "perplexity" / f"{name}{''.join(more.values())}0000")
    opened = folder.open({"model": {"name": f"some/{name}", "fingerprint": fingerprint}, **more})
    for key, (value, n) in said.items():
        record = {"key": key, "problem": key.split("/")[0], "replicate": int(key[-1]), "error": None}
        answer = {"answer": text_digest("x y"), "log_probability": value, "n_tokens": n}
        opened.append([record | answer], pd.DataFrame())


def texts(folder: Path) -> tuple[pd.DataFrame, dict[str, str], str]:
    study = load_study(folder)
    section = text_table(made(compare(study)), study, describer(study), TestPlan())
    assert section
    return section.frame.set_index("sampler"), dict(section.methods), section.note


def test_what_judges_say_of_texts(tmp_path: Path) -> None:
    scores = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    runs = {}
    for name in ("low_confidence", "tta"):
        run_id = write_run(tmp_path, {"name": name}, scores, steps=4, text="x y")
        runs[name] = RunFolder(tmp_path / "runs" / run_id)
    keys = [f"test-{i:06d}/{r}" for i in range(3) for r in range(2)]
    surprise = [1.0, 3.0, 0.5, 0.5, 2.0, 2.0]
    judge(runs["tta"], "own", "f", {key: (-2 * value, 2) for key, value in zip(keys, surprise, strict=True)})
    judge(runs["tta"], "other", "g", dict.fromkeys(keys[:4], (-1.0, 1)) | dict.fromkeys(keys[4:], (0.0, 0)))
    judge(runs["low_confidence"], "own", "f", dict.fromkeys(keys[:-1], (-1.0, 1)))
    table, methods, note = texts(tmp_path)
    assert table.loc["tta", "pseudo_perplexity_own"] == pytest.approx(np.exp(np.mean([2.0, 0.5, 2.0])))
    found = mean_interval(np.array([2.0, 0.5, 2.0]))
    assert table.loc["tta", "pseudo_perplexity_own_low"] == pytest.approx(np.exp(found.ci_low))
    assert table.loc["tta", "pseudo_perplexity_other"] == pytest.approx(np.e)  # empty answers have none
    assert np.isnan(table.loc["low_confidence", "pseudo_perplexity_own"])  # one answer was not judged
    assert runs["low_confidence"].path.name in note
    assert "how sure it is of itself" in note
    assert "by some/own" in methods["pseudo_perplexity_own"]
    assert table.loc["tta", "self_bleu"] == pytest.approx(1.0)
    assert table.columns[-1] == "run_id"


def test_judges_of_one_name_have_columns_of_their_own(tmp_path: Path) -> None:
    for name in ("low_confidence", "tta"):
        run_id = write_run(tmp_path, {"name": name}, np.array([[1.0], [0.0]]), steps=4, text="x y")
    run = RunFolder(tmp_path / "runs" / run_id)
    for dtype in ("a", "b"):
        judge(run, "m", "g", {f"test-{i:06d}/0": (-1.0, 1) for i in range(2)}, dtype=dtype)
    table, _, note = texts(tmp_path)
    assert {"pseudo_perplexity_m_ma0000", "pseudo_perplexity_m_mb0000"} <= set(table)
    assert "itself" not in note


def test_an_answer_that_is_another_one_now_is_not_judged(tmp_path: Path) -> None:
    for name in ("low_confidence", "tta"):
        run_id = write_run(tmp_path, {"name": name}, np.array([[1.0], [0.0]]), steps=4, text="x z")
    judge(RunFolder(tmp_path / "runs" / run_id), "m", "g", {f"test-{i:06d}/0": (-1.0, 1) for i in range(2)})
    table, _, note = texts(tmp_path)
    assert table["pseudo_perplexity_m"].isna().all()
    assert "tta-bench perplexity goes on" in note
