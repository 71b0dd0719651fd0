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
from tta_bench.analysis import drawings

DRAW = drawings.picture

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


@pytest.fixture(autouse=True, scope="session")
def no_pictures() -> Iterator[None]:
    """Drawing is most of what a small run takes, so only tests marked ``figures`` draw; in the others a figure is a blank."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drawings, "picture", blank)
        yield


@pytest.fixture(autouse=True)
def pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws in tests marked ``figures``."""
    if request.node.get_closest_marker("figures"):
        monkeypatch.setattr(drawings, "picture", DRAW)


def blank(name: str, _: object, folder: Path) -> list[Path]:
    """In place of ``drawings.picture``."""
    file = folder / f"{name}.svg"
    file.write_text('<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>\n')
    return [file]


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    """A test that changes the number of threads must not change the others."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
