"""Answers as Python sees them. `raw` is always the message itself."""

from __future__ import annotations

import json
import sys
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any, TypeAlias, TypeVar, overload

from parley import v1
from parley.errors import InvalidOutput
from parley.schema import load
from parley.tools import parse_object

T = TypeVar("T")


class FinishReason(StrEnum):
    """Why generation ended; the members are strings. `reply.raw.native_finish_reason` is the provider's own word."""

    UNSPECIFIED = "unspecified"
    STOP = "stop"
    LENGTH = "length"
    TOOL_CALL = "tool_call"
    CONTENT_FILTER = "content_filter"
    REFUSAL = "refusal"
    PAUSE = "pause"
    COMPACTION = "compaction"
    CONTEXT_WINDOW = "context_window"
    MALFORMED_OUTPUT = "malformed_output"
    ERROR = "error"


_FINISH = {
    number: FinishReason(name.removeprefix("FINISH_REASON_").lower()) for name, number in v1.FinishReason.items()
}


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model wants made. `arguments_json` is what it wrote, which may be invalid."""

    id: str
    name: str
    arguments_json: str

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments by name. Raises InvalidOutput if the model wrote something else than a JSON object."""
        return parse_object(self.arguments_json, f"the arguments of {self.name}")


class _Answer:
    """What all answers have."""

    raw: v1.ChatResponse | v1.EmbedResponse | v1.RerankResponse

    @property
    def id(self) -> str:
        """ID of the response, for the gateway's operator."""
        return self.raw.id

    @property
    def model(self) -> str:
        """Model as requested; `route.model` is the one that answered."""
        return self.raw.model

    @property
    def usage(self) -> v1.Usage:
        """Tokens; fields that are not set were not reported."""
        return self.raw.usage

    @property
    def cost(self) -> Decimal | None:
        """Cost in US dollars, exactly; None if a price is unknown."""
        return Decimal(self.usage.cost.total_nano_usd).scaleb(-9) if self.usage.HasField("cost") else None

    @property
    def route(self) -> v1.RouteInfo:
        """Who answered, and after which attempts."""
        return self.raw.route

    @property
    def warnings(self) -> Sequence[v1.Warning]:
        """Wishes that were left out, and other notes."""
        return self.raw.warnings


class Reply(_Answer):
    """One turn of a model. Append `reply.message` to the conversation to go on."""

    raw: v1.ChatResponse

    def __init__(self, raw: v1.ChatResponse, response_model: type | None = None) -> None:
        self.raw = raw
        self._response_model = response_model

    @property
    def parsed(self) -> Any:
        """The text as one of the `response_model` that was asked for. Raises InvalidOutput if it does not fit."""
        if self._response_model is None:
            raise TypeError("no response_model was asked for; json(T) reads the text as a T")
        return self.json(self._response_model)

    @property
    def message(self) -> v1.Message:
        return self.raw.message

    @property
    def text(self) -> str:
        """The text, without reasoning and refusals."""
        return "".join(part.text for part in self._parts("text"))

    @property
    def reasoning(self) -> str:
        """The reasoning, as far as the provider shows it."""
        return "".join(part.reasoning.text for part in self._parts("reasoning"))

    @property
    def refusal(self) -> str:
        """What the model said to decline, or ""."""
        return "".join(part.refusal.text for part in self._parts("refusal"))

    @property
    def tool_calls(self) -> list[ToolCall]:
        calls = [part.tool_call for part in self._parts("tool_call")]
        return [ToolCall(call.id, call.name, call.arguments_json) for call in calls]

    @property
    def citations(self) -> list[v1.Citation]:
        return [citation for part in self.message.parts for citation in part.citations]

    @property
    def finish_reason(self) -> FinishReason:
        return _FINISH.get(self.raw.finish_reason, FinishReason.UNSPECIFIED)

    @overload
    def json(self) -> Any: ...
    @overload
    def json(self, kind: type[T]) -> T: ...
    def json(self, kind: Any = Any) -> Any:
        """The text parsed as JSON; with `kind` (a dataclass, TypedDict, pydantic model, list[int], …) as one of those.

        Raises InvalidOutput, which says so if the answer was cut off or declined.
        """
        try:
            return load(kind, json.loads(self.text))
        except json.JSONDecodeError as error:
            why = "" if self.finish_reason == "stop" else f"; the answer ended with {self.finish_reason.value!r}"
            raise InvalidOutput(f"the answer is not JSON ({error}){why}") from error

    def _parts(self, kind: str) -> Iterator[v1.Part]:
        return (part for part in self.message.parts if part.WhichOneof("kind") == kind)

    def __repr__(self) -> str:
        text = self.text if len(self.text) <= 60 else self.text[:59] + "…"
        calls = f", tool_calls={[call.name for call in self.tool_calls]}" if self.tool_calls else ""
        return f"<Reply {text!r}{calls}, {self.finish_reason.value}>"


