"""Every way a call can fail, as one tree: what the gateway can say, and what only a client can notice.

    ParleyError
    ├── GatewayError                     the call failed; has code, reason, retryable, …
    │   ├── InvalidRequest               INVALID_ARGUMENT     change the request
    │   │   ├── UnsupportedParameter                          the model cannot meet a wish, under unsupported="error"
    │   │   ├── OperationUnsupported                          the model does not do this operation
    │   │   ├── ContextLengthExceeded                         the prompt does not fit the window
    │   │   ├── RequestTooLarge                               the provider found the body too large
    │   │   ├── IdempotencyKeyReused                          the idempotency key belongs to another request
    │   │   └── PageTokenInvalid
    │   ├── Unauthenticated              UNAUTHENTICATED      the gateway does not know your key
    │   │   └── CredentialsMissing                            it asks for one: `token=…`, or PARLEY_TOKEN
    │   ├── ModelNotFound                NOT_FOUND
    │   ├── CacheMiss                    NOT_FOUND            only_if_cached, and the answer is not in the cache
    │   ├── ResponseNotFound             NOT_FOUND            you have no resumable response with that ID
    │   ├── ResumeWindowExpired          FAILED_PRECONDITION  what you ask for of a response is no longer kept
    │   ├── SequenceOutOfRange           OUT_OF_RANGE         a response has not come as far as you resume it from
    │   ├── ResponseCancelled            CANCELLED            CancelChat stopped the response
    │   ├── SlowConsumer                 RESOURCE_EXHAUSTED   you read the stream too slowly for the gateway to wait
    │   ├── CredentialsRejected          FAILED_PRECONDITION  the provider refuses the gateway's key: call its operator
    │   ├── PromptBlocked                FAILED_PRECONDITION  a safety filter refused the input
    │   ├── RateLimited                  RESOURCE_EXHAUSTED   wait `retry_after` seconds, then try again
    │   │   └── CallerRateLimited                             a limit of yours, not of a provider's, is used up
    │   ├── QuotaExhausted               RESOURCE_EXHAUSTED   no waiting helps: the account is out of money
    │   ├── CostLimitExceeded            RESOURCE_EXHAUSTED   the call should cost more than `max_cost_nano_usd`
    │   ├── IdempotentRequestInProgress  ABORTED              the call with this key runs; ask again when it is over
    │   ├── Unavailable                  UNAVAILABLE          try again in a moment
    │   │   ├── Overloaded
    │   │   ├── AttemptTimeout                                the provider took too long
    │   │   ├── CircuitOpen                                   it has failed too often: the gateway leaves it alone
    │   │   ├── StreamInterrupted                             the answer broke off; `stream.partial` has what arrived
    │   │   │   └── Truncated                                 (client) the stream said OK without having completed
    │   │   └── ConnectionFailed                              (client) no gateway answered, or the connection broke
    │   ├── ProtocolError                INTERNAL             the provider answered nonsense
    │   ├── DeadlineExceeded             DEADLINE_EXCEEDED    `timeout` is over
    │   ├── GatewayOverloaded            UNAVAILABLE          too many calls wait in the gateway already
    │   ├── StateUnavailable             UNAVAILABLE          what gateways share is away: try again in a moment
    │   ├── ShuttingDown                 UNAVAILABLE          this gateway is going away; another one will answer
    │   ├── Bug                          INTERNAL             the gateway's
    │   ├── MessageTooLarge              RESOURCE_EXHAUSTED   (client) a message is over a limit of gRPC itself
    │   └── Cancelled                    CANCELLED            (client) you cancelled the call
    ├── InvalidOutput                    the model's text or tool arguments are not what was asked for
    └── TurnLimitReached                 `run_tools` ran out of turns

The classes without "(client)" mirror those of the gateway: same names, reasons and codes. A reason that this version
does not know becomes the nearest class with the same code, and keeps its `reason`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import grpc

from parley import v1

if TYPE_CHECKING:
    from parley.reply import ToolRun

Code = grpc.StatusCode


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing wrong with a request: the proto path of the field, what is wrong, and a reason in UPPER_SNAKE_CASE."""

    field: str
    description: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Details:
    """What came with a status.

    `request_id`: what the gateway's operator needs to find the call in logs and traces.
    `retry_after`: seconds to wait at least, where the gateway or the provider said so.
    `violations`: what is wrong with the request. `provider_error`: what the provider said. `attempts`: how often the
    gateway tried. `failure`: how far a stream had come. `facts`: every dynamic piece of the message, for programs.
    """

    request_id: str = ""
    retry_after: float | None = None
    violations: tuple[Violation, ...] = ()
    provider_error: v1.ProviderError | None = None
    attempts: int | None = None
    failure: v1.ResponseFailure | None = None
    facts: Mapping[str, str] = field(default_factory=dict)


