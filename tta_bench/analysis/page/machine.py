"""Where the runs of a study were made, as their manifests say."""

from __future__ import annotations

from collections.abc import Iterator

from tta_bench.analysis.load import Study
from tta_bench.runner.environment import Environment, environments

WORDS = {
    "code": "code",
    "git": "commit",
    "python": "Python",
    "platform": "platform",
    "device": "device",
    "hardware": "hardware",
    "dtype": "dtype",
    "threads": "threads",
}
"""Keys of an environment, and what they are called."""


def machines(study: Study) -> dict[str, str]:
    """What the runs were made with, by what it is; values that differ between runs one after another, then how many have each.

    Empty where no run tells.
    """
    runs = {run.run_id: run for pair in study.pairs for run in (pair.baseline, pair.candidate)}
    found: dict[str, dict[str, int]] = {}
    for run in runs.values():
        said: dict[str, dict[str, None]] = {}
        for environment in environments(run.manifest) if run.manifest else ():
            for name, value in told(environment):
                said.setdefault(name, {})[value] = None
        for name, values in said.items():
            counts = found.setdefault(name, {})
            for value in values:
                counts[value] = counts.get(value, 0) + 1
    return {
        name: next(iter(counts))
        if len(counts) == 1
        else "; ".join(f"{value} ({n} run{'s' if n > 1 else ''})" for value, n in counts.items())
        for name, counts in found.items()
    }


def told(environment: Environment) -> Iterator[tuple[str, str]]:
    """What an environment says, in words."""
    for key, name in WORDS.items():
        value = environment.get(key)
        if key == "git" and value:
            yield name, str(value["commit"])[:12] + (", with changes" if value["dirty"] else "")
        elif value is not None:
            yield name, str(value)
    packages = environment.get("packages") or {}
    if packages:
        yield "packages", ", ".join(f"{name} {version}" for name, version in packages.items())
