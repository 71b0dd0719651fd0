"""What two configurations differ in, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """A nested configuration as dotted keys, without the version of its form and the model's name (see its fingerprint)."""

    def leaves(node: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
        for key, value in node.items():
            if isinstance(value, Mapping):
                yield from leaves(value, f"{path}{key}.")
            else:
                yield f"{path}{key}", value

    return {key: value for key, value in leaves(config, "") if key not in ("model.name", "schema")}


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Phrases such as ``sampler.tta_k differs: 3, was 5`` for two flat configurations."""
    keys = sorted(old.keys() | new.keys())
    differing = [key for key in keys if (key in old, old.get(key)) != (key in new, new.get(key))]
    return [f"{key} differs: {new.get(key, 'absent')}, was {old.get(key, 'absent')}" for key in differing]
