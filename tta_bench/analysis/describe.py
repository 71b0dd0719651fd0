"""What tells a run from the others, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tta_bench.analysis.load import Run, Study
from tta_bench.rng import digest
from tta_bench.runner.difference import constraint_text, flat, task_parameters

ALWAYS = ("cache",)
"""Settings that are told wherever they are set: what a pass costs, and what is approximated, must not be overlooked."""


PACE = {
    "threshold": "threshold",
    "factor": "factor",
    "entropy_bound": "gamma",
    "klass": "conf_threshold",
    "wino": "threshold",
    "t2m": "threshold",
    "tta": "entropy_bound",
    "tta_best": "entropy_bound",
    "tta_rules": "entropy_bound",
}
"""Of samplers that decide for themselves how many tokens they commit, the parameter that sets how many passes they take."""


class Describer:
    """Says, of a run, its steps and whatever else differs among the runs of its sampler, or is set in some of them only."""

    def __init__(self, runs: Sequence[Run]) -> None:
        values: dict[tuple[str, str], set[str]] = {}
        named: Counter[tuple[str, str, str]] = Counter()
        for run in runs:
            for key, value in settings_of(run).items():
                values.setdefault((run.sampler, key), set()).add(repr(value))
                named[run.task, run.sampler, key] += 1
        n = Counter((run.task, run.sampler) for run in runs)
        self.varying = {name for name, found in values.items() if len(found) > 1}
        self.varying |= {(sampler, key) for (task, sampler, key), count in named.items() if count < n[task, sampler]}

    def __call__(self, run: Run) -> str:
        found = {key: value for key, value in settings_of(run).items() if (run.sampler, key) in self.varying or key in ALWAYS}
        told = {"steps": run.config["steps"], **found}
        return " ".join(f"{key}={shown(value)}" for key, value in told.items() if (key, value) != ("steps", None))


def shown(value: object) -> str:
    """A setting in one word: blanks and line breaks made visible, long texts cut in the middle and told apart by a digest."""
    text = str(value).replace(", ", ",").replace("\n", "\\n").replace("\t", "\\t").replace(" ", BLANK)
    if len(text) <= LONGEST_WORD:
        return text
    return f"{text[: LONGEST_WORD // 2]}..{text[-LONGEST_WORD // 4 :]}#{digest(text, size=2):04x}"


BLANK = "\N{OPEN BOX}"
"""Stands for a blank within a setting: blanks stand between settings."""

LONGEST_WORD = 40


def describer(study: Study) -> Describer:
    """Of all runs of a study."""
    return Describer([run for pair in study.pairs for run in (pair.baseline, pair.candidate)])


def settings_of(run: Run) -> dict[str, Any]:
    """The settings of a run that may tell it from another of the same task, flat."""
    general = (
        "steps", "gen_length", "block_length", "cfg_scale", "eos_policy", "constraint", "split", "seed", "device", "dtype",
        "chat_template", "add_bos", "mask_id", "end_ids", "compile", "prompt_form", "batch_size",
    )  # fmt: skip
    sampler = {k: v for k, v in run.config["sampler"].items() if k not in ("name", "target")}
    node = run.config["task"]
    data = {"data": node["data"]} if "data" in node else {}
    task = {f"{run.task}.{k}": v for k, v in (data | task_parameters(node)).items()}
    found = {k: run.config[k] for k in general if k in run.config}
    if "constraint" in found:
        found["constraint"] = constraint_text(found["constraint"])
    return {"model": run.config["model"]["name"]} | found | task | sampler


def without_budget(sampler: str, settings: str) -> str:
    """Settings but for what sets the budget: the steps, or the parameter that stands for them."""
    ends = tuple(f"{name}=" for name in ("steps", PACE.get(sampler)) if name)
    return " ".join(part for part in settings.split() if not part.startswith(ends))


def all_but(config: Mapping[str, Any], *left_out: str) -> str:
    """A configuration without some of its keys, as a text that is equal for equal settings."""
    kept = {key: value for key, value in config.items() if key not in ("schema", *left_out)}
    return repr(sorted(flat(kept).items(), key=lambda item: item[0]))


def named(run: Run, describe: Describer) -> dict[str, Any]:
    """The columns that say which run a row is about."""
    return {"task": run.task, "sampler": run.sampler, "settings": describe(run)}
