"""A refusal of a provider as an error of ours: a sentence in our words, its own beside it, scrubbed and short."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from parley import v1
from parley_server.core.errors import (
    AttemptTimeout,
    ContextLengthExceeded,
    CredentialsRejected,
    GatewayError,
    InvalidRequest,
    ModelNotFound,
    OperationUnsupported,
    Overloaded,
    PromptBlocked,
    ProtocolError,
    QuotaExhausted,
    RateLimited,
    RequestTooLarge,
    Unavailable,
    UnsupportedParameter,
    Violation,
)
from parley_server.core.target import Target
from parley_server.dialects.hints import provider_text

_WORD = 128  # characters of a type, a code or an ID that are kept: a whole status has to stay small
_SENTENCES: dict[type[GatewayError], str] = {
    AttemptTimeout: "timed out",
    ContextLengthExceeded: "says that the prompt does not fit the context window",
    CredentialsRejected: "rejected the gateway's credentials",
    InvalidRequest: "found the request invalid",
    ModelNotFound: "does not know the model",
    OperationUnsupported: "does not do this operation with the model",
    Overloaded: "is overloaded",
    PromptBlocked: "blocked the prompt",
    ProtocolError: "could not read what the model wrote",
    QuotaExhausted: "has no quota left for this account",
    RateLimited: "limits the rate of requests",
    RequestTooLarge: "found the request too large",
    Unavailable: "failed",
    UnsupportedParameter: "says that the model cannot do what is asked",
}
_TOO_LONG = Violation("messages", "does not fit the context window", "CONTEXT_LENGTH_EXCEEDED")


def refusal(
    found: type[GatewayError],
    target: Target,
    status: int,
    words: str,
    *,
    type: str = "",
    code: str = "",
    request_id: str = "",
    facts: Mapping[str, str] | None = None,
    violations: Iterable[Violation] = (),
) -> GatewayError:
    """An error of the class `found`. `status` is HTTP's; `words`, `type`, `code`, `request_id` are the provider's."""
    return found(
        f"{target.provider} {_SENTENCES[found]}",
        facts=facts,
        violations=[_TOO_LONG] if found is ContextLengthExceeded else list(violations),
        provider_error=v1.ProviderError(
            provider=target.provider,
            model=target.model,
            http_status=status,
            type=provider_text(type)[:_WORD],
            code=provider_text(code)[:_WORD],
            message=provider_text(words),
            request_id=provider_text(request_id)[:_WORD],
        ),
    )


def by_status(status: int, known: Mapping[int, type[GatewayError]]) -> type[GatewayError]:
    """What a status means where nothing else tells: as `known` has it, or by its hundred."""
    return known.get(status) or (InvalidRequest if 400 <= status < 500 else Unavailable)
