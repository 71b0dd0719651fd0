"""The tables of equal compute: each candidate at its own forward passes, whole curves, and the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tta_bench.analysis import equal_compute
from tta_bench.analysis.compare import Compared
from tta_bench.analysis.describe import PACE, Describer, all_but, named, without_budget
from tta_bench.analysis.equal_compute import Curve
from tta_bench.analysis.gate import complete, differences
from tta_bench.analysis.load import Pair, Run, Study
from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.section import Differences, Section, difference_columns, difference_methods, run_ids, tested
from tta_bench.analysis.stats import Floats
from tta_bench.runner.difference import flat

FAR = "nearest measured budget: not the same passes, not tested"
ALONE = "of one of the two a single budget counts: its AUP is no area"
UNLIKE = "the two keep different budgets: comparing their AUP says little"

FEW_PROBLEMS = 2
"""Fewer in common, and nothing is compared."""


@dataclass(frozen=True)
class Family:
    """Runs of one sampler that differ in their budget only, on the problems that all of them have.

    Attributes:
        runs: by ascending forward passes, one for each number of passes.
        problems: that all have.
        replicates: that count.
    """

    runs: tuple[Run, ...]
    problems: tuple[str, ...]
    replicates: int | None

    def passes(self, problems: Sequence[str]) -> Floats:
        """Forward passes (n, m) of some of the problems at each budget."""
        return np.stack([run.values("forward_passes", problems, self.replicates).mean(axis=1) for run in self.runs], axis=1)

    def on(self, problems: Sequence[str]) -> Curve:
        """The curve on some of the problems."""
        scores = [run.values("score", problems, self.replicates).mean(axis=1) for run in self.runs]
        return Curve(self.passes(problems).mean(axis=0), np.stack(scores, axis=1))


def budget_free(run: Run) -> str:
    """A run's configuration but for what sets its budget.

    That is the number of steps, and the parameter that ``PACE`` has for the sampler; of one that counts no steps and is not
    known there, all parameters.
    """
    pace, sampler = PACE.get(run.sampler), run.config["sampler"]
    if pace is None and run.config["steps"] is None:
        sampler = {"name": run.sampler}
    return all_but(run.config | {"sampler": {key: value for key, value in sampler.items() if key != pace}}, "steps")


def budget_free_settings(run: Run, describe: Describer) -> str:
    """What tells a run's family from others, in words; nothing where all its parameters stand for its budget."""
    known = run.config["steps"] is not None or run.sampler in PACE
    return without_budget(run.sampler, describe(run)) if known else ""


def one_budget(members: Sequence[Run]) -> bool:
    """Whether runs differ in one setting at most, which then is their budget, or in several that change together."""
    settings = [flat({key: value for key, value in run.config.items() if key != "schema"}) for run in members]
    keys = sorted({key for found in settings for key in found})
    levels = [tuple(repr(found.get(key)) for key in keys) for found in settings]
    return len(set(levels)) == max(len(set(column)) for column in zip(*levels, strict=True))


def family(first: Run, others: Sequence[Run], study: Study) -> Family:
    """A run and those of its family that may be compared with it, of several with the same forward passes the first.

    A run that lacks problems is left out, unless these are allowed to be missing; then all are cut to the common ones.
    """
    common = set(complete(first, study.replicates))
    runs = [first]
    for run in others:
        done = complete(run, study.replicates)
        if not (common <= done or study.allow.missing) or len(common & done) < FEW_PROBLEMS:
            continue
        if not study.allow.differences and differences(Pair(first, run), tuple(sorted(common & done))):
            continue
        common &= done
        runs.append(run)
    problems = tuple(sorted(common))
    passes = [float(run.values("forward_passes", problems, study.replicates).mean()) for run in runs] if problems else [0.0]
    different: dict[float, Run] = {}
    for cost, run in zip(passes, runs, strict=False):
        if not any(np.isclose(cost, known) for known in different):
            different[cost] = run
    return Family(tuple(different[cost] for cost in sorted(different)), problems, study.replicates)


