"""Make up a value that a JSON schema allows: the same schema, the same value.

All properties are filled in, also optional ones; of several branches the first possible one is taken; recursion ends as
soon as the schema lets it. The result is checked against the schema, so it is valid or refused.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any
from urllib.parse import unquote

import jsonschema_rs

_DEPTH = 64
_VALUES = 10_000
_CHARACTERS = 1_000_000


class Impossible(Exception):
    """The schema is broken, allows nothing, or asks for more than this file knows."""


def instance(schema: dict[str, Any] | bool) -> Any:
    """A value that is valid against `schema`. Raises Impossible."""
    try:
        validator = jsonschema_rs.validator_for(schema, validate_formats=True, offline=True)
    except (ValueError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
        raise Impossible(f"not a JSON schema: {str(error).partition(chr(10))[0]}") from None
    value = _Maker(schema).make(schema)
    if not validator.is_valid(value):
        problem = next(iter(validator.iter_errors(value)))
        raise Impossible(f"no value found: {problem.message}")
    return value


class _Maker:
    def __init__(self, root: Any) -> None:
        self._root = root
        self._open: list[str] = []  # references being followed
        self._depth = 0
        self._values_left = _VALUES  # branches are tried one after the other: without a bound that could take for ever
        self._characters_left = _CHARACTERS

    def make(self, schema: Any, variant: int = 0) -> Any:
        """A value for `schema`; other variants give other values where there are any."""
        self._values_left -= 1
        if self._values_left < 0 or self._depth >= _DEPTH:
            raise Impossible("the schema is too large or too deep")
        self._depth += 1
        try:
            return self._make(schema, variant)
        finally:
            self._depth -= 1

    def _make(self, schema: Any, variant: int) -> Any:
        match schema:
            case False:
                raise Impossible("the schema `false` allows nothing")
            case {"const": value}:
                return value
            case {"enum": [_, *_] as values}:
                return values[variant % len(values)]
            case {"$ref": str(reference)}:
                return self._referred(reference, _without(schema, "$ref"), variant)
            case {"allOf": [_, *_] as parts}:
                whole = _without(schema, "allOf")
                for part in parts:
                    whole = _merged(whole, self._resolved(part))
                return self.make(whole, variant)
            case {"anyOf": [_, *_] as branches}:
                return self._first([_merged(_without(schema, "anyOf"), branch) for branch in branches], variant)
            case {"oneOf": [_, *_] as branches}:
                return self._first([_merged(_without(schema, "oneOf"), branch) for branch in branches], variant)
            case {"type": [*types]}:
                return self._first([{**schema, "type": name} for name in types], variant)
            case {"type": "null"}:
                return None
            case {"type": "boolean"}:
                return variant % 2 == 0
            case {"type": "integer" | "number"}:
                return _number(schema, variant)
            case {"type": "object"} | {"properties": _} | {"required": _}:
                return self._object(schema)
            case {"type": "array"} | {"items": _} | {"prefixItems": _}:
                return self._array(schema)
            case (
                {"minimum": _} | {"maximum": _} | {"exclusiveMinimum": _} | {"exclusiveMaximum": _} | {"multipleOf": _}
            ):
                return _number(schema, variant)
            case _:
                return self._string(schema if isinstance(schema, dict) else {}, variant)

    def _first(self, branches: list[Any], variant: int) -> Any:
        why = Impossible("there is no branch")
        for branch in branches:
            try:
                return self.make(branch, variant)
            except Impossible as error:
                why = error
        raise why

    def _referred(self, reference: str, rest: dict[str, Any], variant: int) -> Any:
        if reference in self._open:
            raise Impossible(f"{reference} contains itself")
        self._open.append(reference)
        try:
            return self.make(_merged(rest, self._find(reference)), variant)
        finally:
            self._open.pop()

    def _resolved(self, schema: Any) -> Any:
        for _ in range(_DEPTH):
            match schema:
                case {"$ref": str(reference)}:
                    schema = _merged(_without(schema, "$ref"), self._find(reference))
                case _:
                    return schema
        raise Impossible("references run in a circle")

    def _find(self, reference: str) -> Any:
        if not reference.startswith("#"):
            raise Impossible(f"{reference} is not within the schema")
        found = self._root
        for step in unquote(reference[1:]).split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            try:
                found = found[int(step)] if isinstance(found, list) else found[step]
            except (LookupError, TypeError, ValueError):
                raise Impossible(f"{reference} does not exist") from None
        return found

    def _object(self, schema: dict[str, Any]) -> dict[str, Any]:
        properties = schema.get("properties", {})
        required = schema.get("required", [])
        further = schema.get("additionalProperties", True)
        most = schema.get("maxProperties", math.inf)
        made = {}
        optional = len(set(properties) - set(required))
        room = most - len(required)
        for name, value in properties.items():
            if name in required:
                made[name] = self.make(value)
            elif optional and room > 0:
                try:
                    made[name] = self.make(value)
                    room -= 1
                except Impossible:
                    continue
        for name in required:
            if name not in made:
                made[name] = self.make(further)
        for number in range(schema.get("minProperties", 0)):
            if len(made) >= schema["minProperties"]:
                break
            made[f"key{number}"] = self.make(further)
        return made

    def _array(self, schema: dict[str, Any]) -> list[Any]:
        items = schema.get("items", True)
        first = schema.get("prefixItems", [])
        if isinstance(items, list):  # before 2020-12
            first, items = items, schema.get("additionalItems", True)
        least, most = schema.get("minItems", 0), schema.get("maxItems", math.inf)
        made = [self.make(item) for item in first[: int(min(most, len(first)))]]
        while len(made) < max(least, 1) and len(made) < most:
            try:
                made.append(self.make(items, len(made) if schema.get("uniqueItems") else 0))
            except Impossible:
                if len(made) >= least:
                    break
                raise
        return made

    def _string(self, schema: dict[str, Any], variant: int) -> str:
        least, most = int(schema.get("minLength", 0)), schema.get("maxLength", math.inf)
        self._characters_left -= least
        if self._characters_left < 0:
            raise Impossible("the schema asks for too long a text")
        if "pattern" in schema:
            candidates = [*schema.get("examples", []), schema.get("default")]
            for candidate in candidates:
                if isinstance(candidate, str) and _found(schema["pattern"], candidate):
                    return candidate
            raise Impossible("a text with a `pattern` needs an example that matches it, in `examples` or `default`")
        if (text := _FORMATS.get(schema.get("format", ""))) is not None:
            return text.format(number=variant, letter=chr(ord("a") + variant % 26), day=1 + variant % 28)
        text = f"text{variant or ''}"
        return text.ljust(least, "x")[: int(min(most, max(least, len(text))))]


_FORMATS = {
    "date": "2026-01-{day:02}",
    "date-time": "2026-01-{day:02}T12:00:00Z",
    "time": "12:00:{day:02}Z",
    "duration": "P{day}D",
    "email": "user{number}@example.com",
    "idn-email": "user{number}@example.com",
    "hostname": "host{number}.example.com",
    "idn-hostname": "host{number}.example.com",
    "ipv4": "192.0.2.{day}",
    "ipv6": "2001:db8::{day}",
    "uri": "https://example.com/{number}",
    "uri-reference": "/{number}",
    "iri": "https://example.com/{number}",
    "iri-reference": "/{number}",
    "uuid": "00000000-0000-4000-8000-{number:012}",
    "json-pointer": "/{number}",
    "relative-json-pointer": "{number}",
    "regex": "{letter}+",
}


def _found(pattern: str, text: str) -> bool:
    """Whether `pattern` is in `text`; by a matcher that gives up on patterns that would take for ever."""
    return jsonschema_rs.is_valid({"type": "string", "pattern": pattern}, text)


def _without(schema: dict[str, Any], keyword: str) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name != keyword}


def _merged(schema: Any, other: Any) -> Any:
    """Both at once: properties and required ones add up, of all else `other` wins."""
    if schema is False or other is True:
        return schema
    if schema is True or other is False:
        return other
    merged = {**schema, **other}
    if "properties" in schema and "properties" in other:
        mine, theirs = schema["properties"], other["properties"]
        merged["properties"] = {**mine, **{name: _merged(mine.get(name, {}), value) for name, value in theirs.items()}}
    if "required" in schema and "required" in other:
        merged["required"] = [
            *schema["required"],
            *(name for name in other["required"] if name not in schema["required"]),
        ]
    return merged


def _number(schema: dict[str, Any], variant: int) -> int | float:
    """The number nearest to 1 that the bounds allow; other variants are the next ones above it, or below."""
    whole = schema.get("type") == "integer"
    low, above = _bound(schema, "minimum", "exclusiveMinimum", max)
    high, below = _bound(schema, "maximum", "exclusiveMaximum", min)
    step = Decimal(str(schema["multipleOf"])) if "multipleOf" in schema else None
    if whole:
        step = Decimal(1) if step is None else step * step.as_integer_ratio()[1]
    gap = step or (min(Decimal(1), (high - low) / 2) if low is not None and high is not None else Decimal(1))
    value = _multiple(Decimal(1), step, "ROUND_CEILING")
    if low is not None:
        lowest = _multiple(low, step, "ROUND_CEILING")
        value = max(value, lowest + gap if above and lowest == low else lowest)
    if high is not None:
        highest = _multiple(high, step, "ROUND_FLOOR")
        value = min(value, highest - gap if below and highest == high else highest)
    move = variant * (step or 1)
    value = value - move if high is not None and value + move > high else value + move
    return int(value) if value == value.to_integral_value() else float(value)


def _multiple(value: Decimal, step: Decimal | None, rounding: str) -> Decimal:
    return value if step is None else (value / step).to_integral_value(rounding) * step


def _bound(schema: dict[str, Any], inclusive: str, exclusive: str, stricter: Any) -> tuple[Decimal | None, bool]:
    """The bound, and whether it is outside itself. Draft 4 has a boolean beside the bound."""
    bound = Decimal(str(schema[inclusive])) if inclusive in schema else None
    match schema.get(exclusive):
        case bool(outside):
            return bound, outside
        case int() | float() as number:
            other = Decimal(str(number))
            if bound is None or stricter(bound, other) == other:
                return other, True
    return bound, False
