from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.analysis.folders import write_run
from tta_bench.analysis.compare import compare, made
from tta_bench.analysis.describe import describer
from tta_bench.analysis.load import load_study
from tta_bench.analysis.plan import Allowances, TestPlan
from tta_bench.analysis.texts import distinct, ngrams, repetition, text_table


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
