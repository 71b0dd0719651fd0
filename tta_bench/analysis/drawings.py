"""The figures of a report, drawn from what was compared."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from tta_bench.analysis import figures
from tta_bench.analysis.compare import Compared
from tta_bench.analysis.effects import response, sweeps
from tta_bench.analysis.load import Pair, Study
from tta_bench.analysis.plan import TestPlan
from tta_bench.analysis.representative import representative, title


def drawings(summary: pd.DataFrame, compared: Sequence[Compared], study: Study, plan: TestPlan) -> dict[str, Figure]:
    """The figures, by name; a sampler in focus has a colour of its own in any case."""
    drawn = {"accuracy_versus_passes": figures.accuracy_versus_passes(summary[summary["score"].notna()], plan.focus)}
    differences = figures.forest(summary, plan.alpha)
    if differences:
        drawn["differences"] = differences
    pairs = [(one.pair, one.problems) for one in compared]
    shown = representative(pairs)
    traces = {title(pair): pair.candidate.trace(problems, study.replicates) for pair, problems in shown}
    traces = {name: trace for name, trace in traces.items() if len(trace)}
    if traces:
        drawn["uncertainty_evolution"] = figures.uncertainty_evolution(traces)
    single = {name: one for pair, problems in shown for name, one in decodings(pair, problems)}
    if single:
        drawn["trajectories"] = figures.trajectory_maps(single)
    maps = {sweep.title: response(sweep, *list(sweep.levels)[:2]) for sweep in sweeps(compared, study) if len(sweep.levels) > 1}
    if maps:
        drawn["exploratory_response"] = figures.response_maps(maps)
    return drawn


def decodings(pair: Pair, problems: Sequence[str]) -> list[tuple[str, pd.DataFrame]]:
    """Of one problem, the token traces of baseline and candidate: the first on which they differ in score, else the first."""
    traces = [run.token_trace(list(problems), 1) for run in (pair.baseline, pair.candidate)]
    if any(trace.empty for trace in traces):
        return []
    scores = [trace.groupby("problem")["score"].first() for trace in traces]
    both = scores[0].index.intersection(scores[1].index)
    if both.empty:
        return []
    differ = both[scores[0][both].to_numpy() != scores[1][both].to_numpy()]
    chosen = (differ if len(differ) else both)[0]
    found = []
    for run, trace in zip((pair.baseline, pair.candidate), traces, strict=True):
        one = trace[trace["problem"] == chosen]
        outcome = f"score {one['score'].iloc[0]:g}"
        found.append((f"{run.task}, {chosen}\n{run.sampler}, {outcome}", one))
    return found
