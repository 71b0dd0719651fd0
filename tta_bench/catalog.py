"""The config folder as registry: ``conf/<group>/<name>.yaml`` names, in ``_target_``, what builds it.

A new sampler, task or model is one Python file and one YAML; nothing is registered anywhere else.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.resources import files
from typing import Any, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

GROUPS = ("model", "sampler", "task")
"""Groups whose entries have parameters."""


@dataclass(frozen=True)
class Entry:
    """One entry of the catalog: what to call, with which parameters, all coerced to the declared types."""

    group: str
    target: str
    parameters: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The last part of the target: the function's or class's name."""
        return self.target.rsplit(".", 1)[1]

    @property
    def changed(self) -> dict[str, Any]:
        """The parameters that differ from the target's defaults."""
        defaults = inspect.signature(resolve(self.target)).parameters
        return {key: value for key, value in self.parameters.items() if value != defaults[key].default}

    def build(self) -> Any:
        """Call the target. Errors about a parameter come from the target itself."""
        return resolve(self.target)(**self.parameters)


@cache
def names(group: str) -> tuple[str, ...]:
    """The names in a group, sorted."""
    folder = files("tta_bench.conf") / group
    return tuple(sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")))


@cache
def _read(group: str, name: str) -> dict[str, Any]:
    if name not in names(group):
        raise ValueError(unknown(group, name, names(group)))
    text = (files("tta_bench.conf") / group / f"{name}.yaml").read_text()
    return dict(yaml.safe_load(text))


def parameters(group: str, name: str) -> tuple[str, ...]:
    """Names of the parameters that an entry has.

    Raises:
        ValueError: no such name.
    """
    return tuple(inspect.signature(resolve(_read(group, name)["_target_"])).parameters)


def entry(group: str, name: str, parameters: Mapping[str, Any] | None = None) -> Entry:
    """The entry ``name`` with its saved parameters overridden by ``parameters``.

    Raises:
        ValueError: no such name or parameter (the nearest are suggested), or a value of the wrong type.
    """
    return entry_of(group, {**_read(group, name), **(parameters or {})})


def entry_of(group: str, config: Mapping[str, Any]) -> Entry:
    """The entry for a resolved config node: ``_target_`` and parameters."""
    parameters = dict(config)
    if "_target_" not in parameters:
        raise ValueError(
            f"{group}: its settings {sorted(parameters)} name no _target_; choose one of {', '.join(names(group))}"
        )
    target = str(parameters.pop("_target_"))
    return Entry(group, target, coerce(group, resolve(target), parameters))


def resolve(target: str) -> Callable[..., Any]:
    """The object a dotted path names."""
    module, _, attribute = target.rpartition(".")
    try:
        found: Callable[..., Any] = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"_target_={target}: must be the dotted path of something that can be imported ({error})") from error
    return found


def coerce(group: str, target: Callable[..., Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters of ``target``, defaults included, each in its declared type: 4 and 4.0 become the same value."""
    signature = inspect.signature(target)
    hints = get_type_hints(target.__init__ if inspect.isclass(target) else target)
    for key in parameters:
        if key not in signature.parameters:
            raise ValueError(no_parameter(group, target.__name__, key, tuple(signature.parameters)))
    values = {}
    for key, parameter in signature.parameters.items():
        value = parameters.get(key, parameter.default)
        if value is inspect.Parameter.empty:
            raise ValueError(f"{group}.{key} is missing and has no default")
        values[key] = _typed(f"{group}.{key}", value, hints[key])
    return values


def _typed(name: str, value: Any, hint: Any) -> Any:
    if isinstance(value, bool) and hint is not bool:
        raise ValueError(f"{name}={value}: must be a number")
    try:
        return TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise ValueError(f"{name}={value!r}: {reason} (declared type: {getattr(hint, '__name__', hint)})") from error


def unknown(kind: str, name: str, known: tuple[str, ...]) -> str:
    """The message for a name that does not exist, with the nearest that do."""
    return f"unknown {kind} {name!r}; {nearest(name, known)}"


def no_parameter(group: str, chosen: str, name: str, known: tuple[str, ...]) -> str:
    """The message for a parameter that the chosen entry does not have, with the entries that do."""
    owners = [n for n in names(group) if name in _read(group, n)] if group in GROUPS else []
    hint = f"; it belongs to {', '.join(owners)}" if owners else f"; {nearest(name, known)}"
    return f"{group} {chosen} has no parameter {name!r}{hint}"


def nearest(name: str, known: tuple[str, ...]) -> str:
    """The names that ``name`` may have been meant to be."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
