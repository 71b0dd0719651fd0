"""What two configurations differ in, in words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

PLACES = ("path", "hub", "subset", "revision")
"""Where the rows of a task lie; what they are, their digest tells."""


OWN = ("name", "version", "data", "target")
"""What a run's configuration says of its task beside the task's parameters."""

NESTED = "parameters"
"""Where the parameters of a task are, where one of them has the name of such a key."""


def task_node(own: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """A task in a run's configuration: its parameters stand beside its own keys, or together where their names clash."""
    if parameters.keys() & {*OWN, NESTED}:
        return {**own, NESTED: dict(parameters)}
    return {**own, **parameters}


def task_parameters(node: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a task in a run's configuration, see ``task_node``."""
    return dict(node[NESTED]) if NESTED in node else {key: value for key, value in node.items() if key not in OWN}


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """A run's configuration without the model's name, and without the places of rows, which may differ between its visits."""
    task = config.get("task", {})
    kept = {key: value for key, value in task.items() if key not in PLACES} if "data" in task else task
    return {**config, "model": config["model"]["fingerprint"], **({"task": kept} if "task" in config else {})}


def constraint_text(node: str | Mapping[str, Any]) -> str:
    """A run's constraint in a word: ``task``, ``json_format(root=object)``, ``task+0.5*json_format(root=object)``.

    Args:
        node: of the run's configuration. Empty parameters are left out; a target elsewhere is told by its path.
    """
    if isinstance(node, str):
        return node
    if "target" not in node:
        return "+".join(("" if w == 1 else f"{w:.12g}*") + constraint_text(part) for w, part in summands(node))
    name = node["name"] if node["target"].startswith("tta_bench.") else node["target"]
    set_ = {key: value for key, value in node.items() if key not in ("name", "target") and value not in (None, [], {}, "")}
    return str(name) + (f"({','.join(f'{key}={plain(value)}' for key, value in set_.items())})" if set_ else "")


def plain(value: object) -> str:
    """A value as one may write it, strings in quotation marks where they are no words."""
    word = isinstance(value, str) and re.fullmatch(r"\w+", value)
    return str(value) if word else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def constraint_targets(config: Mapping[str, Any]) -> list[str | None]:
    """What builds the constraints of a run, None for the task's own rules."""
    node = config.get("constraint", "none")
    return [None if isinstance(part, str) else part["target"] for _, part in summands(node)]


def summands(node: str | Mapping[str, Any]) -> list[tuple[float, str | Mapping[str, Any]]]:
    """The constraints that a run's constraint is the sum of, with their weights."""
    if isinstance(node, str) or "target" in node:
        return [(1.0, node)]
    return [(part["weight"], part["constraint"]) for part in node["parts"]]


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """A nested configuration as dotted keys, without its form's version, and names and places that digests tell better."""
    if "constraint" in config:
        config = {**config, "constraint": constraint_text(config["constraint"])}

    def leaves(node: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
        for key, value in node.items():
            if isinstance(value, Mapping):
                yield from leaves(value, f"{path}{key}.")
            else:
                yield f"{path}{key}", value

    found = dict(leaves(config, ""))
    idle = {"model.name", "schema", *(f"task.{place}" for place in PLACES if "task.data" in found)}
    return {key: value for key, value in found.items() if key not in idle}


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Phrases such as ``sampler.tta_k differs: 3, was 5`` for two flat configurations."""
    keys = sorted(old.keys() | new.keys())
    differing = [key for key in keys if (key in old, old.get(key)) != (key in new, new.get(key))]
    return [f"{key} differs: {told(new, key)}, was {told(old, key)}" for key in differing]


def told(config: Mapping[str, Any], key: str) -> str:
    """A value in words; a text with line breaks, or with blanks at its ends, in quotes."""
    value = config.get(key, "absent")
    return repr(value) if isinstance(value, str) and (value != value.strip() or not value.isprintable()) else str(value)
