"""Before anything is done: what is on disk already, what is redone and why, and whether it could be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tta_bench.runner.difference import changes, flat
from tta_bench.runner.disk import StoreError
from tta_bench.runner.environment import Environment, differences, environments, with_environment
from tta_bench.runner.execute import here
from tta_bench.runner.settings import Comparison
from tta_bench.runner.spec import RunSpec
from tta_bench.runner.store import RunFolder
from tta_bench.runner.work import Work, find_work

FEW = 3
"""A run that differs from one on disk in more settings than this is simply another run."""


@dataclass(frozen=True)
class Survey:
    """What is on disk of a run that is asked for.

    Attributes:
        spec: the run.
        comparison: that asks for it.
        work: that is to be done.
    """

    spec: RunSpec
    comparison: Comparison
    work: Work

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.comparison.output_dir / "runs" / self.spec.run_id)

    @property
    def n_failed(self) -> int:
        """Records that are asked for and ended in an error."""
        failed = sum(1 for key, _, _ in self.work.missing if key in self.work.tally.bad)
        return failed + len(self.work.unscored)

    def environments(self) -> list[Environment]:
        """In which environments the records will have been made once this process has made what is missing."""
        found = environments(self.folder.manifest()) if self.work.tally.any else []
        return with_environment(found, here(self.spec)) if self.work.missing or self.work.unscored else found

    def reason(self) -> str:
        """Why something is done although there are runs on disk, as a phrase; empty where there is nothing to explain."""
        if not self.work.missing and not self.work.unscored:
            return ""
        if self.n_failed:
            return f"{self.n_failed} failed before and are tried again"
        nearest = "" if self.work.n_done else self._nearest()
        return nearest and f"new: {nearest}"

    def _nearest(self) -> str:
        """What tells the run from the most similar one on disk of the same task and sampler."""
        mine = flat(self.spec.config())
        prefix = f"{self.spec.task_name}-{self.spec.sampler.name}-"
        others = []
        for path in sorted(self.folder.path.parent.glob(f"{prefix}*")):
            try:
                config = RunFolder(path).config()
            except StoreError:  # it explains nothing; tta-bench ls tells what is wrong with it
                continue
            if config and path.name != self.spec.run_id:
                others.append((path.name, changes(flat(config), mine)))
        if not others:
            return ""
        name, changed = min(others, key=lambda other: len(other[1]))
        return f"{', '.join(changed)} (from {name})" if len(changed) <= FEW else ""


def survey(comparisons: Sequence[Comparison]) -> dict[str, Survey]:
    """What is on disk of every run that the comparisons ask for, by run id."""
    asked = {spec.run_id: (spec, comparison) for comparison in comparisons for spec in comparison.runs}
    found = {}
    for run_id, (spec, comparison) in asked.items():
        folder = RunFolder(comparison.output_dir / "runs" / run_id)
        found[run_id] = Survey(spec, comparison, find_work(folder, comparison.problems, comparison.replicates))
    return found


def incomparable(comparisons: Sequence[Comparison], surveys: Mapping[str, Survey]) -> list[str]:
    """Pairs that could not be compared once what is missing is done here, each with what it would differ in."""
    places = {run_id: found.environments() for run_id, found in surveys.items()}
    pairs = dict.fromkeys(pair for comparison in comparisons for pair in comparison.pairs)
    found = [(pair, differences(places[pair[0]], places[pair[1]])) for pair in pairs]
    return [f"{baseline} and {candidate} differ in {'; '.join(why)}" for (baseline, candidate), why in found if why]
