"""JSON that must keep to a schema, and be a certain value."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from jsonschema import Draft202012Validator, SchemaError, ValidationError
from jsonschema.validators import extend, validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from tta_bench.scorers.regex import compiled, found

DEEPEST = 100
"""Levels of lists and objects; what is nested deeper counts as invalid."""

FENCED = re.compile(r"```(?:json)?\s*+(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)


class _NoJsonError(ValueError):
    """The text is no JSON that is read here."""


@dataclass(frozen=True)
class JsonSchema:
    """1 where the text is JSON that keeps to the schema and, where there is a target, equals it as a value.

    The JSON is in the first fenced block, else the whole text. Members of objects have no order, 1 and 1.0 are the same
    number, true is not 1. NaN, infinite numbers and more than 100 levels are invalid. Formats are not checked.

    Attributes:
        schema: for all rows; None: each row's column ``schema`` (an object, or JSON), which may be missing where there is a
            target. References must stay within the schema (``#/...``): nothing is fetched.
    """

    schema: dict[str, Any] | None = None
    version: ClassVar[str] = "1"

    def __post_init__(self) -> None:
        if self.schema is not None:
            check_schema("scorer.schema", self.schema)

    def score(self, target: str, text: str, facts: Mapping[str, object]) -> float:
        schema = self._schema(facts)
        try:
            value = parse(text)
        except _NoJsonError:
            return 0.0
        if target.strip() and frozen(value) != frozen(parse(target)):
            return 0.0
        return float(schema is None or valid(schema, value))

    def answer(self, text: str, facts: Mapping[str, object]) -> Hashable:
        """The value; None where the text is no JSON."""
        try:
            return frozen(parse(text))
        except _NoJsonError:
            return None

    def check(self, target: str, facts: Mapping[str, object]) -> None:
        schema = self._schema(facts)
        if schema is None and not target.strip():
            raise ValueError("facts['schema'] is missing: a row needs a schema, a target, or both; or set scorer.schema")
        if schema is not None and self.schema is None:
            check_schema("facts['schema']", schema)
        if not target.strip():
            return
        try:
            value = parse(target)
        except _NoJsonError as error:
            raise ValueError(f"target={target[:60]!r}: must be JSON ({error})") from error
        if schema is not None and not valid(schema, value):
            raise ValueError(f"target={target[:60]!r}: must keep to the schema, or no answer is right")

    def _schema(self, facts: Mapping[str, object]) -> dict[str, Any] | None:
        schema = facts.get("schema") if self.schema is None else self.schema
        if isinstance(schema, str):
            try:
                schema = parse(schema)
            except _NoJsonError as error:
                raise ValueError(f"facts['schema']={schema[:60]!r}: must be JSON ({error})") from error
        if schema is not None and not isinstance(schema, Mapping):
            raise ValueError(f"facts['schema']={schema!r}: must be an object, or JSON of one")
        return None if schema is None else dict(schema)


def parse(text: str) -> Any:
    """The JSON value in a text."""
    block = FENCED.search(text)
    try:
        value = _loaded(text)
    except (ValueError, RecursionError) as error:
        if not block:
            raise _NoJsonError(str(error)) from error
        try:
            value = _loaded(block[1])
        except (ValueError, RecursionError) as inner:
            raise _NoJsonError(str(inner)) from inner
    if _depth(value) > DEEPEST:
        raise _NoJsonError(f"more than {DEEPEST} levels")
    return value


def _loaded(text: str) -> Any:
    return json.loads(text, parse_constant=_refuse, parse_float=_finite)


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")


def _finite(digits: str) -> float:
    return value if math.isfinite(value := float(digits)) else _refuse(digits)


def _depth(value: Any) -> int:
    """Levels of lists and objects, counted without recursion."""
    level, depth = [value], 0
    while level := [v for v in level if isinstance(v, dict | list)]:
        depth += 1
        level = [inner for v in level for inner in (v.values() if isinstance(v, dict) else v)]
    return depth


def frozen(value: Any) -> Hashable:
    """A value that equals another one if, and only if, the two are the same JSON value."""
    if isinstance(value, dict):
        return "object", frozenset((key, frozen(inner)) for key, inner in value.items())
    if isinstance(value, list):
        return "array", tuple(map(frozen, value))
    return "boolean" if isinstance(value, bool) else "number" if isinstance(value, int | float) else type(value).__name__, value


def valid(schema: dict[str, Any], value: Any) -> bool:
    """Whether ``value`` keeps to a schema that ``check_schema`` let pass; what cannot be decided counts as no."""
    validator = _validator(validator_for(schema, default=Draft202012Validator))
    try:
        return bool(validator(schema, registry=Registry()).is_valid(value))
    except (RecursionError, OverflowError):
        return False


def check_schema(name: str, schema: dict[str, Any]) -> None:
    """Refuse what is no schema, or needs what is not there.

    Raises:
        ValueError: ``name`` says whose it is.
    """
    try:
        validator_for(schema, default=Draft202012Validator).check_schema(schema)
    except SchemaError as error:
        raise ValueError(f"{name}: must be a JSON schema ({error.message}, at {error.json_path})") from error
    resolver = Registry().with_resource("", DRAFT202012.create_resource(schema)).resolver()
    for part in _objects(schema):
        for key in ("$ref", "$dynamicRef"):
            if isinstance(reference := part.get(key), str):
                try:
                    resolver.lookup(reference)
                except Unresolvable as error:
                    raise ValueError(f"{name}: {key}={reference!r} must name a part of the schema itself, #/...") from error
        if isinstance(pattern := part.get("pattern"), str):
            compiled(f"{name}: pattern", pattern)
        if isinstance(patterns := part.get("patternProperties"), dict):
            for pattern in patterns:
                compiled(f"{name}: patternProperties", pattern)
            if "unevaluatedProperties" in json.dumps(schema):
                raise ValueError(
                    f"{name}: patternProperties and unevaluatedProperties do not go together here; use one of them"
                )


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """All objects within a value, itself included."""
    todo = [value]
    while todo:
        part = todo.pop()
        if isinstance(part, dict):
            yield part
        todo += part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()


@cache
def _validator(cls: Any) -> Any:
    """The validator with a limit on the time of every pattern."""
    rules = {"pattern": _pattern, "patternProperties": _pattern_properties, "additionalProperties": _additional_properties}
    return extend(cls, rules)


def _pattern(_: Any, pattern: str, value: Any, __: Any) -> Iterator[ValidationError]:
    if isinstance(value, str) and not found(pattern, value):
        yield ValidationError(f"does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: dict[str, Any], value: Any, _: Any) -> Iterator[ValidationError]:
    for pattern, inner in patterns.items() if isinstance(value, dict) else ():
        for key in (k for k in value if found(pattern, k)):
            yield from validator.descend(value[key], inner, path=key, schema_path=pattern)


def _additional_properties(validator: Any, rest: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
    for key in value if isinstance(value, dict) else ():
        named = key in schema.get("properties", {}) or any(found(p, key) for p in schema.get("patternProperties", {}))
        if not named:
            yield from validator.descend(value[key], rest, path=key)
