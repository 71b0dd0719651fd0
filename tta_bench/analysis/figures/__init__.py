"""Figures. Each is a function from a tidy frame to a matplotlib Figure; ``style.save`` writes PNG, PDF and SVG.

The frame of every figure of a report lies beside it as a CSV file, so that it can be drawn again, or in another way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from tta_bench.analysis.figures.accuracy import accuracy_versus_passes
from tta_bench.analysis.figures.differences import differences
from tta_bench.analysis.figures.evolution import uncertainty_evolution
from tta_bench.analysis.figures.quality import reliability, risk_coverage, signal_quality
from tta_bench.analysis.figures.remasking import remask_quality, survival
from tta_bench.analysis.figures.response import exploratory_response, response_curves
from tta_bench.analysis.figures.robustness import flip_rates
from tta_bench.analysis.figures.trajectory import commit_order, trajectories


@dataclass(frozen=True)
class Kind:
    """A kind of figure.

    Attributes:
        draw: from its frame.
        caption: what it shows, in sentences.
    """

    draw: Callable[[pd.DataFrame], Figure]
    caption: str


FIGURES = {
    "accuracy_versus_passes": Kind(
        accuracy_versus_passes,
        "Score against forward passes (logarithmic), a line for each sampler variant, with intervals. Of many variants "
        "those have a colour that are baselines, in focus, or most often on the Pareto front.",
    ),
    "differences": Kind(
        differences,
        "Paired difference of each candidate from its baseline: intervals alone (thick) and adjusted for all comparisons "
        "by max-T (thin). Filled: significant after adjustment.",
    ),
    "response_curves": Kind(
        response_curves,
        "Mean score by the levels of each swept hyper-parameter, averaged over the runs that share the level, with "
        "intervals over problems; of several models or seeds the first. Choose on dev, confirm on test.",
    ),
    "exploratory_response": Kind(
        exploratory_response, "Mean score by two swept hyper-parameters: exploratory, without a test."
    ),
    "uncertainty_evolution": Kind(
        uncertainty_evolution,
        "Uncertainty over the denoising steps: means over the committed tokens of an answer, then over problems, with "
        "intervals. Solid: answers that came out right, dashed: wrong. Steps that less than a tenth of them got to are left "
        "out.",
    ),
    "trajectories": Kind(
        trajectories,
        "One decoding each of baseline and candidate, position by step, on a problem where they differ if there is one. White: "
        "still masked; colour: entropy of the token that stands there.",
    ),
    "commit_order": Kind(
        commit_order, "The step at which each position got the token that it ends with: the share of answers, by position."
    ),
    "signal_quality": Kind(
        signal_quality,
        "How well each signal tells wrong tokens from right ones that stood before a step: area under the ROC curve, with "
        "intervals of a bootstrap over problems. 0.5 is chance.",
    ),
    "risk_coverage": Kind(
        risk_coverage,
        "Share of errors among what is kept when the most uncertain answers, or tokens, are set aside; the band is the "
        "first signal's bootstrap interval over problems. Dotted: an arbitrary order; thin: a perfect one.",
    ),
    "reliability": Kind(
        reliability,
        "Share of right tokens against the probability that they were given, in ten bins of equal mass, with bootstrap "
        "intervals over problems. Dotted: calibrated.",
    ),
    "remask_quality": Kind(
        remask_quality,
        "Precision and recall of taking back wrong tokens, with bootstrap intervals over problems, beside the blind "
        "control and what a blind choice at the same steps would have had.",
    ),
    "survival": Kind(
        survival,
        "Share of committed tokens that still stand so many steps later (Kaplan-Meier, with bootstrap intervals over "
        "problems), and how often the token of a position changes.",
    ),
    "flip_rates": Kind(
        flip_rates, "Share of answers that become right or wrong when something changes that should not matter, with intervals."
    ),
}
"""By name, in the order of a report."""
