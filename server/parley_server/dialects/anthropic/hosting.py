"""Where the Messages API is served, as data: other clouds put the model into the path and the version into the body."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from parley_server.core.target import Target
from parley_server.dialects.anthropic.learned import Delta
from parley_server.dialects.base import Framing
from parley_server.dialects.framing.sse import SSE
from parley_server.dialects.learned import Shape


@dataclass(frozen=True, slots=True)
class Hosting:
    """One place that serves the API. The default is Anthropic's own."""

    path: Callable[[str, bool], str] = lambda _model, _stream: "/messages"
    """The path of a call for a model, and for a stream or not."""

    model_in_body: bool = True
    """The body names the model; otherwise only the path does."""

    stream_in_body: bool = True
    """The body asks for a stream; otherwise only the path does."""

    version: str = ""
    """Sent in the body as `anthropic_version`; empty: as a header, in the version of Anthropic's own API."""

    betas_in_body: bool = False
    """`anthropic_beta` is a list in the body; otherwise a header."""

    framing: type[Framing] = SSE
    """What streams are cut by."""

    unpack: Callable[[bytes, Target], bytes] = lambda frame, _target: frame
    """The JSON of the event that a frame holds; empty: it holds none. Raises an error that it holds instead."""

    shape: Callable[[bytes, bytes, bytes], Shape | None] = lambda _frame, before, behind: Delta(before, behind)
    """The shape of a frame, given what stands before and behind the text in the JSON of its event."""
