"""TTA uncertainty sampling that lets the task's rules decide what may stand."""

from __future__ import annotations

from tta_bench.sampling.commit import EntropyBound, Heeding
from tta_bench.sampling.sampler import Sampler
from tta_bench.sampling.schedule import Open
from tta_bench.sampling.views import TTAViews


def tta_rules(*, entropy_bound: float = 3.0, heed_share: float = 0.5, temperature: float = 0.0) -> Sampler:
    """Commit by a generous entropy bound, but keep no token that violates the constraint beside the others.

    ``tta`` with ``schedule=adaptive``, ``heed_constraint=true`` and no other remasking. It knows more than samplers that see no
    constraint (``constraint=task``, or a ``constraint_fn``), so a comparison with these says what the rules are worth; without
    a constraint it is ``entropy_bound``.

    Cost: one forward pass a step, and as many steps as that takes; ``steps`` is not used.

    Args:
        entropy_bound: nats: the larger, the more is committed at once, see the sampler of that name.
        heed_share: of the tokens in violation that are held or taken back, the least confident first.
        temperature: of the draw of candidates; 0 takes the most probable token.
    """
    heeding = Heeding(EntropyBound(entropy_bound), heed_share)
    views = TTAViews(k=1, disagreement="expected", candidate_temperature=temperature)
    return Sampler(views=views, commit=heeding, schedule=Open(), remask=heeding)
