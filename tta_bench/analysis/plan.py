"""What is fixed before the data are looked at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TestPlan:
    """What is fixed before the data are looked at.

    Attributes:
        margin: score differences below this do not matter.
        alpha: level of tests; intervals have coverage 1 - alpha.
        n_resamples: sign patterns of a permutation test.
        seed: of the patterns and resamples.
        n_bootstrap: resamples of a bootstrap.
        n_judged: samplers of a task whose uncertainty is judged: the baseline, tta and random_remask, then the others.
        bayes: also work out how probable it is that each candidate is better, equivalent or worse.
        focus: a sampler that is compared with each of the others at equal forward passes; None compares with the baseline only.
        texts: also tell how long, varied and repetitive the answers are, for which they are read once more.
    """

    __test__ = False  # not a test class, whatever pytest makes of its name

    margin: float = 0.02
    alpha: float = 0.05
    n_resamples: int = 9999
    seed: int = 0
    n_bootstrap: int = 2000
    n_judged: int = 4
    bayes: bool = False
    focus: str | None = None
    texts: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.margin < 1:
            raise ValueError(
                f"analysis.margin={self.margin}: must lie between 0 and 1, a difference of scores (2 points are 0.02)"
            )
        if not 0 < self.alpha < 0.5:
            raise ValueError(f"analysis.alpha={self.alpha}: must lie between 0 and 0.5")
        if self.n_resamples < 99:
            raise ValueError(f"analysis.n_resamples={self.n_resamples}: must be at least 99, or no p-value can be below 0.01")
        if self.n_bootstrap < 200:
            raise ValueError(
                f"analysis.n_bootstrap={self.n_bootstrap}: must be at least 200, or the ends of intervals are chance"
            )
        if self.n_judged < 0:
            raise ValueError(f"analysis.n_judged={self.n_judged}: must be >= 0, a number of samplers")
        if self.seed < 0:
            raise ValueError(f"analysis.seed={self.seed}: must be >= 0")


@dataclass(frozen=True)
class Allowances:
    """What may be compared although it should not be; whatever is allowed is marked in the table.

    Attributes:
        missing: compare on the problems that both runs have, where some are missing.
        differences: compare runs that were made with other data, prompts, weights, code, libraries, devices or threads.
    """

    missing: bool = False
    differences: bool = False


NOTHING_ALLOWED = Allowances()
