"""Every way a call can fail, as one tree.

    GatewayError
    ├── InvalidRequest               INVALID_ARGUMENT     the caller must change the request
    │   ├── UnsupportedParameter                          a wish the target cannot meet, under policy ERROR
    │   ├── OperationUnsupported                          the model does not do this operation
    │   ├── ContextLengthExceeded                         the prompt does not fit the window
    │   ├── RequestTooLarge                               the provider found the body too large
    │   ├── IdempotencyKeyReused                          the key belongs to another request
    │   └── PageTokenInvalid
    ├── Unauthenticated              UNAUTHENTICATED      the caller shows a key that the gateway does not know
    │   └── CredentialsMissing                            the caller shows none
    ├── ModelNotFound                NOT_FOUND
    ├── ResponseNotFound             NOT_FOUND            this caller has no resumable response with that ID
    ├── CacheMiss                    NOT_FOUND            ONLY_IF_CACHED, and the answer is not in the cache
    ├── ResumeWindowExpired          FAILED_PRECONDITION  what is asked for of a response is no longer kept
    ├── SequenceOutOfRange           OUT_OF_RANGE         a response has not come as far as it shall be resumed from
    ├── ResponseCancelled            CANCELLED            CancelChat stopped the response
    ├── SlowConsumer                 RESOURCE_EXHAUSTED   the caller reads too slowly for the gateway to wait
    ├── CredentialsRejected          FAILED_PRECONDITION  the provider refuses *our* key: an operator must act
    ├── PromptBlocked                FAILED_PRECONDITION  a safety filter refused the input
    ├── RateLimited                  RESOURCE_EXHAUSTED   wait, then try again
    │   └── CallerRateLimited                             a limit of the caller's, or of its tenant's, is used up
    ├── QuotaExhausted               RESOURCE_EXHAUSTED   no waiting helps: the account is out of money
    ├── CostLimitExceeded            RESOURCE_EXHAUSTED   the call should cost more than its caller allows
    ├── IdempotentRequestInProgress  ABORTED              the call with this key runs, and cannot be joined any more
    ├── Unavailable                  UNAVAILABLE          5xx, connection refused or reset
    │   ├── Overloaded
    │   ├── AttemptTimeout                                one attempt took too long, the call still has time
    │   ├── CircuitOpen                                   has failed too often: not even asked
    │   └── StreamInterrupted                             the upstream broke off mid-answer
    ├── ProtocolError                INTERNAL             the provider answered nonsense
    ├── DeadlineExceeded             DEADLINE_EXCEEDED    the caller's time is over
    ├── GatewayOverloaded            UNAVAILABLE          too many calls wait here already
    ├── StateUnavailable             UNAVAILABLE          what gateways share cannot be asked for, and is needed
    ├── ShuttingDown                 UNAVAILABLE          this gateway is going away; another one will answer
    └── Bug                          INTERNAL             ours

Errors are born in dialects and transports, read by layers through the attributes below only, and spoken once, in
`api/status.py`. The pair (reason, code) of a class never changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import ClassVar, Self

from parley import v1


class Code(StrEnum):
    """The gRPC status codes that the gateway gives, by their canonical names."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    NOT_FOUND = "NOT_FOUND"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    UNAVAILABLE = "UNAVAILABLE"
    INTERNAL = "INTERNAL"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    OUT_OF_RANGE = "OUT_OF_RANGE"
    CANCELLED = "CANCELLED"
    ABORTED = "ABORTED"


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing wrong with a request: the proto path of the field, what is wrong, and a reason in UPPER_SNAKE_CASE."""

    field: str
    description: str
    reason: str = ""


class GatewayError(Exception):
    """A call failed in a way that the gateway understands.

    `retryable`: the same target may do better in a moment. `falls_back`: another target may do better.
    `attempted`: an upstream was asked; otherwise no attempt of the budget was used up.
    `retry_after`: seconds to wait at least, where the provider said so. `provider_error`: what it said.
    `facts`: every dynamic piece of the message again, for programs (camelCase keys).
    """

    code: ClassVar[Code] = Code.INTERNAL
    reason: ClassVar[str] = "INTERNAL"
    retryable: bool = False
    falls_back: ClassVar[bool] = False
    attempted: bool = True

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        provider_error: v1.ProviderError | None = None,
        violations: Sequence[Violation] = (),
        facts: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after
        self.provider_error = provider_error
        self.violations = tuple(violations)
        self.facts = dict(facts or {})

    def within(self, field: str) -> Self:
        """This error, its field paths those of a request that holds the one it is about in `field`."""
        self.violations = tuple(replace(violation, field=f"{field}.{violation.field}") for violation in self.violations)
        return self


class InvalidRequest(GatewayError):
    """The request breaks the contract, or the provider says it does."""

    code = Code.INVALID_ARGUMENT
    reason = "INVALID_REQUEST"


class UnsupportedParameter(InvalidRequest):
    """The chosen model cannot meet a wish, and the request asked to be refused then."""

    reason = "UNSUPPORTED_PARAMETER"
    falls_back = True


class OperationUnsupported(InvalidRequest):
    """The model or its provider does not do this operation."""

    reason = "OPERATION_UNSUPPORTED"


class ContextLengthExceeded(InvalidRequest):
    """The prompt, or prompt and asked output, do not fit the context window."""

    reason = "CONTEXT_LENGTH_EXCEEDED"
    falls_back = True


class RequestTooLarge(InvalidRequest):
    """The provider found the body too large."""

    reason = "REQUEST_TOO_LARGE"
    falls_back = True


class IdempotencyKeyReused(InvalidRequest):
    """The idempotency key was used for another request."""

    reason = "IDEMPOTENCY_KEY_REUSED"


class PageTokenInvalid(InvalidRequest):
    """A page token that this server did not give, or gave for other arguments."""

    reason = "PAGE_TOKEN_INVALID"


class Unauthenticated(GatewayError):
    """The caller shows a key that the gateway does not know. Nothing of it is repeated."""

    code = Code.UNAUTHENTICATED
    reason = "CREDENTIALS_INVALID"


class CredentialsMissing(Unauthenticated):
    """The caller shows no key, and the gateway asks for one."""

    reason = "CREDENTIALS_MISSING"


class ModelNotFound(GatewayError):
    """Nothing goes by that name."""

    code = Code.NOT_FOUND
    reason = "MODEL_NOT_FOUND"
    falls_back = True


class ResponseNotFound(GatewayError):
    """The caller has no resumable response with that ID."""

    code = Code.NOT_FOUND
    reason = "RESPONSE_NOT_FOUND"


class CacheMiss(GatewayError):
    """The caller wants an answer from the cache only, and it is not there. Nobody was asked."""

    code = Code.NOT_FOUND
    reason = "CACHE_MISS"


class ResumeWindowExpired(GatewayError):
    """The response was there, but what is asked for is no longer kept."""

    code = Code.FAILED_PRECONDITION
    reason = "RESUME_WINDOW_EXPIRED"


class SequenceOutOfRange(GatewayError):
    """The response has not come as far as it shall be resumed from."""

    code = Code.OUT_OF_RANGE
    reason = "SEQUENCE_OUT_OF_RANGE"


class ResponseCancelled(GatewayError):
    """CancelChat stopped the response."""

    code = Code.CANCELLED
    reason = "RESPONSE_CANCELLED"


class SlowConsumer(GatewayError):
    """The caller reads its stream too slowly for the gateway to wait or to keep what it has not read."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "SLOW_CONSUMER"


