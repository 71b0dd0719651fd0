"""The conformance suite must catch samplers that break its rules."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import pytest
import torch
from hypothesis import Phase
from torch import Tensor

import tta_bench
from tests.quick import FEW
from tta_bench import testing
from tta_bench.rng import Noise
from tta_bench.sampling.commit import MostConfident, Scheduled
from tta_bench.sampling.denoiser import Denoiser
from tta_bench.sampling.presets.low_confidence import low_confidence
from tta_bench.sampling.sampler import Sampler
from tta_bench.sampling.schedule import Open
from tta_bench.sampling.views import SingleView
from tta_bench.types import Canvas, Prediction, Turn


@dataclass(frozen=True)
class Late:
    """Commits one position less than is due."""

    def commits(self, turn: Turn, noise: Noise) -> Tensor:
        return Scheduled(MostConfident()).commits(replace(turn, due=turn.due - 1), noise)


@dataclass(frozen=True)
class FromTheGlobalGenerator:
    """Commits in an order that another call of torch.rand would change."""

    def priority(self, turn: Turn, noise: Noise) -> Tensor:
        return torch.rand(turn.eligible.shape)


@dataclass(frozen=True)
class LookingAtOtherRows:
    """Commits in an order that depends on the number of rows."""

    def priority(self, turn: Turn, noise: Noise) -> Tensor:
        place = torch.arange(turn.eligible.shape[1]).expand_as(turn.eligible).double()
        return place if len(turn.eligible) % 2 else -place


@dataclass(frozen=True)
class ByPosition:
    """Commits by absolute position, which padding shifts, as a number modulo 3."""

    def priority(self, turn: Turn, noise: Noise) -> Tensor:
        return (torch.arange(turn.eligible.shape[1]).expand_as(turn.eligible) % 3).double()


@dataclass(frozen=True)
class TakingBackInTheLastStep:
    """Takes everything back, whatever may be taken back."""

    uses_constraint: ClassVar[bool] = False

    def remasks(self, turn: Turn, commits: Tensor, noise: Noise) -> Tensor:
        return turn.canvas.committed | commits


@dataclass(frozen=True)
class Miscounting:
    """Evaluates twice and tells of one."""

    k: ClassVar[int] = 1

    def predict(self, denoiser: Denoiser, canvas: Canvas, noise: Noise, memory: None) -> tuple[Prediction, None]:
        denoiser.look(canvas)
        return SingleView().predict(denoiser, canvas, noise, memory)


@dataclass(frozen=True)
class Remembering:
    """Keeps a memory on itself, so a second decoding differs from the first."""

    seen: list[int] = field(default_factory=list)

    def priority(self, turn: Turn, noise: Noise) -> Tensor:
        self.seen.append(1)
        place = torch.arange(turn.eligible.shape[1]).expand_as(turn.eligible).double()
        return place if len(self.seen) % 2 else -place


@dataclass(frozen=True)
class BeyondItsBlock:
    """Commits everything, eligible or not."""

    def commits(self, turn: Turn, noise: Noise) -> Tensor:
        return turn.canvas.masked


@dataclass(frozen=True)
class Numbers:
    """Returns a priority where a choice is asked for."""

    def commits(self, turn: Turn, noise: Noise) -> Tensor:
        return turn.prediction.confidence


@dataclass(frozen=True)
class Idle:
    """Commits nothing."""

    def commits(self, turn: Turn, noise: Noise) -> Tensor:
        return torch.zeros_like(turn.eligible)


VIEWS = SingleView()
BROKEN = [
    (Sampler(VIEWS, Late()), "fills_the_masks_and_nothing_else", "masks are left"),
    (Sampler(VIEWS, Scheduled(FromTheGlobalGenerator())), "depends_on_the_seed_only", "global random generator"),
    (Sampler(VIEWS, Scheduled(Remembering())), "depends_on_the_seed_only", "same seed gave other tokens"),
    (Sampler(VIEWS, Scheduled(LookingAtOtherRows())), "decodes_a_row_as_it_would_alone", "in the batch"),
    (Sampler(VIEWS, Scheduled(ByPosition())), "decodes_a_padded_row_as_it_would_unpadded", "pads"),
    (
        Sampler(VIEWS, Scheduled(MostConfident()), remask=TakingBackInTheLastStep()),
        "fills_the_masks_and_nothing_else",
        "TakingBackInTheLastStep may not take back row 0, position .*: it is not among turn.remaskable",
    ),
    (Sampler(VIEWS, BeyondItsBlock()), "fills_the_masks_and_nothing_else", "BeyondItsBlock may not commit row 0"),
    (Sampler(VIEWS, Numbers()), "fills_the_masks_and_nothing_else", "Numbers must return a bool tensor"),
    (Sampler(Miscounting(), Scheduled(MostConfident())), "counts_what_it_costs", "made"),
]


@pytest.mark.parametrize("inputs", [FEW, testing.EXAMPLES])
@pytest.mark.parametrize(("sampler", "check", "message"), BROKEN, ids=lambda v: v if isinstance(v, str) else "")
def test_a_broken_sampler_is_caught(
    sampler: Sampler, check: str, message: str, inputs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(testing, "EXAMPLES", inputs)
    monkeypatch.setattr(testing, "PHASES", (Phase.generate,))  # any input that fails will do
    with pytest.raises((AssertionError, ValueError), match=message):
        next(c for c in testing.CHECKS if c.__name__ == check)(sampler)


def test_a_sampler_that_never_draws_fails_the_check_for_drawing() -> None:
    with pytest.raises(AssertionError, match="six seeds gave the same tokens"):
        testing.draws_for_every_seed_and_row("low_confidence")


def test_a_sampler_of_ones_own_passes() -> None:
    for check in testing.CHECKS:
        check(low_confidence())


def test_an_open_schedule_that_goes_nowhere_is_stopped_with_a_reason() -> None:
    with pytest.raises(RuntimeError, match="neither committed nor took back anything"):
        tta_bench.generate(testing.TinyDenoiser(), torch.tensor([[1]]), Sampler(VIEWS, Idle(), schedule=Open()), gen_length=3)


def test_a_part_that_is_none_is_refused_when_the_sampler_is_built() -> None:
    with pytest.raises(TypeError, match=r"remask=.*: must have uses_constraint"):
        Sampler(VIEWS, Scheduled(MostConfident()), remask=RemaskWithoutFlag())
    with pytest.raises(TypeError, match=r"commit=.*: must have commits"):
        Sampler(VIEWS, MostConfident())


class RemaskWithoutFlag:
    """Lacks ``uses_constraint``."""

    def remasks(self, turn: Turn, commits: Tensor, noise: Noise) -> Tensor:
        return turn.remaskable
