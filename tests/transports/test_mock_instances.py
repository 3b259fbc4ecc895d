"""Values made up from JSON schemas are valid against them, or refused."""

from __future__ import annotations

import time
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_server.transports.mock.instance import Impossible, instance

DRAFT_4 = "http://json-schema.org/draft-04/schema#"
NODE = {
    "type": "object",
    "properties": {
        "value": {"type": "integer"},
        "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
        "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
        "twin": {"$ref": "#/$defs/node"},
    },
    "required": ["value", "next", "children"],
    "additionalProperties": False,
}


def schema_of(**fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {},
        {"type": "null"},
        {"const": {"a": [1]}},
        {"enum": ["b", "a"]},
        {"type": ["null", "string"]},
        {"type": "string", "minLength": 20},
        {"type": "string", "maxLength": 2},
        {"type": "string", "minLength": 3, "maxLength": 3},
        {"type": "string", "pattern": "^[A-Z]{3}$", "examples": ["abc", "ABC"]},
        *({"type": "string", "format": name} for name in (
            "date", "date-time", "time", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uri-reference",
            "uuid", "json-pointer", "regex", "made-up",
        )),
        {"type": "integer", "minimum": 10},
        {"type": "integer", "maximum": -10},
        {"type": "integer", "exclusiveMinimum": 3, "exclusiveMaximum": 5},
        {"type": "integer", "minimum": 5, "multipleOf": 7},
        {"type": "integer", "maximum": -5, "multipleOf": 7},
        {"type": "integer", "multipleOf": 1.5},
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.001},
        {"type": "number", "minimum": 0.15, "multipleOf": 0.1},
        {"type": "number", "exclusiveMaximum": -2.5},
        {"$schema": DRAFT_4, "type": "number", "minimum": 1, "exclusiveMinimum": True},
        {"type": "array", "items": {"type": "integer"}, "minItems": 4},
        {"type": "array", "maxItems": 0},
        {"type": "array", "items": False},
        {"type": "array", "prefixItems": [{"const": 1}, {"type": "string"}], "items": False},
        *({"type": "array", "uniqueItems": True, "minItems": 3, "items": items} for items in (
            {"type": "integer", "maximum": 0},
            {"type": "string"},
            {"type": "string", "format": "uuid"},
            {"enum": [1, 2, 3]},
        )),
        schema_of(a={"type": "string"}, b=schema_of(c={"type": "array", "items": schema_of(d={"type": "boolean"})})),
        {"type": "object", "required": ["x"], "additionalProperties": {"type": "integer"}},
        {"type": "object", "minProperties": 3},
        {"type": "object", "properties": {"a": {}, "b": {}, "c": {}}, "required": ["c"], "maxProperties": 2},
        {"type": "object", "properties": {"never": False}},
        {"properties": {"implied": {"minimum": 3}}, "required": ["implied"]},
        {"anyOf": [{"type": "string", "pattern": "^no example$"}, {"type": "number"}]},
        {"type": "object", "properties": {"a": {"type": "null"}}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
        {"oneOf": [schema_of(kind={"const": "cat"}), schema_of(kind={"const": "dog"})]},
        {"allOf": [{"$ref": "#/$defs/a"}, schema_of(b={"type": "integer"}) | {"additionalProperties": True}],
         "$defs": {"a": {"properties": {"a": {"type": "string"}}, "required": ["a"]}}},
        {"$ref": "#/$defs/node", "$defs": {"node": NODE}},
        {"$ref": "#/definitions/a~1b%20c", "definitions": {"a/b c": {"const": 7}}},
        {"type": "object", "properties": {"self": {"$ref": "#"}}},
    ],
)  # fmt: skip
def test_valid(schema: Any) -> None:
    value = instance(schema)
    assert jsonschema_rs.validator_for(schema, validate_formats=True).is_valid(value), value
    assert instance(schema) == value


def test_optional_properties_are_filled_in_and_recursion_ends() -> None:
    assert instance({"$ref": "#/$defs/node", "$defs": {"node": NODE}}) == {"value": 1, "next": None, "children": []}


def _tangle(size: int) -> dict[str, Any]:
    """Definitions that all contain all others: the ways through them grow like the factorial of their number."""
    names = [f"d{i}" for i in range(size)]
    anything = {
        "type": "object",
        "properties": {name: {"$ref": f"#/$defs/{name}"} for name in names},
        "required": names,
    }
    return {"$ref": "#/$defs/d0", "$defs": dict.fromkeys(names, anything)}


def _nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "array", "minItems": 1, "items": schema}
    return schema


@pytest.mark.parametrize(
    "schema",
    [
        False,
        {"not": {}},
        {"allOf": [False, {"type": "string"}]},
        {"type": "strin"},
        {"type": "string", "pattern": "^no example$"},
        {"type": "string", "minLength": 10**9},
        {"type": "array", "minItems": 10**9, "items": {"type": "integer"}},
        {"type": "integer", "minimum": 5, "maximum": 4},
        {"$ref": "#"},
        {"$ref": "#/$defs/gone"},
        {"$ref": "https://example.com/schema.json"},
        {"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}},
        schema_of(a={"$ref": "#"}),
        _tangle(12),
        _nested(100),
    ],
)
def test_impossible_within_a_bound(schema: Any) -> None:
    started = time.process_time()
    with pytest.raises(Impossible):
        instance(schema)
    assert time.process_time() - started < 5


@given(
    st.recursive(
        st.sampled_from(
            [{"type": "string"}, {"type": "integer", "minimum": 3}, {"type": "boolean"}, {"enum": ["a", 1]}]
        ),
        lambda inner: st.one_of(
            st.dictionaries(st.sampled_from("abcd"), inner).map(lambda fields: schema_of(**fields)),
            st.builds(
                lambda items, least: {"type": "array", "items": items, "minItems": least}, inner, st.integers(0, 3)
            ),
            st.lists(inner, min_size=1, max_size=3).map(lambda branches: {"anyOf": branches}),
        ),
        max_leaves=20,
    )
)
def test_any_nesting_is_possible(schema: dict[str, Any]) -> None:
    assert jsonschema_rs.validator_for(schema).is_valid(instance(schema))


@given(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["integer", "number"])},
        optional={
            "minimum": st.integers(-50, 50),
            "maximum": st.integers(-50, 50),
            "exclusiveMinimum": st.integers(-50, 50),
            "exclusiveMaximum": st.integers(-50, 50),
            "multipleOf": st.sampled_from([1, 2, 7, 0.5, 0.25]),
        },
    )
)
def test_a_number_is_found_wherever_there_is_one(schema: dict[str, Any]) -> None:
    validator = jsonschema_rs.validator_for(schema)
    try:
        assert validator.is_valid(instance(schema))
    except Impossible:
        assert not any(validator.is_valid(quarter / 4) for quarter in range(-210, 211))