class CredentialsRejected(GatewayError):
    """The provider refuses the gateway's own key. Never UNAUTHENTICATED: the caller would log in again, in vain."""

    code = Code.FAILED_PRECONDITION
    reason = "PROVIDER_CREDENTIALS_REJECTED"
    falls_back = True
    for_model = False
    """Whether the key is good and only not allowed this model, where that is told otherwise than by status 403."""


class PromptBlocked(GatewayError):
    """A safety filter refused the input. (Output that is filtered is not an error but a finish reason.)"""

    code = Code.FAILED_PRECONDITION
    reason = "PROMPT_BLOCKED"


class RateLimited(GatewayError):
    """The provider's rate limit; waiting helps."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "PROVIDER_RATE_LIMITED"
    retryable = True
    falls_back = True


class CallerRateLimited(RateLimited):
    """A limit of the caller's own is used up, or of its tenant's. Nobody was asked."""

    reason = "RATE_LIMITED"
    retryable = False  # by any target: it is the caller who has to wait
    falls_back = False
    attempted = False


class QuotaExhausted(GatewayError):
    """The provider account has no money or quota left; waiting does not help."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "PROVIDER_QUOTA_EXHAUSTED"
    falls_back = True


class CostLimitExceeded(GatewayError):
    """The call should cost more than its caller allows. Nobody was asked."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "COST_LIMIT_EXCEEDED"


class IdempotentRequestInProgress(GatewayError):
    """A call with the same idempotency key is under way, and more has been said in it than is kept for others."""

    code = Code.ABORTED
    reason = "IDEMPOTENT_REQUEST_IN_PROGRESS"
    attempted = False


class Unavailable(GatewayError):
    """The provider failed or could not be reached."""

    code = Code.UNAVAILABLE
    reason = "PROVIDER_UNAVAILABLE"
    retryable = True
    falls_back = True


class Overloaded(Unavailable):
    """The provider says that it has too much to do."""

    reason = "PROVIDER_OVERLOADED"


class AttemptTimeout(Unavailable):
    """One attempt took longer than it may, while the call still has time."""

    reason = "PROVIDER_TIMEOUT"


class CircuitOpen(Unavailable):
    """The target has failed too often and is not asked for a while. `retry_after`: until when."""

    reason = "PROVIDER_CIRCUIT_OPEN"
    retryable = False  # by the same target; the router may wait for it
    attempted = False


class StreamInterrupted(Unavailable):
    """The upstream ended or broke before its own end marker."""

    reason = "STREAM_INTERRUPTED"


class ProtocolError(GatewayError):
    """The provider answered something that is not its protocol."""

    code = Code.INTERNAL
    reason = "PROVIDER_PROTOCOL_ERROR"
    retryable = True
    falls_back = True


class DeadlineExceeded(GatewayError):
    """The caller's deadline, or the server's where the caller set none, is over."""

    code = Code.DEADLINE_EXCEEDED
    reason = "DEADLINE_EXCEEDED"


class GatewayOverloaded(GatewayError):
    """Too many calls wait for their turn. Trying again is welcome, after a while."""

    code = Code.UNAVAILABLE
    reason = "GATEWAY_OVERLOADED"
    falls_back = True
    attempted = False


class StateUnavailable(GatewayError):
    """What gateways share cannot be asked for now, and the call must not go on without it. Nobody was asked."""

    code = Code.UNAVAILABLE
    reason = "STATE_UNAVAILABLE"
    attempted = False


class ShuttingDown(GatewayError):
    """This gateway is going away."""

    code = Code.UNAVAILABLE
    reason = "SHUTTING_DOWN"


class Bug(GatewayError):
    """An unexpected exception: its text stays in the log, the caller gets the request ID."""
