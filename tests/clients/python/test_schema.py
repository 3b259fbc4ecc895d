"""Python types to JSON Schema, and JSON values back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal, NotRequired, Optional, TypedDict

import jsonschema_rs
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.errors import InvalidOutput
from parley.schema import dump, load, schema


class Unit(Enum):
    """Of temperature."""

    CELSIUS = "C"
    FAHRENHEIT = "F"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


@dataclass
class Place:
    """Where it is."""

    city: Annotated[str, "Name of the city."]
    country: str | None = None
    tags: list[str] = field(default_factory=list)


@dataclass
class Tree:
    value: int
    children: list[Tree] = field(default_factory=list)


class Row(TypedDict):
    id: int
    note: NotRequired[str]


class Model(pydantic.BaseModel):
    name: str
    place: tuple[int, int]


STRING = {"type": "string"}
INTEGER = {"type": "integer"}
PLACE = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "description": "Name of the city."},
        "country": {"anyOf": [STRING, {"type": "null"}]},
        "tags": {"type": "array", "items": STRING},
    },
    "required": ["city"],
    "additionalProperties": False,
    "description": "Where it is.",
}

CASES: list[tuple[Any, Any, list[tuple[Any, Any]]]] = [  # type, schema, pairs of JSON value and Python value
    (str, STRING, [("a", "a")]),
    (int, INTEGER, [(3, 3), (3.0, 3)]),
    (float, {"type": "number"}, [(3, 3.0), (0.5, 0.5)]),
    (bool, {"type": "boolean"}, [(True, True)]),
    (Any, {}, [({"a": [1]}, {"a": [1]})]),
    (list[int], {"type": "array", "items": INTEGER}, [([1, 2], [1, 2])]),
    (list, {"type": "array"}, [([1, "a"], [1, "a"])]),
    (Sequence[str], {"type": "array", "items": STRING}, [(["a"], ["a"])]),
    (set[str], {"type": "array", "items": STRING, "uniqueItems": True}, [(["a", "b"], {"a", "b"})]),
    (tuple[int, ...], {"type": "array", "items": INTEGER}, [([1, 2, 3], (1, 2, 3))]),
    (
        tuple[int, str],
        {"type": "array", "prefixItems": [INTEGER, STRING], "minItems": 2, "maxItems": 2},
        [([1, "a"], (1, "a"))],
    ),
    (dict[str, int], {"type": "object", "additionalProperties": INTEGER}, [({"a": 1}, {"a": 1})]),
    (dict, {"type": "object"}, [({"a": 1}, {"a": 1})]),
    (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}, [("a", "a")]),
    (Literal["a", 1], {"enum": ["a", 1]}, [(1, 1)]),
    (Unit, {"type": "string", "enum": ["C", "F"], "description": "Of temperature."}, [("F", Unit.FAHRENHEIT)]),
    (Level, {"type": "integer", "enum": [1, 2]}, [(2, Level.HIGH)]),
    (Optional[int], {"anyOf": [INTEGER, {"type": "null"}]}, [(1, 1), (None, None)]),  # noqa: UP045
    (int | str, {"anyOf": [INTEGER, STRING]}, [(1, 1), ("1", "1")]),
    (float | int, {"anyOf": [{"type": "number"}, INTEGER]}, [(1, 1), (1.5, 1.5)]),
    (Annotated[int, "How many.", {}], {"type": "integer", "description": "How many."}, [(1, 1)]),
    (date, {"type": "string", "format": "date"}, [("2026-01-31", date(2026, 1, 31))]),
    (
        datetime,
        {"type": "string", "format": "date-time"},
        [("2026-01-31T12:00:00+00:00", datetime(2026, 1, 31, 12, tzinfo=UTC))],
    ),
    (
        Place,
        PLACE,
        [({"city": "Oslo"}, Place("Oslo")), ({"city": "Oslo", "tags": ["a"]}, Place("Oslo", tags=["a"]))],
    ),
    (
        Row,
        {
            "type": "object",
            "properties": {"id": INTEGER, "note": STRING},
            "required": ["id"],
            "additionalProperties": False,
        },
        [({"id": 1}, {"id": 1}), ({"id": 1, "note": "n"}, {"id": 1, "note": "n"})],
    ),
    (
        Tree,
        {
            "$ref": "#/$defs/Tree",
            "$defs": {
                "Tree": {
                    "type": "object",
                    "properties": {
                        "value": INTEGER,
                        "children": {"type": "array", "items": {"$ref": "#/$defs/Tree"}},
                    },
                    "required": ["value"],
                    "additionalProperties": False,
                }
            },
        },
        [({"value": 1, "children": [{"value": 2}]}, Tree(1, [Tree(2)]))],
    ),
    (Model, Model.model_json_schema(), [({"name": "a", "place": [1, 2]}, Model(name="a", place=(1, 2)))]),
]
NAMES = [str(kind) for kind, _, _ in CASES]


@pytest.mark.parametrize(("kind", "wanted", "pairs"), CASES, ids=NAMES)
def test_type_becomes_schema_and_values_come_back(kind: Any, wanted: Any, pairs: list[tuple[Any, Any]]) -> None:
    written = schema(kind)
    assert written == wanted
    validator = jsonschema_rs.validator_for(written)
    for value, loaded in pairs:
        assert validator.is_valid(value)
        found = load(kind, value)
        assert found == loaded
        assert type(found) is type(loaded)
        assert load(kind, json.loads(json.dumps(dump(loaded)))) == loaded


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (int, "1", '"1" is not int'),
        (int, 1.5, "1.5 is not int"),
        (int, True, "true is not int"),
        (int, float("inf"), "Infinity is not int"),
        (float, "x", '"x" is not float'),
        (str, 1, "1 is not str"),
        (bool, 1, "1 is not bool"),
        (list[int], [1, "a"], r'\[1\]: "a" is not int'),
        (tuple[int, str], [1], r"\[1\] is not tuple\[int, str\]"),
        (dict[str, int], {"a": "b"}, 'a: "b" is not int'),
        (Literal["a", "b"], "c", '"c" is not Literal'),
        (Literal[1], True, "true is not Literal"),
        (Unit, "K", '"K" is not Unit'),
        (int | None, "a", '"a" is not int or NoneType'),
        (date, "tomorrow", '"tomorrow" is not date'),
        (Place, {}, "value: missing: city"),
        (Place, {"city": "Oslo", "zip": 1}, "unknown: zip"),
        (Place, {"city": "Oslo", "tags": [1]}, r"tags\[0\]: 1 is not str"),
        (Tree, {"value": 1, "children": [{"value": "x"}]}, r'children\[0\].value: "x" is not int'),
        (Model, {"name": "a"}, "is not Model: 1 validation error"),
        (str, {"long": "x" * 100}, "…"),
    ],
)
def test_misfits_are_named_with_their_path(kind: Any, value: Any, message: str) -> None:
    with pytest.raises(InvalidOutput, match=message):
        load(kind, value)


class Odd:
    pass


@dataclass
class HasOdd:
    odd: Odd


class Mixed(Enum):
    A = (1, 2)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Odd, "Odd has no JSON Schema"),
        (HasOdd, "odd: Odd has no JSON Schema"),
        (dict[int, str], "keys of JSON objects are strings"),
        (list[Odd], "Odd has no JSON Schema"),
        (bytes, "bytes has no JSON Schema"),
        (Mixed, "choices must be strings"),
    ],
)
def test_types_without_json_are_refused(kind: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        schema(kind)


def test_values_without_json_are_refused() -> None:
    with pytest.raises(TypeError, match="no word for Odd"):
        dump({"a": [Odd()]})


def test_dump_knows_models_and_dataclasses() -> None:
    assert dump([Model(name="a", place=(1, 2)), Place("Oslo"), Unit.CELSIUS, Level.LOW, (1, None)]) == [
        {"name": "a", "place": [1, 2]},
        {"city": "Oslo", "country": None, "tags": []},
        "C",
        1,
        [1, None],
    ]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
kinds = st.recursive(
    st.sampled_from([str, int, float, bool, Unit, Level, date, Any]),
    lambda inner: st.one_of(
        inner.map(lambda kind: list[kind]),  # type: ignore[valid-type]
        inner.map(lambda kind: dict[str, kind]),  # type: ignore[valid-type]
        inner.map(lambda kind: Optional[kind]),  # noqa: UP045
        st.tuples(inner, inner).map(lambda pair: tuple[pair]),  # type: ignore[valid-type]
    ),
    max_leaves=4,
)


@given(kind=kinds, value=json_values)
def test_what_loads_is_what_the_schema_allows(kind: Any, value: Any) -> None:
    """`load` either gives a value that dumps back to the same JSON, or raises InvalidOutput; nothing else escapes."""
    try:
        loaded = load(kind, value)
    except InvalidOutput:
        return
    assert dump(loaded) == value
    assert jsonschema_rs.validator_for(schema(kind), validate_formats=False).is_valid(value)