class ParleyError(Exception):
    """Anything that this SDK raises on purpose, apart from misuse (TypeError, ValueError)."""


class GatewayError(ParleyError):
    """The call failed. `retryable`: the same call may do better in a moment. `details`: what came with the status."""

    code: Code = Code.INTERNAL
    reason: str = "INTERNAL"
    retryable: bool = False

    def __init__(
        self,
        message: str,
        *,
        code: Code | None = None,
        reason: str | None = None,
        details: Details | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details = details or Details()
        if code is not None:
            self.code = code
        if reason is not None:
            self.reason = reason
        if self.retry_after is not None:
            self.retryable = True

    @property
    def request_id(self) -> str:
        return self.details.request_id

    @property
    def retry_after(self) -> float | None:
        return self.details.retry_after

    @property
    def violations(self) -> tuple[Violation, ...]:
        return self.details.violations

    @property
    def provider_error(self) -> v1.ProviderError | None:
        return self.details.provider_error

    @property
    def attempts(self) -> int | None:
        return self.details.attempts

    def __str__(self) -> str:
        notes = [f"attempts: {self.attempts}"] if (self.attempts or 0) > 1 else []
        if self.retry_after is not None:
            notes.append(f"try again in {self.retry_after:g} s")
        if self.request_id:
            notes.append(f"request {self.request_id}")
        lines = [f"{self.reason}: {self.message}" + (f" ({', '.join(notes)})" if notes else "")]
        lines += [f"  {v.field}: {v.description}" for v in self.violations if v.description not in self.message]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.message!r}, code={self.code.name}, reason={self.reason!r})"


class InvalidRequest(GatewayError):
    """The request breaks the contract, or the provider says it does."""

    code = Code.INVALID_ARGUMENT
    reason = "INVALID_REQUEST"


class UnsupportedParameter(InvalidRequest):
    """The chosen model cannot meet a wish, and the request asked to be refused then."""

    reason = "UNSUPPORTED_PARAMETER"


class OperationUnsupported(InvalidRequest):
    """The model or its provider does not do this operation."""

    reason = "OPERATION_UNSUPPORTED"


class ContextLengthExceeded(InvalidRequest):
    """The prompt, or prompt and asked output, do not fit the context window."""

    reason = "CONTEXT_LENGTH_EXCEEDED"


class RequestTooLarge(InvalidRequest):
    """The provider found the body too large."""

    reason = "REQUEST_TOO_LARGE"


class IdempotencyKeyReused(InvalidRequest):
    """You have used the idempotency key for another request."""

    reason = "IDEMPOTENCY_KEY_REUSED"


class PageTokenInvalid(InvalidRequest):
    """A page token that this server did not give, or gave for other arguments."""

    reason = "PAGE_TOKEN_INVALID"


class Unauthenticated(GatewayError):
    """The gateway does not know the key that you show."""

    code = Code.UNAUTHENTICATED
    reason = "CREDENTIALS_INVALID"


class CredentialsMissing(Unauthenticated):
    """The gateway asks for a key, and you show none: pass `token`, or set PARLEY_TOKEN."""

    reason = "CREDENTIALS_MISSING"


class ModelNotFound(GatewayError):
    """Nothing goes by that name; `client.models()` lists what does."""

    code = Code.NOT_FOUND
    reason = "MODEL_NOT_FOUND"


class CacheMiss(GatewayError):
    """You want an answer from the gateway's cache only, and it is not there. No provider was asked."""

    code = Code.NOT_FOUND
    reason = "CACHE_MISS"


class ResponseNotFound(GatewayError):
    """You have no resumable response with that ID."""

    code = Code.NOT_FOUND
    reason = "RESPONSE_NOT_FOUND"


class ResumeWindowExpired(GatewayError):
    """The response was there, but what you ask for is no longer kept."""

    code = Code.FAILED_PRECONDITION
    reason = "RESUME_WINDOW_EXPIRED"


class SequenceOutOfRange(GatewayError):
    """The response has not come as far as you resume it from."""

    code = Code.OUT_OF_RANGE
    reason = "SEQUENCE_OUT_OF_RANGE"


class ResponseCancelled(GatewayError):
    """CancelChat stopped the response."""

    code = Code.CANCELLED
    reason = "RESPONSE_CANCELLED"


class SlowConsumer(GatewayError):
    """You read the stream too slowly for the gateway to wait, or to keep what you have not read."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "SLOW_CONSUMER"


class CredentialsRejected(GatewayError):
    """The provider refuses the gateway's own key: its operator must act."""

    code = Code.FAILED_PRECONDITION
    reason = "PROVIDER_CREDENTIALS_REJECTED"


