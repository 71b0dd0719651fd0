"""ReMDM with a loop: draft, correct at a constant number of tokens, finish."""

from __future__ import annotations

from tta_bench.sampling.cache import cached
from tta_bench.sampling.remdm import Looped, Posterior
from tta_bench.sampling.sampler import Sampler
from tta_bench.sampling.schedule import AtTheEnd
from tta_bench.sampling.views import TruncatedView


def remdm_loop(
    *,
    eta: float = 0.02,
    t_on: float = 0.55,
    t_off: float = 0.05,
    alpha_on: float = 0.9,
    temperature: float = 1.0,
    top_p: float | None = 0.9,
    reference_quirks: bool = False,
    cache: str = "none",
) -> Sampler:
    """Every position decides for itself in a step from time t to s, with alpha_t the share of tokens not masked.

    A committed token is masked again with probability sigma, a masked position is committed with probability
    (alpha_s - (1 - sigma) alpha_t) / (1 - alpha_t). In the loop, t_off < t <= t_on, alpha stays at
    alpha_on and sigma = min(eta, sigma_max), sigma_max = (1 - alpha_s) / alpha_t. Before it alpha rises linearly to alpha_on,
    after it to 1, and sigma is 0.

    Times fall from 1 to 0 in equal steps over the block, so the last step commits what is left. (The published code ends at
    1e-5 and fills what may be left greedily, with one more pass.) Only tokens of the block are masked again.

    Cost: one forward pass a step.

    Args:
        eta: sigma in the loop.
        t_on: time at which the loop starts.
        t_off: time at which it ends.
        alpha_on: share of tokens that are not masked during the loop.
        temperature: of the distribution that candidates are drawn from; 0 takes the most probable token.
        top_p: size of the nucleus; None leaves it whole.
        reference_quirks: the token that crosses ``top_p`` does not belong to the nucleus, as in the reference code.
        cache: none, prefix or dual, see ``tta_bench.sampling.cache``.

    Reference:
        Wang et al., "Remasking Discrete Diffusion Models with Inference-Time Scaling", arXiv:2503.00307,
        section 4 (loop).
    """
    rule = Posterior(Looped(eta, t_on, t_off, alpha_on))
    views = cached(TruncatedView(temperature, top_p, inclusive=not reference_quirks), cache)
    return Sampler(views=views, commit=rule, schedule=AtTheEnd(), remask=rule)
