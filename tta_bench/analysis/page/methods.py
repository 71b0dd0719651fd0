"""How the numbers of a report were found, and whose methods these are."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib.resources import files

import pandas as pd

from tta_bench.analysis.load import Run, Study
from tta_bench.analysis.plan import TestPlan

PRESETS = "tta_bench.sampling.presets."
"""Begins the names of what builds the samplers of this package."""

WORKS = {
    "Westfall & Young 1993": "P. H. Westfall, S. S. Young, Resampling-Based Multiple Testing, Wiley, 1993.",
    "Miller 2024": 'E. Miller, "Adding Error Bars to Evals: A Statistical Approach to Language Model Evaluations", '
    "arXiv:2411.00640, 2024.",
    "Tango 1998": 'T. Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample '
    'design", Statistics in Medicine 17, 891-908, 1998.',
    "Schuirmann 1987": 'D. J. Schuirmann, "A comparison of the two one-sided tests procedure and the power approach for '
    'assessing the equivalence of average bioavailability", Journal of Pharmacokinetics and Biopharmaceutics 15, 657-680, '
    "1987.",
    "Efron 1987": 'B. Efron, "Better bootstrap confidence intervals", Journal of the American Statistical Association 82, '
    "171-185, 1987.",
    "McNemar 1947": 'Q. McNemar, "Note on the sampling error of the difference between correlated proportions or '
    'percentages", Psychometrika 12, 153-157, 1947.',
    "Wilson 1927": 'E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the '
    "American Statistical Association 22, 209-212, 1927.",
    "Holm 1979": 'S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6, '
    "65-70, 1979.",
}
"""What the methods are taken from, by the names by which they are cited."""


def methods(summary: pd.DataFrame, plan: TestPlan) -> str:
    """The statistics of a report in a paragraph, works cited as in ``WORKS``; only what the summary has."""
    return " ".join(_sentences(summary, plan))


def _sentences(summary: pd.DataFrame, plan: TestPlan) -> Iterator[str]:
    level, near = f"{100 * (1 - plan.alpha):g} %", f"{100 * (1 - 2 * plan.alpha):g} %"
    binary = _has(summary, "delta_tango_low")
    yield (
        "Every sampler decodes the same problems with the same random numbers. Scores are exact and averaged over replicates "
        "within a problem; the problem is the unit of every test, and differences are paired. "
        f"Intervals are {level} t intervals over problems"
        + (", clustered where problems are not independent (Miller 2024)." if _has(summary, "n_clusters") else ".")
    )
    yield (
        "p-values come from flipping the signs of the problems' differences at random, in all comparisons together, and "
        f"comparing with the largest statistic of each of {plan.n_resamples:,} patterns (max-T, Westfall & Young 1993)."
    )
    yield (
        f"A candidate is called equivalent when the {near} interval of its difference lies within ±{100 * plan.margin:g} "
        "points (two one-sided tests, Schuirmann 1987"
        + ("; the score interval of Tango 1998 where problems are right or wrong" if binary else "")
        + f"), not adjusted; better or worse when its adjusted p-value is below {plan.alpha:g}; inconclusive otherwise."
    )
    if _has(summary, "mde"):
        yield "The smallest detectable effect is that of one comparison by itself, at 80 % power (Miller 2024)."
    beside = [
        text
        for column, text in (
            ("delta_bca_low", "BCa bootstrap intervals (Efron 1987)"),
            ("score_wilson_low", "score intervals of proportions (Wilson 1927)"),
            ("p_mcnemar", "the exact test of McNemar 1947"),
            ("p_holm", "p-values adjusted step by step (Holm 1979)"),
        )
        if _has(summary, column)
    ]
    if beside:
        yield f"summary.csv has beside these {', '.join(beside)}."
    yield "Cost is counted in forward passes: evaluations of the model on one full sequence."


def _has(summary: pd.DataFrame, column: str) -> bool:
    return column in summary and bool(summary[column].notna().any())


def works(text: str) -> list[str]:
    """The works that a text cites, in alphabetical order."""
    return sorted(work for name, work in WORKS.items() if name in text)


def samplers(study: Study) -> list[tuple[str, str, str]]:
    """For each sampler of a study its name, its rule in a sentence, and where that is taken from; empty where not known.

    Both are read from the docstring of the sampler's preset, which is not imported. Of samplers that are not of this package
    nothing is known.
    """
    runs = {run.sampler: run for pair in study.pairs for run in (pair.baseline, pair.candidate)}
    return [(name, *described(run)) for name, run in runs.items()]


def described(run: Run) -> tuple[str, str]:
    """Rule and reference of a run's sampler."""
    target = str(run.config["sampler"].get("target", ""))
    if not target.startswith(PRESETS):
        return "", ""
    name = target.removeprefix(PRESETS).partition(".")[0]
    file = files("tta_bench.sampling.presets") / f"{name}.py"
    if not file.is_file():  # a preset of another version
        return "", ""
    functions = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)]
    texts = [ast.get_docstring(node) or "" for node in functions if node.name == target.rpartition(".")[2]]
    return rule_and_reference(texts[0]) if texts else ("", "")


def rule_and_reference(docstring: str) -> tuple[str, str]:
    """The first sentence of a sampler's docstring and its section "Reference"."""
    rule = _flat(docstring.partition("\n\n")[0])
    found = re.search(r"^Reference:\n((?:[ ]{4}.*\n?)+)", docstring, flags=re.MULTILINE)
    return rule, _flat(found[1]) if found else ""


def _flat(text: str) -> str:
    return " ".join(text.split()).replace("``", "")
