"""The gateway in front of providers as they are: headers, refusals, and all the ways in which answers break.

What must hold for every wire format runs for each: OpenAI's, Anthropic's, Ollama's, and OpenAI's as others speak it.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from array import array
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2 as details
from google.rpc.status_pb2 import Status

from parley import v1
from parley.fold import Fold
from tests.gateway.process import Gateway, ask, config, gateway, stream
from tests.gateway.wire import (
    anthropic_answer,
    anthropic_delta,
    anthropic_error,
    anthropic_says,
    by_model,
    named_events,
    ndjson,
    ollama_line,
    ollama_says,
    openai_chunk,
    openai_fails,
    openai_says,
    sse,
)
from tests.upstream import Exchange, Request, Script, Upstream, in_turn, refusing, scripted

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEYS = {
    "openai": "sk-proj-key-from-a-file-0123456789",
    "anthropic": "sk-ant-key-0123456789",
    "lab": "lab-key-0123456789",
}
HTML = b"<html><head><title>502 Bad Gateway</title></head><body><h1>nginx says no</h1></body></html>"


@dataclass
class Scene:
    """A gateway in front of four providers, whose models play what a test has them play."""

    server: Gateway
    upstreams: dict[str, Upstream]
    plays: dict[str, dict[str, Script]]
    numbers: Any

    def model(self, provider: str, *scripts: Script) -> str:
        """A new model of `provider`, whose requests are answered by `scripts` in turn; the last one stays."""
        name = f"model-{next(self.numbers)}"
        self.plays[provider][name] = in_turn(*scripts)
        return f"{provider}/{name}"

    def requests(self, model: str) -> list[Request]:
        """What the provider was asked of that model."""
        provider, _, name = model.partition("/")
        return [r for r in self.upstreams[provider].requests if r.method == "POST" and r.json["model"] == name]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    folder = tmp_path_factory.mktemp("gateway")
    secret = folder / "openai.key"
    secret.write_text(KEYS["openai"] + "\n")
    plays: dict[str, dict[str, Script]] = {name: {} for name in ("openai", "anthropic", "ollama", "lab")}
    async with AsyncExitStack() as stack:
        listings: dict[str, Mapping[str, Any]] = {
            "ollama": {"models": [{"name": "tiny:latest", "model": "tiny:latest"}]}
        }
        upstreams = {
            name: await stack.enter_async_context(scripted(by_model(scripts, listings.get(name))))
            for name, scripts in plays.items()
        }
        nobody = stack.enter_context(refusing())
        url = {name: upstream.base_url for name, upstream in upstreams.items()}
        providers: dict[str, Any] = {
            "openai": {
                "base_url": f"{url['openai']}/v1",
                "api_key": f"file:{secret}",
                "organization": "org-1",
                "project": "proj-1",
            },
            "anthropic": {"base_url": f"{url['anthropic']}/v1", "api_key": "env:ANTHROPIC"},
            "ollama": {"base_url": url["ollama"], "only_if_reachable": True},
            "lab": {
                "kind": "openai-compatible",
                "base_url": f"{url['lab']}/v1",
                "api_key": "env:LAB",
                "headers": {"X-Team": "search"},
            },
            "absent": {"kind": "ollama", "base_url": nobody, "only_if_reachable": True},
            "gone": {"kind": "openai-compatible", "base_url": nobody},
        }
        environ = {"ANTHROPIC": KEYS["anthropic"], "LAB": KEYS["lab"]}
        async with gateway(config(providers=providers), folder, environ) as server:
            yield Scene(server, upstreams, plays, itertools.count())
            assert not [line for line in server.log if line.get("level") == "error"], server.log[-10:]
            for key in KEYS.values():
                assert key not in repr(server.log)


@dataclass(frozen=True)
class Family:
    """How one wire format says things."""

    says: Callable[[str], Script]
    content: bytes
    """The beginning of a stream, up to and with its first content, which is "well"."""
    prelude: bytes
    """What comes before any content."""
    broken: bytes
    """An error inside a stream: the provider is overloaded."""
    overloaded: Script
    limited: Script
    """A rate limit for 50 ms."""
    quota: Script
    content_type: str = "text/event-stream"


def refuses(status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.answer(status, body, headers)

    return script


def openai_family(says: Callable[[str], Script]) -> Family:
    prelude = sse(openai_chunk({"role": "assistant", "content": ""}))
    return Family(
        says=says,
        prelude=prelude,
        content=prelude + sse(openai_chunk({"content": "well"})),
        broken=sse({"error": {"message": "engine overloaded", "type": "server_error", "code": "server_is_overloaded"}}),
        overloaded=openai_fails(503, "engine overloaded", code="server_is_overloaded"),
        limited=openai_fails(429, "slow down", {"retry-after-ms": "50"}, code="rate_limit_exceeded"),
        quota=openai_fails(429, "you exceeded your current quota", {"retry-after": "0"}, code="insufficient_quota"),
    )


_START: dict[str, Any] = {
    "type": "message_start",
    "message": {**anthropic_answer(""), "content": [], "stop_reason": None},
}
_BLOCK: dict[str, Any] = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}

FAMILIES = {
    "openai": openai_family(openai_says),
    "lab": openai_family(openai_says),
    "anthropic": Family(
        says=anthropic_says,
        prelude=named_events(_START, {"type": "ping"}),
        content=named_events(_START, _BLOCK, {"type": "ping"}, anthropic_delta("well")),
        broken=named_events(anthropic_error("overloaded_error", "Overloaded")),
        overloaded=refuses(529, anthropic_error("overloaded_error", "Overloaded")),
        limited=refuses(429, anthropic_error("rate_limit_error", "slow down"), {"retry-after": "0.05"}),
        quota=refuses(
            400, anthropic_error("invalid_request_error", "Your credit balance is too low to access the API")
        ),
    ),
    "ollama": Family(
        says=ollama_says,
        prelude=ndjson(ollama_line("")),
        content=ndjson(ollama_line("well")),
        broken=ndjson({"error": "server busy, please try again.  maximum pending requests exceeded"}),
        overloaded=refuses(503, {"error": "server busy, please try again.  maximum pending requests exceeded"}),
        limited=refuses(429, {"error": "too many requests"}, {"retry-after": "0.05"}),
        quota=refuses(402, {"error": "you have reached your weekly usage limit"}),
        content_type="application/x-ndjson",
    ),
}
every_family = pytest.mark.parametrize("name", FAMILIES)


def sends(family: Family, *blocks: bytes, ends: str = "end", pause: float = 0.0) -> Script:
    """A stream of `blocks` that ends as HTTP wants ("end"), or with the connection closed or reset."""

    async def script(exchange: Exchange) -> None:
        await exchange.head(200, {"content-type": family.content_type})
        for block in blocks:
            await exchange.chunk(block)
            await asyncio.sleep(pause)  # so that each block is a read of its own
        match ends:
            case "end":
                await exchange.end()
            case "hang up":
                await exchange.hang_up()
            case "reset":
                await exchange.reset()

    return script


async def html(exchange: Exchange) -> None:
    await exchange.answer(502, HTML, {"content-type": "text/html"})


async def html_with_200(exchange: Exchange) -> None:
    await exchange.answer(200, HTML, {"content-type": "text/html"})


async def half_a_body(exchange: Exchange) -> None:
    await exchange.head(200, {"content-type": "application/json"}, length=1000)
    await exchange.raw(b'{"id": "c", ')
    await exchange.hang_up()


def text(response: v1.ChatResponse) -> str:
    return "".join(part.text for part in response.message.parts)


async def folded(call: Any) -> tuple[v1.ChatResponse, list[v1.StreamChatResponse]]:
    """The response that a stream amounts to, and its events, which are numbered from 1 without a gap."""
    fold, events = Fold(), []
    async for event in call:
        events.append(event)
        fold.feed(event)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert [event.WhichOneof("event") for event in events].count("started") == 1
    return fold.response(), events


@dataclass
class Failed:
    """How a call failed."""

    code: grpc.StatusCode
    message: str
    trailers: dict[str, Any]
    events: list[v1.StreamChatResponse]

    @property
    def info(self) -> details.ErrorInfo:
        found: details.ErrorInfo = self.detail(details.ErrorInfo)
        return found

    def detail(self, kind: type[Any]) -> Any:
        """The detail of that kind; empty if there is none."""
        found = kind()
        for detail in Status.FromString(self.trailers["grpc-status-details-bin"]).details:
            if detail.Unpack(found):
                break
        return found


async def failed(call: Any) -> Failed:
    events = []
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        if hasattr(call, "__aiter__"):
            async for event in call:
                events.append(event)  # noqa: PERF401  # those that came before the failure are wanted
        else:
            await call
    error = caught.value
    return Failed(error.code(), str(error.details()), dict(error.trailing_metadata()), events)


HEADERS: dict[str, tuple[str, dict[str, str], tuple[str, ...]]] = {
    "openai": (
        "/v1/chat/completions",
        {"authorization": f"Bearer {KEYS['openai']}", "openai-organization": "org-1", "openai-project": "proj-1"},
        ("x-api-key", "anthropic-version"),
    ),
    "lab": ("/v1/chat/completions", {"authorization": f"Bearer {KEYS['lab']}", "x-team": "search"}, ("x-api-key",)),
    "anthropic": (
        "/v1/messages",
        {"x-api-key": KEYS["anthropic"], "anthropic-version": "2023-06-01"},
        ("authorization", "anthropic-beta"),
    ),
    "ollama": ("/api/chat", {}, ("authorization", "x-api-key")),
}


@every_family
@pytest.mark.parametrize("streaming", [False, True], ids=["unary", "stream"])
async def test_each_provider_is_shown_its_key_the_way_it_wants(scene: Scene, name: str, streaming: bool) -> None:
    model = scene.model(name, FAMILIES[name].says("hello there"))
    if streaming:
        response, _ = await folded(scene.server.stub.StreamChat(stream(model)))
        assert text(response) == "hellothere"
    else:
        response = await scene.server.stub.Chat(ask(model))
        assert text(response) == "hello there"
    assert (response.usage.input_tokens, response.usage.output_tokens) == (7, 3)
    assert response.finish_reason == v1.FINISH_REASON_STOP
    [sent] = scene.requests(model)
    path, expected, barred = HEADERS[name]
    assert (sent.method, sent.path) == ("POST", path)
    assert sent.headers["content-type"] == "application/json"
    assert {header: sent.headers.get(header) for header in expected} == expected
    assert not [header for header in (*barred, "cookie") if header in sent.headers]
    assert sent.headers["host"] == f"127.0.0.1:{scene.upstreams[name].port}"


@every_family
@pytest.mark.parametrize("streaming", [False, True], ids=["unary", "stream"])
async def test_a_rate_limit_is_waited_for(scene: Scene, name: str, streaming: bool) -> None:
    family = FAMILIES[name]
    model = scene.model(name, family.limited, family.says("now"))
    if streaming:
        response, _ = await folded(scene.server.stub.StreamChat(stream(model)))
    else:
        response = await scene.server.stub.Chat(ask(model))
    assert text(response) == "now"
    assert [a.status.code for a in response.route.attempts] == [grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], 0]
    first, second = scene.requests(model)
    assert second.at - first.at >= 0.05


@every_family
async def test_a_quota_that_is_used_up_is_not_asked_again(scene: Scene, name: str) -> None:
    model = scene.model(name, FAMILIES[name].quota)
    outcome = await failed(scene.server.stub.Chat(ask(model)))
    assert outcome.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert outcome.info.reason == "PROVIDER_QUOTA_EXHAUSTED"
    assert outcome.trailers["grpc-retry-pushback-ms"] == "-1"
    assert len(scene.requests(model)) == 1


@every_family
@pytest.mark.parametrize("streaming", [False, True], ids=["unary", "stream"])
async def test_an_overloaded_provider_is_tried_three_times_in_all(scene: Scene, name: str, streaming: bool) -> None:
    model = scene.model(name, FAMILIES[name].overloaded)
    call = scene.server.stub.StreamChat(stream(model)) if streaming else scene.server.stub.Chat(ask(model))
    outcome = await failed(call)
    assert outcome.code is grpc.StatusCode.UNAVAILABLE
    assert outcome.info.reason == "PROVIDER_OVERLOADED"
    assert outcome.info.metadata["provider"] == name
    assert outcome.trailers["x-parley-attempts"] == "3"
    assert outcome.trailers["grpc-retry-pushback-ms"] == "-1"
    assert outcome.detail(v1.ProviderError).http_status in (503, 529)
    assert len(scene.requests(model)) == 3


@every_family
@pytest.mark.parametrize("ends", ["error event", "end", "hang up", "reset"])
async def test_a_stream_that_breaks_before_its_content_is_retried_unseen(scene: Scene, name: str, ends: str) -> None:
    family = FAMILIES[name]
    blocks = (family.prelude, family.broken) if ends == "error event" else (family.prelude,)
    model = scene.model(
        name, sends(family, *blocks, ends=ends.replace("error event", "end")), family.says("all is well")
    )
    response, events = await folded(scene.server.stub.StreamChat(stream(model)))
    assert text(response) == "alliswell"
    assert events[-1].HasField("completed")
    assert [attempt.status.code for attempt in response.route.attempts] == [grpc.StatusCode.UNAVAILABLE.value[0], 0]


@every_family
@pytest.mark.parametrize("ends", ["error event", "end", "hang up", "reset"])
async def test_a_stream_that_breaks_after_content_fails_and_is_not_retried(scene: Scene, name: str, ends: str) -> None:
    family = FAMILIES[name]
    blocks = (family.content, family.broken) if ends == "error event" else (family.content,)
    breaks = sends(family, *blocks, ends=ends.replace("error event", "end"), pause=0.05)
    model = scene.model(name, breaks, family.says("never"))
    outcome = await failed(scene.server.stub.StreamChat(stream(model)))
    assert outcome.code is grpc.StatusCode.UNAVAILABLE
    assert outcome.info.reason == ("PROVIDER_OVERLOADED" if ends == "error event" else "STREAM_INTERRUPTED")
    failure = outcome.detail(v1.ResponseFailure)
    assert failure.last_sequence == outcome.events[-1].sequence > 0
    assert failure.response_id == outcome.events[0].started.response_id
    assert failure.attempts == 1
    assert outcome.trailers["grpc-retry-pushback-ms"] == "-1"
    assert "".join(event.part_delta.text for event in outcome.events) == "well"
    assert not any(event.HasField("completed") for event in outcome.events)
    assert len(scene.requests(model)) == 1


@every_family
async def test_half_a_body_is_no_answer(scene: Scene, name: str) -> None:
    model = scene.model(name, half_a_body, FAMILIES[name].says("whole"))
    response = await scene.server.stub.Chat(ask(model))
    assert text(response) == "whole"
    assert len(response.route.attempts) == 2


@every_family
async def test_the_page_of_a_proxy_is_an_outage_and_is_not_quoted(scene: Scene, name: str) -> None:
    model = scene.model(name, html)
    outcome = await failed(scene.server.stub.Chat(ask(model)))
    assert outcome.code is grpc.StatusCode.UNAVAILABLE
    assert outcome.info.reason == "PROVIDER_UNAVAILABLE"
    assert outcome.detail(v1.ProviderError).http_status == 502
    assert "<" not in outcome.message + outcome.detail(v1.ProviderError).message
    assert len(scene.requests(model)) == 3


@every_family
@pytest.mark.parametrize("streaming", [False, True], ids=["unary", "stream"])
async def test_a_page_in_place_of_an_answer_is_never_taken_for_one(scene: Scene, name: str, streaming: bool) -> None:
    model = scene.model(name, html_with_200)
    call = scene.server.stub.StreamChat(stream(model)) if streaming else scene.server.stub.Chat(ask(model))
    outcome = await failed(call)
    assert outcome.code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNAVAILABLE)
    assert outcome.info.reason in ("PROVIDER_PROTOCOL_ERROR", "STREAM_INTERRUPTED")
    assert "<" not in outcome.message


@every_family
async def test_a_redirect_is_not_followed_with_the_key(scene: Scene, name: str) -> None:
    async with scripted(FAMILIES[name].says("stolen")) as elsewhere:

        async def redirects(exchange: Exchange) -> None:
            await exchange.answer(307, b"", {"location": f"{elsewhere.base_url}/v1/chat/completions"})

        model = scene.model(name, redirects)
        outcome = await failed(scene.server.stub.Chat(ask(model)))
        assert outcome.info.reason in ("PROVIDER_PROTOCOL_ERROR", "PROVIDER_UNAVAILABLE")
        assert elsewhere.connections == []


async def test_a_provider_that_is_gone(scene: Scene) -> None:
    start = time.perf_counter()
    outcome = await failed(scene.server.stub.Chat(ask("gone/model")))
    assert outcome.code is grpc.StatusCode.UNAVAILABLE
    assert outcome.info.reason == "PROVIDER_UNAVAILABLE"
    assert outcome.trailers["x-parley-attempts"] == "3"
    assert time.perf_counter() - start < 2


async def test_an_ollama_that_answers_is_there_and_one_that_does_not_is_not(scene: Scene) -> None:
    info = await scene.server.stub.GetServerInfo(v1.GetServerInfoRequest())
    assert "ollama" in info.providers
    assert "absent" not in info.providers
    assert (await failed(scene.server.stub.Chat(ask("absent/tiny")))).code is grpc.StatusCode.NOT_FOUND


async def test_options_for_anthropic_become_headers_and_fields(scene: Scene) -> None:
    model = scene.model("anthropic", anthropic_says("ok"))
    options = {"anthropic": '{"anthropic_beta":["context-1m"],"inference_geo":"eu"}', "openai": '{"store":true}'}
    await scene.server.stub.Chat(ask(model, provider_options_json=options))
    [sent] = scene.requests(model)
    assert sent.headers["anthropic-beta"] == "context-1m"
    assert sent.json["inference_geo"] == "eu"
    assert "anthropic_beta" not in sent.json
    assert "store" not in sent.json


# ------------------------------------------------------------------------------------------------ across the providers

SIGNATURE = "EqQBCkYIBxgCKkBzaWduYXR1cmU="


def thoughtful_turns(provider: str, model: str) -> list[v1.Message]:
    """A conversation whose second turn begins with signed reasoning of `provider`."""
    state = v1.ReplayState(provider=provider, model=model, data=SIGNATURE.encode())
    thought = v1.Part(reasoning=v1.ReasoningPart(text="let me see"), replay_state=state)
    return [
        v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text="6 times 7?")]),
        v1.Message(role=v1.ROLE_ASSISTANT, parts=[thought, v1.Part(text="42")]),
        v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text="Sure?")]),
    ]


@pytest.mark.parametrize("fallback", ["openai", "lab", "ollama"])
@pytest.mark.parametrize("streaming", [False, True], ids=["unary", "stream"])
async def test_a_fallback_at_another_provider_gets_no_foreign_reasoning_and_says_so(
    scene: Scene, fallback: str, streaming: bool
) -> None:
    first = scene.model("anthropic", FAMILIES["anthropic"].overloaded)
    second = scene.model(fallback, FAMILIES[fallback].says("yes"))
    request = v1.ChatRequest(
        model=first,
        messages=thoughtful_turns("anthropic", first.partition("/")[2]),
        routing=v1.RoutingOptions(fallbacks=[v1.FallbackTarget(model=second)]),
    )
    if streaming:
        response, _ = await folded(scene.server.stub.StreamChat(v1.StreamChatRequest(request=request)))
    else:
        response = await scene.server.stub.Chat(request)
    assert text(response) == "yes"
    assert (response.model, response.route.provider) == (first, fallback)
    assert [(w.code, w.field) for w in response.warnings] == [("REPLAY_STATE_DROPPED", "messages[1].parts[0]")]
    own = scene.requests(first)[0].json["messages"][1]["content"]
    assert own[0] == {"type": "thinking", "thinking": "let me see", "signature": SIGNATURE}
    [foreign] = scene.requests(second)
    assert "let me see" not in foreign.body.decode()
    assert SIGNATURE not in foreign.body.decode()
    assert "42" in foreign.body.decode()
    assert {attempt.provider for attempt in response.route.attempts} == {"anthropic", fallback}


async def test_a_fallback_from_openai_to_anthropic(scene: Scene) -> None:
    first = scene.model("openai", FAMILIES["openai"].quota)
    second = scene.model("anthropic", anthropic_says("yes"))
    routing = v1.RoutingOptions(fallbacks=[v1.FallbackTarget(model=second)])
    response = await scene.server.stub.Chat(
        v1.ChatRequest(model=first, messages=thoughtful_turns("openai", "gpt"), routing=routing)
    )
    assert text(response) == "yes"
    assert [warning.code for warning in response.warnings] == ["REPLAY_STATE_DROPPED"]
    assert len(scene.requests(first)) == 1
    assert SIGNATURE not in scene.requests(second)[0].body.decode()


# ---------------------------------------------------------------------------------------------------------- embeddings


def embeds(*, wrong_at: int | None = None) -> Script:
    """Ollama's embeddings: each vector holds the number that its input ends with. `wrong_at`: that input is refused."""

    async def script(exchange: Exchange) -> None:
        numbers = [int(given.rpartition(" ")[2]) for given in exchange.request.json["input"]]
        if wrong_at in numbers:
            await exchange.answer(400, {"error": "the input length exceeds the context length"})
        else:
            vectors = [[float(number), 0.5] for number in numbers]
            await exchange.answer(200, {"model": "m-1", "embeddings": vectors, "prompt_eval_count": len(numbers)})

    return script


