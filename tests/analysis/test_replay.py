"""What of a study can be replayed, and how it is put on a page."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.analysis.folders import write_run, write_trace
from tta_bench.analysis.compare import compare, made
from tta_bench.analysis.describe import describer
from tta_bench.analysis.load import load_study
from tta_bench.analysis.page.encode import ALPHABET, N_LEVELS, Stands, channel, run_lengths
from tta_bench.analysis.page.replay import Replay, replay
from tta_bench.analysis.page.visible import shortened, visible
from tta_bench.analysis.plan import TestPlan


def read(text: str) -> list[int]:
    """The levels of a channel, read by hand; ``N_LEVELS`` where none was recorded."""
    found = []
    for level, count in re.findall(r"(\D)(\d*)", text):
        found += [(ALPHABET + "-").index(level)] * int(count or 1)
    return found


@given(st.lists(st.integers(0, N_LEVELS) | st.sampled_from([0] * 20), max_size=2000))
def test_levels_come_back(found: list[int]) -> None:
    assert read(run_lengths(np.array(found, dtype=np.uint8))) == found


def test_a_channel_has_the_nearest_levels_and_tells_what_was_not_recorded() -> None:
    assert channel(np.array([0, 0, 0, 1, np.nan]), 0, 1) == "A3z-"
    assert channel(np.array([0.0] * 1234), 0, 0) == "A1234"
    values = np.random.default_rng(0).uniform(-2, 3, 500)
    near = np.array(read(channel(values, -2, 3))) / (N_LEVELS - 1) * 5 - 2
    assert np.abs(near - values).max() <= 5 / (N_LEVELS - 1) / 2 + 1e-12


def test_stands_are_from_commit_to_the_last_step_before_the_next_mask() -> None:
    rows = [(3, 0, 7, True, False), (3, 1, 7, False, True), (3, 3, 8, True, False), (5, 3, 9, True, False)]
    frame = pd.DataFrame(rows, columns=["position", "step", "token", "fresh", "remasked"]).sample(frac=1, random_state=0)
    stands = Stands.of(frame)
    table = np.array(stands.table(stands.rows["token"].to_numpy())).reshape(-1, 5)
    assert table.tolist() == [[3, 0, 1, 7, 1], [3, 3, 3, 8, 0], [5, 3, 3, 9, 0]]


def study_of(
    output: Path, *, samplers: tuple[str, ...] = ("low_confidence", "tta"), tasks: tuple[str, ...] = ("toy",), **trace: Any
) -> Path:
    """An output folder with runs of two traced problems of four; the first is solved by the candidate only."""
    for task in tasks:
        for seed, name in enumerate(samplers):
            scores = np.array([[float(seed > 0)], [1.0], [0.0], [1.0]])
            run_id = write_run(output, {"name": name}, scores, steps=4, task=task, text=f"by {name}")
            write_trace(output / "runs" / run_id, ["4", "a b", "\x00<b>"], **{"seed": seed} | trace)
    return output


def of(output: Path, budget: int = 10**7, **plan: Any) -> Replay:
    study = load_study(output)
    return replay(made(compare(study)), describer(study), TestPlan(**plan), budget)


def test_both_sides_of_every_traced_problem_are_there(tmp_path: Path) -> None:
    found = of(study_of(tmp_path))
    data = found.data
    assert data
    assert [(pair["task"], pair["names"]) for pair in data["pairs"]] == [("toy", ["low_confidence steps=4", "tta steps=4"])]
    assert data["pairs"][0]["problems"] == [[0, 0, 1, 2], [1, 2, 3, 1]]
    assert [problem["id"] for problem in data["problems"]] == ["test-000000", "test-000001"]
    assert data["problems"][0] == {"id": "test-000000", "prompt": "2 + 2", "target": "4"}
    assert [trace["score"] for trace in data["traces"]] == [0, 1, 1, 1]
    assert [trace["text"] for trace in data["traces"]] == ["by low_confidence", "by tta"] * 2
    assert sorted(data["words"]) == ["4", "a b", "\N{SYMBOL FOR NULL}<b>"]
    assert found.notes == ("Traced are 2 of 4 problems.",)
    for trace in data["traces"]:
        stands = np.array(trace["stands"]).reshape(-1, 5)
        cells = int((stands[:, 2] - stands[:, 1] + 1).sum())
        assert {len(read(text)) for text in (*trace["channels"].values(), trace["frozen"])} == {cells}
        assert trace["violation"] is None  # the samplers saw no constraint


def test_levels_on_the_page_are_what_was_recorded(tmp_path: Path) -> None:
    data = of(study_of(tmp_path)).data
    assert data
    run = next(pair.candidate for pair in load_study(tmp_path).pairs)
    rows = run.token_trace(["test-000000"], 1).sort_values(["position", "step"])
    low, high = data["pairs"][0]["ranges"]["entropy"]
    assert low == 0
    told = np.array(read(data["traces"][1]["channels"]["entropy"])) / (N_LEVELS - 1) * high
    np.testing.assert_allclose(told, rows["entropy"], atol=high / (N_LEVELS - 1))
    assert read(data["traces"][1]["frozen"]) == (rows["frozen"] * (N_LEVELS - 1)).tolist()
    assert data["pairs"][0]["ranges"]["support"] == [0, 1]


def test_what_is_embedded_is_harmless_in_a_page() -> None:
    hostile = {"words": ["</script><!--", "\u2028&amp;", "\ud800"]}
    text = Replay(hostile).embedded
    assert not set("<>&\u2028\ud800") & set(text)
    assert json.loads(text) == hostile


def test_where_little_fits_signals_go_first_then_problems_on_which_the_sides_agree(tmp_path: Path) -> None:
    study_of(tmp_path, tasks=("one", "two"), steps=40, length=40)
    whole = of(tmp_path)
    size = len(whole.embedded)
    fewer = of(tmp_path, size * 3 // 4)
    assert len(fewer.embedded) <= size * 3 // 4
    assert whole.data
    assert fewer.data
    assert 1 < len(fewer.data["signals"]) < len(whole.data["signals"])
    assert len(fewer.data["traces"]) == len(whole.data["traces"]) == 8
    assert "leaves out" in fewer.notes[1]
    few = of(tmp_path, size // 4)
    assert len(few.embedded) <= size // 4
    assert few.data
    assert [signal["name"] for signal in few.data["signals"]] == ["entropy"]
    assert [entry[3] for pair in few.data["pairs"] for entry in pair["problems"]] == [2, 2]
    assert "2 of 4 replays are left out" in few.notes[2]


def test_a_task_has_the_candidate_in_focus_first_and_other_samplers_behind_it(tmp_path: Path) -> None:
    study_of(tmp_path, samplers=("low_confidence", "margin", "rcr", "tta"))

    def names(**plan: Any) -> list[str]:
        data = of(tmp_path, **plan).data
        assert data
        return [pair["names"][1].split()[0] for pair in data["pairs"]]

    assert names() == ["tta", "margin", "rcr"]
    assert names(focus="rcr") == ["rcr", "margin", "tta"]


def test_older_traces_say_what_they_lack(tmp_path: Path) -> None:
    found = of(study_of(tmp_path, told=False))
    assert found.data
    assert sorted(found.data["words"]) == [0, 1, 2]
    assert found.data["problems"][0]["prompt"] is None
    assert {trace["frozen"] for trace in found.data["traces"]} == {None}
    assert "shown as numbers" in found.notes[1]
    assert "nothing is said about freezing" in found.notes[2]


def test_without_traces_a_sentence_says_how_to_get_them(tmp_path: Path) -> None:
    for name in ("low_confidence", "tta"):
        write_run(tmp_path, {"name": name}, np.ones((2, 1)), steps=4)
    found = of(tmp_path)
    assert found.data is None
    assert "token_traces=100" in found.notes[0]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a\nb\tc é 日本 👩\u200d💻", "a\nb\tc é 日本 👩\u200d💻"),
        ("\x00\x1b[0m\x7f\x85", "␀␛[0m␡[U+0085]"),
        ("\u202eabc\u2066\u200b\ufeff", "[U+202E]abc[U+2066][U+200B][U+FEFF]"),
        ("\ud800x\u2028\u2029", "[U+D800]x[U+2028][U+2029]"),
    ],
)
def test_texts_hide_nothing(text: str, told: str) -> None:
    assert visible(text) == told
    told.encode()


def test_long_texts_say_how_much_is_left_out() -> None:
    assert shortened("abc", 3) == "abc"
    assert shortened("x" * 10_000, 4) == "xxxx … (9,996 more characters)"
