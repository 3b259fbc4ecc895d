"""What goes by InvokeModel: embeddings, ranking, the Messages API; and the listing of models."""

from __future__ import annotations

import json
from array import array
from typing import Any

import pytest

from parley import v1
from parley_server.core.errors import (
    ContextLengthExceeded,
    CredentialsRejected,
    ModelNotFound,
    OperationUnsupported,
    ProtocolError,
    RateLimited,
    StreamInterrupted,
    Unavailable,
    UnsupportedParameter,
)
from parley_server.core.target import Target
from parley_server.dialects.bedrock import BedrockEmbed, BedrockModels, BedrockRerank, needs_messages
from parley_server.providers.bedrock import CLAUDE as MESSAGES
from parley_server.providers.bedrock import OPENAI
from parley_server.providers.sagemaker import CHAT as ENDPOINT
from tests.dialects.bedrock_ask import (
    ASSISTANT,
    CALL,
    HI,
    TOOL,
    USER,
    function,
    native,
    request,
    result,
    turn,
)
from tests.dialects.bedrock_wire import CLAUDE, chunk, exception, read

EMBED, RERANK, MODELS = BedrockEmbed(), BedrockRerank(), BedrockModels()


# ---------------------------------------------------------------------------------------------------------- embeddings


def embedded(model: str, *inputs: str, base_model: str = "", **fields: Any) -> tuple[Any, list[str]]:
    """The body that asks for vectors, and the fields of the warnings."""
    asked = v1.EmbedRequest(inputs=[v1.EmbedInput(text=text) for text in inputs or ("hi",)], **fields)
    call = EMBED.encode(asked, Target("bedrock", model, base_model=base_model))
    return json.loads(call.body), [warning.field for warning in call.warnings]


NOVA_BODY = {
    "taskType": "SINGLE_EMBEDDING",
    "singleEmbeddingParams": {
        "embeddingPurpose": "GENERIC_INDEX",
        "embeddingDimension": 256,
        "text": {"truncationMode": "NONE", "value": "hi"},
    },
}


@pytest.mark.parametrize(
    ("model", "body", "batch"),
    [
        ("amazon.titan-embed-text-v2:0", {"inputText": "hi", "dimensions": 256}, 1),
        ("amazon.titan-embed-image-v1", {"inputText": "hi", "embeddingConfig": {"outputEmbeddingLength": 256}}, 1),
        ("us.cohere.embed-v4:0", {"texts": ["hi"], "input_type": "search_document", "output_dimension": 256}, 96),
        ("amazon.nova-2-multimodal-embeddings-v1:0", NOVA_BODY, 1),
    ],
)
def test_each_vendor_is_asked_in_its_own_body(model: str, body: Any, batch: int) -> None:
    assert embedded(model, dimensions=256) == (body, [])
    assert EMBED.batch_limit(Target("bedrock", model)) == batch


def test_vectors_of_one_length_and_options() -> None:
    assert embedded("amazon.titan-embed-text-v1", dimensions=256) == ({"inputText": "hi"}, ["dimensions"])
    query = {"bedrock": '{"input_type":"search_query","texts":[]}'}
    body, warnings = embedded("cohere.embed-english-v3", "a", "b", provider_options_json=query, end_user_id="u")
    assert body == {"texts": ["a", "b"], "input_type": "search_query"}
    assert warnings == ["end_user_id"]
    profile = "arn:aws:bedrock:us-east-1:000000000000:application-inference-profile/x"
    assert embedded(profile, base_model="amazon.titan-embed-text-v1")[0] == {"inputText": "hi"}


def test_what_cannot_be_embedded() -> None:
    with pytest.raises(OperationUnsupported):
        embedded("twelvelabs.marengo-embed-2-7-v1:0")
    assert EMBED.batch_limit(Target("bedrock", "unknown")) is None
    tokens = v1.EmbedRequest(inputs=[v1.EmbedInput(tokens=v1.TokenIds(ids=[1]))])
    with pytest.raises(UnsupportedParameter):
        EMBED.encode(tokens, Target("bedrock", "cohere.embed-v4:0"))


