"""ReMDM where tokens committed with little confidence are likelier to be masked again."""

from __future__ import annotations

from tta_bench.sampling.cache import cached
from tta_bench.sampling.remdm import ByConfidence, Posterior
from tta_bench.sampling.sampler import Sampler
from tta_bench.sampling.schedule import AtTheEnd
from tta_bench.sampling.views import TruncatedView


def remdm_conf(
    *,
    temperature: float = 1.0,
    top_p: float | None = 0.9,
    reference_quirks: bool = False,
    cache: str = "none",
) -> Sampler:
    """Every position decides for itself in a step from time t to s, with alpha = 1 - t.

    A committed token is masked again with probability sigma_i, a masked position is committed with probability
    (alpha_s - (1 - sigma_i) alpha_t) / (1 - alpha_t). sigma_i = softmax(-confidence at commit)_i sigma_max
    over the committed tokens of the block, sigma_max = min(1, (1 - alpha_s) / alpha_t); at masked positions it is 0.

    Times fall from 1 to 0 in equal steps over the block, so the last step commits what is left. (The published code ends at
    1e-5 and fills what may be left greedily, with one more pass.) Only tokens of the block are masked again.

    Cost: one forward pass a step.

    Args:
        temperature: of the distribution that candidates are drawn from; 0 takes the most probable token.
        top_p: size of the nucleus; None leaves it whole.
        reference_quirks: the token that crosses ``top_p`` does not belong to the nucleus, as in the reference code.
        cache: none, prefix or dual, see ``tta_bench.sampling.cache``.

    Reference:
        Wang et al., "Remasking Discrete Diffusion Models with Inference-Time Scaling", arXiv:2503.00307,
        section 4 (confidence-based).
    """
    rule = Posterior(ByConfidence())
    views = cached(TruncatedView(temperature, top_p, inclusive=not reference_quirks), cache)
    return Sampler(views=views, commit=rule, schedule=AtTheEnd(), remask=rule)
