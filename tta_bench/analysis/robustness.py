"""The table of robustness: the same sampler on the same problems, put or computed in another way, and which answers flip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tta_bench.analysis import stats
from tta_bench.analysis.compare import Compared
from tta_bench.analysis.describe import Describer, shown
from tta_bench.analysis.load import Run, Study
from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.proportions import wilson_limits
from tta_bench.analysis.section import Differences, Section, difference_columns, difference_methods, tested
from tta_bench.analysis.stats import Floats
from tta_bench.runner.difference import PLACES, flat

FORM = (
    "prompt_form", "chat_template", "add_bos", "task.prompt", "task.instruction", "task.separator", "task.example",
    "task.fewshot", "task.edition", "task.version", "task.data",
)  # fmt: skip
"""Settings of how a problem is put to the model. What they imply (``task.data`` of other examples) is among them."""

ARITHMETIC = ("dtype", "batch_size", "device", "compile", "seed")
"""Settings that should not matter, of how answers are computed and drawn."""

IMPLIED = ("task.data", "task.version")


@dataclass(frozen=True)
class Variants:
    """Runs of one sampler that differ in form and arithmetic only.

    Attributes:
        runs: at least two; the first, in the order of the study, is the reference.
        problems: that all of them answered.
        scores: (runs, n, r).
    """

    runs: tuple[Run, ...]
    problems: tuple[str, ...]
    scores: Floats

    @property
    def means(self) -> Floats:
        """Scores (runs, n), replicates averaged."""
        found: Floats = self.scores.mean(axis=2)
        return found

    def told(self, run: Run) -> str:
        """What tells a run from the others, in words."""
        settings = [factors(one) for one in self.runs]
        keys = [key for key in (*FORM, *ARITHMETIC) if len({repr(found.get(key)) for found in settings}) > 1]
        told = [key for key in keys if key not in IMPLIED] or keys
        return " ".join(f"{key.removeprefix('task.')}={shown(factors(run).get(key, UNSET.get(key, False)))}" for key in told)


UNSET = {"prompt_form": "{prompt}", "batch_size": "auto"}
"""What settings are that a configuration leaves out; false, if they are not here."""


def factors(run: Run) -> dict[str, Any]:
    """The settings of form and arithmetic of a run."""
    return {key: value for key, value in flat(run.config).items() if key in (*FORM, *ARITHMETIC)}


def variants(found: Sequence[Compared], study: Study) -> list[Variants]:
    """All groups of runs that differ in form and arithmetic only, in the order of the study."""
    groups: dict[str, dict[str, tuple[Run, set[str]]]] = {}
    for one in found:
        for run in (one.pair.baseline, one.pair.candidate):
            kept = {key: value for key, value in flat(run.config).items() if key not in (*FORM, *ARITHMETIC)}
            # Another file is another data set, however alike the names of its problems.
            kept |= {place: run.config["task"].get(place) for place in PLACES}
            members = groups.setdefault(repr(sorted(kept.items(), key=lambda item: item[0])), {})
            problems = members[run.run_id][1] if run.run_id in members else set()
            members[run.run_id] = run, problems | set(one.problems)
    made = []
    for members in groups.values():
        common = tuple(sorted(set.intersection(*(problems for _, problems in members.values()))))
        if len(members) > 1 and common:
            runs = tuple(run for run, _ in members.values())
            values = [run.values("score", common, study.replicates) for run in runs]
            replicates = min(value.shape[1] for value in values)
            made.append(Variants(runs, common, np.stack([value[:, :replicates] for value in values])))
    return made


def robustness(found: Sequence[Compared], study: Study, describe: Describer, plan: TestPlan) -> Section | None:
    """Every variant against the first of its group; None where nothing was put or computed in two ways."""
    groups = variants(found, study)
    rows = [(group, place) for group in groups for place in range(1, len(group.runs))]
    if not rows:
        return None
    columns = [of_group(group, place) for group, place in rows]
    test = tested(columns, plan)
    texts = {run.run_id: texts_of(run) for group in groups for run in group.runs}
    told = []
    for (group, place), column, p_value, p_adjusted in zip(rows, columns, test.p_value, test.p_adjusted, strict=True):
        run, reference = group.runs[place], group.runs[0]
        before, after = group.scores[0], group.scores[place]
        told.append(
            {"task": run.task, "sampler": run.sampler, "settings": common_settings(group, describe)}
            | {"variant": group.told(run), "n_problems": len(group.problems)}
            | rate("flips", before != after, column.clusters, plan)
            | {"gained": (after > before).mean(), "lost": (after < before).mean()}
            | {"other_text": other_texts(texts[reference.run_id], texts[run.run_id], group)}
            | differences(column, float(p_value), float(p_adjusted), plan)
            | {"score": group.means[place].mean(), "reference_score": group.means[0].mean()}
            | {"ever_flips": (np.ptp(group.scores, axis=0) > 0).any(axis=1).mean(), "spread": np.ptp(group.means.mean(axis=1))}
            | {"reference": group.told(reference), "run_id": run.run_id, "baseline_run_id": reference.run_id}
        )
    return Section(
        "robustness",
        "Robustness",
        pd.DataFrame(told),
        difference_methods(plan)
        | {
            "score": "mean score of the variant over problems",
            "reference_score": "mean score of the reference over the same problems",
            "flips": "share of answers (of a problem and replicate) with another score than in the reference; Wilson interval, "
            "t where there are replicates or clusters",
            "gained": "share of answers with a higher score than in the reference",
            "lost": "share of answers with a lower score than in the reference",
            "other_text": "share of answers with another text than in the reference",
            "ever_flips": "share of problems whose score is not the same in all variants of the sampler with these settings",
            "spread": "highest minus lowest mean score of these variants",
        },
        "A sampler against itself on the same problems, put or computed in another way. Small differences can hide many "
        "flips: gains and losses cancel. Flips between seeds (seed=0,1) are the measure of what chance alone does.",
    )


def of_group(group: Variants, place: int) -> Differences:
    """Number ``place`` minus the reference."""
    means = group.means
    return Differences(group.runs[0].task, group.problems, means[place] - means[0], group.runs[0].clusters(group.problems))


def differences(column: Differences, p_value: float, p_adjusted: float, plan: TestPlan) -> dict[str, object]:
    """Columns on the difference in score; without a note, since equal scores are no equal answers here."""
    found = difference_columns(column, p_value, p_adjusted, plan)
    return {name: value for name, value in found.items() if name != "note"}


def common_settings(group: Variants, describe: Describer) -> str:
    """The settings of all variants, without what they differ in."""
    told = [describe(run).split() for run in group.runs]
    return " ".join(part for part in told[0] if all(part in other for other in told))


def rate(name: str, events: np.ndarray, clusters: np.ndarray | None, plan: TestPlan) -> dict[str, float]:
    """The share of events (n, r), with its interval over problems."""
    if events.shape[1] == 1 and clusters is None:
        low, high = wilson_limits(int(events.sum()), len(events), 1 - plan.alpha)
        return {name: float(events.mean()), f"{name}_low": low, f"{name}_high": high}
    found = stats.mean_interval(events.mean(axis=1), 1 - plan.alpha, clusters)
    return {name: found.value, f"{name}_low": found.ci_low, f"{name}_high": found.ci_high}


def texts_of(run: Run) -> dict[tuple[str, int], str]:
    """The answers of a run by problem and replicate; empty where the run is not on disk."""
    return {(record["problem"], record["replicate"]): record["text"] for record in run.answers()}


def other_texts(reference: dict[tuple[str, int], str], texts: dict[tuple[str, int], str], group: Variants) -> float:
    """The share of answers that differ; NaN where they are not on disk."""
    places = [(problem, replicate) for problem in group.problems for replicate in range(group.scores.shape[2])]
    if not reference or not texts:
        return np.nan
    return float(np.mean([reference[place] != texts[place] for place in places]))
