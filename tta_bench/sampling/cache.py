"""Keys and values kept within a block: most steps evaluate only a part of the sequence.

When a row enters a block it is evaluated whole, and the keys and values of all its positions are kept. The block's other steps
evaluate only

- ``dual``: the positions of the block,
- ``prefix``: those from the block's first position on,

(and, where logits are shifted, the position before, whose logits predict the block's first token)

and attend to what was kept of the others. Attention sees both ways, so what was kept is what the others *were* when the block
began: an approximation, but for a block's first step and for a network of one layer, whose keys and values depend on nothing
but the token at their position.

Reference: Wu et al., "Fast-dLLM: Training-free Acceleration of Diffusion LLM by Enabling KV Cache and Parallel Decoding",
arXiv:2505.22618, section 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tta_bench.rng import Noise
from tta_bench.sampling.denoiser import Denoiser, positions
from tta_bench.sampling.logits import Logits
from tta_bench.types import Canvas, Prediction

if TYPE_CHECKING:
    from tta_bench.sampling.sampler import Views

KINDS = ("none", "prefix", "dual")


class KeyValues:
    """Keys and values of all layers for the R rows of a batch, (R, heads, L, width) each. Written in place."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.layers: list[tuple[Tensor, Tensor]] = []

    def whole(self, layer: int, rows: Tensor, new: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Keep those of all positions of some rows."""
        if layer == len(self.layers):
            made = new if len(rows) == self.rows else tuple(part.new_zeros(self.rows, *part.shape[1:]) for part in new)
            self.layers.append((made[0], made[1]))
        rows = rows.to(new[0].device)
        for kept, part in zip(self.layers[layer], new, strict=True):
            if kept is not part:
                kept[rows] = part
        return new

    def part(self, layer: int, rows: Tensor, where: Part, new: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Keep those of some positions of some rows; those of all positions of these rows."""
        keys, values = self.layers[layer]
        rows, real, columns = (t.to(keys.device) for t in (rows, where.real, where.columns))
        row = rows[:, None].expand_as(columns)[real]
        for kept, part in zip((keys, values), new, strict=True):
            kept[row, :, columns[real]] = part.transpose(1, 2)[real]
        return (keys, values) if len(rows) == self.rows else (keys[rows], values[rows])


@dataclass(frozen=True)
class Part:
    """Q positions of each row, ascending; rows with fewer are filled up with others that do not count.

    Attributes:
        columns: (R, Q) positions.
        real: (R, Q) bool, False where filled up.
    """

    columns: Tensor
    real: Tensor

    @staticmethod
    def of(where: Tensor) -> Part:
        """The positions that are True in (R, L)."""
        order = where.long().sort(dim=1, descending=True, stable=True)
        width = int(where.sum(dim=1).max())
        return Part(order.indices[:, :width], order.values[:, :width].bool())

    def take(self, values: Tensor) -> Tensor:
        """(R, Q) of (R, L)."""
        return values.gather(1, self.columns)


@dataclass(frozen=True)
class Access:
    """What the model sees of ``KeyValues``: some rows, evaluated whole (``where`` None) or at some positions."""

    kept: KeyValues
    rows: Tensor
    where: Part | None = None

    def update(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """See ``tta_bench.models.native.Keys``."""
        if self.where is None:
            return self.kept.whole(layer, self.rows, (keys, values))
        return self.kept.part(layer, self.rows, self.where, (keys, values))


@dataclass(frozen=True, kw_only=True)
class CachedDenoiser(Denoiser):
    """Evaluates some rows whole and others in part.

    Attributes:
        kept: keys and values.
        groups: rows (B,) bool that are evaluated together, and which of their positions (B, L), None for all.
    """

    kept: KeyValues
    groups: Sequence[tuple[Tensor, Tensor | None]]

    def look(self, canvas: Canvas, repeats: int = 1, hidden: Tensor | None = None) -> Logits:
        """As ``Denoiser.look``, in one call of the model for each group."""
        if repeats != 1 or hidden is not None:
            raise ValueError(f"cache: keeps keys and values of one look, not of {repeats} that are perturbed; use cache=none")
        if "cache" not in self.takes:
            raise ValueError(
                f"cache: {type(self.model).__name__} takes none (the models in tta_bench.models.native do); use cache=none"
            )
        found = [(rows, self._group(canvas, rows, where)) for rows, where in self.groups]
        if len(found) == 1:
            logits = found[0][1]
        else:
            row = canvas.looked.nonzero()[:, 0]
            first = found[0][1]
            logits = first.new_empty(self.passes, len(row), first.shape[-1])
            for rows, part in found:
                logits[:, rows[row]] = part
        return self.told(logits[None], canvas, canvas.looked)

    def _group(self, canvas: Canvas, rows: Tensor, where: Tensor | None) -> Tensor:
        """Logits (passes, N, V) of some rows, at the positions looked at."""
        index = rows.nonzero()[:, 0]
        places = torch.cat([index + p * len(rows) for p in range(self.passes)])
        tokens = self.inputs(canvas)[places]
        seen = None if canvas.padding is None else ~canvas.padding[index.repeat(self.passes)]
        visible = torch.ones_like(tokens, dtype=torch.bool) if seen is None else seen
        more: dict[str, Any] = self.padded(seen)
        needed, order = self.needed(visible, canvas.looked[index].repeat(self.passes, 1))
        access = Access(self.kept, places)
        if where is not None:
            part = Part.of(where[index].repeat(self.passes, 1))
            access = replace(access, where=part)
            more["position_ids"] = part.take(positions(visible))
            tokens, needed = part.take(tokens), part.take(needed) & part.real
        logits = self.call(tokens, needed, order, cache=access, **more)
        return logits.view(self.passes, -1, logits.shape[-1])


@dataclass(frozen=True)
class Memory:
    """What ``Cached`` remembers: keys and values (changed in place), and the views' own memory."""

    kept: KeyValues
    views: Any


@dataclass(frozen=True)
class Cached:
    """Views that look with a cache.

    A prediction tells news of the positions that were evaluated; of the others it says what the last look did. Only tokens of
    the current block can be taken back: what is masked elsewhere would not be looked at again while the block lasts.

    Attributes:
        views: that make one evaluation of the unperturbed network.
        kind: prefix or dual.
    """

    views: Views
    kind: str

    @property
    def k(self) -> int:
        """Views a step."""
        return self.views.k

    def predict(self, denoiser: Denoiser, canvas: Canvas, noise: Noise, memory: Memory | None) -> tuple[Prediction, Memory]:
        """As the views', from whole evaluations of rows that enter a block and partial ones of the others."""
        memory = memory or Memory(KeyValues(denoiser.passes * len(canvas.tokens)), None)
        active = canvas.editable.any(dim=1)
        entering = active & (canvas.place.step == 0)
        staying = active & ~entering
        part = canvas.block if self.kind == "dual" else canvas.block.long().cummax(dim=1).values.bool()
        looked = canvas.looked & (entering[:, None] | part)
        visible = None if canvas.padding is None else ~canvas.padding
        part = part | denoiser.needed(visible, looked)[0] & staying[:, None]
        groups = [(rows, where) for rows, where in ((entering, None), (staying, part)) if bool(rows.any())]
        found, views = self.views.predict(
            CachedDenoiser(**{f.name: getattr(denoiser, f.name) for f in fields(denoiser)}, kept=memory.kept, groups=groups),
            replace(canvas, focus=looked),
            noise,
            memory.views,
        )
        evaluated = torch.where(entering, canvas.lengths, part.sum(dim=1)) * active * denoiser.passes
        found = replace(found, revisable=canvas.block, evaluated=evaluated, calls=len(groups), told=looked)
        return found, Memory(memory.kept, views)


def cached(views: Views, kind: str) -> Views:
    """``views`` with a cache of some kind; as they are with ``none``.

    Raises:
        ValueError: there is no such kind.
    """
    if kind not in KINDS:
        raise ValueError(f"cache={kind}: must be one of {', '.join(KINDS)}")
    return views if kind == "none" else Cached(views, kind)
