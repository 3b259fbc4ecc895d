"""Tables of what codes, types, statuses and words of refusals mean, across the servers that follow OpenAI."""

from __future__ import annotations

import re

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
)

BY_WORD: dict[str, type[GatewayError]] = {
    # the prompt does not fit
    "context_length_exceeded": ContextLengthExceeded,
    "exceed_context_size_error": ContextLengthExceeded,  # llama.cpp
    "token_limit_exceeded": ContextLengthExceeded,
    "string_too_long": ContextLengthExceeded,  # OpenRouter
    "too_many_prompt_tokens": ContextLengthExceeded,  # Perplexity
    # no money
    "insufficient_quota": QuotaExhausted,
    "credit_balance_exhausted": QuotaExhausted,
    "billing_hard_limit_reached": QuotaExhausted,
    "billing_not_active": QuotaExhausted,
    "exceeded_current_quota_error": QuotaExhausted,  # Moonshot
    "payment_required": QuotaExhausted,
    "budget_exceeded": QuotaExhausted,  # LiteLLM
    "Arrearage": QuotaExhausted,  # DashScope
    # too fast
    "rate_limit_exceeded": RateLimited,
    "rate_limit_error": RateLimited,
    "rate_limit_reached_error": RateLimited,  # Moonshot
    "RateLimitReached": RateLimited,  # Azure
    "REQUEST_LIMIT_EXCEEDED": RateLimited,  # Databricks
    "limit_requests": RateLimited,  # DashScope, as all of the next lines
    "Throttling": RateLimited,
    "Throttling.RateQuota": RateLimited,
    "Throttling.AllocationQuota": RateLimited,
    "Throttling.User": RateLimited,
    "slow_down": RateLimited,
    "too_many_requests_error": RateLimited,  # Cerebras
    # the key
    "invalid_api_key": CredentialsRejected,
    "InvalidApiKey": CredentialsRejected,
    "authentication": CredentialsRejected,
    "authentication_error": CredentialsRejected,
    "invalid_authentication_error": CredentialsRejected,
    "incorrect_api_key_error": CredentialsRejected,
    "permission_denied": CredentialsRejected,
    "permission_denied_error": CredentialsRejected,
    "access_denied": CredentialsRejected,
    "PERMISSION_DENIED": CredentialsRejected,  # Databricks
    "AccessDenied": CredentialsRejected,
    "data_residency_mismatch": CredentialsRejected,  # OpenAI: a key for another region
    # the model
    "model_not_found": ModelNotFound,
    "ModelNotFound": ModelNotFound,
    "model_decommissioned": ModelNotFound,  # Groq
    "DeploymentNotFound": ModelNotFound,  # Azure
    "OperationNotSupported": OperationUnsupported,  # Azure
    "ENDPOINT_NOT_FOUND": ModelNotFound,  # Databricks, as the next line
    "RESOURCE_DOES_NOT_EXIST": ModelNotFound,
    "invalid_model": ModelNotFound,  # Mistral
    "resource_not_found_error": ModelNotFound,  # Moonshot
    "not_found": ModelNotFound,
    "NotFoundError": ModelNotFound,  # vLLM
    # a filter
    "content_policy_violation": PromptBlocked,
    "content_filter": PromptBlocked,
    "moderation_blocked": PromptBlocked,
    "bio_policy": PromptBlocked,  # OpenAI's responses, as the next two lines
    "misalignment_policy_violation": PromptBlocked,
    "image_content_policy_violation": PromptBlocked,
    "refusal": PromptBlocked,
    "data_inspection_failed": PromptBlocked,
    "DataInspectionFailed": PromptBlocked,
    # the model wrote what its server could not read
    "tool_use_failed": ProtocolError,  # Groq
    "json_validate_failed": ProtocolError,  # Groq
    "incomplete_generation": ProtocolError,  # TGI
    # too much to do
    "server_is_overloaded": Overloaded,
    "TEMPORARILY_UNAVAILABLE": Overloaded,  # Databricks
    "service_unavailable_error": Overloaded,
    "engine_overloaded_error": Overloaded,
    "overloaded_error": Overloaded,
    "overloaded": Overloaded,  # TGI, with 429
    "Overloaded": Overloaded,  # TEI
    "capacity_exceeded": Overloaded,  # Groq
    "provider_overloaded": Overloaded,
    "provider_unavailable": Overloaded,
    # everything else
    "payload_too_large": RequestTooLarge,
    "string_above_max_length": InvalidRequest,
    **dict.fromkeys(
        ("invalid_image", "invalid_image_format", "invalid_image_mode", "invalid_image_url", "invalid_base64_image"),
        InvalidRequest,
    ),
    **dict.fromkeys(
        ("image_too_large", "image_too_small", "image_parse_error", "image_file_too_large", "image_file_not_found"),
        InvalidRequest,
    ),
    **dict.fromkeys(("unsupported_image_media_type", "empty_image_file", "failed_to_download_image"), InvalidRequest),
    "server_error": Unavailable,
    "internal_server_error": Unavailable,
    "InternalServerError": Unavailable,
    "generation": Unavailable,  # TGI
    "invalid_request_error": InvalidRequest,
    "invalid_request": InvalidRequest,
    "BadRequestError": InvalidRequest,
    "validation": InvalidRequest,  # TGI
}
"""By code, kind or type."""