@pytest.mark.parametrize("encoding", [v1.EMBEDDING_ENCODING_UNSPECIFIED, v1.EMBEDDING_ENCODING_FLOAT32_BYTES])
async def test_inputs_beyond_the_limit_of_one_call_go_in_several_and_come_back_in_order(
    scene: Scene, encoding: Any
) -> None:
    model = scene.model("ollama", embeds())
    inputs = [v1.EmbedInput(text=f"input {number}") for number in range(1300)]
    response = await scene.server.stub.Embed(v1.EmbedRequest(model=model, inputs=inputs, encoding=encoding))
    assert sorted(len(request.json["input"]) for request in scene.requests(model)) == [276, 512, 512]
    assert {request.path for request in scene.requests(model)} == {"/api/embed"}
    assert [embedding.index for embedding in response.embeddings] == list(range(1300))
    vectors = [array("f", e.packed) if e.packed else array("f", e.floats.values) for e in response.embeddings]
    assert [vector[0] for vector in vectors] == [float(number) for number in range(1300)]
    assert response.usage.input_tokens == 1300
    assert len(response.route.attempts) == 1


async def test_one_refused_piece_refuses_the_whole(scene: Scene) -> None:
    model = scene.model("ollama", embeds(wrong_at=700))
    inputs = [v1.EmbedInput(text=f"input {number}") for number in range(1300)]
    outcome = await failed(scene.server.stub.Embed(v1.EmbedRequest(model=model, inputs=inputs)))
    assert outcome.code is grpc.StatusCode.INVALID_ARGUMENT
    assert outcome.info.reason == "CONTEXT_LENGTH_EXCEEDED"


