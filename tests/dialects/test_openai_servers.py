"""Refusals as servers other than OpenAI's word them, each in its own shape."""

from __future__ import annotations

import json
from typing import Any

import pytest

from parley_server.core.errors import (
    AttemptTimeout,
    ContextLengthExceeded,
    CredentialsRejected,
    GatewayError,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
    PromptBlocked,
    ProtocolError,
    QuotaExhausted,
    RateLimited,
    RequestTooLarge,
    Unavailable,
)
from parley_server.dialects.openai_chat import OpenAIChat, Quirks
from tests.dialects.openai_wire import DONE, SERVER, answer, chunk, events, texts

Refusals = list[tuple[int, Any, type[GatewayError]]]


def refusal(status: int, body: Any, quirks: Quirks | None = None, **headers: str) -> GatewayError:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return OpenAIChat(quirks or Quirks()).error(status, named, raw, SERVER)


def inner(message: str = "m", **said: Any) -> Any:
    return {"error": {"message": message, **said}}


GROQ: Refusals = [
    (498, inner(code="capacity_exceeded"), Overloaded),
    (498, b"", Overloaded),
    (413, inner("Request too large", code="request_too_large"), RequestTooLarge),
    (424, inner("dependency"), Unavailable),
    (400, inner(code="tool_use_failed", type="invalid_request_error", failed_generation="{"), ProtocolError),
    (400, inner(code="json_validate_failed", type="invalid_request_error"), ProtocolError),
    (400, inner(code="model_decommissioned", type="invalid_request_error"), ModelNotFound),
    (429, inner("Rate limit reached", code="rate_limit_exceeded", type="tokens"), RateLimited),
]
TOGETHER: Refusals = [
    (401, inner("Invalid API key provided", type="invalid_request_error"), CredentialsRejected),
    (402, inner("spend cap"), QuotaExhausted),
    (
        422,
        inner("`inputs` tokens + `max_new_tokens` must be <= 8193", type="invalid_request_error"),
        ContextLengthExceeded,
    ),
    (529, inner(), Overloaded),
    (524, inner(), AttemptTimeout),
]
GLM: Refusals = [
    (401, inner(code="1002"), CredentialsRejected),
    (429, inner(code="1113"), QuotaExhausted),
    (429, inner(code="1112"), CredentialsRejected),
    (429, inner(code="1302"), RateLimited),
    (429, inner(code="1305"), Overloaded),
    (429, inner(code="1308"), QuotaExhausted),
    (400, inner(code="1211"), ModelNotFound),
    (400, inner(code="1261"), ContextLengthExceeded),
    (400, inner(code="1301"), PromptBlocked),
    (400, inner(code="1210"), InvalidRequest),
    (434, inner(), CredentialsRejected),
    (435, inner(), RequestTooLarge),
    (500, inner(code="1234"), Unavailable),
]
CLOUDFLARE: Refusals = [
    (status, {"success": False, "errors": [{"code": code, "message": "m"}], "result": None}, expected)
    for status, code, expected in (
        (400, 5007, ModelNotFound),
        (400, 5004, InvalidRequest),
        (400, 3003, InvalidRequest),
        (413, 3006, RequestTooLarge),
        (408, 3007, AttemptTimeout),
        (403, 5018, CredentialsRejected),
        (404, 3042, ModelNotFound),
        (429, 3036, QuotaExhausted),
        (429, 3040, Overloaded),
        (429, 9999, RateLimited),
        (401, 10000, CredentialsRejected),
    )
]
MOONSHOT: Refusals = [
    (401, inner(type="invalid_authentication_error"), CredentialsRejected),
    (401, inner(type="incorrect_api_key_error"), CredentialsRejected),
    (403, inner("insufficient balance", type="permission_denied_error"), QuotaExhausted),
    (403, inner("no access to this", type="permission_denied_error"), CredentialsRejected),
    (404, inner(type="resource_not_found_error"), ModelNotFound),
    (429, inner(type="rate_limit_reached_error"), RateLimited),
    (429, inner(type="engine_overloaded_error"), Overloaded),
    (429, inner(type="exceeded_current_quota_error"), QuotaExhausted),
    (
        400,
        inner(
            "Invalid request: Your request exceeded model token limit: 131072 (requested: 140000)",
            type="invalid_request_error",
        ),
        ContextLengthExceeded,
    ),
    (400, inner(type="content_filter"), PromptBlocked),
]
DASHSCOPE: Refusals = [
    (401, inner(code="invalid_api_key", type="invalid_request_error"), CredentialsRejected),
    (403, inner(code="access_denied"), CredentialsRejected),
    (404, inner(code="model_not_found"), ModelNotFound),
    (404, inner(code="ModelNotFound"), ModelNotFound),
    (400, inner(code="Arrearage"), QuotaExhausted),
    (400, inner(code="data_inspection_failed"), PromptBlocked),
    (400, inner(code="DataInspectionFailed"), PromptBlocked),
    (429, inner(code="Throttling.RateQuota"), RateLimited),
    (429, inner(code="Throttling.AllocationQuota"), RateLimited),
    (429, inner(code="limit_requests"), RateLimited),
    (429, inner(code="insufficient_quota"), QuotaExhausted),
    (400, inner("Range of input length should be [1, 30720]", code="invalid_parameter_error"), ContextLengthExceeded),
    (400, inner("enable_thinking must be set to false", code="invalid_parameter_error"), InvalidRequest),
]
CEREBRAS: Refusals = [  # flat
    (400, {"message": "m", "type": "invalid_request_error", "param": "x", "code": "wrong_api_format"}, InvalidRequest),
    (402, {"message": "m", "type": "payment_required_error", "param": "", "code": "payment"}, QuotaExhausted),
    (404, {"message": "m", "type": "not_found_error", "param": "model", "code": "model_not_found"}, ModelNotFound),
    (429, {"message": "m", "type": "too_many_requests_error", "param": "queue", "code": "queue_exceeded"}, RateLimited),
]
HUGGING_FACE: Refusals = [
    (400, {"error": ["`inputs` is required"]}, InvalidRequest),
    (402, {"error": "You have exceeded your monthly included credits"}, QuotaExhausted),
    (404, {"error": "Model x does not exist"}, ModelNotFound),
    (503, {"error": "Model x is currently loading", "estimated_time": 20.5}, Overloaded),
    # text-generation-inference
    (
        422,
        {"error": "`inputs` tokens + `max_new_tokens` must be <= 4096", "error_type": "validation"},
        ContextLengthExceeded,
    ),
    (422, {"error": "`temperature` must be positive", "error_type": "validation"}, InvalidRequest),
    (424, {"error": "m", "error_type": "generation"}, Unavailable),
    (429, {"error": "Model is overloaded", "error_type": "overloaded"}, Overloaded),
    (500, {"error": "m", "error_type": "incomplete_generation"}, ProtocolError),
]
FAST_API: Refusals = [
    (422, {"detail": [{"loc": ["body", "seed"], "msg": "extra fields not permitted", "type": "x"}]}, InvalidRequest),
    (401, {"detail": "Invalid API Key"}, CredentialsRejected),
    (404, {"detail": "Not Found"}, ModelNotFound),
]
LITELLM: Refusals = [
    (429, inner("litellm.RateLimitError: x", type="throttling_error", code="429"), RateLimited),
    (401, inner("litellm.AuthenticationError: x", type="auth_error", code="401"), CredentialsRejected),
    (400, inner("litellm.ContextWindowExceededError: x", type=None, code="400"), ContextLengthExceeded),
    (400, inner("ExceededBudget: x", type="budget_exceeded", code="400"), QuotaExhausted),
]
OPENROUTER: Refusals = [
    (400, inner(code=400, metadata={"error_type": kind}), expected)
    for kind, expected in (
        ("context_length_exceeded", ContextLengthExceeded),
        ("token_limit_exceeded", ContextLengthExceeded),
        ("string_too_long", ContextLengthExceeded),
        ("authentication", CredentialsRejected),
        ("permission_denied", CredentialsRejected),
        ("payment_required", QuotaExhausted),
        ("rate_limit_exceeded", RateLimited),
        ("provider_overloaded", Overloaded),
        ("provider_unavailable", Overloaded),
        ("content_policy_violation", PromptBlocked),
        ("refusal", PromptBlocked),
        ("payload_too_large", RequestTooLarge),
        ("not_found", ModelNotFound),
        ("invalid_prompt", InvalidRequest),
    )
]
XAI: Refusals = [
    (
        400,
        {"code": "Client specified an invalid argument", "error": "Incorrect API key provided: xx"},
        CredentialsRejected,
    ),
    (
        403,
        {"code": "The caller does not have permission", "error": "Your team doesn't have any credits yet"},
        QuotaExhausted,
    ),
    (
        403,
        {"code": "The caller does not have permission", "error": "Content violates usage guidelines."},
        PromptBlocked,
    ),
    (403, {"code": "The caller does not have permission", "error": "Team is blocked"}, CredentialsRejected),
]
MISTRAL: Refusals = [
    (400, {"object": "error", "message": "Invalid model: x", "type": "invalid_model", "code": "1500"}, ModelNotFound),
    (400, {"object": "error", "message": "m", "type": "invalid_request_invalid_args", "code": "3051"}, InvalidRequest),
    (429, {"message": "Requests rate limit exceeded", "request_id": "r"}, RateLimited),
]
OTHERS: Refusals = [
    (
        400,
        inner("This model's maximum context length is 1048565 tokens.", code="invalid_request_error"),
        ContextLengthExceeded,
    ),
    (
        400,
        inner("The total length of all messages is too long.", type="too_many_prompt_tokens", code=400),
        ContextLengthExceeded,
    ),
    (412, {"error": "account suspended"}, CredentialsRejected),
    (404, inner(type="NotFoundError", code=404), ModelNotFound),
    (500, inner(type="InternalServerError", code=500), Unavailable),
    (429, {"error": "the deployment is waking up"}, RateLimited),
]