BY_STATUS: dict[int, type[GatewayError]] = {
    401: CredentialsRejected,
    402: QuotaExhausted,
    403: CredentialsRejected,
    404: ModelNotFound,
    408: AttemptTimeout,
    412: CredentialsRejected,  # Fireworks: the account is suspended
    413: RequestTooLarge,
    424: Unavailable,
    429: RateLimited,
    434: CredentialsRejected,  # Z.ai: no permission for the API
    435: RequestTooLarge,  # Z.ai
    498: Overloaded,  # Groq: the flex tier is full
    503: Overloaded,
    504: AttemptTimeout,
    524: AttemptTimeout,
    529: Overloaded,
}

CLOUDFLARE: dict[int, type[GatewayError]] = {
    3003: InvalidRequest,
    3006: RequestTooLarge,
    3007: AttemptTimeout,
    3008: AttemptTimeout,
    3023: CredentialsRejected,
    3036: QuotaExhausted,  # of the day, with 429
    3040: Overloaded,  # with 429
    3041: CredentialsRejected,
    3042: ModelNotFound,
    5004: InvalidRequest,
    5007: ModelNotFound,
    5016: CredentialsRejected,
    5018: CredentialsRejected,
}
"""Codes of Cloudflare, known by its envelope of `success` and `errors`."""

BUSINESS: dict[str, type[GatewayError]] = {
    **dict.fromkeys(("1000", "1001", "1002", "1003", "1004"), CredentialsRejected),
    **dict.fromkeys(("1110", "1111", "1112", "1220"), CredentialsRejected),  # account closed or locked, no permission
    "1113": QuotaExhausted,
    "1211": ModelNotFound,
    "1234": Unavailable,
    "1261": ContextLengthExceeded,
    "1301": PromptBlocked,
    "1302": RateLimited,
    "1303": RateLimited,
    "1305": Overloaded,
    **dict.fromkeys(("1304", "1308", "1309", "1310"), QuotaExhausted),  # of the day or the plan
}
"""Codes of Zhipu and Z.ai: four digits as text in an error object without a type. 429 alone says little there."""

NOT_THE_WINDOW = frozenset({"string_above_max_length"})
"""Codes of one text that is too long, which its message may compare with the context window."""

TOO_LONG = re.compile(
    r"context (?:length|window|size)|maximum context|exceeded model token limit|(?:prompt|input) is too long"
    r"|too many tokens|range of input length|max_new_tokens`? must be|ContextWindowExceeded"
    r"|length of all messages is too long|prompt exceeds max(?:imum)? length",
    re.IGNORECASE,
)
NO_MODEL = re.compile(r"\s*model not found\b", re.IGNORECASE)
BAD_KEY = re.compile(r"(?:incorrect|invalid) api key", re.IGNORECASE)
NO_MONEY = re.compile(
    r"insufficient (?:account )?(?:balance|credits?|funds)|(?:no|not enough|out of) credits?\b|credit balance"
    r"|exceeded your current (?:token )?quota|(?:doesn't|does not) have any credits",
    re.IGNORECASE,
)
BLOCKED = re.compile(r"violates (?:our )?usage (?:guidelines|polic)|ContentPolicyViolation", re.IGNORECASE)
LIMIT = re.compile(
    r"(?:context (?:length|window|size)(?: is| of)?|token limit:?|input length should be \[1,) ?\(?(\d+)", re.IGNORECASE
)
REQUESTED = re.compile(r"(?:resulted in|requested:?(?: about)?|request \() ?(\d+)", re.IGNORECASE)

FIELDS = {
    "temperature": "sampling.temperature",
    "top_p": "sampling.top_p",
    "max_tokens": "sampling.max_output_tokens",
    "max_completion_tokens": "sampling.max_output_tokens",
    "presence_penalty": "sampling.presence_penalty",
    "frequency_penalty": "sampling.frequency_penalty",
    "logit_bias": "sampling.logit_bias",
    "logprobs": "sampling.top_logprobs",
    "top_logprobs": "sampling.top_logprobs",
    "stop": "sampling.stop_sequences",
    "seed": "sampling.seed",
    "random_seed": "sampling.seed",
    "reasoning_effort": "reasoning.effort",
    "verbosity": "output.verbosity",
    "response_format": "output",
    "max_output_tokens": "sampling.max_output_tokens",  # the Responses API, as the next lines
    "reasoning.effort": "reasoning.effort",
    "reasoning.summary": "reasoning.visibility",
    "text": "output",
    "text.format": "output",
    "text.format.schema": "output.json_schema.json_schema",
    "text.verbosity": "output.verbosity",
    "tool_choice": "tool_choice",
    "parallel_tool_calls": "tool_choice.parallel_tool_calls",
    "service_tier": "routing.service_tier",
    "dimensions": "dimensions",
}
"""Paths of ours that a body field at fault stands for. Messages and tools are numbered differently on the wire."""
