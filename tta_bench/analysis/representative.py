"""Which comparisons are looked at closely: of the many of a study one for each task."""

from __future__ import annotations

from collections.abc import Sequence

from tta_bench.analysis.compare import Compared
from tta_bench.analysis.load import Pair


def representative(compared: Sequence[tuple[Pair, Sequence[str]]]) -> list[tuple[Pair, Sequence[str]]]:
    """For each task, one candidate whose uncertainty is drawn: tta if there is one, with the most steps, the middle one."""
    chosen = []
    for task in dict.fromkeys(pair.candidate.task for pair, _ in compared):
        pairs = [c for c in compared if c[0].candidate.task == task]
        tta = [c for c in pairs if c[0].candidate.sampler == "tta"] or pairs
        longest = max(pair.candidate.config["steps"] or 0 for pair, _ in tta)
        finalists = [c for c in tta if (c[0].candidate.config["steps"] or 0) == longest]
        chosen.append(finalists[len(finalists) // 2])
    return chosen


def looked_at(found: Sequence[Compared], focus: str | None) -> list[Compared]:
    """For each task the comparison that is looked at closely; among those of the sampler in focus, if there are any."""
    wanted = [one for one in found if one.pair.candidate.sampler == focus] or list(found)
    tasks = {one.pair.candidate.task for one in wanted}
    among = wanted + [one for one in found if one.pair.candidate.task not in tasks]
    by_pair = {id(one.pair): one for one in among}
    return [by_pair[id(pair)] for pair, _ in representative([(one.pair, one.problems) for one in among])]


def title(pair: Pair) -> str:
    """Names a trace: task, sampler, views and steps."""
    config = pair.candidate.config
    views = f", K = {config['sampler']['tta_k']}" if "tta_k" in config["sampler"] else ""
    steps = "" if config["steps"] is None else f", {config['steps']} steps"
    return f"{pair.candidate.task}: {pair.candidate.sampler}{views}{steps}"
