"""Standings: all samplers of a study at the same budgets of forward passes, against the baseline and against one in focus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from tta_bench.analysis.budgets import (
    FEW_PROBLEMS,
    Family,
    budget_free_settings,
    common,
    family,
    joined,
    judged_columns,
    kin,
    same_conditions,
)
from tta_bench.analysis.compare import Compared
from tta_bench.analysis.describe import Describer
from tta_bench.analysis.equal_compute import Curve
from tta_bench.analysis.load import AnalysisError, Run, Study
from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.section import Differences, Section, difference_methods, run_ids
from tta_bench.analysis.stats import Floats, mean_interval

BUDGETS = tuple(2**exponent for exponent in range(11))
"""Forward passes."""

MANY = 4
"""Samplers above which a study has standings; fewer are told by the other tables."""


@dataclass(frozen=True)
class Entrant:
    """A sampler with all settings but its budget.

    Attributes:
        run: one of its runs.
        settings: what tells it from other entrants of the same sampler.
        family: its runs.
        curve: their scores on the problems that all entrants have.
    """

    run: Run
    settings: str
    family: Family
    curve: Curve

    @staticmethod
    def of(family: Family, problems: Sequence[str], describe: Describer) -> Entrant:
        """A family on some of the problems."""
        run = family.runs[0]
        return Entrant(run, budget_free_settings(run, describe), family, family.on(problems))

    @property
    def runs(self) -> str:
        """Ids of its runs."""
        return run_ids([run.run_id for run in self.family.runs])

    def within(self, budget: float) -> tuple[Floats, float, str] | None:
        """Scores (n,) with at most so many passes on average, the passes it takes, and how that was found; None: it needs more.

        Between two of its budgets that is interpolated; with more than its largest budget it can do nothing.
        """
        first, last = self.curve.passes[[0, -1]]
        if budget < first * (1 - 1e-9):
            return None
        spent = min(float(budget), float(last))
        scores, how = self.curve.at(spent)
        return scores, spent, how if spent == budget else f"its largest budget is {last:g}"


@dataclass(frozen=True)
class Field:
    """All entrants under the same conditions, the baseline first.

    Attributes:
        entrants: with curves on the same problems.
        problems: their ids.
    """

    entrants: tuple[Entrant, ...]
    problems: tuple[str, ...]

    @property
    def budgets(self) -> Iterator[int]:
        """Powers of two within the baseline's budgets."""
        low, high = self.entrants[0].curve.passes[[0, -1]]
        return (budget for budget in BUDGETS if low * (1 - 1e-9) <= budget <= high * (1 + 1e-9))

    def differences(self, d: Floats) -> Differences:
        """Of two entrants, (n,)."""
        run = self.entrants[0].run
        return Differences(run.task, self.problems, d, run.clusters(self.problems))


def fields_of(found: Sequence[Compared], study: Study, describe: Describer) -> list[Field]:
    """For each task and other conditions, the entrants; none where they are few, or the baseline has a single budget."""
    fields = []
    for group in same_conditions(found):
        runs = [run for one in group for run in (one.pair.baseline, one.pair.candidate)]
        found_families = [family(first, others, study) for first, *others in kin(runs)]
        problems = group[0].problems
        for member in found_families:
            problems = common(problems, member.problems)
        if len(problems) < FEW_PROBLEMS:
            continue
        entrants = distinct([Entrant.of(member, problems, describe) for member in found_families], describe)
        if len({entrant.run.sampler for entrant in entrants}) > MANY and len(entrants[0].family.runs) > 1:
            fields.append(Field(entrants, problems))
    return fields


def distinct(entrants: Sequence[Entrant], describe: Describer) -> tuple[Entrant, ...]:
    """The entrants, those that share a name with all their settings: where several parameters were swept, each run is one."""
    names = Counter((entrant.run.sampler, entrant.settings) for entrant in entrants)
    return tuple(
        replace(entrant, settings=describe(entrant.run)) if names[entrant.run.sampler, entrant.settings] > 1 else entrant
        for entrant in entrants
    )


