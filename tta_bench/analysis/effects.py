"""What the hyper-parameters of a sweep do: main effects and interactions, problem by problem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from tta_bench.analysis import stats
from tta_bench.analysis.budgets import common, same_conditions
from tta_bench.analysis.compare import Compared
from tta_bench.analysis.describe import settings_of
from tta_bench.analysis.load import Run, Study
from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.section import Differences, Section, run_ids, tested
from tta_bench.analysis.stats import Floats

LEAST_PROBLEMS = 2


@dataclass(frozen=True)
class Sweep:
    """Runs of one sampler on one task that differ in some parameters (*factors*).

    Attributes:
        task, sampler: of all.
        runs: of the sweep.
        levels: (runs) the value of each factor, by factor.
        scores: (n, runs) per problem.
        problems: their ids.
    """

    task: str
    sampler: str
    runs: tuple[Run, ...]
    levels: Mapping[str, tuple[Any, ...]]
    scores: Floats
    problems: tuple[str, ...]

    @property
    def title(self) -> str:
        """What is swept on what."""
        config = self.runs[0].config
        places = (self.task, config.get("split"), config["model"]["name"])
        return f"{self.sampler} on {', '.join(str(place) for place in places if place)}"

    def values(self, factor: str) -> list[Any]:
        """The different values of a factor, in order; the first is the reference."""
        return sorted(set(self.levels[factor]), key=lambda value: (isinstance(value, str), value is None, value))

    @cached_property
    def _places(self) -> dict[tuple[Any, ...], int]:
        """Numbers of the runs by their levels."""
        return {levels: i for i, levels in enumerate(zip(*self.levels.values(), strict=True))}

    def at(self, run: int, changed: Mapping[str, Any]) -> int | None:
        """The run that differs from number ``run`` in these levels only."""
        return self._places.get(tuple(changed.get(factor, levels[run]) for factor, levels in self.levels.items()))


def sweeps(found: Sequence[Compared], study: Study) -> list[Sweep]:
    """The sweeps among the candidates."""
    result = []
    for group in same_conditions(found):
        by_sampler: dict[str, dict[str, Compared]] = {}
        for one in group:
            by_sampler.setdefault(one.pair.candidate.sampler, {})[one.pair.candidate.run_id] = one
        for sampler, members in by_sampler.items():
            runs = [one.pair.candidate for one in members.values()]
            settings = [{key: plain(value) for key, value in settings_of(run).items()} for run in runs]
            keys = dict.fromkeys(key for found in settings for key in found)
            factors = [key for key in keys if len({repr(found.get(key)) for found in settings}) > 1]
            problems = next(iter(members.values())).problems
            for one in members.values():
                problems = common(problems, one.problems)
            if not factors or len(problems) < LEAST_PROBLEMS:
                continue
            scores = [run.values("score", problems, study.replicates).mean(axis=1) for run in runs]
            levels = joined({factor: tuple(found.get(factor) for found in settings) for factor in factors})
            result.append(Sweep(runs[0].task, sampler, tuple(runs), levels, np.stack(scores, axis=1), problems))
    return result


def joined(levels: Mapping[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    """The factors, those that change together as one, which has the values of the last: no runs differ in one of them only."""
    groups: dict[tuple[int, ...], list[str]] = {}
    for factor, values in levels.items():
        groups.setdefault(tuple(values.index(value) for value in values), []).append(factor)
    return {" and ".join(names): levels[names[-1]] for names in groups.values()}


def plain(value: object) -> object:
    """A value that can be a level: lists and mappings as text."""
    return repr(value) if isinstance(value, list | dict) else value


def effects(found: Sequence[Compared], study: Study, plan: TestPlan) -> Section | None:
    """Main effects and two-way interactions of every sweep; None where nothing was swept."""
    frames = []
    for sweep in sweeps(found, study):
        main = [row for factor in sweep.levels for row in main_effects(sweep, factor)]
        mixed = [row for one, other in combinations(sweep.levels, 2) for row in interactions(sweep, one, other)]
        for rows in (main, mixed):
            if rows:
                frames.append(estimated(sweep, rows, plan))
    if not frames:
        return None
    level = f"{100 * (1 - plan.alpha):g} % t interval over problems"
    return Section(
        "effects",
        "Effects of hyper-parameters",
        pd.concat(frames, ignore_index=True),
        {
            "effect": f"mean paired contrast over problems, averaged over runs that agree in all other parameters, {level}",
            "p_value": "two-sided sign-flip permutation test",
            "p_adjusted": "as column adjustment says: max-T over the main effects of the sweep; Benjamini-Hochberg, "
            "exploratory, over its interactions",
        },
        "Main effect: a level against the reference level. Interaction: how much one effect changes with the other parameter. "
        "Interactions are exploratory. Choose settings on dev and confirm them on test.",
    )


@dataclass(frozen=True)
class Contrast:
    """A contrast of runs: what is compared, and its value per problem (n,)."""

    kind: str
    factor: str
    level: str
    reference: str
    d: Floats
    n_matched: int
    runs: tuple[int, ...]


def main_effects(sweep: Sweep, factor: str) -> list[Contrast]:
    """Each level of a factor against its first, over all pairs of runs that differ in nothing else."""
    reference, *others = sweep.values(factor)
    rows = []
    for level in others:
        ours = [i for i, value in enumerate(sweep.levels[factor]) if value == level]
        pairs = [(i, j) for i in ours if (j := sweep.at(i, {factor: reference})) is not None]
        if pairs:
            d = np.mean([sweep.scores[:, i] - sweep.scores[:, j] for i, j in pairs], axis=0)
            used = tuple(i for pair in pairs for i in pair)
            rows.append(Contrast("main", factor, f"{level}", f"{reference}", d, len(pairs), used))
    return rows


def interactions(sweep: Sweep, one: str, other: str) -> list[Contrast]:
    """How the effect of each level of one factor differs between each level of another and its first."""
    (base_one, *levels_one), (base_other, *levels_other) = sweep.values(one), sweep.values(other)
    rows = []
    for a in levels_one:
        for b in levels_other:
            corners = []
            for i in range(len(sweep.runs)):
                if (sweep.levels[one][i], sweep.levels[other][i]) == (a, b):
                    changes: list[dict[str, Any]] = [{}, {one: base_one}, {other: base_other}]
                    changes.append(changes[1] | changes[2])
                    square = [place for changed in changes if (place := sweep.at(i, changed)) is not None]
                    corners += [square] if len(square) == len(changes) else []
            if corners:
                d = np.mean([sweep.scores[:, square] @ np.array([1.0, -1, -1, 1]) for square in corners], axis=0)
                used = tuple(i for square in corners for i in square)
                rows.append(
                    Contrast(
                        "interaction", f"{one} x {other}", f"{a} x {b}", f"{base_one} x {base_other}", d, len(corners), used
                    )
                )
    return rows


def estimated(sweep: Sweep, rows: Sequence[Contrast], plan: TestPlan) -> pd.DataFrame:
    """Contrasts of one kind with intervals, tests and adjustment."""
    clusters = sweep.runs[0].clusters(sweep.problems)
    found = tested([Differences(sweep.task, sweep.problems, row.d, clusters) for row in rows], plan)
    exploratory = rows[0].kind == "interaction"
    adjusted = stats.benjamini_hochberg(found.p_value) if exploratory else found.p_adjusted
    told = []
    for i, row in enumerate(rows):
        effect = stats.mean_interval(row.d, 1 - plan.alpha, clusters)
        told.append(
            {
                "task": sweep.task,
                "model": sweep.runs[0].config["model"]["name"],
                "split": sweep.runs[0].config.get("split"),
                "sampler": sweep.sampler,
                "kind": row.kind,
                "factor": row.factor,
                "level": row.level,
                "reference": row.reference,
                "n_problems": len(row.d),
                "n_matched": row.n_matched,
                "effect": effect.value,
                "effect_low": effect.ci_low,
                "effect_high": effect.ci_high,
                "p_value": found.p_value[i],
                "p_adjusted": adjusted[i],
                "adjustment": "Benjamini-Hochberg, exploratory" if exploratory else "max-T",
                "run_id": run_ids([sweep.runs[j].run_id for j in row.runs]),
            }
        )
    return pd.DataFrame(told)


def response(sweep: Sweep, one: str, other: str) -> pd.DataFrame:
    """Mean score by the levels of two factors (rows, columns), averaged over whatever else differs; for a heat map."""
    frame = pd.DataFrame({one: sweep.levels[one], other: sweep.levels[other], "score": sweep.scores.mean(axis=0)})
    table = frame.pivot_table(index=one, columns=other, values="score", aggfunc="mean", sort=False)
    return table.reindex(index=sweep.values(one), columns=sweep.values(other))
