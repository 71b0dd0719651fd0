"""The table of texts: how long, how varied and how repetitive the answers of each run are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from tta_bench.analysis.compare import Compared
from tta_bench.analysis.describe import Describer, named
from tta_bench.analysis.load import Run, Study
from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.section import Section
from tta_bench.analysis.stats import mean_interval

LONGEST_REPEAT = 4
"""Words of an n-gram whose repetition within an answer counts."""


def text_table(found: Sequence[Compared], study: Study, describe: Describer, plan: TestPlan) -> Section | None:
    """A row for each run whose answers are on disk."""
    rows: dict[str, dict[str, Any]] = {}
    for one in found:
        for run in (one.pair.baseline, one.pair.candidate):
            if run.run_id in rows:
                continue
            texts = texts_of(run, one.problems, study.replicates)
            words = {problem: [text.split() for text in several] for problem, several in texts.items()}
            every = [answer for several in words.values() for answer in several]
            if not every:
                continue
            row = named(run, describe) | {"n_problems": len(texts)}
            per_problem = {
                "characters": [np.mean([len(text) for text in several]) for several in texts.values()],
                "words": [np.mean([len(answer) for answer in several]) for several in words.values()],
                "repetition": [np.mean([repetition(answer) for answer in several]) for several in words.values()],
            }
            clusters = run.clusters(list(texts))
            for name, values in per_problem.items():
                estimate = mean_interval(np.array(values), 1 - plan.alpha, clusters)
                row |= {name: estimate.value, f"{name}_low": estimate.ci_low, f"{name}_high": estimate.ci_high}
            row |= {"empty": np.mean([not answer for answer in every])}
            row |= {f"distinct_{n}": distinct(every, n) for n in (1, 2)}
            rows[run.run_id] = row | {"run_id": run.run_id}
    if not rows:
        return None
    level = f"mean over problems, {100 * (1 - plan.alpha):g} % t interval"
    return Section(
        "texts",
        "Texts",
        pd.DataFrame(list(rows.values())),
        {
            "characters": f"length of an answer, {level}",
            "words": f"words of an answer, {level}",
            "repetition": f"share of an answer's n-grams of {LONGEST_REPEAT} words that occurred in it before, {level}",
            "empty": "share of answers without a word",
            "distinct_1": "different words over all words of all answers (Li et al. 2016)",
            "distinct_2": "different pairs of words over all pairs of all answers (Li et al. 2016)",
        },
        "Words are what blanks separate. Distinct-n falls with the number of words: compare it between runs of like length.",
    )


def texts_of(run: Run, problems: Sequence[str], replicates: int | None) -> dict[str, list[str]]:
    """The answers of a run by problem."""
    wanted, found = set(problems), dict[str, list[str]]()
    for record in run.answers():
        counts = replicates is None or record["replicate"] < replicates
        if record["problem"] in wanted and counts:
            found.setdefault(record["problem"], []).append(record["text"])
    return dict(sorted(found.items()))


def distinct(answers: Sequence[Sequence[str]], n: int) -> float:
    """Distinct-n: different n-grams over all n-grams of all answers; NaN where there are none.

    Reference:
        Li et al., "A Diversity-Promoting Objective Function for Neural Conversation Models", NAACL 2016, arXiv:1510.03055.
    """
    grams = [gram for answer in answers for gram in ngrams(answer, n)]
    return len(set(grams)) / len(grams) if grams else np.nan


def repetition(words: Sequence[str], n: int = LONGEST_REPEAT) -> float:
    """The share of a text's n-grams that occurred in it before; 0 where it is too short to have any."""
    grams = Counter(ngrams(words, n))
    total = sum(grams.values())
    return (total - len(grams)) / total if total else 0.0


def ngrams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    """All runs of n words."""
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
