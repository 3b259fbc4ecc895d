"""From Python types to JSON Schema, and from JSON values back to those types.

`schema` and `load` know: str, int, float, bool, None, Any, list, set, tuple, dict with string keys, Literal, Enum,
Optional and other unions, dataclasses, TypedDict, Annotated[T, "what it is"], date and datetime; and pydantic models,
where pydantic is installed. Everything else is a TypeError when the schema is made, never when a model calls.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from parley.errors import InvalidOutput

Schema = dict[str, Any]

_SCALARS: Mapping[Any, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    date: {"type": "string", "format": "date"},
    datetime: {"type": "string", "format": "date-time"},
}
_LISTS = (list, set, frozenset, Sequence, Iterable)
_MISSING = dataclasses.MISSING


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """A key of an object: its type, whether it must be there, its default (`MISSING`: none) and what it is."""

    name: str
    type: Any
    required: bool
    default: Any
    description: str = ""


def schema(kind: Any) -> Schema:
    """The JSON Schema of `kind`. Types are written in place; only a recursive one goes to `$defs`."""
    return _finish(_Writer(), lambda writer: writer.write(kind))


def object_schema(fields: Iterable[Field]) -> Schema:
    """The JSON Schema of an object with `fields`, and no others."""
    return _finish(_Writer(), lambda writer: writer.object(fields))


def _finish(writer: _Writer, write: Callable[[_Writer], Schema]) -> Schema:
    root = write(writer)
    return {**root, "$defs": writer.definitions} if writer.definitions else root


class _Writer:
    """Writes the schema of one type. `open` are the objects being written: one met again inside itself is recursive."""

    def __init__(self) -> None:
        self.definitions: dict[str, Schema] = {}
        self._open: list[Any] = []
        self._recursive: set[Any] = set()

    def write(self, kind: Any) -> Schema:
        origin, arguments = get_origin(kind), get_args(kind)
        if origin is Annotated:  # first: its notes may be unhashable
            inner, *notes = arguments
            text = next((note for note in notes if isinstance(note, str)), "")
            return {**self.write(inner), **({"description": text} if text else {})}
        if kind is Any:
            return {}
        if kind in _SCALARS:
            return dict(_SCALARS[kind])
        if origin in (Required, NotRequired):
            return self.write(arguments[0])
        if origin is Literal:
            return _choice(list(arguments))
        if origin in (Union, types.UnionType):
            return {"anyOf": [self.write(one) for one in arguments]}
        if (origin or kind) in _LISTS:
            items: Schema = {"items": self.write(arguments[0])} if arguments else {}
            unique: Schema = {"uniqueItems": True} if (origin or kind) in (set, frozenset) else {}
            return {"type": "array", **items, **unique}
        if (origin or kind) is tuple and arguments:
            if len(arguments) == 2 and arguments[1] is ...:
                return {"type": "array", "items": self.write(arguments[0])}
            each = [self.write(one) for one in arguments]
            return {"type": "array", "prefixItems": each, "minItems": len(each), "maxItems": len(each)}
        if (origin or kind) in (dict, Mapping):
            if not arguments:
                return {"type": "object"}
            if arguments[0] is not str:
                raise TypeError(f"{_name(kind)}: keys of JSON objects are strings")
            return {"type": "object", "additionalProperties": self.write(arguments[1])}
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            return {**_choice([member.value for member in kind]), **_about(kind)}
        if _pydantic(kind):
            written: Schema = kind.model_json_schema()
            self.definitions.update(written.pop("$defs", {}))
            return written
        if isinstance(kind, type) and (dataclasses.is_dataclass(kind) or is_typeddict(kind)):
            return self._named(kind)
        raise TypeError(f"{_name(kind)} has no JSON Schema; describe it with types that JSON has")

    def _named(self, kind: type) -> Schema:
        reference = {"$ref": f"#/$defs/{kind.__name__}"}
        if kind in self._open:
            self._recursive.add(kind)
            return reference
        self._open.append(kind)
        written = {**self.object(fields_of(kind)), **_about(kind)}
        self._open.pop()
        if kind not in self._recursive:
            return written
        self.definitions[kind.__name__] = written
        return reference

    def object(self, fields: Iterable[Field]) -> Schema:
        properties: dict[str, Schema] = {}
        required = []
        for field in fields:
            try:
                written = self.write(field.type)
                if field.default is not _MISSING and field.default is not None:
                    written["default"] = dump(field.default)
            except TypeError as error:
                raise TypeError(f"{field.name}: {error}") from None
            if field.description:
                written["description"] = field.description
            properties[field.name] = written
            if field.required:
                required.append(field.name)
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def fields_of(kind: type) -> list[Field]:
    """The fields of a dataclass or a TypedDict."""
    hints = get_type_hints(kind, include_extras=True)
    if is_typeddict(kind):
        # Where annotations are strings, `__required_keys__` knows `total=` only; the hints tell the marks of each key.
        marks = {Required: True, NotRequired: False}
        total: frozenset[str] = getattr(kind, "__required_keys__", frozenset())
        return [Field(name, hint, marks.get(get_origin(hint), name in total), _MISSING) for name, hint in hints.items()]
    found = []
    for field in dataclasses.fields(kind):
        optional = field.default is not _MISSING or field.default_factory is not _MISSING
        if field.init:
            found.append(Field(field.name, hints[field.name], not optional, field.default))
    return found


def load(kind: Any, value: Any, path: str = "") -> Any:
    """`value`, as JSON gave it, as a `kind`. Raises InvalidOutput that names the path of what does not fit."""
    origin, arguments = get_origin(kind), get_args(kind)
    try:
        match value:
            case _ if kind is Any:
                return value
            case _ if origin in (Annotated, Required, NotRequired):
                return load(arguments[0], value, path)
            case _ if origin in (Union, types.UnionType):
                return _first(arguments, value, path)
            case _ if origin is Literal:
                return next(one for one in arguments if one == value and type(one) is type(value))
            case _ if _pydantic(kind):
                return kind.model_validate(value)
            case _ if isinstance(kind, type) and issubclass(kind, enum.Enum):
                return kind(value)
            case str() if kind in (date, datetime):
                return kind.fromisoformat(value)
            case None | str() | bool() if kind is type(value):
                return value
            case int() | float() if kind is float and not isinstance(value, bool):
                return float(value)
            case int() | float() if kind is int and not isinstance(value, bool) and value == int(value):
                return int(value)  # models write 3.0 for 3
            case list() if (origin or kind) in (*_LISTS, tuple):
                return _sequence(origin or kind, arguments, value, path)
            case dict() if (origin or kind) in (dict, Mapping):
                each = arguments[1] if arguments else Any
                return {key: load(each, item, f"{path}.{key}") for key, item in value.items()}
            case dict() if isinstance(kind, type) and (dataclasses.is_dataclass(kind) or is_typeddict(kind)):
                return kind(**load_fields(fields_of(kind), value, path))
    except InvalidOutput:
        raise
    except (ValueError, OverflowError, StopIteration) as error:  # an unknown member, a date that is none, infinity
        why = f": {error}" if _pydantic(kind) else ""
        raise _misfit(path, f"{_short(value)} is not {_name(kind)}{why}") from error
    raise _misfit(path, f"{_short(value)} is not {_name(kind)}")


def load_fields(fields: Sequence[Field], value: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """The keys of an object as their fields' types; keys that are absent stay absent. Raises InvalidOutput."""
    known = {field.name: field for field in fields}
    if unknown := sorted(value.keys() - known.keys()):
        raise _misfit(path, f"unknown: {', '.join(unknown)}")
    if missing := [field.name for field in fields if field.required and field.name not in value]:
        raise _misfit(path, f"missing: {', '.join(missing)}")
    return {key: load(known[key].type, item, f"{path}.{key}") for key, item in value.items()}


