"""Views: the looks at a canvas whose answers are merged into one prediction."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor

from tta_bench.rng import Noise
from tta_bench.sampling.denoiser import Denoiser
from tta_bench.sampling.distributions import Mixture, Softmax, truncated
from tta_bench.sampling.dropout import injected_dropout
from tta_bench.sampling.logits import Logits
from tta_bench.sampling.uncertainty import disagreement, expected_disagreement, mutual_information
from tta_bench.types import Canvas, Prediction

Measure: TypeAlias = Callable[[Softmax, slice], Tensor]
"""What is to be told besides: from the distributions (m, V) at a part of the positions looked at, a number (m,) for each."""


NOTHING: Mapping[str, Measure] = {}


@dataclass(frozen=True)
class SingleView:
    """One look; the candidate is drawn at ``temperature`` (the most probable token at 0), as LLaDA draws it.

    Attributes:
        temperature: of the draw. Confidence and the other measures are untempered.
        redraw: draw at the committed positions of the current block too, not only where a token can be committed now.
        margin: tell the margin as well.
    """

    temperature: float = 0.0
    redraw: bool = False
    margin: bool = False
    k: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_temperature("temperature", self.temperature)

    def predict(self, denoiser: Denoiser, canvas: Canvas, noise: Noise, memory: None) -> tuple[Prediction, None]:
        """Candidates with their untempered probability as confidence."""
        draws = Draws.at(canvas, noise, self.temperature, canvas.block if self.redraw else canvas.masked)
        return single(denoiser.look(canvas), canvas, draws, denoiser.passes, more=margin(self.margin)), None


@dataclass(frozen=True)
class TruncatedView:
    """One look at softmax(logits / temperature) cut to the nucleus and the top k; confidence is of *that* distribution.

    Attributes:
        temperature: of the distribution; at 0 it is untempered and the candidate its mode.
        top_p: size of the nucleus; None leaves it whole.
        top_k: tokens that stay; None leaves all.
        margin: tell the margin as well.
        inclusive: whether the token that crosses ``top_p`` belongs to the nucleus.
    """

    temperature: float = 0.0
    top_p: float | None = None
    top_k: int | None = None
    margin: bool = False
    inclusive: bool = True
    k: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_temperature("temperature", self.temperature)
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p={self.top_p}: must be a probability, above 0 and at most 1; null leaves it out")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k={self.top_k}: must be at least 1; null leaves it out")

    def predict(self, denoiser: Denoiser, canvas: Canvas, noise: Noise, memory: None) -> tuple[Prediction, None]:
        """Candidates with their probability in the tempered, truncated distribution as confidence."""
        draws = Draws.at(canvas, noise, 1.0 if self.temperature > 0 else 0.0, canvas.masked)

        def cut(logits: Tensor) -> Tensor:
            return truncated(logits, self.temperature, self.top_p, self.top_k, self.inclusive)

        return single(denoiser.look(canvas), canvas, draws, denoiser.passes, more=margin(self.margin), change=cut), None


DISAGREEMENTS = ("draws", "expected", "tempered_entropy")


@dataclass(frozen=True)
class TTAViews:
    """K looks: view k draws at temperature linspace(range, K)[k] and, with ``dropout``, from a perturbed network.

    The candidate is the argmax of the views' mean *untempered* distribution; the draws only tell how far the views
    disagree. Without dropout or context the network's answer is the same for all K views: one evaluation serves them, exactly.

    Attributes:
        k: views.
        temperature_range: temperatures of the first and the last.
        temperature: of the only view where ``k`` is 1.
        dropout: rate of dropout in each view, None without.
        context: chance with which each view hides a token of the prompt, or a committed one; None hides none.
        disagreement: ``draws`` counts different draws; ``expected`` is the mean of that over all draws, in closed form;
            ``tempered_entropy`` the mean over the views of the entropy at their temperature, divided by ln V.
        candidate_temperature: of the draw of candidates where the views share one evaluation; 0 takes the most probable token.
    """

    k: int = 5
    temperature_range: tuple[float, float] = (0.0, 0.3)
    temperature: float = 0.0
    dropout: float | None = None
    context: float | None = None
    disagreement: str = "draws"
    candidate_temperature: float = 0.0

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"tta_k={self.k}: must be at least 1 view")
        check_temperature("temperature", self.temperature)
        check_temperature("candidate_temperature", self.candidate_temperature)
        low, high = self.temperature_range
        check_temperature("tta_temperature_range", low)
        check_temperature("tta_temperature_range", high)
        if low > high:
            raise ValueError(f"tta_temperature_range=[{low}, {high}]: the first must not exceed the second; swap them")
        if self.dropout is not None and not 0 < self.dropout < 1:
            raise ValueError(f"tta_dropout_p={self.dropout}: must lie strictly between 0 and 1 to perturb the model")
        if self.context is not None and not 0 < self.context < 1:
            raise ValueError(f"tta_context_p={self.context}: must lie strictly between 0 and 1 to hide something, and not all")
        if self.disagreement not in DISAGREEMENTS:
            raise ValueError(f"tta_disagreement={self.disagreement}: must be one of {', '.join(DISAGREEMENTS)}")
        if self.candidate_temperature > 0 and not self.shared:
            raise ValueError(
                f"candidate_temperature={self.candidate_temperature}: candidates are drawn from one distribution, and dropout "
                "and context views have K; set it to 0, or use other views"
            )

    @property
    def shared(self) -> bool:
        """Whether one evaluation serves all views."""
        return self.dropout is None and self.context is None

    @property
    def temperatures(self) -> list[float]:
        """The temperature of each view; with a single view, ``temperature``."""
        if self.k == 1:
            return [self.temperature]
        low, high = self.temperature_range
        return [low + (high - low) * i / (self.k - 1) for i in range(self.k)]

    def predict(self, denoiser: Denoiser, canvas: Canvas, noise: Noise, memory: None) -> tuple[Prediction, None]:
        """Merge the K views of one canvas."""
        logits = self.look(denoiser, canvas, noise)
        draws = Draws.at(canvas, noise, self.candidate_temperature, canvas.masked, "candidate")
        uniform, judged = self.uniform(canvas, noise), canvas.reachable[canvas.looked]
        found = self.merged(logits, canvas.tokens[canvas.looked], uniform, judged, draws)
        return prediction(canvas, denoiser.passes * logits.views, found), None

    def uniform(self, canvas: Canvas, noise: Noise, purpose: str = "draw") -> Tensor:
        """(K, M) random numbers for the views' draws; zeros where their disagreement is told in closed form."""
        if self.disagreement == "draws":
            return uniform_at(canvas, noise, self.k, purpose)
        return torch.zeros(self.k, int(canvas.looked.sum()), dtype=torch.float64, device=canvas.tokens.device)

    def merged(
        self,
        logits: Logits,
        standing: Tensor,
        uniform: Tensor,
        judged: Tensor | None = None,
        draws: Draws | None = None,
    ) -> dict[str, Tensor]:
        """The fields (M,) of a prediction from what the views say of M positions.

        Args:
            logits: of one view that all share, or of K.
            standing: (M,) the tokens that stand there.
            uniform: (K, M) random numbers for their draws.
            judged: (M,) bool, where the views' disagreement is wanted; None for everywhere.
            draws: of candidates; None takes the most probable tokens.
        """

        wanted = torch.ones_like(standing, dtype=torch.bool) if judged is None else judged

        def look(views: Softmax, part: slice) -> tuple[Tensor, ...]:
            each = [views[i] for i in range(logits.views)]
            mean = each[0] if logits.views == 1 else Mixture.of(views)
            tokens = mean.best if draws is None or isinstance(mean, Mixture) else draws.tokens(mean, part)
            entropy, here = mean.entropy, wanted[part]
            apart = self.apart([view.only(here) for view in each], uniform[:, part][:, here])
            apart = torch.zeros_like(entropy).masked_scatter(here, apart.to(entropy.dtype))
            information = mutual_information(entropy, torch.stack([view.entropy for view in each]))
            return tokens, mean.probability(tokens), entropy, mean.probability(standing[part]), apart, information

        names = (*ALWAYS, "disagreement", "mutual_information")
        return dict(zip(names, logits.read(look), strict=True))

    def apart(self, views: Sequence[Softmax], uniform: Tensor) -> Tensor:
        """(m,) how far the views disagree, from the one distribution (m, V) that they share or that of each; see the class."""
        pairs = zip(views if len(views) > 1 else list(views) * self.k, self.temperatures, strict=True)
        if self.disagreement == "expected":
            return expected_disagreement([view.tempered(t) for view, t in pairs])
        if self.disagreement == "tempered_entropy":
            return torch.stack([view.tempered_entropy(t) for view, t in pairs]).mean(dim=0)
        if len(views) == 1:
            return disagreement(views[0].draws(self.temperatures, uniform))
        return disagreement(torch.cat([view.draws([t], u[None]) for (view, t), u in zip(pairs, uniform, strict=True)]))

    def look(self, denoiser: Denoiser, canvas: Canvas, noise: Noise) -> Logits:
        """Of one view where one evaluation serves them all, else of K."""
        if self.shared:
            return denoiser.look(canvas)
        hidden = None if self.context is None else hidden_context(canvas, noise, self.context, self.k)
        if self.dropout is None:
            return denoiser.look(canvas, self.k, hidden)
        return perturbed(denoiser, canvas, self.dropout, noise.seeds(canvas.step, "dropout", self.k), hidden)