@pytest.mark.parametrize(
    ("body", "vectors", "tokens"),
    [
        ({"embedding": [0.1, 0.2], "inputTextTokenCount": 4}, [[0.1, 0.2]], 4),
        ({"embeddings": {"float": [[0.1], [0.2]]}}, [[0.1], [0.2]], None),
        ({"embeddings": [[0.1], [0.2]], "response_type": "embedding_floats"}, [[0.1], [0.2]], None),
        ({"embeddings": [{"embeddingType": "TEXT", "embedding": [0.5]}]}, [[0.5]], None),
    ],
)
def test_each_vendor_is_understood(body: Any, vectors: list[list[float]], tokens: int | None) -> None:
    target = Target("bedrock", "m")
    floats = EMBED.decode(json.dumps(body).encode(), target, v1.EMBEDDING_ENCODING_FLOAT)
    packed = EMBED.decode(json.dumps(body).encode(), target, v1.EMBEDDING_ENCODING_FLOAT32_BYTES)
    assert [array("f", one.floats.values) for one in floats.embeddings] == [array("f", row) for row in vectors]
    assert [array("f", one.packed) for one in packed.embeddings] == [array("f", row) for row in vectors]
    assert (floats.usage.input_tokens if floats.HasField("usage") else None) == tokens


@pytest.mark.parametrize(
    "body", [b"{}", b"nonsense", b'{"embedding":[]}', b'{"embeddings":["x"]}', b'{"embeddings":1}']
)
def test_no_vectors_are_nonsense(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        EMBED.decode(body, Target("bedrock", "m"), v1.EMBEDDING_ENCODING_FLOAT)


# ------------------------------------------------------------------------------------------------------------- ranking


def test_ranking() -> None:
    asked = v1.RerankRequest(query="q", documents=["a", "b"], top_n=1, max_tokens_per_document=5)
    call = RERANK.encode(asked, Target("bedrock", "cohere.rerank-v3-5:0"))
    assert call.path == "/model/cohere.rerank-v3-5%3A0/invoke"
    assert json.loads(call.body) == {"query": "q", "documents": ["a", "b"], "api_version": 2, "top_n": 1}
    assert [warning.field for warning in call.warnings] == ["max_tokens_per_document"]
    assert "api_version" not in json.loads(RERANK.encode(asked, Target("bedrock", "amazon.rerank-v1:0")).body)
    body = b'{"results":[{"index":0,"relevance_score":0.1},{"index":1,"relevance_score":0.9}]}'
    found = RERANK.decode(body, Target("bedrock", "m")).results
    assert [(result.index, round(result.score, 1)) for result in found] == [(1, 0.9), (0, 0.1)]
    for nonsense in (
        b"{}",
        b'{"results":[{"index":0}]}',
        b'{"results":[%s,%s]}' % ((b'{"index":0,"relevance_score":1}',) * 2),
    ):
        with pytest.raises(ProtocolError):
            RERANK.decode(nonsense, Target("bedrock", "m"))
    assert type(RERANK.error(429, {"x-amzn-errortype": "ThrottlingException"}, b"{}", CLAUDE)) is RateLimited


# -------------------------------------------------------------------------------------------------------------- models


def test_models_that_can_be_asked_by_their_own_name() -> None:
    rows = [
        {
            "modelId": "amazon.nova-lite-v1:0",
            "modelName": "Nova Lite",
            "inputModalities": ["TEXT", "IMAGE", "VIDEO"],
            "outputModalities": ["TEXT"],
            "inferenceTypesSupported": ["ON_DEMAND"],
            "modelLifecycle": {"status": "ACTIVE", "startOfLifeTime": "2025-01-02T00:00:00.123456789Z"},
        },
        {
            "modelId": "cohere.embed-english-v3",
            "outputModalities": ["EMBEDDING"],
            "inferenceTypesSupported": ["ON_DEMAND"],
            "modelLifecycle": {
                "status": "LEGACY",
                "legacyTime": "2026-01-02T00:00:00Z",
                "endOfLifeTime": "2027-01-02T00:00:00Z",
            },
        },
        {"modelId": "cohere.rerank-v3-5:0", "outputModalities": ["TEXT"], "inferenceTypesSupported": ["ON_DEMAND"]},
        {"modelId": "amazon.titan-image", "outputModalities": ["IMAGE"], "inferenceTypesSupported": ["ON_DEMAND"]},
        {
            "modelId": "anthropic.claude-x",
            "outputModalities": ["TEXT"],
            "inferenceTypesSupported": ["INFERENCE_PROFILE"],
        },
    ]
    assert (MODELS.encode().path, MODELS.encode().method) == ("/foundation-models", "GET")
    models, cursor = MODELS.decode(json.dumps({"modelSummaries": rows}).encode(), "bedrock")
    assert [(model.id, list(model.operations)) for model in models] == [
        ("bedrock/amazon.nova-lite-v1:0", ["chat"]),
        ("bedrock/cohere.embed-english-v3", ["embed"]),
        ("bedrock/cohere.rerank-v3-5:0", ["rerank"]),
    ]
    assert list(models[0].input_modalities) == [v1.MODALITY_TEXT, v1.MODALITY_IMAGE, v1.MODALITY_VIDEO]
    assert models[0].create_time.seconds == 1735776000
    assert (models[1].state, models[1].shutdown_time.seconds) == (v1.Model.STATE_DEPRECATED, 1798848000)
    assert models[1].deprecate_time.seconds == 1767312000
    assert MODELS.encode(cursor).path == "/inference-profiles?maxResults=1000"


def test_pages_of_profiles() -> None:
    arn = "arn:aws:bedrock:us-east-1:000000000000:application-inference-profile/x"
    rows = [
        {"inferenceProfileId": "us.anthropic.claude-x", "inferenceProfileArn": "arn:…", "type": "SYSTEM_DEFINED"},
        {"inferenceProfileId": "us.cohere.embed-v4:0", "inferenceProfileArn": "arn:…", "type": "SYSTEM_DEFINED"},
        {"inferenceProfileId": "us.stability.upscale", "inferenceProfileArn": "arn:…", "type": "SYSTEM_DEFINED"},
        {
            "inferenceProfileId": "x",
            "inferenceProfileArn": arn,
            "type": "APPLICATION",
            "models": [{"modelArn": "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-lite-v1:0"}],
        },
    ]
    body = {"inferenceProfileSummaries": rows, "nextToken": "a/b="}
    models, cursor = MODELS.decode(json.dumps(body).encode(), "bedrock")
    assert [(model.id, list(model.operations)) for model in models] == [
        ("bedrock/us.anthropic.claude-x", ["chat"]),
        ("bedrock/us.cohere.embed-v4:0", ["embed"]),
        (f"bedrock/{arn}", ["chat"]),
    ]
    assert MODELS.encode(cursor).path == "/inference-profiles?maxResults=1000&nextToken=a%2Fb%3D"
    assert MODELS.decode(b'{"inferenceProfileSummaries":[]}', "bedrock") == ([], "")
    for nonsense in (b"{}", b"[]", b'{"modelSummaries":[{}]}'):
        with pytest.raises(ProtocolError):
            MODELS.decode(nonsense, "bedrock")


# ----------------------------------------------------------------------------------------------------- Messages or not

BASH = native(type="bash_20250124", name="bash")


def state(**fields: Any) -> v1.Part:
    kept = v1.ReplayState(provider="bedrock", data=json.dumps(fields).encode())
    return v1.Part(text="so", replay_state=kept)


def block(**fields: Any) -> v1.Part:
    return v1.Part(provider_part=v1.ProviderPart(provider="bedrock", type="x", json=json.dumps(fields)))


@pytest.mark.parametrize(
    ("asked", "needed"),
    [
        (request(), False),
        (request(tools=[function("f")]), False),
        (request(tools=[BASH]), True),
        (request(tools=[native(systemTool={"name": "x"})]), False),
        (request(tools=[function("f")], tool_choice=v1.ToolChoice(mode=v1.ToolChoice.MODE_NONE)), True),
        (request(tools=[function("f")], tool_choice=v1.ToolChoice(parallel_tool_calls=False)), True),
        (request(tools=[function("f")], tool_choice=v1.ToolChoice(parallel_tool_calls=True)), False),
        (request(provider_options_json={"bedrock": '{"anthropic_beta":["x"]}'}), True),
        (request(provider_options_json={"bedrock": '{"guardrailConfig":{}}'}), False),
        (request(provider_options_json={"bedrock": "nonsense", "anthropic": '{"thinking":1}'}), False),
        (request(HI, turn(ASSISTANT, block(type="server_tool_use")), HI), True),
        (request(HI, turn(ASSISTANT, block(type="server_tool_use"), block(guardContent={})), HI), False),
        (request(HI, turn(ASSISTANT, state(citations=[])), HI), True),
        (request(HI, turn(ASSISTANT, state(citationsContent=[])), HI), False),
    ],
)
def test_what_only_the_messages_api_can_say(asked: v1.ChatRequest, needed: bool) -> None:
    assert needs_messages(asked, CLAUDE) is needed


def test_the_messages_api_by_invoke_model() -> None:
    options = {"bedrock": '{"anthropic_beta":["computer-use-2025-01-24"]}'}
    asked = request(
        tools=[BASH],
        provider_options_json=options,
        reasoning=v1.ReasoningOptions(budget_tokens=2000),
        routing=v1.RoutingOptions(service_tier="flex"),
        end_user_id="u",
    )
    call = MESSAGES.encode(asked, CLAUDE, stream=True)
    body = json.loads(call.body)
    assert call.path == "/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/invoke-with-response-stream"
    assert MESSAGES.encode(asked, CLAUDE, stream=False).path.endswith("/invoke")
    assert body["anthropic_version"] == "bedrock-2023-05-31"
    assert body["anthropic_beta"] == ["computer-use-2025-01-24"]
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 2000}
    assert not body.keys() & {"model", "stream", "metadata", "service_tier"}
    assert call.headers["x-amzn-bedrock-service-tier"] == "flex"
    assert [warning.field for warning in call.warnings] == ["end_user_id"]
    asked.unsupported_policy = v1.UNSUPPORTED_POLICY_ERROR
    with pytest.raises(UnsupportedParameter):
        MESSAGES.encode(asked, CLAUDE, stream=False)


