from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from tests.quick import QUICK
from tta_bench import cli
from tta_bench.analysis import figures
from tta_bench.analysis.drawings import decodings
from tta_bench.analysis.load import load_study


def trace() -> pd.DataFrame:
    """Position 5 is committed, taken back and committed again; position 7 is committed last."""
    rows = [
        (0, 5, True, True, 0.5),
        (1, 7, True, False, 0.25),
        (2, 5, True, False, 1.0),
        (2, 7, False, False, 0.125),
    ]
    return pd.DataFrame(rows, columns=["step", "position", "fresh", "remasked", "entropy"])


def test_the_map_holds_the_entropy_of_what_stands_and_what_happened_to_it() -> None:
    figure = figures.trajectory_maps({"one": trace()})
    axis = figure.axes[0]
    drawn = np.ma.filled(axis.images[0].get_array().astype(float), np.nan)
    np.testing.assert_array_equal(drawn, [[0.5, np.nan, 1.0], [np.nan, 0.25, 0.125]])
    left, right, bottom, top = axis.images[0].get_extent()
    assert (left, right, bottom, top) == (0.5, 3.5, 1.5, -0.5)
    events = {line.get_label(): list(zip(line.get_xdata(), line.get_ydata(), strict=True)) for line in axis.lines}
    assert events == {"committed": [(1, 0), (2, 1), (3, 0)], "taken back": [(1, 0)]}


def test_all_maps_share_their_colours() -> None:
    figure = figures.trajectory_maps({"one": trace(), "two": trace().assign(entropy=0.1), "three": trace()})
    assert {image.get_clim() for axis in figure.axes[:3] for image in axis.images} == {(0.0, 1.0)}


def test_the_problem_shown_is_one_that_tells_the_two_apart(tmp_path: Path) -> None:
    assert cli.main(["run", "task=json", "n_problems=12", "steps=6", *QUICK, f"output_dir={tmp_path}"]) == 0
    (pair,) = load_study(tmp_path / "reports" / "default").pairs
    scores = [run.values("score", list(run.problems))[:, 0] for run in (pair.baseline, pair.candidate)]
    differ = pair.baseline.problems[scores[0] != scores[1]]
    assert len(differ)
    found = decodings(pair, list(pair.baseline.problems))
    assert [title.split("\n")[0] for title, _ in found] == [f"json, {differ[0]}"] * 2
    assert [one["score"].iloc[0] for _, one in found] == [s[scores[0] != scores[1]][0] for s in scores]
    assert list((tmp_path / "reports" / "default" / "figures").glob("trajectories.*"))


def test_without_token_traces_there_is_no_map(tmp_path: Path) -> None:
    words = ["run", "task=json", "n_problems=2", "steps=2", "token_traces=0", *QUICK, f"output_dir={tmp_path}"]
    assert cli.main(words) == 0
    (pair,) = load_study(tmp_path / "reports" / "default").pairs
    assert decodings(pair, list(pair.baseline.problems)) == []
    assert not list((tmp_path / "reports" / "default" / "figures").glob("trajectories.*"))