def standings(fields: Sequence[Field], plan: TestPlan) -> Section | None:
    """Every sampler at budgets of 1, 2, 4, ... forward passes, and its difference from the baseline there."""
    rows: list[dict[str, Any]] = []
    columns: list[Differences] = []
    places: list[int] = []
    for field in fields:
        baseline = field.entrants[0]
        clusters = baseline.run.clusters(field.problems)
        for budget in field.budgets:
            theirs = baseline.within(budget)
            for entrant in field.entrants:
                mine = entrant.within(budget)
                if mine is None or theirs is None:
                    continue
                scores, passes, how = mine
                score = mean_interval(scores, 1 - plan.alpha, clusters)
                if entrant is not baseline:
                    places.append(len(rows))
                    columns.append(field.differences(scores - theirs[0]))
                rows.append(
                    {
                        "task": entrant.run.task,
                        "budget": budget,
                        "sampler": entrant.run.sampler,
                        "settings": entrant.settings,
                        "n_problems": len(field.problems),
                        "forward_passes": passes,
                        "score": score.value,
                        "score_low": score.ci_low,
                        "score_high": score.ci_high,
                        "measured": how,
                        "run_id": entrant.runs,
                        "baseline_runs": baseline.runs,
                    }
                )
    if not columns:
        return None
    nothing = dict.fromkeys(("delta", "delta_low", "delta_high", "p_value", "p_adjusted"), np.nan)
    told = [nothing | {"verdict": "baseline", "note": ""} for _ in rows]
    for place, judged in zip(places, judged_columns(columns, plan), strict=True):
        told[place] = judged
    return Section(
        "standings",
        "Standings at equal forward passes",
        pd.DataFrame([row | more for row, more in zip(rows, told, strict=True)]),
        {
            "budget": "forward passes per answer, mean over problems, at most; within the baseline's budgets",
            "forward_passes": "the budget, or less where a sampler's largest takes less",
            "score": "mean over problems; between two measured budgets interpolated linearly in log2(passes), problem by "
            f"problem; {100 * (1 - plan.alpha):g} % t interval",
            **difference_methods(plan),
        },
        "Difference: from the baseline (the first row of a task and budget) at the same budget. A sampler whose settings all "
        "take fewer passes keeps the score of the largest of them; one that needs more is not listed.",
    )


def focused(fields: Sequence[Field], study: Study, plan: TestPlan) -> Section | None:
    """The sampler in focus against each of the others, at the budgets of the standings.

    Raises:
        AnalysisError: the study has no such sampler.
    """
    if plan.focus is None:
        return None
    names = sorted({run.sampler for pair in study.pairs for run in (pair.baseline, pair.candidate)})
    if plan.focus not in names:
        raise AnalysisError(f"analysis.focus={plan.focus}: is no sampler of this study; it has {', '.join(names)}")
    rows: list[dict[str, Any]] = []
    columns: list[Differences] = []
    for field in fields:
        for one in (entrant for entrant in field.entrants if entrant.run.sampler == plan.focus):
            for budget in field.budgets:
                mine = one.within(budget)
                for rival in (entrant for entrant in field.entrants if entrant is not one):
                    theirs = rival.within(budget)
                    if mine is None or theirs is None:
                        continue
                    columns.append(field.differences(mine[0] - theirs[0]))
                    rows.append(
                        {
                            "task": one.run.task,
                            "budget": budget,
                            "sampler": one.run.sampler,
                            "settings": one.settings,
                            "rival": rival.run.sampler,
                            "rival_settings": rival.settings,
                            "n_problems": len(field.problems),
                            "forward_passes": mine[1],
                            "rival_passes": theirs[1],
                            "score": mine[0].mean(),
                            "rival_score": theirs[0].mean(),
                            "measured": joined(mine[2], theirs[2]),
                            "run_id": one.runs,
                            "baseline_runs": rival.runs,
                        }
                    )
    if not rows:
        return None
    return Section(
        "focus",
        f"{plan.focus} against each of the others at equal forward passes",
        pd.DataFrame([row | more for row, more in zip(rows, judged_columns(columns, plan), strict=True)]),
        {
            "budget": "forward passes per answer, mean over problems, at most",
            "forward_passes": "the budget, or less where the sampler's largest takes less",
            "rival_passes": "the same of the rival",
            "score": "mean over problems, interpolated as in the standings",
            "rival_score": "mean over problems, interpolated as in the standings",
            **difference_methods(plan),
        },
        "As in the standings. Difference: minus the rival.",
    )


def standings_table(frame: pd.DataFrame, budgets: Sequence[int]) -> str:
    """Standings in Markdown: a row for each sampler, a column for each task and budget, per cent.

    Bold: significantly better than the baseline at the same budget, italic: significantly worse. Highest mean
    first, samplers that need more than one of the budgets last.

    Args:
        frame: of ``standings``.
        budgets: to be shown.
    """
    marks = {"better": "**", "worse": "*"}
    shown = frame[frame["budget"].isin(budgets)]
    shown = shown.assign(
        name=(shown["sampler"] + " " + shown["settings"]).str.strip(),
        mark=shown["verdict"].map(marks).fillna(""),
        percent=(100 * shown["score"]).map("{:.1f}".format),
    )
    shown = shown.assign(cell=shown["mark"] + shown["percent"] + shown["mark"])
    columns = pd.MultiIndex.from_frame(shown[["task", "budget"]].drop_duplicates())
    table = shown.pivot(index="name", columns=["task", "budget"], values="cell").reindex(columns=columns)
    order = shown.groupby("name")["score"].agg(["size", "mean"]).sort_values(["size", "mean"], ascending=False).index
    heading = "| | " + " | ".join(f"{task}, {budget}" for task, budget in columns) + " |"
    rows = ["| " + " | ".join([name, *table.loc[name].fillna("-")]) + " |" for name in order]
    return "\n".join([heading, "|---" * (len(columns) + 1) + "|", *rows]) + "\n"
