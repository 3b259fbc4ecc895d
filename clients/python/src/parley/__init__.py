"""Parley: one gRPC API for every language model.

    import parley

    with parley.Client("127.0.0.1:50051") as client:
        print(client.chat("mock/echo", "hello").text)

Names are loaded when they are first used, so that `from parley import v1` costs the messages and nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from parley import channel as channel
    from parley import errors as errors
    from parley import v1 as v1
    from parley._async.client import AsyncClient as AsyncClient
    from parley._async.stream import AsyncStream as AsyncStream
    from parley._sync.client import Client as Client
    from parley._sync.stream import Stream as Stream
    from parley.channel import service_config as service_config
    from parley.content import assistant as assistant
    from parley.content import audio as audio
    from parley.content import cached as cached
    from parley.content import developer as developer
    from parley.content import document as document
    from parley.content import image as image
    from parley.content import message as message
    from parley.content import system as system
    from parley.content import tool_result as tool_result
    from parley.content import user as user
    from parley.errors import AttemptTimeout as AttemptTimeout
    from parley.errors import Bug as Bug
    from parley.errors import CacheMiss as CacheMiss
    from parley.errors import CallerRateLimited as CallerRateLimited
    from parley.errors import Cancelled as Cancelled
    from parley.errors import CircuitOpen as CircuitOpen
    from parley.errors import ConnectionFailed as ConnectionFailed
    from parley.errors import ContextLengthExceeded as ContextLengthExceeded
    from parley.errors import CostLimitExceeded as CostLimitExceeded
    from parley.errors import CredentialsMissing as CredentialsMissing
    from parley.errors import CredentialsRejected as CredentialsRejected
    from parley.errors import DeadlineExceeded as DeadlineExceeded
    from parley.errors import GatewayError as GatewayError
    from parley.errors import GatewayOverloaded as GatewayOverloaded
    from parley.errors import IdempotencyKeyReused as IdempotencyKeyReused
    from parley.errors import IdempotentRequestInProgress as IdempotentRequestInProgress
    from parley.errors import InvalidOutput as InvalidOutput
    from parley.errors import InvalidRequest as InvalidRequest
    from parley.errors import MessageTooLarge as MessageTooLarge
    from parley.errors import ModelNotFound as ModelNotFound
    from parley.errors import OperationUnsupported as OperationUnsupported
    from parley.errors import Overloaded as Overloaded
    from parley.errors import PageTokenInvalid as PageTokenInvalid
    from parley.errors import ParleyError as ParleyError
    from parley.errors import PromptBlocked as PromptBlocked
    from parley.errors import ProtocolError as ProtocolError
    from parley.errors import QuotaExhausted as QuotaExhausted
    from parley.errors import RateLimited as RateLimited
    from parley.errors import RequestTooLarge as RequestTooLarge
    from parley.errors import ResponseCancelled as ResponseCancelled
    from parley.errors import ResponseNotFound as ResponseNotFound
    from parley.errors import ResumeWindowExpired as ResumeWindowExpired
    from parley.errors import SequenceOutOfRange as SequenceOutOfRange
    from parley.errors import ShuttingDown as ShuttingDown
    from parley.errors import SlowConsumer as SlowConsumer
    from parley.errors import StateUnavailable as StateUnavailable
    from parley.errors import StreamInterrupted as StreamInterrupted
    from parley.errors import Truncated as Truncated
    from parley.errors import TurnLimitReached as TurnLimitReached
    from parley.errors import Unauthenticated as Unauthenticated
    from parley.errors import Unavailable as Unavailable
    from parley.errors import UnsupportedParameter as UnsupportedParameter
    from parley.errors import Violation as Violation
    from parley.health import Health as Health
    from parley.progress import Progress as Progress
    from parley.reply import Embeddings as Embeddings
    from parley.reply import FinishReason as FinishReason
    from parley.reply import Ranked as Ranked
    from parley.reply import Ranking as Ranking
    from parley.reply import Reply as Reply
    from parley.reply import ToolCall as ToolCall
    from parley.reply import ToolRun as ToolRun
    from parley.tools import Tool as Tool
    from parley.tools import ToolError as ToolError
    from parley.tools import tool as tool

_NAMES = {
    "_async.client": "AsyncClient",
    "_async.stream": "AsyncStream",
    "_sync.client": "Client",
    "_sync.stream": "Stream",
    "channel": "service_config",
    "content": "assistant audio cached developer document image message system tool_result user",
    "errors": (
        "AttemptTimeout Bug CacheMiss CallerRateLimited Cancelled CircuitOpen ConnectionFailed ContextLengthExceeded "
        "CostLimitExceeded CredentialsMissing CredentialsRejected "
        "DeadlineExceeded GatewayError GatewayOverloaded IdempotencyKeyReused IdempotentRequestInProgress "
        "InvalidOutput InvalidRequest MessageTooLarge ModelNotFound "
        "OperationUnsupported Overloaded "
        "PageTokenInvalid ParleyError PromptBlocked ProtocolError QuotaExhausted RateLimited RequestTooLarge "
        "ResponseCancelled ResponseNotFound ResumeWindowExpired SequenceOutOfRange ShuttingDown SlowConsumer "
        "StateUnavailable StreamInterrupted Truncated TurnLimitReached Unauthenticated Unavailable "
        "UnsupportedParameter Violation"
    ),
    "health": "Health",
    "progress": "Progress",
    "reply": "Embeddings FinishReason Ranked Ranking Reply ToolCall ToolRun",
    "tools": "Tool ToolError tool",
}
"""Which module has which of the names above."""

_HOME = {name: module for module, names in _NAMES.items() for name in names.split()}
_MODULES = {"channel", "errors", "v1"}

__all__ = [*_HOME, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(f"parley.{_HOME[name]}"), name)
    elif name in _MODULES:
        value = import_module(f"parley.{name}")
    elif name == "__version__":
        value = import_module("parley.channel").version()
    else:
        raise AttributeError(f"module 'parley' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