def kin(runs: Sequence[Run]) -> list[list[Run]]:
    """Different runs, those that ``budget_free`` does not tell apart together.

    Where several parameters were swept, no line through the runs is a curve: each stands alone.
    """
    groups: dict[str, dict[str, Run]] = {}
    for run in runs:
        groups.setdefault(budget_free(run), {})[run.run_id] = run
    members = [list(group.values()) for group in groups.values()]
    return [part for group in members for part in ([group] if one_budget(group) else [[run] for run in group])]


def families(runs: Sequence[Run], study: Study) -> dict[str, Family]:
    """For each run, by its id, the family of its kin."""
    return {
        run.run_id: family(run, [other for other in group if other is not run], study) for group in kin(runs) for run in group
    }


def at_equal_passes(found: Sequence[Compared], study: Study, describe: Describer, plan: TestPlan) -> Section | None:
    """Each candidate against its baseline at the candidate's forward passes, on the baseline's measured curve.

    Beyond the budgets that were measured, the difference from the nearest is told, without a test.
    """
    curves = families([one.pair.baseline for one in found], study)
    rows: list[dict[str, Any]] = []
    columns: list[Differences] = []
    for one in found:
        base = curves[one.pair.baseline.run_id]
        problems = common(one.problems, base.problems)
        if len(problems) < FEW_PROBLEMS:
            continue
        run = one.pair.candidate
        passes = float(run.values("forward_passes", problems, study.replicates).mean())
        curve = base.on(problems)
        matched, how = curve.at(passes)
        scores = run.values("score", problems, study.replicates).mean(axis=1)
        columns.append(Differences(run.task, problems, scores - matched, run.clusters(problems)))
        rows.append(
            {
                **named(run, describe),
                "n_problems": len(problems),
                "forward_passes": passes,
                "score": scores.mean(),
                "baseline_score": matched.mean(),
                "baseline": how,
                "baseline_budgets": " ".join(f"{x:g}" for x in curve.passes),
                "run_id": run.run_id,
                "baseline_run_id": one.pair.baseline.run_id,
                "baseline_runs": run_ids([run.run_id for run in base.runs]),
            }
        )
    if not rows:
        return None
    # All are tested, so that what was measured is adjusted as in the summary; what lies beyond the curve is not told.
    told = judged_columns(columns, plan)
    for i, row in enumerate(rows):
        beyond = str(row["baseline"]).startswith("nearest")
        row |= untested(columns[i]) if beyond else told[i] | {"note": joined(row["baseline"], told[i]["note"])}
    frame = pd.DataFrame(rows)
    return Section(
        "equal_passes",
        "At equal forward passes",
        frame,
        {
            "score": "mean over problems",
            "forward_passes": "mean over problems",
            "baseline_score": "baseline at the candidate's forward passes, as column baseline says: measured, interpolated "
            "linearly in log2(passes) problem by problem, or the nearest measured",
            **difference_methods(plan),
        },
        "The baseline is interpolated between the budgets that were measured, which takes its curve to be straight there, and "
        "the mean forward passes to be known. Beyond them the nearest is shown, and nothing is tested.",
    )


def untested(one: Differences) -> dict[str, Any]:
    """The columns of a comparison that is told and not tested."""
    nothing = dict.fromkeys(("delta_low", "delta_high", "p_value", "p_adjusted"), np.nan)
    return {"delta": float(one.d.mean()), **nothing, "verdict": "", "note": FAR}


def joined(*notes: object) -> str:
    """Notes as one, empty ones left out."""
    return "; ".join(str(note) for note in notes if note)