SERVERS: dict[str, Refusals] = {
    "groq": GROQ,
    "together": TOGETHER,
    "glm": GLM,
    "cloudflare": CLOUDFLARE,
    "moonshot": MOONSHOT,
    "dashscope": DASHSCOPE,
    "cerebras": CEREBRAS,
    "hugging-face": HUGGING_FACE,
    "fastapi": FAST_API,
    "litellm": LITELLM,
    "openrouter": OPENROUTER,
    "xai": XAI,
    "mistral": MISTRAL,
    "others": OTHERS,
}


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        pytest.param(*case, id=f"{server}-{number}")
        for server, cases in SERVERS.items()
        for number, case in enumerate(cases)
    ],
)
def test_classes(status: int, body: Any, expected: type[GatewayError]) -> None:
    error = refusal(status, body)
    assert type(error) is expected
    assert error.provider_error is not None
    assert error.provider_error.http_status == status


def test_a_status_that_means_something_else_at_one_server() -> None:
    together = Quirks(too_long_status=403)
    long = inner("Input validation error", type="invalid_request_error")
    assert type(refusal(403, long, together)) is ContextLengthExceeded
    assert type(refusal(403, inner(code="invalid_api_key"), together)) is CredentialsRejected
    assert type(refusal(403, inner(code="insufficient_quota"), together)) is QuotaExhausted
    assert type(refusal(403, long)) is CredentialsRejected