EVENTS: list[dict[str, Any]] = [
    {"type": "message_start", "message": {"id": "m", "model": "claude", "content": [], "usage": {"input_tokens": 3}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hello"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
    {"type": "message_stop", "amazon-bedrock-invocationMetrics": {"inputTokenCount": 3}},
]


def test_a_stream_of_the_messages_api_in_chunks() -> None:
    frames = [chunk(event) for event in EVENTS]
    response = read(b"".join(frames), range(0, 900, 13), MESSAGES)
    assert response.message.parts[0].text == "hello"
    assert (response.usage.input_tokens, response.usage.output_tokens) == (3, 2)
    with pytest.raises(StreamInterrupted):
        read(b"".join(frames[:-1]), dialect=MESSAGES)
    with pytest.raises(RateLimited):
        read(b"".join(frames[:3]) + exception("throttlingException", {"message": "slow"}), dialect=MESSAGES)


def test_errors_of_aws_and_of_the_server_behind_it() -> None:
    aws = {"x-amzn-errortype": "ValidationException"}
    too_long = b'{"message":"prompt is too long: 3 tokens > 2 maximum"}'
    assert type(MESSAGES.error(400, aws, too_long, CLAUDE)) is ContextLengthExceeded
    assert type(OPENAI.error(403, {}, b'{"Message":"no"}', CLAUDE)) is CredentialsRejected
    theirs = b'{"error":{"message":"no such model","code":"model_not_found"}}'
    assert type(OPENAI.error(404, {}, theirs, CLAUDE)) is ModelNotFound


def test_openai_models_are_known_by_their_own_names() -> None:
    asked = request(
        sampling=v1.SamplingOptions(temperature=0.3), reasoning=v1.ReasoningOptions(effort=v1.REASONING_EFFORT_LOW)
    )
    call = OPENAI.encode(asked, Target("bedrock", "openai.gpt-5.5"), stream=False)
    assert call.path == "/openai/v1/chat/completions"
    assert json.loads(call.body)["model"] == "openai.gpt-5.5"
    assert [warning.field for warning in call.warnings] == ["sampling.temperature"]  # as every gpt-5.5 has it


# ----------------------------------------------------------------------------------------------------------- SageMaker


def test_a_container_is_asked_without_the_name_of_a_model() -> None:
    asked = request(HI, turn(ASSISTANT, CALL), turn(TOOL, result("ok")), turn(USER, "go"))
    target = Target("sagemaker", "my-llama")
    call = ENDPOINT.encode(asked, target, stream=True)
    assert call.path == "/endpoints/my-llama/invocations-response-stream"
    assert ENDPOINT.encode(asked, target, stream=False).path == "/endpoints/my-llama/invocations"
    body = json.loads(call.body)
    assert "model" not in body
    assert body["stream"] is True
    assert ENDPOINT.encode(asked, Target("sagemaker", "../x"), stream=False).path == "/endpoints/..%2Fx/invocations"


def test_what_a_container_refused_is_read_in_its_own_words() -> None:
    inside = {"error": {"message": "no", "type": "BadRequestError", "code": "context_length_exceeded"}}
    fields = {"OriginalStatusCode": 400, "OriginalMessage": json.dumps(inside), "Message": "Received client error"}
    aws = {"x-amzn-errortype": "ModelError"}
    target = Target("sagemaker", "e")
    assert type(ENDPOINT.error(424, aws, json.dumps(fields).encode(), target)) is ContextLengthExceeded
    assert type(ENDPOINT.error(424, aws, b'{"Message":"it fell over"}', target)) is Unavailable
    gone = b'{"Message":"Endpoint e of account 000000000000 not found."}'
    assert type(ENDPOINT.error(400, {"x-amzn-errortype": "ValidationError"}, gone, target)) is ModelNotFound
