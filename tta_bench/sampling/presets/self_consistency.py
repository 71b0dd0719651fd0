"""Self-consistency: decode several times, give the most frequent answer."""

from __future__ import annotations

from tta_bench.sampling.cache import cached
from tta_bench.sampling.commit import MostConfident, Scheduled
from tta_bench.sampling.sampler import Sampler
from tta_bench.sampling.views import SingleView
from tta_bench.sampling.vote import Majority


def self_consistency(*, samples: int = 5, temperature: float = 0.7, cache: str = "none") -> Sampler:
    """Decode each prompt ``samples`` times by low confidence at a temperature, and give the most frequent answer.

    Two decodings agree if their answers do: as the task reads them on the command line, as ``answer_fn`` does in Python, or
    else if their tokens up to the end of the sequence are the same. Of equally frequent answers the first drawn is given.

    Cost: ``samples`` forward passes a step.

    Args:
        samples: decodings of each prompt.
        temperature: of the draw of candidates. At 0 all decodings are the same.
        cache: none, prefix or dual, see ``tta_bench.sampling.cache``.

    Reference:
        Wang et al., "Self-Consistency Improves Chain of Thought Reasoning in Language Models", arXiv:2203.11171.
    """
    return Sampler(views=cached(SingleView(temperature), cache), commit=Scheduled(MostConfident()), vote=Majority(samples))
