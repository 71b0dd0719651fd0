from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the models are small: a second thread costs more than it gives

import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from hypothesis import settings

from tests.quick import FEW
from tests.toy import ToyDenoiser

# The same examples every time, however slow the machine: a failure here is a failure everywhere.
settings.register_profile("reproducible", deadline=None, derandomize=True)
settings.load_profile("reproducible")


@pytest.fixture
def toy() -> ToyDenoiser:
    return ToyDenoiser()


@pytest.fixture(scope="session")
def mini() -> tuple:
    import tta_bench

    return tta_bench.load("mini")


@pytest.fixture(params=[FEW, pytest.param("all", marks=pytest.mark.slow)])
def inputs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many inputs the checks of ``tta_bench.testing`` draw: few, or, in ``make test-slow``, as many as for users."""
    if request.param != "all":
        monkeypatch.setattr("tta_bench.testing.EXAMPLES", request.param)


@pytest.fixture(autouse=True)
def figures_as_needed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Saving figures is a quarter of what a small run takes.

    Tests marked ``figures`` save every kind of file, those of the analysis SVG, and all others a blank page in its place.
    """
    if request.node.get_closest_marker("figures"):
        return
    if request.node.path.parent.name == "analysis":
        monkeypatch.setattr("tta_bench.analysis.figures.UNDATED", {"svg": {"Date": None}})
    else:
        monkeypatch.setattr("tta_bench.analysis.figures.save", blank)


def blank(_: object, folder: Path, name: str) -> list[Path]:
    """In place of ``figures.save``."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.svg"
    path.write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
    return [path]


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    """A test that changes the number of threads must not change the others."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