def whole_curves(found: Sequence[Compared], study: Study, describe: Describer, plan: TestPlan) -> Section | None:
    """For each candidate that was run at several budgets: its height over the baseline's curve, and both samplers' AUP."""
    bases = families([one.pair.baseline for one in found], study)
    ours = families([one.pair.candidate for one in found], study)
    rows: list[dict[str, Any]] = []
    columns: list[Differences] = []
    matches: dict[tuple[str, ...], Match] = {}
    for one in found:
        match = matched(ours[one.pair.candidate.run_id], bases[one.pair.baseline.run_id], one.problems)
        if match:  # every member of a family finds the same, where all have the same problems
            matches.setdefault(match.key, match)
    parallel = parallelism(list(matches.values()), plan)
    for match, told in zip(matches.values(), parallel, strict=True):
        run, mine, base = match.mine.runs[-1], match.mine.on(match.problems), match.base.on(match.problems)
        heights, (low, high) = equal_compute.height_between(base, mine)
        columns.append(Differences(run.task, match.problems, heights, run.clusters(match.problems)))
        rows.append(
            {
                **named(run, describe),
                "settings": budget_free_settings(run, describe),
                "n_problems": len(match.problems),
                "budgets": " ".join(f"{x:g}" for x in mine.passes),
                "baseline_budgets": " ".join(f"{x:g}" for x in base.passes),
                "passes_from": low,
                "passes_to": high,
                **told,
                "run_id": run_ids([run.run_id for run in match.mine.runs]),
                "baseline_runs": run_ids([run.run_id for run in match.base.runs]),
            }
        )
    if not rows:
        return None
    level = f"{100 * (1 - plan.alpha):g} % percentile interval of a bootstrap over problems"
    return Section(
        "curves",
        "Whole curves",
        pd.DataFrame([row | more for row, more in zip(rows, judged_columns(columns, plan, "height"), strict=True)]),
        {
            "passes_from": "smallest budget that both were measured at or between",
            "passes_to": "largest such budget",
            "aup": f"accuracy under parallelism (Qian et al. 2026), {level}",
            "baseline_aup": f"accuracy under parallelism, {level}",
            "aup_difference": f"candidate minus baseline in the same resamples, {level}",
            "aup_budgets": "budgets that count for AUP: no more than 5 points below the one with the most passes",
            "baseline_aup_budgets": "the same of the baseline",
            **difference_methods(plan, "height"),
        },
        "Height: the area between the curves of score over log2(forward passes), divided by its width. AUP as published leaves "
        "out budgets that lose more than 5 points, so that it jumps where one falls out, and can rank two samplers against "
        "their heights; its best accuracy is that of the samplers compared with one baseline.",
    )


@dataclass(frozen=True)
class Match:
    """Two families whose curves have a range in common, and the problems that both have."""

    mine: Family
    base: Family
    problems: tuple[str, ...]

    @property
    def key(self) -> tuple[str, ...]:
        """Names the runs."""
        return tuple(sorted(run.run_id for side in (self.mine, self.base) for run in side.runs))


def matched(mine: Family, base: Family, asked: Sequence[str]) -> Match | None:
    """On the problems asked for; None where one has a single budget, or the curves no range or no problems in common."""
    problems = common(asked, common(base.problems, mine.problems))
    if min(len(mine.runs), len(base.runs)) < 2 or len(problems) < FEW_PROBLEMS:
        return None
    one, other = mine.on(problems).passes, base.on(problems).passes
    return Match(mine, base, problems) if max(one[0], other[0]) < min(one[-1], other[-1]) else None


def parallelism(matches: Sequence[Match], plan: TestPlan) -> list[dict[str, Any]]:
    """For each match, AUP of both samplers and their difference; nothing where it was not recorded how much was filled.

    The best accuracy, against which losses are penalised, is that of all samplers that are compared with one baseline.
    """
    groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[int]] = {}
    for i, match in enumerate(matches):
        groups.setdefault((tuple(run.run_id for run in match.base.runs), match.problems), []).append(i)
    found: list[dict[str, Any]] = [{} for _ in matches]
    for (_, problems), places in groups.items():
        base = matches[places[0]].base
        tokens = base.runs[0].values("filled", problems, base.replicates).mean(axis=1)
        if np.isnan(tokens).any():
            continue
        sides = {str(i): matches[i].mine for i in places} | {"baseline": base}
        estimates = equal_compute.parallelism_estimates(
            {name: (side.passes(problems), side.on(problems).scores) for name, side in sides.items()},
            tokens,
            clusters=base.runs[0].clusters(problems),
            confidence=1 - plan.alpha,
            n_resamples=plan.n_bootstrap,
            rng=plan.seed,
        )
        other, others = estimates["baseline"]
        for i in places:
            one, drawn = estimates[str(i)]
            low, high = np.quantile(drawn - others, [plan.alpha / 2, 1 - plan.alpha / 2])
            mine_kept, base_kept = (kept_budgets(side, problems) for side in (matches[i].mine, base))
            found[i] = {
                "aup": one.value,
                "aup_low": one.ci_low,
                "aup_high": one.ci_high,
                "baseline_aup": other.value,
                "baseline_aup_low": other.ci_low,
                "baseline_aup_high": other.ci_high,
                "aup_difference": one.value - other.value,
                "aup_difference_low": float(low),
                "aup_difference_high": float(high),
                "aup_budgets": len(mine_kept),
                "baseline_aup_budgets": len(base_kept),
                "aup_note": ALONE if 1 in (len(mine_kept), len(base_kept)) else "" if mine_kept == base_kept else UNLIKE,
            }
    return found


