"""The config folder as registry: ``conf/<group>/<name>.yaml`` names, in ``_target_``, what builds it.

A new sampler, task or model is one Python file and one YAML; nothing is registered anywhere else.
"""

from __future__ import annotations

import difflib
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.resources import files
from types import SimpleNamespace
from typing import Any, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

GROUPS = ("constraint", "model", "sampler", "task")
"""Groups whose entries have parameters."""

SUPPLIED = {"constraint": ("tokenizer", "start", "end_ids", "mask_ids")}
"""Parameters that no configuration sets, by group: whoever builds an entry supplies them, where its target takes them."""


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

    @property
    def node(self) -> dict[str, Any]:
        """Target and parameters as JSON and YAML know them, the same for equal ones."""
        if taken := {"name", "target"} & self.parameters.keys():
            raise ValueError(f"{self.target}: configurations use {min(taken)!r} otherwise; call the parameter something else")
        return {"target": self.target, **self.plain}

    @property
    def plain(self) -> dict[str, Any]:
        """The parameters as JSON and YAML know them, the same for equal ones."""
        # -0.0 is 0.0, but not in a hash.
        found: dict[str, Any] = json.loads(json.dumps(self.parameters), parse_float=lambda number: float(number) + 0.0)
        return found

    def build(self, **supplied: Any) -> Any:
        """Call the target, with what it takes of what is ``supplied``. Errors about a parameter come from the target itself."""
        target = resolve(self.target)
        takes = inspect.signature(target).parameters
        rest = any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes.values())
        return target(**self.parameters, **{key: value for key, value in supplied.items() if rest or key in takes})


@cache
def names(group: str) -> tuple[str, ...]:
    """The names in a group, sorted."""
    folder = files("tta_bench.conf") / group
    return tuple(sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")))


def saved(group: str, name: str) -> dict[str, Any]:
    """What the file of an entry says.

    Raises:
        ValueError: no such name; the nearest are suggested.
    """
    return dict(_read(group, name))


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
    settable, declared = settings(group, target), types(group, target)
    for key in parameters:
        if key not in settable:
            raise ValueError(no_parameter(group, target.__name__, key, tuple(settable)))
    values = {}
    for key, default in settable.items():
        value = parameters.get(key, default)
        if value is inspect.Parameter.empty or (value is None and default is inspect.Parameter.empty):
            raise ValueError(f"{group}.{key} is missing and has no default; give {group}.{key}=...")
        if key not in declared:
            raise ValueError(f"{group}.{key}: {target.__name__} does not say its type; annotate it, as {key}: float")
        values[key] = declared[key].read(f"{group}.{key}", value)
    return values


@dataclass(frozen=True)
class Declared:
    """The declared type of a parameter, with what brings values to it."""

    hint: Any
    adapter: TypeAdapter

    def read(self, name: str, value: Any) -> Any:
        """``value`` in this type.

        Raises:
            ValueError: it is of another; the message begins with ``name``.
        """
        if isinstance(value, bool) and self.hint is not bool:
            raise ValueError(f"{name}={value}: must be a number")
        try:
            return self.adapter.validate_python(value)
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            told = getattr(self.hint, "__name__", self.hint)
            raise ValueError(f"{name}={value!r}: {reason} (declared type: {told})") from error


# Signatures and adapters take a tenth of the time of a short decoding, so they are found once for each target.


@cache
def settings(group: str, target: Callable[..., Any]) -> dict[str, Any]:
    """The parameters of ``target`` that a configuration sets, with their defaults."""
    found = inspect.signature(target).parameters.values()
    named = [p for p in found if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and p.name not in SUPPLIED.get(group, ())]
    return {parameter.name: parameter.default for parameter in named}


@cache
def types(group: str, target: Callable[..., Any]) -> dict[str, Declared]:
    """The declared types of these parameters. Others may be declared by names that only a type checker knows."""
    function = inspect.unwrap(target.__init__ if inspect.isclass(target) else target)
    told = {key: hint for key, hint in getattr(function, "__annotations__", {}).items() if key in settings(group, target)}
    hints = get_type_hints(SimpleNamespace(__annotations__=told), getattr(function, "__globals__", {}))
    return {key: Declared(hint, TypeAdapter(hint)) for key, hint in hints.items()}


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
    return f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known) or 'none'}"
