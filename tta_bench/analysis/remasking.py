"""The table of remasking quality: are the tokens that are taken back the wrong ones, and does taking them back help?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tta_bench.analysis.compare import Compared
from tta_bench.analysis.describe import Describer, named
from tta_bench.analysis.load import Run, Study, alike
from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.section import Section
from tta_bench.analysis.signals import estimate_columns, known_tokens
from tta_bench.analysis.stats import Estimate, Floats, percentile_interval, resampled_counts
from tta_bench.analysis.uncertainty_quality import ratio

CONTROL = "random_remask"

RATIOS = {
    "precision": ("remasked_wrong", "remasked"),
    "recall": ("remasked_wrong", "remaskable_wrong"),
    "chance": ("expected_wrong", "remasked"),
    "lift": ("remasked_wrong", "expected_wrong"),
    "wrong_to_right": ("became_right", "remasked_wrong"),
    "right_to_wrong": ("became_wrong", "remasked_right"),
    "net_corrections": ("net", "answers"),
}
"""Each is a ratio of two sums over problems."""

CONTRASTED = tuple(name for name in RATIOS if name != "chance")
"""Those that are compared with the control."""

METHODS = {
    "precision": "wrong tokens among those taken back",
    "recall": "wrong tokens taken back among the wrong tokens that could be, counted at every step",
    "chance": "expected precision of a blind choice of as many tokens at the same steps",
    "lift": "precision over chance",
    "wrong_to_right": "of the wrong tokens taken back, those whose place was next filled with the right one",
    "right_to_wrong": "of the right tokens taken back, those whose place was next filled with a wrong one",
    "net_corrections": "tokens corrected minus tokens spoilt by taking back, per answer",
}


@dataclass(frozen=True)
class Tally:
    """Sums per problem of one run, or per cluster where problems are not independent.

    Attributes:
        problems: (C,) ids, or labels.
        sums: by name, (C,).
        n_problems: that were counted.
    """

    problems: tuple[str, ...]
    sums: Mapping[str, Floats]
    n_problems: int

    def ratios(self, counts: Floats) -> dict[str, Floats]:
        """Every ratio (R,) with problems drawn as often as ``counts`` (R, C) say."""
        return {name: ratio(counts @ self.sums[top], counts @ self.sums[bottom]) for name, (top, bottom) in RATIOS.items()}

    def on(self, problems: Sequence[str]) -> Tally:
        """The same for some of the problems."""
        places = [self.problems.index(name) for name in problems]
        return Tally(tuple(problems), {name: values[places] for name, values in self.sums.items()}, len(places))


def tally(tokens: pd.DataFrame) -> Tally:
    """Count what became of tokens.

    Args:
        tokens: of one run, a row for each key, step and token on the canvas; columns key, problem, unit, step,
            position, token, gold, loss, remaskable, remasked.
    """
    rows = tokens.sort_values(["key", "position", "step"], kind="stable")
    after = rows.groupby(["key", "position"], sort=False)["loss"].shift(-1)
    wrong, taken, free = rows["loss"] == 1, rows["remasked"], rows["remaskable"]
    at_step = [rows["key"], rows["step"]]
    share = (wrong & free).groupby(at_step).transform("sum") / free.groupby(at_step).transform("sum").clip(lower=1)
    became_right, became_wrong = taken & wrong & (after == 0), taken & ~wrong & (after == 1)
    counted = pd.DataFrame(
        {
            "remasked": taken,
            "remaskable": free,
            "remasked_wrong": taken & wrong,
            "remasked_right": taken & ~wrong,
            "remaskable_wrong": free & wrong,
            "expected_wrong": taken * share,
            "became_right": became_right,
            "became_wrong": became_wrong,
            "net": became_right.astype(float) - became_wrong.astype(float),
        }
    ).astype(float)
    sums = counted.groupby(rows["unit"]).sum()
    answers = rows.groupby("unit")["key"].nunique().astype(float)
    columns = {str(name): sums[name].to_numpy() for name in sums} | {"answers": answers.to_numpy()}
    return Tally(tuple(sums.index), columns, rows["problem"].nunique())


def remasking(found: Sequence[Compared], study: Study, describe: Describer, plan: TestPlan) -> Section | None:
    """A row for each run that took tokens back, and against the control of the same settings; None where nothing is known."""
    tallies: dict[str, tuple[Run, Tally]] = {}
    for one in found:
        run = one.pair.candidate
        if run.run_id not in tallies and len(tokens := known_tokens(run, one.problems, study.replicates)):
            tallies[run.run_id] = run, tally(tokens)
    controls = [entry for entry in tallies.values() if entry[0].sampler == CONTROL]
    rows = []
    for run, mine in tallies.values():
        if mine.sums["remasked"].sum():
            control = next((entry for entry in controls if entry[0] is not run and same_budget(entry[0], run)), None)
            told = measured(mine, plan) | (against(mine, control, plan) if control else {})
            rows.append({**named(run, describe), **told, "run_id": run.run_id})
    if not rows:
        return None
    level = f"{100 * (1 - plan.alpha):g} % percentile interval of a bootstrap over problems"
    methods = {name: f"{told}, {level}" for name, told in METHODS.items()}
    methods |= {
        f"{name}_difference": f"minus the same of {CONTROL} at the same budget, in the same resamples, {level}"
        for name in CONTRASTED
    }
    return Section(
        "remasking",
        "Remasking quality",
        pd.DataFrame(rows),
        methods | {"n_remasked": "tokens taken back, of the problems whose tokens were traced and can be judged"},
        "Tokens are judged against the right answer nearest to the one given; where several answers are right, what a token "
        "becomes in the end counts as right more easily than what it was. A lift of 1 is a blind choice.",
    )


def same_budget(control: Run, run: Run) -> bool:
    """Whether a control takes back as many, at the same steps: equal in all settings and in the parameters that both have.

    Of a sampler that decides its steps itself, or shares no parameter, no control does.
    """
    one, other = control.config["sampler"], run.config["sampler"]
    shared = one.keys() & other.keys() - {"name", "target"}
    steps = control.config["steps"], run.config["steps"]
    same = None not in steps and steps[0] == steps[1] and bool(shared)
    return same and alike(control, run) and all(one[key] == other[key] for key in shared)


def measured(mine: Tally, plan: TestPlan) -> dict[str, Any]:
    """Every ratio of a run with its interval, and why some have none."""
    columns: dict[str, Any] = {"n_problems": mine.n_problems, "n_remasked": int(mine.sums["remasked"].sum())}
    drawn, notes = resampled(mine, plan), []
    for name, values in mine.ratios(np.ones((1, len(mine.problems)))).items():
        estimate = interval(float(values[0]), drawn[name], mine, plan)
        columns |= estimate_columns(name, estimate)
        notes += [f"{name}: {estimate.note}"] if estimate.note else []
    if not mine.sums["remaskable_wrong"].sum():
        notes = ["no wrong token could be taken back: recall, lift and wrong_to_right are undefined"]
    return columns | {"note": "; ".join(notes)}


def against(mine: Tally, control: tuple[Run, Tally], plan: TestPlan) -> dict[str, Any]:
    """Every ratio minus that of the control, on the problems that both have."""
    known = set(control[1].problems)
    problems = [name for name in mine.problems if name in known]
    if not problems:
        return {}
    one, other = mine.on(problems), control[1].on(problems)
    drawn = resampled(one, plan), resampled(other, plan)
    points = [side.ratios(np.ones((1, len(problems)))) for side in (one, other)]
    columns: dict[str, Any] = {"control": control[0].run_id}
    for name in CONTRASTED:
        value = float(points[0][name][0] - points[1][name][0])
        estimate = interval(value, drawn[0][name] - drawn[1][name], one, plan)
        columns |= estimate_columns(f"{name}_difference", estimate)
    return columns


def resampled(mine: Tally, plan: TestPlan) -> dict[str, Floats]:
    """Every ratio in the resamples (R,): the same resamples for every tally of the same problems."""
    parts = [mine.ratios(counts) for counts in resampled_counts(len(mine.problems), plan.n_bootstrap, plan.seed)]
    return {name: np.concatenate([part[name] for part in parts]) for name in RATIOS}


def interval(value: float, drawn: Floats, mine: Tally, plan: TestPlan) -> Estimate:
    """A value with the percentile interval of its resamples."""
    if len(mine.problems) == 1:
        return Estimate(value, np.nan, np.nan, "a single problem: no interval can be estimated")
    return percentile_interval(value, drawn, 1 - plan.alpha)
