"""ReMDM's port to LLaDA: draft, exchange a fixed number of tokens a step, finish."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tta_bench.rng import Noise
from tta_bench.sampling.cache import cached
from tta_bench.sampling.sampler import Sampler
from tta_bench.sampling.selection import take_highest
from tta_bench.sampling.views import SingleView
from tta_bench.types import Canvas, Turn


@dataclass(frozen=True)
class DraftLoopFinish:
    """Of S steps of a block: S - S // 2 - S // 16 fill 7/8 of it, S // 2 exchange tokens, S // 16 fill the rest.

    The last step fills whatever is left, also where a block has too few steps for three phases.
    """

    times: ClassVar[int] = 1
    uses_steps: ClassVar[bool] = True
    until_filled: ClassVar[bool] = False
    verifies: ClassVar[bool] = False
    rounds: ClassVar[int | None] = None

    def phases(self, canvas: Canvas) -> tuple[Tensor, Tensor]:
        """(B,) steps of the draft, and steps of draft and loop together."""
        n = canvas.place.n_steps
        finish = n - n // 16
        return finish - n // 2, finish

    def due(self, canvas: Canvas) -> Tensor:
        """What is missing to the number that the row should have committed once the step is done."""
        place = canvas.place
        size, done = place.end - place.start, place.step + 1
        draft, finish = self.phases(canvas)
        drafted = (size * 7) // 8
        quota = torch.where(done < draft, drafted * done // draft, drafted)
        finishing = drafted + (size - drafted) * (done - finish) // (place.n_steps - finish).clamp(min=1)
        quota = torch.where(done > finish, finishing, quota)
        quota = torch.where(done == place.n_steps, size, quota)
        return place.start + quota - canvas.committed.sum(dim=1)


@dataclass(frozen=True)
class Exchange:
    """Commit what is due, most confident first; in the loop mask again the ``number`` tokens least confident at commit.

    Tokens of this step can be among them and then stay masked. It serves as commit rule and as remask rule of a sampler at
    once.
    """

    number: int
    schedule: DraftLoopFinish
    uses_constraint: ClassVar[bool] = False
    looks_back: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.number < 0:
            raise ValueError(f"remask_number={self.number}: must not be negative; 0 takes nothing back")

    def commits(self, turn: Turn, noise: Noise) -> Tensor:
        """(B, L) bool."""
        new, taken_back = self._decide(turn)
        return new & ~taken_back

    def remasks(self, turn: Turn, commits: Tensor, noise: Noise) -> Tensor:
        """(B, L) bool."""
        _, taken_back = self._decide(turn)
        return turn.remaskable & taken_back

    def _decide(self, turn: Turn) -> tuple[Tensor, Tensor]:
        confidence, done = turn.prediction.confidence, turn.canvas.place.step + 1
        new = take_highest(confidence, turn.eligible, turn.due)
        draft, finish = self.schedule.phases(turn.canvas)
        loops = (done >= draft) & (done < finish) & (done < turn.canvas.place.n_steps)
        tokens = (turn.canvas.committed & turn.canvas.block) | new
        score = torch.where(new, confidence, turn.stored)
        return new, take_highest(-score, tokens, torch.where(loops, self.number, 0))


def remdm_topk(*, remask_number: int = 1, temperature: float = 1.0, cache: str = "none") -> Sampler:
    """Decode by low confidence in three phases: draft 7/8 of the block, exchange tokens, fill the rest.

    An exchange masks the ``remask_number`` tokens of the block with the lowest confidence at commit, and commits as many in
    the next step; one that was committed in the same step can be among them, and then simply stays masked. Half of the
    block's S steps are exchanges and S // 16 fill the rest, at least the last. The reference makes twice the steps asked for,
    here they are what is asked for.

    Cost: one forward pass a step.

    Args:
        remask_number: tokens exchanged a step.
        temperature: of the draw of candidates; 0 takes the most probable token.
        cache: none, prefix or dual, see ``tta_bench.sampling.cache``.

    Reference:
        Wang et al., "Remasking Discrete Diffusion Models with Inference-Time Scaling", arXiv:2503.00307 (experiments with
        LLaDA), and the authors' published port.
    """
    schedule = DraftLoopFinish()
    rule = Exchange(remask_number, schedule)
    return Sampler(views=cached(SingleView(temperature), cache), commit=rule, schedule=schedule, remask=rule)
