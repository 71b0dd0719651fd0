"""RCR, running confidence remasking: tokens are judged by how confident they were when they were committed."""

from __future__ import annotations

from tta_bench.sampling.keep_best import KeepBest
from tta_bench.sampling.sampler import Sampler
from tta_bench.sampling.schedule import Linear
from tta_bench.sampling.views import SingleView


def rcr(*, temperature: float = 0.0) -> Sampler:
    """Commit all masked positions of the block, then mask those again whose confidence at commit was lowest.

    As many are masked again as the linear schedule still owes, floor(N (1 - (i + 1) / S)) of a block of N after step i = 0 ..
    S - 1; tokens of earlier blocks can be among them. A token that is masked again is judged anew when it is committed.

    Cost: one forward pass a step.

    Args:
        temperature: of the draw of candidates; 0 takes the most probable token.

    Reference:
        He et al., "MDPO: Overcoming the Training-Inference Divide of Masked Diffusion Language Models", arXiv:2508.13148,
        section 4 (running confidence remasking).
    """
    rule = KeepBest(stored=True)
    return Sampler(views=SingleView(temperature), commit=rule, schedule=Linear(), remask=rule)
