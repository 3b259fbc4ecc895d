"""What a mock model can be told to do: the settings below `providers.mock.models.<name>`.

A model *says* something (`Saying`), may *break* while saying it (`Fault`), and takes its time. Without any setting it
echoes the last user text.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Delay = Annotated[float, Field(ge=0, le=86_400)]
Count = Annotated[int, Field(ge=0)]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class MockToolCall(_Settings):
    """A call of one tool."""

    name: Annotated[str, Field(min_length=1)]
    """Name of the tool."""
    arguments: dict[str, Any] | str | None = None
    """Arguments: a mapping, or JSON text sent as it stands (it may be broken). Unset: made up from its schema."""


class Saying(_Settings):
    """What a model answers."""

    reply: str | None = None
    """Text of the answer. Unset: the last user text, or JSON where the request asks for it, valid against its
    schema."""
    tool_calls: tuple[MockToolCall, ...] = ()
    """Calls made instead of answering, several in parallel. Once their results are there, the model answers in text.
    A request that demands a call (`required`, or a tool by name) gets one from every model."""
    call: Literal["offered", "always"] = "offered"
    """`offered`: only tools that the request offers are called. `always`: also those it does not."""
    text_with_calls: str | None = None
    """Text said before the calls."""
    reply_to_results: str | None = None
    """Text of the answer once tool results are there; `{results}` stands for them, one a line. Unset: the results
    alone, or JSON where the request asks for it."""
    reasoning: str = ""
    """Reasoning shown before the answer; left out where the request sets the reasoning effort to `none`."""
    refusal: str | None = None
    """Refuse with this text instead of answering."""
    finish_reason: str | None = None
    """Finish reason, whatever it should be: `length`, `content_filter`, …"""


class MockReply(Saying):
    """What a model answers to some user texts."""

    pattern: re.Pattern[str]
    """Regular expression searched for in the last user text."""


class Fault(_Settings):
    """How an answer breaks: at most one way, after so many events. An event is one `data:` frame of a stream: the role,
    each piece of text, the finish, the usage, the end. In a whole answer any number but 0 means half of the body.
    A number beyond the last event breaks nothing."""

    cut_after: Count | None = None
    """The connection breaks after so many events; 0: before the response head."""
    stall_after: Count | None = None
    """Nothing more comes after so many events, and the connection stays open; 0: before the response head."""
    error_after: Count | None = None
    """An error arrives inside the answer after so many events, under status 200."""
    malformed_after: Count | None = None
    """The next event after so many is not JSON."""

    @model_validator(mode="after")
    def _at_most_one(self) -> Fault:
        if sum(after is not None for _, after in self._ways()) > 1:
            raise ValueError(
                "an answer breaks in one way at most: cut_after, stall_after, error_after or malformed_after"
            )
        return self

    @property
    def breaks(self) -> tuple[str, int] | None:
        """How (`cut`, `stall`, `error`, `malformed`) and after how many events; None if not at all."""
        return next(((way, after) for way, after in self._ways() if after is not None), None)

    def _ways(self) -> tuple[tuple[str, int | None], ...]:
        return (
            ("cut", self.cut_after),
            ("stall", self.stall_after),
            ("error", self.error_after),
            ("malformed", self.malformed_after),
        )


class MockError(Fault):
    """What goes wrong with one answer: a status, or a way to break. With neither, that answer is a good one."""

    status: Annotated[int, Field(ge=400, le=599)] | None = None
    """HTTP status."""
    retry_after: Delay | None = None
    """Seconds told in `retry-after`, and in `retry-after-ms` if they are not whole."""
    type: str | None = None
    """`error.type`. Unset: OpenAI's usual one for the status."""
    code: str | None = None
    """`error.code`. Unset: OpenAI's usual one for the status."""
    message: str | None = None
    """`error.message`."""
    body: str | None = None
    """Body sent as it stands instead of the JSON error: an HTML page, plain text. Needs `status`."""

    @model_validator(mode="after")
    def _status_or_break(self) -> MockError:
        if self.status is not None and self.breaks is not None:
            raise ValueError("an error has a status or breaks the answer, not both")
        if self.status is None and (self.retry_after is not None or self.body is not None):
            raise ValueError("retry_after and body need a status")
        return self


class MockModel(Saying, Fault):
    """One model of the mock provider. With no setting at all it echoes the last user text."""

    replies: tuple[MockReply, ...] = ()
    """Answers by pattern: the first whose pattern is found in the last user text replaces the model's own."""

    first_token_delay: Delay = 0.0
    """Seconds before the first piece of a stream (the head and the role come at once), or before a whole answer."""
    token_delay: Delay = 0.0
    """Seconds between the pieces of a stream; a whole answer takes the sum."""
    chunking: Literal["words", "whole"] | Annotated[int, Field(ge=1)] = "words"
    """How a stream cuts text: by words (tool arguments: by 8 characters), not at all, or by so many characters."""

    size: Annotated[int, Field(ge=1)] | None = None
    """Answer with so many bytes of filler, in pieces of `chunking` characters (4096 unless that is a number)."""
    endless: bool = False
    """Repeat the answer for ever: the stream, or the body of a whole answer, never finishes."""

    errors: tuple[MockError, ...] = ()
    """What goes wrong with the first requests, in order; then the model answers."""
    repeat_errors: bool = False
    """Begin again behind the last of `errors`, for ever."""

    cached_tokens: Count = 0
    """How many tokens of the prompt are reported as read from a cache; never more than it has."""
    dimensions: Annotated[int, Field(ge=1, le=65_536)] = 256
    """Dimensions of an embedding, unless the request asks for others."""

    @model_validator(mode="after")
    def _one_length(self) -> MockModel:
        if self.size is not None and self.endless:
            raise ValueError("size and endless exclude each other")
        return self

    def saying(self, user_text: str) -> Saying:
        """What to answer to `user_text`."""
        return next((reply for reply in self.replies if reply.pattern.search(user_text)), self)

    def error(self, asked: int) -> MockError | None:
        """What goes wrong with request number `asked`, counted from 0; None: nothing beyond the model's own fault."""
        if asked < len(self.errors):
            return self.errors[asked]
        return self.errors[asked % len(self.errors)] if self.errors and self.repeat_errors else None
