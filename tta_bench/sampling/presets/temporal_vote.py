"""Temporal self-consistency: the steps of one decoding vote on its answer."""

from __future__ import annotations

from tta_bench.sampling.commit import MostConfident, Scheduled
from tta_bench.sampling.sampler import Sampler
from tta_bench.sampling.views import SingleView
from tta_bench.sampling.vote import Temporal


def temporal_vote(*, growth: float = 5.0, temperature: float = 0.0) -> Sampler:
    """Decode by low confidence; give the answer with the largest weight among those that the steps predicted on the way.

    A step predicts the canvas with its candidates filled in, and weighs exp(growth x i / (S - 1)), i = 0 .. S - 1: where
    growth >= 0.7 (S - 1) the last step outvotes all others together, and the vote changes nothing. What counts as the same
    answer is read as in ``self_consistency``.

    Cost: one forward pass a step, none for the vote.

    Args:
        growth: how much later steps weigh more; 0 weighs all alike.
        temperature: of the draw of candidates; 0 takes the most probable token.

    Reference:
        Wang et al., "Time Is a Feature: Exploiting Temporal Dynamics in Diffusion Language Models", arXiv:2508.09138
        (temporal self-consistency voting, exponential weights).
    """
    return Sampler(views=SingleView(temperature), commit=Scheduled(MostConfident()), vote=Temporal(growth), looks_ahead=True)