@dataclass(slots=True)
class ToolRun:
    """A conversation with tools: all `replies`, and the `messages` to go on from."""

    messages: list[v1.Message]
    replies: list[Reply] = field(default_factory=list)

    @property
    def reply(self) -> Reply:
        """The last reply."""
        return self.replies[-1]

    @property
    def text(self) -> str:
        """The text of the last reply."""
        return self.reply.text

    @property
    def cost(self) -> Decimal | None:
        """Cost of all turns in US dollars; None if that of any is unknown."""
        costs = [reply.cost for reply in self.replies]
        return None if None in costs else sum((cost for cost in costs if cost is not None), Decimal(0))


Vector: TypeAlias = "array[float]"


class Embeddings(_Answer, Sequence[Vector]):
    """One vector per input, in order.

    Each is an `array('f')`: a sequence of floats that numpy reads without copying: `numpy.asarray(embeddings[0])`.
    """

    raw: v1.EmbedResponse

    def __init__(self, raw: v1.EmbedResponse) -> None:
        self.raw = raw

    @overload
    def __getitem__(self, index: int) -> Vector: ...
    @overload
    def __getitem__(self, index: slice) -> list[Vector]: ...
    def __getitem__(self, index: int | slice) -> Vector | list[Vector]:
        found = self.raw.embeddings[index]
        return _vector(found) if isinstance(found, v1.Embedding) else [_vector(one) for one in found]

    def __len__(self) -> int:
        return len(self.raw.embeddings)

    @property
    def vectors(self) -> list[list[float]]:
        """All vectors as plain lists."""
        return [vector.tolist() for vector in self]

    @property
    def dimensions(self) -> int:
        return self.raw.embeddings[0].dimensions if self.raw.embeddings else 0

    def __repr__(self) -> str:
        return f"<Embeddings {len(self)} × {self.dimensions}>"


@dataclass(frozen=True, slots=True)
class Ranked:
    """One document of a ranking. `index`: its place in the request. `score`: comparable within one answer only."""

    index: int
    score: float
    document: str


class Ranking(_Answer, Sequence[Ranked]):
    """Documents by relevance, best first; as many as were asked for."""

    raw: v1.RerankResponse

    def __init__(self, raw: v1.RerankResponse, documents: Sequence[str]) -> None:
        self.raw = raw
        self._ranked = [Ranked(one.index, one.score, documents[one.index]) for one in raw.results]

    @overload
    def __getitem__(self, index: int) -> Ranked: ...
    @overload
    def __getitem__(self, index: slice) -> list[Ranked]: ...
    def __getitem__(self, index: int | slice) -> Ranked | list[Ranked]:
        return self._ranked[index]

    def __len__(self) -> int:
        return len(self._ranked)

    @property
    def documents(self) -> list[str]:
        """The documents, best first."""
        return [one.document for one in self._ranked]

    def __repr__(self) -> str:
        best = f", best {self._ranked[0].index} ({self._ranked[0].score:.3g})" if self._ranked else ""
        return f"<Ranking of {len(self)}{best}>"


def _vector(embedding: v1.Embedding) -> Vector:
    if embedding.WhichOneof("vector") == "floats":
        return array("f", embedding.floats.values)
    vector = array("f", embedding.packed)
    if sys.byteorder == "big":  # the wire is little-endian
        vector.byteswap()
    return vector
