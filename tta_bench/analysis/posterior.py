"""The Bayesian view of a paired difference: how probable it is that it matters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tta_bench.analysis.stats import Rng, check_margin, in_chunks, problem_means


@dataclass(frozen=True)
class Posterior:
    """Of the mean difference.

    Attributes:
        mean: of the posterior.
        ci_low, ci_high: equal-tailed credible interval.
        better, equivalent, worse: probabilities that the difference lies above, within, below the region of practical
            equivalence, +-margin. They add up to 1.
    """

    mean: float
    ci_low: float
    ci_high: float
    better: float
    equivalent: float
    worse: float


def posterior_of_difference(
    differences: ArrayLike,
    *,
    margin: float,
    prior: float = 1.0,
    confidence: float = 0.95,
    n_draws: int = 20_000,
    rng: Rng = 0,
) -> Posterior:
    """Posterior of the mean of differences (n,) in -1..1 under a Dirichlet prior on the values that they can take.

    Args:
        differences: candidate - baseline per problem.
        margin: half the width of the region of practical equivalence.
        prior: how many problems the prior weighs, spread evenly over the differences -1, 0 and 1. As it goes to 0 this is
            the Bayesian bootstrap.
        confidence: of the interval.
        n_draws: from the posterior.
        rng: seed or generator of the draws.

    Raises:
        ValueError: a difference beyond +-1, or a prior or margin that is not positive.

    Reference:
        Rubin, "The Bayesian bootstrap", Annals of Statistics 9, 1981; the region as in Kruschke, 2018.
    """
    check_margin(margin)
    d = problem_means(differences)
    if np.abs(d).max() > 1:
        raise ValueError(f"differences reach {np.abs(d).max()}: scores lie in 0..1, so differences in -1..1")
    if not prior > 0:
        raise ValueError(f"prior={prior}: must be above 0, a number of problems")
    values, counts = np.unique(np.concatenate((d, [-1.0, 0.0, 1.0])), return_counts=True)
    weights = counts - np.isin(values, (-1, 0, 1)) * (1 - prior / 3)
    generator = np.random.default_rng(rng)
    means = np.concatenate([generator.dirichlet(weights, size=rows) @ values for rows in in_chunks(n_draws, len(values))])
    low, high = np.quantile(means, [0.5 - confidence / 2, 0.5 + confidence / 2])
    better, worse = float((means > margin).mean()), float((means < -margin).mean())
    return Posterior(float(means.mean()), float(low), float(high), better, 1 - better - worse, worse)
