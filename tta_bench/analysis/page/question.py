"""What a study asks: what is compared with what, on which tasks, with how much."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from tta_bench.analysis.load import Run, Study
from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.tables import REFUSED, listed

MOST_NAMED = 6
"""Names that a sentence has room for; of more, it says how many."""


def question(study: Study) -> str:
    """The question in one sentence."""
    candidates = named([pair.candidate.sampler for pair in study.pairs], "samplers")
    baselines = named([pair.baseline.sampler for pair in study.pairs], "baselines")
    tasks = named([pair.candidate.task for pair in study.pairs], "tasks")
    verb = "Does" if len({pair.candidate.sampler for pair in study.pairs}) == 1 else "Do"
    return f"{verb} {candidates} score better than {baselines} on {tasks}?"


def facts(study: Study, summary: pd.DataFrame, plan: TestPlan) -> dict[str, str]:
    """What the answer rests on, a few words each, by what they tell."""
    runs = [run for pair in study.pairs for run in (pair.baseline, pair.candidate)]
    done = summary[summary["score"].notna()]
    n_compared = int((~summary["verdict"].isin(["", *REFUSED])).sum())
    steps = sorted({run.config["steps"] for run in runs if run.config["steps"] is not None})
    passes = done["forward_passes"]
    spread = f"{passes.min():.4g}" if passes.min() == passes.max() else f"{passes.min():.4g} to {passes.max():.4g}"
    split = "".join(f", {text} split" for text in settings(runs, "split"))
    return {
        "problems": f"{listed(done['n_problems'])} a task{split}" if len(done) else "none",
        "replicates": listed(done["replicates"]) if len(done) else "none",
        "budgets": (f"{', '.join(map(str, steps))} steps; " if steps else "") + f"{spread} forward passes an answer",
        "model": named([run.config["model"]["name"] for run in runs], "models"),
        "comparisons": f"{n_compared}, tested {'together ' if n_compared > 1 else ''}at level {plan.alpha:g}; differences of "
        f"up to {100 * plan.margin:g} points do not matter",
    }


def settings(runs: Iterable[Run], key: str) -> list[str]:
    """The different values of a key of the configurations."""
    return list(dict.fromkeys(str(run.config[key]) for run in runs if run.config.get(key) is not None))


def named(names: Sequence[str], kind: str) -> str:
    """Different names in a sentence."""
    different = list(dict.fromkeys(names))
    if len(different) > MOST_NAMED:
        return f"{len(different)} {kind}"
    return different[0] if len(different) == 1 else f"{', '.join(different[:-1])} and {different[-1]}"
