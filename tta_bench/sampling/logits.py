"""The model's logits and the distributions they stand for, read a few positions at a time.

A vocabulary has 100,000 tokens and more, so what is done with logits, and not the network, is what most decoding loops spend
their time and memory on. Here every number that a step needs of a position comes from one pass over its logits while they are
in the processor's cache; only the model's own output is ever held whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tta_bench.sampling.distributions import BLOCK, Softmax, blocked

ENTRIES = {"cpu": 2**20}
"""Vocabulary entries of a part: as many as fit the cache of a CPU. Elsewhere ``MANY``, which a GPU needs to be busy."""
MANY = 2**24


class ModelOutputError(FloatingPointError):
    """The model returned logits that no distribution can be made of."""


@dataclass(frozen=True)
class Logits:
    """What one look says of M positions.

    Attributes:
        raw: as the model gave them (views, passes, M, V); with guidance the second pass is without the prompt.
        where: (B, L) bool, the M positions in row-major order.
        step: of the look.
        mask_id: of the mask token, which can never be chosen; need not lie within the vocabulary.
        cfg_scale: classifier-free guidance.
        dtype: in which they are guided and scored; None takes the model's, at least float32.
    """

    raw: Tensor
    where: Tensor
    step: int
    mask_id: int
    cfg_scale: float = 0.0
    dtype: torch.dtype | None = None

    @property
    def views(self) -> int:
        """Looks at the same positions, by perturbed networks."""
        return self.raw.shape[0]

    def read(
        self, look: Callable[[Softmax, slice], tuple[Tensor, ...]], change: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, ...]:
        """What ``look`` finds at all positions.

        Args:
            look: told the distributions (views, m, V) at some of the positions, and which these are; returns tensors whose last
                axis are the m positions.
            change: of the logits (views, m, V) before that; None leaves them as they are.

        Returns:
            The same tensors, with M positions.

        Raises:
            ModelOutputError: a logit is NaN or plus infinity, or a position has no finite logit.
        """
        found: list[tuple[Tensor, ...]] = []
        blocks = weights = room = torch.empty(0)
        for part in self.parts():
            n = part.stop - part.start
            if not found:
                blocks, weights, room = (self.room(self.views, n) for _ in range(3))
            logits = self._blocks(part, blocks[:, :n])
            if change is not None:
                logits = blocked(change(logits.flatten(-2)[..., : self.raw.shape[3]]))
            distributions = Softmax.of(logits, weights[:, :n], room[:, :n])
            self.check(distributions.top, part)
            found.append(look(distributions, part))
        return tuple(torch.cat(values, dim=-1) for values in zip(*found, strict=True))

    def room(self, *shape: int) -> Tensor:
        """Memory for so many distributions, not filled: (*shape, n, BLOCK), as ``Softmax`` cuts them into blocks."""
        dtype = self.dtype or torch.promote_types(self.raw.dtype, torch.float32)
        return torch.empty(*shape, -(-self.raw.shape[3] // BLOCK), BLOCK, dtype=dtype, device=self.raw.device)

    def _blocks(self, part: slice, room: Tensor) -> Tensor:
        """Logits at some positions as ``Softmax`` takes them, in ``room``: cast, guided, minus infinity at the mask token."""
        flat, vocabulary = room.flatten(-2), self.raw.shape[3]
        flat[..., vocabulary:] = -torch.inf
        found = flat[..., :vocabulary].copy_(self.raw[:, 0, part])
        if self.cfg_scale > 0:
            unconditional = self.raw[:, 1, part]
            found.sub_(unconditional).mul_(self.cfg_scale + 1).add_(unconditional)
        if 0 <= self.mask_id < vocabulary:
            found[..., self.mask_id] = -torch.inf
        return room

    def probability(self, tokens: Tensor) -> Tensor:
        """Of ``tokens`` (M,), one at each position, in the first view."""
        return self.read(lambda views, part: (views[0].probability(tokens[part]),))[0]

    def log_probability(self, tokens: Tensor) -> Tensor:
        """Log of the same, nats, where the probability itself would be 0 too."""
        return self.read(lambda views, part: (views[0].log_probability(tokens[part]),))[0]

    def parts(self) -> Iterator[slice]:
        """The positions in parts of at most ``ENTRIES`` vocabulary entries; at least one part."""
        views, _, n, vocabulary = self.raw.shape
        size = max(1, ENTRIES.get(self.raw.device.type, MANY) // (views * vocabulary))
        for begin in range(0, max(1, n), size):
            yield slice(begin, min(begin + size, n))

    def check(self, top: Tensor, part: slice) -> None:
        """Refuse logits with NaN, plus infinity, or nothing finite, by their largest (views, m), naming where they are."""
        finite = torch.isfinite(top)
        if bool(finite.all()):
            return
        view, place = (~finite).nonzero()[0].tolist()
        row, position = self.where.nonzero()[part.start + place].tolist()
        raise ModelOutputError(
            f"step {self.step}: the model's logits at row {row}, position {position} have the maximum "
            f"{float(top[view, place])} over the tokens that may be written; it must be finite. Nothing of this batch was kept."
        )