@pytest.mark.parametrize("name", ["openai", "lab"])
async def test_embeddings_that_come_out_of_order_are_put_in_order(scene: Scene, name: str) -> None:
    async def shuffled(exchange: Exchange) -> None:
        data = [{"index": index, "embedding": [float(index), 1.0]} for index in (2, 0, 1)]
        await exchange.answer(
            200, {"object": "list", "data": data, "model": "m-1", "usage": {"prompt_tokens": 3, "total_tokens": 3}}
        )

    model = scene.model(name, shuffled)
    inputs = [v1.EmbedInput(text=word) for word in ("a", "b", "c")]
    response = await scene.server.stub.Embed(v1.EmbedRequest(model=model, inputs=inputs))
    assert [embedding.floats.values[0] for embedding in response.embeddings] == [0, 1, 2]
    [sent] = scene.requests(model)
    assert (sent.path, sent.json["input"], sent.json["encoding_format"]) == (
        "/v1/embeddings",
        ["a", "b", "c"],
        "base64",
    )


async def test_anthropic_does_not_embed(scene: Scene) -> None:
    outcome = await failed(
        scene.server.stub.Embed(v1.EmbedRequest(model="anthropic/claude", inputs=[v1.EmbedInput(text="a")]))
    )
    assert outcome.code is grpc.StatusCode.INVALID_ARGUMENT
    assert outcome.info.reason == "OPERATION_UNSUPPORTED"


# ------------------------------------------------------------------------------------------------------------- starting


async def test_a_provider_that_accepts_and_never_answers_does_not_hold_up_the_start(tmp_path: Path) -> None:
    async def silent(exchange: Exchange) -> None:
        await exchange.stall(60)

    async with scripted(silent) as mute:
        providers = {"ollama": {"base_url": mute.base_url, "only_if_reachable": True}, "mock": {}}
        start = time.perf_counter()
        async with gateway(config(providers=providers), tmp_path) as server:
            assert time.perf_counter() - start < 10
            info = await server.stub.GetServerInfo(v1.GetServerInfoRequest())
            assert list(info.providers) == ["mock"]
            assert await mute.closed_within(1)
