"""What two configurations differ in, in words."""

from __future__ import annotations

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


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """A nested configuration as dotted keys, without its form's version, and names and places that digests tell better."""

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
    """A value in words; a text with blanks or line breaks in quotes, and these escaped."""
    value = config.get(key, "absent")
    return repr(value) if isinstance(value, str) and any(character.isspace() for character in value) else str(value)