class PromptBlocked(GatewayError):
    """A safety filter refused the input. (Output that is filtered is not an error but a finish reason.)"""

    code = Code.FAILED_PRECONDITION
    reason = "PROMPT_BLOCKED"


class RateLimited(GatewayError):
    """The provider's rate limit; waiting helps."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "PROVIDER_RATE_LIMITED"
    retryable = True


class CallerRateLimited(RateLimited):
    """A limit that the gateway sets you, or your tenant, is used up; waiting `retry_after` seconds helps."""

    reason = "RATE_LIMITED"


class QuotaExhausted(GatewayError):
    """The provider account has no money or quota left; waiting does not help."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "PROVIDER_QUOTA_EXHAUSTED"


class CostLimitExceeded(GatewayError):
    """The call should cost more than `routing.max_cost_nano_usd` allows. Nobody was asked."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "COST_LIMIT_EXCEEDED"


class IdempotentRequestInProgress(GatewayError):
    """A call with the same idempotency key is under way, and is too long to be joined: ask again when it is over."""

    code = Code.ABORTED
    reason = "IDEMPOTENT_REQUEST_IN_PROGRESS"
    retryable = True


class Unavailable(GatewayError):
    """The provider failed or could not be reached."""

    code = Code.UNAVAILABLE
    reason = "PROVIDER_UNAVAILABLE"
    retryable = True


class Overloaded(Unavailable):
    """The provider says that it has too much to do."""

    reason = "PROVIDER_OVERLOADED"


class AttemptTimeout(Unavailable):
    """The provider took longer than one attempt may."""

    reason = "PROVIDER_TIMEOUT"


class CircuitOpen(Unavailable):
    """The provider has failed too often; the gateway does not ask it before `retry_after` seconds have passed."""

    reason = "PROVIDER_CIRCUIT_OPEN"


class StreamInterrupted(Unavailable):
    """The provider ended or broke before its own end marker."""

    reason = "STREAM_INTERRUPTED"


class Truncated(StreamInterrupted):
    """The stream ended with OK but without its last event, which a gateway never does: something between cut it."""

    reason = "TRUNCATED"


class ConnectionFailed(Unavailable):
    """No gateway answered at the address, or the connection to it broke."""

    reason = "CONNECTION_FAILED"


class ProtocolError(GatewayError):
    """The provider answered something that is not its protocol."""

    code = Code.INTERNAL
    reason = "PROVIDER_PROTOCOL_ERROR"
    retryable = True


class DeadlineExceeded(GatewayError):
    """The time that the call had is over: its `timeout`, or the gateway's own limit."""

    code = Code.DEADLINE_EXCEEDED
    reason = "DEADLINE_EXCEEDED"


class GatewayOverloaded(GatewayError):
    """Too many calls wait for their turn in the gateway; trying again after a while helps."""

    code = Code.UNAVAILABLE
    reason = "GATEWAY_OVERLOADED"
    retryable = True


class StateUnavailable(GatewayError):
    """What the gateways share cannot be asked for now, and the call needs it; try again in a moment."""

    code = Code.UNAVAILABLE
    reason = "STATE_UNAVAILABLE"
    retryable = True


class ShuttingDown(GatewayError):
    """This gateway is going away; the next call goes to another one, so trying again helps."""

    code = Code.UNAVAILABLE
    reason = "SHUTTING_DOWN"
    retryable = True


class Bug(GatewayError):
    """An unexpected failure inside the gateway: its log has more under `request_id`."""


class MessageTooLarge(GatewayError):
    """A message is over the limit of this channel or of the server's; raised by gRPC before any handler sees it."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "MESSAGE_TOO_LARGE"


class Cancelled(GatewayError):
    """The call was cancelled, by `stream.cancel()` or by closing the client."""

    code = Code.CANCELLED
    reason = "CANCELLED"


class InvalidOutput(ParleyError, ValueError):
    """The model's text or tool arguments are not the JSON, or not of the type, that was asked for."""


class TurnLimitReached(ParleyError):
    """`run_tools` made all the turns it may and the model still calls tools. `run` is the conversation so far."""

    def __init__(self, message: str, run: ToolRun) -> None:
        super().__init__(message)
        self.run = run


def _tree(root: type[GatewayError]) -> Iterator[type[GatewayError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


BY_REASON: Mapping[str, type[GatewayError]] = {c.reason: c for c in _tree(GatewayError) if c is not GatewayError}
"""The class of every reason that a status can carry."""
