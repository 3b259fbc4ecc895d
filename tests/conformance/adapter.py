"""What a family of APIs has to say about itself so that its dialect can be held against recordings.

To add a family, write `tests/conformance/<family>.py` with a tuple `ADAPTERS` of `ChatAdapter`, `EmbedAdapter` and
`RerankAdapter` objects, and name the module in `registry.py`. The runner does the rest for each recording that an
adapter `covers`:

  answer   (status < 400) `dialect.decode`, or framing and decoder over the body cut at seeded random places, must give
           what `read` gives, down to usage; a strict prefix of a stream must be interrupted.
  request  `request` is encoded and must be, in `normal` form, the recorded body in `normal` form.
  replay   the decoded message is appended to the conversation, with a result for each tool call or a further user turn,
           and encoded: `turn_sent` of that body must equal `turn` of the recording.
  error    (status ≥ 400) `dialect.error` must give exactly the class `failure`; the request is checked as well.

The point is independence: `read`, `request`, `normal`, `turn` and `failure` are written from the provider's
documentation and share no code with the dialect, nor its way of thinking where there is a simpler one. They may be
slow.

What `parley.v1` has no word for goes into `provider_options_json` of the request, and counts only if it comes out in
the body. A wish that `normal` drops on either side must be one that says nothing (a documented default); say so where
you drop it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from parley import v1
from parley_server.core.errors import GatewayError
from parley_server.core.target import Target
from parley_server.dialects.base import ChatDialect, EmbedDialect, RerankDialect
from tests.conformance.recording import Recording


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A tool call. `id` is empty where there is none; `arguments` are parsed, or the text where it is no JSON."""

    id: str
    name: str
    arguments: Any


@dataclass(slots=True)
class Answer:
    """What a recorded answer says. Texts are those of all blocks of the kind, in order, joined by nothing."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    tool_calls: list[ToolUse] = field(default_factory=list)
    finish: str = ""
    """A `v1.FinishReason` without its prefix: STOP, LENGTH, TOOL_CALL, …"""
    native_finish: str = ""
    usage: Mapping[str, int] = field(default_factory=dict)
    """By field name of `v1.Usage`, only what the provider reported; empty: it reported nothing."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Anything else worth comparing, by paths of `v1.ChatResponse`: {"route.model": "gpt-4o"}."""
    citations: list[str] = field(default_factory=list)
    """URIs (or, without one, titles) of the citations in order."""
    logprobs: list[tuple[str, float]] = field(default_factory=list)
    failure: type[GatewayError] | None = None
    """The answer is an error inside a 200: decoding it must raise this, and nothing else is compared."""


class Inexpressible(Exception):
    """The recorded request breaks a rule of `parley.v1` itself, such as a turn without content. Says which."""


class Adapter(Protocol):
    """What the runner asks of every adapter."""

    name: str
    """Of the dialect, for the report: "openai-chat"."""

    def covers(self, recording: Recording) -> bool:
        """Whether the recording is of this family."""
        ...

    def out_of_scope(self, recording: Recording) -> str:
        """Why the recording is not counted, in words that hold for every such recording; empty: it is counted."""
        ...


class ChatAdapter(Adapter, Protocol):
    """A family of chat APIs."""

    def dialect(self, recording: Recording) -> ChatDialect: ...

    def target(self, recording: Recording) -> Target:
        """Whom to ask; `provider` is also the key of `provider_options_json`."""
        ...

    def read(self, recording: Recording) -> Answer:
        """What the recorded response says."""
        ...

    def request(self, recording: Recording) -> v1.ChatRequest:
        """The recorded request in our words. May raise Inexpressible."""
        ...

    def normal(self, body: Any) -> Any:
        """A request body in a form in which bodies that say the same are equal (JSON values)."""
        ...

    def turn(self, recording: Recording) -> Any:
        """What the assistant turn must say when the answer is sent back, as JSON values; None: cannot be told."""
        ...

    def turn_sent(self, body: Any) -> Any:
        """The last assistant turn of an encoded body, in the form of `turn`."""
        ...

    def failure(self, recording: Recording) -> type[GatewayError]:
        """The class that a recorded error belongs to."""
        ...


class EmbedAdapter(Adapter, Protocol):
    """A family of embedding APIs. Vectors must come out equal as float32."""

    def dialect(self, recording: Recording) -> EmbedDialect: ...

    def target(self, recording: Recording) -> Target: ...

    def read(self, recording: Recording) -> tuple[list[list[float]], Mapping[str, int]]:
        """The recorded vectors in input order, and usage as in `Answer`."""
        ...

    def request(self, recording: Recording) -> v1.EmbedRequest: ...

    def normal(self, body: Any) -> Any: ...

    def failure(self, recording: Recording) -> type[GatewayError]: ...


class RerankAdapter(Adapter, Protocol):
    """A family of reranking APIs."""

    operation: Literal["rerank"]

    def dialect(self, recording: Recording) -> RerankDialect: ...

    def target(self, recording: Recording) -> Target: ...

    def read(self, recording: Recording) -> tuple[list[tuple[int, float]], Mapping[str, int]]:
        """Indexes and scores, best first, and usage as in `Answer`."""
        ...

    def request(self, recording: Recording) -> v1.RerankRequest: ...

    def normal(self, body: Any) -> Any: ...

    def failure(self, recording: Recording) -> type[GatewayError]: ...


AnyAdapter = ChatAdapter | EmbedAdapter | RerankAdapter
