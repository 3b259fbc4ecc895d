'''Tools: Python functions that a model may call.

    @tool
    def weather(city: str, unit: Literal["C", "F"] = "C") -> str:
        """The weather now.

        Args:
            city: Name of the city.
        """

Types become the JSON Schema of the arguments, the docstring what the model reads. `client.run_tools` runs the whole
conversation; `client.chat(…, tools=[weather])` only tells the model about the tool.
'''

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass
from typing import Any, Generic, ParamSpec, TypeVar, get_type_hints, overload

from parley import v1
from parley.errors import InvalidOutput, ParleyError
from parley.schema import Field, Schema, dump, load_fields, object_schema

P = ParamSpec("P")
R = TypeVar("R")


class ToolError(ParleyError):
    """Raise it in a tool to tell the model what went wrong. Any other exception is a bug and ends `run_tools`."""


@dataclass(frozen=True, slots=True)
class Tool(Generic[P, R]):
    """A function and how a model sees it. Call it like the function."""

    function: Callable[P, R]
    name: str
    description: str
    parameters: Schema
    fields: tuple[Field, ...] | None
    """None: the schema was given by hand, and arguments are passed as they come."""
    strict: bool | None = None

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    @property
    def proto(self) -> v1.Tool:
        """The declaration that goes into a request."""
        schema = json.dumps(self.parameters, ensure_ascii=False)
        return v1.Tool(
            function=v1.FunctionTool(
                name=self.name, description=self.description, parameters_json_schema=schema, strict=self.strict
            )
        )

    def arguments(self, text: str) -> dict[str, Any]:
        """The arguments that a model wrote, as the function's types. Raises InvalidOutput with the path of a misfit."""
        value = parse_object(text, f"the arguments of {self.name}")
        return value if self.fields is None else load_fields(self.fields, value)


AnyTool = Tool[Any, Any]
ToolLike = AnyTool | Callable[..., Any] | v1.Tool
"""A tool, a function that becomes one, or a declaration made by hand."""


@overload
def tool(function: Callable[P, R], /) -> Tool[P, R]: ...
@overload
def tool(
    function: Callable[P, R],
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    parameters: Schema | None = None,
    strict: bool | None = None,
) -> Tool[P, R]: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    parameters: Schema | None = None,
    strict: bool | None = None,
) -> Callable[[Callable[P, R]], Tool[P, R]]: ...
def tool(
    function: Callable[P, R] | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    parameters: Schema | None = None,
    strict: bool | None = None,
) -> Tool[P, R] | Callable[[Callable[P, R]], Tool[P, R]]:
    """A function as a tool; also a decorator.

    `name`, `description`, `parameters` (a JSON Schema of an object) replace what the function says of itself. `strict`:
    ask the provider to guarantee that arguments follow the schema. Raises TypeError for parameters JSON cannot give.
    """
    if function is None:
        return lambda function: tool(function, name=name, description=description, parameters=parameters, strict=strict)
    about, notes = describe(inspect.getdoc(function) or "")
    fields = None
    if parameters is None:
        fields = tuple(_fields(function, notes))
        parameters = object_schema(fields)
    name, description = name or function.__name__, about if description is None else description
    return Tool(function, name, description, parameters, fields, strict)


def declarations(tools: Iterable[ToolLike]) -> list[v1.Tool]:
    """What a request says of `tools`."""
    return [one if isinstance(one, v1.Tool) else as_tool(one).proto for one in tools]


def as_tool(one: AnyTool | Callable[..., Any]) -> AnyTool:
    return one if isinstance(one, Tool) else tool(one)


def parse_object(text: str, what: str) -> dict[str, Any]:
    """`text` as a JSON object; an empty text is an empty one, as some models write. Raises InvalidOutput."""
    try:
        value = json.loads(text or "{}")
    except json.JSONDecodeError as error:
        raise InvalidOutput(f"{what} are not JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidOutput(f"{what} are not a JSON object")
    return value


def result_text(value: object) -> str:
    """What a tool returned, as the model reads it: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(dump(value), ensure_ascii=False)


def _fields(function: Callable[..., Any], notes: Mapping[str, str]) -> Iterable[Field]:
    hints = get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise TypeError(f"{function.__name__}: {parameter} cannot be given by name, as a model does")
        if name not in hints:
            raise TypeError(f"{function.__name__}: {name} has no type; the model must know what to write")
        default = MISSING if parameter.default is parameter.empty else parameter.default
        yield Field(name, hints[name], default is MISSING, default, notes.get(name, ""))


_SECTION = re.compile(r"^(args|arguments|parameters|returns?|raises|yields|examples?|notes?):\s*$", re.IGNORECASE)
_GOOGLE = re.compile(r"^(\s+)\*{0,2}(\w+)(?:\s*\([^)]*\))?:\s*(.*)$")
_SPHINX = re.compile(r"^:param(?:\s+[^:]+?)?\s+(\w+):\s*(.*)$")


def describe(doc: str) -> tuple[str, dict[str, str]]:
    """What a docstring says of the function, and of each parameter; in the styles of Google ("Args:") and of Sphinx."""
    about: list[str] = []
    notes: dict[str, str] = {}
    section, name, indent = "", "", 0
    for line in doc.splitlines():
        if heading := _SECTION.match(line):
            section, name, indent = heading[1].lower(), "", 0
        elif found := _SPHINX.match(line):
            section, name, indent = "sphinx", found[1], 1
            notes[name] = found[2]
        elif line.startswith(":"):  # :returns: and its kind
            section, name = "sphinx", ""
        elif (
            section in ("args", "arguments", "parameters")
            and (found := _GOOGLE.match(line))
            and (not indent or len(found[1]) <= indent)
        ):
            name, indent = found[2], len(found[1])
            notes[name] = found[3]
        elif section and name and line.startswith(" " * (indent + 1)):
            notes[name] = f"{notes[name]} {line.strip()}".strip()
        elif not line.startswith(" ") and line:
            section, name = "", ""
            about.append(line)
        elif not section:
            about.append(line)
    return "\n".join(about).strip(), notes