def test_numbers_of_one_server_mean_nothing_at_another() -> None:
    assert type(refusal(400, {"object": "error", "message": "m", "type": "x", "code": "1113"})) is InvalidRequest
    assert type(refusal(400, inner(code=3036))) is InvalidRequest
    assert type(refusal(400, {"errors": [{"code": 3036, "message": "m"}]})) is InvalidRequest


def test_the_time_that_a_model_takes_to_load_is_worth_waiting_for() -> None:
    loading = {"error": "Model x is currently loading", "estimated_time": 20.5}
    assert refusal(503, loading).retry_after == 20.5
    assert refusal(503, loading, retry_after="3").retry_after == 3
    assert refusal(503, loading | {"estimated_time": 1e9}).retry_after is None
    assert refusal(503, loading | {"estimated_time": "soon"}).retry_after is None
    assert refusal(404, loading).retry_after is None


def test_lengths_are_read_from_what_is_said() -> None:
    kimi = refusal(400, inner("Your request exceeded model token limit: 131072 (requested: 140000)"))
    assert kimi.facts == {"limitTokens": "131072", "requestedTokens": "140000"}
    qwen = refusal(400, inner("Range of input length should be [1, 30720]"))
    assert qwen.facts == {"limitTokens": "30720"}


# ------------------------------------------------------------------------------------------------------- inside a 200


INSIDE = [
    ({"error": {"code": 502, "message": "m", "metadata": {"error_type": "provider_overloaded"}}}, Overloaded),
    ({"error": {"code": 429, "message": "m"}}, RateLimited),
    ({"error": {"code": "server_error", "message": "m"}}, Unavailable),
    ({"error": "it broke"}, Unavailable),
    ({"error": "m", "error_type": "overloaded"}, Overloaded),
    ({"error": {"code": "1301", "message": "m"}}, PromptBlocked),
]


@pytest.mark.parametrize(("said", "expected"), INSIDE)
def test_an_error_in_a_200_is_an_error(said: Any, expected: type[GatewayError]) -> None:
    with pytest.raises(GatewayError) as whole:
        OpenAIChat(Quirks()).decode(json.dumps(said).encode(), SERVER)
    with pytest.raises(GatewayError) as streamed:
        events([*texts("a"), json.dumps(said).encode(), DONE], SERVER, Quirks())
    assert type(whole.value) is type(streamed.value) is expected


def test_an_error_with_a_choice_beside_it_is_an_error() -> None:
    broken = {"error": {"code": 502, "message": "m"}}
    with pytest.raises(Unavailable):
        OpenAIChat(Quirks()).decode(answer({"content": "a"}, "error", **broken), SERVER)
    with pytest.raises(Unavailable):
        events([*texts("a"), chunk({"content": ""}, "error", **broken), DONE], SERVER, Quirks())


def test_groq_hides_errors_of_streams() -> None:
    frames = [*texts("a", "b"), chunk({}, None, x_groq={"id": "r", "error": "it broke"}), DONE]
    with pytest.raises(Unavailable) as caught:
        events(frames, SERVER, Quirks())
    assert caught.value.provider_error is not None
    assert caught.value.provider_error.message == "it broke"
    also_words = chunk(
        {"content": "c"}, None, x_groq={"id": "r", "error": {"message": "m", "code": "capacity_exceeded"}}
    )
    with pytest.raises(Overloaded):
        events([*texts("a", "b"), also_words, DONE], SERVER, Quirks())