def dump(value: Any) -> Any:
    """`value` as JSON has it: what `load` takes. Raises TypeError for what JSON has no word for."""
    match value:
        case enum.Enum():  # before str and int, which an Enum may be as well
            return dump(value.value)
        case None | str() | bool() | int() | float():
            return value
        case date():
            return value.isoformat()
        case Mapping():
            return {str(key): dump(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [dump(item) for item in value]
        case _ if dataclasses.is_dataclass(value):
            return {field.name: dump(getattr(value, field.name)) for field in dataclasses.fields(value)}
        case _ if _pydantic(type(value)):
            return value.model_dump(mode="json")
    raise TypeError(f"JSON has no word for {_name(type(value))}")


def _first(kinds: Sequence[Any], value: Any, path: str) -> Any:
    """`value` as the first of `kinds` that it is; exact types go first, so that 1 stays an int in `float | int`."""
    for kind in sorted(kinds, key=lambda kind: kind is not type(value)):
        try:
            return load(kind, value, path)
        except InvalidOutput:
            continue
    names = " or ".join(_name(kind) for kind in kinds)
    raise _misfit(path, f"{_short(value)} is not {names}")


def _sequence(origin: Any, arguments: Sequence[Any], value: Sequence[Any], path: str) -> Any:
    if origin is tuple and arguments and arguments[-1] is not ...:
        if len(value) != len(arguments):
            raise ValueError(f"{len(arguments)} items expected")
        return tuple(
            load(kind, item, f"{path}[{i}]") for i, (kind, item) in enumerate(zip(arguments, value, strict=True))
        )
    each = arguments[0] if arguments else Any
    items = [load(each, item, f"{path}[{i}]") for i, item in enumerate(value)]
    return origin(items) if origin in (set, frozenset, tuple) else items


def _choice(values: list[Any]) -> Schema:
    kinds = {type(value) for value in values}
    if not kinds <= {str, int, float, bool, type(None)}:
        raise TypeError("choices must be strings, numbers or booleans")
    return {**(_SCALARS[kinds.pop()] if len(kinds) == 1 else {}), "enum": values}


def _about(kind: type) -> Schema:
    """The docstring of `kind` as a description; not the ones that `dataclass` and `Enum` write themselves."""
    text = kind.__dict__.get("__doc__") or ""
    if not text or (dataclasses.is_dataclass(kind) and text.startswith(f"{kind.__name__}(")):
        return {}
    return {} if text == "An enumeration." else {"description": " ".join(text.split())}


def _pydantic(kind: Any) -> bool:
    """Whether `kind` is a pydantic model. Nobody can have made one without having imported pydantic."""
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)


def _name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind).replace("typing.", "")


def _misfit(path: str, what: str) -> InvalidOutput:
    return InvalidOutput(f"{path.lstrip('.') or 'value'}: {what}")


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "…"
