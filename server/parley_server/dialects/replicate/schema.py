"""What a model takes and gives, from the OpenAPI schema that it is published with.

Models name their inputs as they like, and an input of another name is not refused but overlooked. So each wish knows
the names that it goes by, and is unmet where a model has none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from parley_server.core.context import Clock

_AGE = 3600.0  # seconds until a model is looked at again: its name stands for the latest version, whichever that is
_NEXT_LOOK = 60.0  # seconds from one look to the next where the first brought nothing
_MOST_MODELS = 1024

NAMES: dict[str, tuple[str, ...]] = {
    "prompt": ("prompt",),
    "messages": ("messages",),
    "system": ("system_prompt", "system_instruction", "system"),
    "image": ("image", "image_input", "images"),
    "max_output_tokens": ("max_tokens", "max_new_tokens", "max_completion_tokens", "max_output_tokens", "max_length"),
    "temperature": ("temperature",),
    "top_p": ("top_p",),
    "top_k": ("top_k",),
    "min_p": ("min_p",),
    "frequency_penalty": ("frequency_penalty",),
    "presence_penalty": ("presence_penalty",),
    "repetition_penalty": ("repetition_penalty",),
    "seed": ("seed",),
    "stop_sequences": ("stop_sequences", "stop"),
    "effort": ("reasoning_effort",),
    "verbosity": ("verbosity",),
}
"""Names of inputs by what they are for, usual ones first."""

_ALL = frozenset(name for names in NAMES.values() for name in names)
_USUAL = (
    "prompt",
    "system",
    "image",
    "max_output_tokens",
    "temperature",
    "top_p",
    "top_k",
    "frequency_penalty",
    "presence_penalty",
    "seed",
    "stop_sequences",
)


@dataclass(frozen=True, slots=True)
class Schema:
    """The inputs of a model. One that nobody can look up is taken for a usual language model."""

    inputs: Mapping[str, str] | None = None
    """Those that a wish goes by, and their JSON types; None: not known."""
    gives_text: bool = True
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By name of an input, the values that it may have, where it may not have any."""

    def name(self, wish: str) -> str:
        """The input that `wish` goes into; empty if there is none."""
        if self.inputs is None:
            return NAMES[wish][0] if wish in _USUAL else ""
        return next((name for name in NAMES[wish] if name in self.inputs), "")

    def is_list(self, name: str) -> bool:
        """Whether an input is a list."""
        return self.inputs is not None and self.inputs[name] == "array"


class Schemas:
    """Those of the models that have been asked, by name. What is old is still good until it has been read anew."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[str, tuple[Schema, float]] = {}  # and when to look again

    def get(self, model: str) -> Schema | None:
        """What `model` was known to take when somebody last looked; None if nobody has."""
        found = self._known.get(model)
        return found and found[0]

    def claim(self, model: str) -> bool:
        """Whether it is time to look, for whoever asks first; what is known will do for the others meanwhile."""
        found, now = self._known.get(model), self._clock()
        if found is None:
            return True
        if now < found[1]:
            return False
        self._known[model] = found[0], now + _NEXT_LOOK
        return True

    def put(self, model: str, schema: Schema) -> None:
        """Somebody has looked."""
        if model not in self._known and len(self._known) >= _MOST_MODELS:
            self._known.pop(next(iter(self._known)))
        self._known[model] = schema, self._clock() + _AGE


def read(version: Any) -> Schema | None:
    """The schema of a model's version as the API describes it; None if it says nothing that can be read."""
    try:
        schemas = version["openapi_schema"]["components"]["schemas"]
        inputs = schemas["Input"]["properties"]
        found = {name: schema for name, schema in inputs.items() if name in _ALL and isinstance(schema, dict)}
        output = schemas.get("Output") or {}
        choices = {name: _values(schema, schemas) for name, schema in found.items()}
    except (AttributeError, KeyError, TypeError):
        return None
    types = {name: str(schema.get("type", "")) for name, schema in found.items()}
    return Schema(types, _gives_text(output), {name: values for name, values in choices.items() if values})


def _gives_text(output: Any) -> bool:
    """Whether the output is a text or pieces of one; files come as their URIs, which are no text."""
    if not isinstance(output, dict):
        return True
    if output.get("type") == "array":
        return _gives_text(output.get("items") or {})
    return output.get("format") != "uri" and output.get("type", "string") == "string"


def _values(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> tuple[str, ...]:
    """The values of an enumeration, which stands apart and is referred to."""
    allowed = schema.get("enum")
    for referred in schema.get("allOf") or ():
        allowed = allowed or schemas[referred["$ref"].rpartition("/")[2]].get("enum")
    return tuple(value for value in allowed or () if isinstance(value, str))