def kept_budgets(side: Family, problems: Sequence[str]) -> tuple[float, ...]:
    """The budgets that count for AUP: those that lose no more than 5 points against the one with the most passes."""
    curve = side.on(problems)
    accuracy = 100 * curve.scores.mean(axis=0)
    return tuple(curve.passes[accuracy >= accuracy[-1] - equal_compute.SLACK - 1e-9].tolist())


def pareto(found: Sequence[Compared], study: Study, describe: Describer, plan: TestPlan) -> Section | None:
    """For each task, which runs no other beats in both passes and score, and how sure that is."""
    rows: list[dict[str, Any]] = []
    for group in same_conditions(found):
        runs = list({run.run_id: run for one in group for run in (one.pair.baseline, one.pair.candidate)}.values())
        problems = group[0].problems
        for one in group[1:]:
            problems = common(problems, one.problems)
        if len(problems) < FEW_PROBLEMS or len(runs) < 2:
            continue
        passes, scores = (
            np.stack([run.values(column, problems, study.replicates).mean(axis=1) for run in runs], axis=1)
            for column in ("forward_passes", "score")
        )
        shown = equal_compute.on_front(passes.mean(axis=0), scores.mean(axis=0))
        sure = equal_compute.front_probability(
            passes, scores, clusters=runs[0].clusters(problems), n_resamples=plan.n_bootstrap, rng=plan.seed
        )
        rows += [
            {
                **named(run, describe),
                "n_problems": len(problems),
                "forward_passes": passes[:, i].mean(),
                "score": scores[:, i].mean(),
                "on_front": bool(shown[i]),
                "front_probability": sure[i],
                "run_id": run.run_id,
            }
            for i, run in sorted(enumerate(runs), key=lambda item: passes[:, item[0]].mean())
        ]
    if not rows:
        return None
    return Section(
        "pareto",
        "Pareto front of score and forward passes",
        pd.DataFrame(rows),
        {
            "forward_passes": "mean over problems",
            "score": "mean over problems",
            "front_probability": "share of bootstrap resamples of the problems in which the run is on the front",
        },
        "On the front: no other run costs as little and scores as much, and is better in one of them.",
    )


def same_conditions(found: Sequence[Compared]) -> list[list[Compared]]:
    """Comparisons whose runs differ in sampler and budget only, together."""
    groups: dict[str, list[Compared]] = {}
    for one in found:
        groups.setdefault(all_but(one.pair.baseline.config, "steps", "sampler", "constraint"), []).append(one)
    return list(groups.values())


def common(some: Sequence[str], others: Sequence[str]) -> tuple[str, ...]:
    """What is in both, in the order of the first."""
    known = set(others)
    return tuple(name for name in some if name in known)


def judged_columns(columns: Sequence[Differences], plan: TestPlan, prefix: str = "delta") -> list[dict[str, Any]]:
    """For each comparison the columns with its test, adjusted for their number; ``prefix`` names them."""
    found = tested(columns, plan)
    return [
        difference_columns(one, float(found.p_value[i]), float(found.p_adjusted[i]), plan, prefix)
        for i, one in enumerate(columns)
    ]