def hidden_context(canvas: Canvas, noise: Noise, share: float, k: int) -> Tensor:
    """(K, B, L) bool, the tokens that each of K views hides: each of the prompt and each committed one with the same chance."""
    rank = (canvas.present.cumsum(dim=1) - 1).clamp(min=0)
    numbers = torch.from_numpy(noise.uniform(canvas.step, "context", int(rank.max()) + 1, k)).to(rank.device)
    chance = numbers.movedim(2, 0).gather(2, rank.expand(k, -1, -1))
    return (chance < share) & canvas.present & ~canvas.masked


def perturbed(
    denoiser: Denoiser, canvas: Canvas, dropout: float, seeds: Sequence[Sequence[int]], hidden: Tensor | None = None
) -> Logits:
    """Looks of networks with dropout, one for each item of ``seeds``, which has a seed for each of the B rows; in one batch.

    ``hidden``: see ``Denoiser.look``.
    """
    rows = canvas.looked.any(dim=1).nonzero()[:, 0].tolist()
    of_batch = [view[row] for view in seeds for _ in range(denoiser.passes) for row in rows]
    pads = [0] * len(canvas.tokens) if canvas.padding is None else canvas.padding.sum(dim=1).tolist()
    plain = replace(denoiser, model=getattr(denoiser.model, "uncompiled", denoiser.model))
    with injected_dropout(plain.model, dropout, of_batch, [pads[row] for row in rows] * plain.passes * len(seeds)):
        return plain.look(canvas, len(seeds), hidden)


def margin(told: bool) -> Mapping[str, Measure]:
    """The margin as a further field, if it is to be told."""
    return {"margin": lambda view, _: view.margin} if told else NOTHING


def check_temperature(name: str, value: float) -> None:
    """Refuse a temperature that is negative or not finite."""
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name}={value}: a temperature must be a number >= 0")


def uniform_at(canvas: Canvas, noise: Noise, k: int, purpose: str = "draw") -> Tensor:
    """(K, M) uniform numbers for the positions looked at.

    They depend on row key, step, view and rank among the row's editable positions only.
    """
    rank = canvas.editable.cumsum(dim=1)[canvas.looked] - 1
    row = canvas.looked.nonzero()[:, 0]
    numbers = torch.from_numpy(noise.uniform(canvas.step, purpose, int(rank.max()) + 1, k))
    return numbers.to(rank.device)[row, rank].T.contiguous()


@dataclass(frozen=True)
class Draws:
    """Which candidates of one view are drawn, at the M positions looked at.

    Attributes:
        temperature: of the draws; at 0 none is drawn.
        wanted: (M,) bool.
        uniform: (M,) random numbers; empty at temperature 0.
    """

    temperature: float
    wanted: Tensor
    uniform: Tensor

    @staticmethod
    def at(canvas: Canvas, noise: Noise, temperature: float, where: Tensor, purpose: str = "draw") -> Draws:
        """Draws at ``where`` (B, L) as far as it is reachable: where a candidate may be used now."""
        wanted = (where & canvas.reachable)[canvas.looked]
        drawn = uniform_at(canvas, noise, 1, purpose)[0] if temperature > 0 else torch.empty(0, dtype=torch.float64)
        return Draws(temperature, wanted, drawn)

    def tokens(self, view: Softmax, part: slice) -> Tensor:
        """(m,) candidates at some of the positions, of which ``view`` tells: drawn where wanted, else the most probable."""
        wanted = self.wanted[part]
        if self.temperature == 0 or not bool(wanted.any()):
            return view.best
        return torch.where(wanted, view.draws([self.temperature], self.uniform[None, part])[0], view.best)


def single(
    logits: Logits,
    canvas: Canvas,
    draws: Draws,
    forward_passes: int,
    *,
    more: Mapping[str, Measure] = NOTHING,
    change: Callable[[Tensor], Tensor] | None = None,
) -> Prediction:
    """The prediction of one view.

    Args:
        logits: what it says at the positions looked at.
        canvas: that it looked at.
        draws: which candidates are drawn.
        forward_passes: it took.
        more: further fields of the prediction, and how they are found.
        change: see ``Logits.read``.
    """
    standing = canvas.tokens[canvas.looked]

    def look(views: Softmax, part: slice) -> tuple[Tensor, ...]:
        view = views[0]
        tokens = draws.tokens(view, part)
        told = tokens, view.probability(tokens), view.entropy, view.probability(standing[part])
        return *told, *(measure(view, part) for measure in more.values())

    found = logits.read(look, change)
    return prediction(canvas, forward_passes, dict(zip((*ALWAYS, *more), found, strict=True)))


ALWAYS = ("tokens", "confidence", "entropy", "support")
"""Fields of a prediction that every view tells."""


def prediction(canvas: Canvas, forward_passes: int, found: Mapping[str, Tensor]) -> Prediction:
    """A prediction on (B, L) from its fields (M,) at the positions looked at, those in ``ALWAYS`` and others."""
    told: dict[str, Any] = {name: spread(canvas, values) for name, values in found.items()}
    nothing = torch.zeros_like(told["entropy"])
    told["tokens"] = canvas.tokens.masked_scatter(canvas.looked, found["tokens"])
    told["support"] = told["support"].masked_fill(canvas.masked, 0)
    return Prediction(**({"disagreement": nothing, "mutual_information": nothing} | told), forward_passes=forward_passes)


def spread(canvas: Canvas, values: Tensor) -> Tensor:
    """(M,) values at the positions looked at as (B, L), zero elsewhere."""
    return torch.zeros(canvas.looked.shape, dtype=values.dtype, device=values.device).masked_scatter(canvas.looked, values)
