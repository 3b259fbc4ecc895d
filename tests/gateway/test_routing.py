"""Routes through the real gateway: before scripted upstreams, in the list of models, in errors and in traces."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2 as details
from google.rpc.status_pb2 import Status
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from parley import v1
from parley.fold import Fold
from tests.gateway.process import Gateway, ask, config, gateway, stream
from tests.gateway.wire import by_model, openai_fails, openai_says
from tests.telemetry.collectors import Collected, attributes, grpc_collector
from tests.upstream import Exchange, Upstream, scripted

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOO_LONG = openai_fails(400, "This model's maximum context length is 100 tokens.", code="context_length_exceeded")
BLOCKED = openai_fails(400, "The response was filtered.", code="content_filter")
BUSY = openai_fails(503, "overloaded", type="server_error")
REGIONS = {"s": "us-east-1", "t": "eu-central-1"}
WINDOWS = {"s": {"little": 4000, "less": 2000}, "t": {"large": 8000}}
TOOLS = [v1.Tool(function=v1.FunctionTool(name="f", parameters_json_schema='{"type":"object"}'))]

ROUTES: dict[str, Any] = {
    "growing": {"targets": [{"model": "s/little"}, {"model": "s/less"}, {"model": "t/large"}]},
    "split": {"strategy": "weighted", "targets": [{"model": "s/ok", "weight": 3}, {"model": "t/ok"}]},
    "nested": {
        "display_name": "Nested",
        "targets": [{"model": "s/busy"}, {"model": "split", "overrides": {"sampling": {"temperature": 0.5}}}],
    },
    "strict": {"targets": [{"model": "s/blocked"}, {"model": "t/ok"}]},
    "lax": {
        "fallback_on": ["content_blocked"],
        "targets": [{"model": "s/blocked"}, {"model": "s/ok"}, {"model": "t/ok"}],
    },
    "down": {"targets": [{"model": "s/busy"}, {"model": "t/busy"}]},
    "able": {"targets": [{"model": "s/reasons"}, {"model": "t/calls"}]},
    "near": {"strategy": "affinity", "targets": [{"model": "s/ok"}, {"model": "t/ok"}]},
    "cheap": {"strategy": "cost", "targets": [{"model": "s/dear"}, {"model": "t/cheap"}]},
    "quick": {"strategy": "latency", "targets": [{"model": "s/slow"}, {"model": "t/ok"}]},
    "spare": {"strategy": "usage", "targets": [{"model": "s/spent"}, {"model": "t/fresh"}]},
}  # fmt: skip
OVERLAY: dict[str, Any] = {
    "providers": {
        owner: {model: {"context_tokens": window} for model, window in windows.items()}
        for owner, windows in WINDOWS.items()
    }
}
OVERLAY["providers"]["s"] |= {
    "reasons": {"capabilities": ["reasoning"]},
    "dear": {"prices": {"input": "5", "output": "20"}},
}
OVERLAY["providers"]["t"] |= {
    "calls": {"capabilities": ["tools", "reasoning"]},
    "cheap": {"prices": {"input": "1", "output": "2"}},
}


@dataclass
class Scene:
    server: Gateway
    s: Upstream
    t: Upstream
    collected: Collected

    async def chat(self, model: str, text: str = "hello", **fields: Any) -> v1.ChatResponse:
        response: v1.ChatResponse = await self.server.stub.Chat(ask(model, text, **fields))
        return response

    async def refused(self, model: str, **fields: Any) -> tuple[grpc.aio.AioRpcError, details.ErrorInfo]:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.chat(model, **fields)
        status = Status.FromString(dict(caught.value.trailing_metadata())["grpc-status-details-bin"])
        info = details.ErrorInfo()
        assert status.details[0].Unpack(info)
        return caught.value, info


def limited(left: int) -> Any:
    async def script(exchange: Exchange) -> None:
        headers = {"x-ratelimit-limit-requests": "100", "x-ratelimit-remaining-requests": str(left)}
        answer = {"choices": [{"message": {"role": "assistant", "content": f"{left} left"}, "finish_reason": "stop"}]}
        await exchange.answer(200, json.dumps(answer), {"content-type": "application/json", **headers})

    return script


async def slow(exchange: Exchange) -> None:
    await exchange.stall(0.3)
    await openai_says("slowly")(exchange)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    plays = {"ok": openai_says("s"), "little": TOO_LONG, "less": openai_says("less"), "busy": BUSY, "blocked": BLOCKED,
             "reasons": openai_says("r"), "dear": openai_says("dear"), "slow": slow, "spent": limited(10)}  # fmt: skip
    others = {"ok": openai_says("t"), "large": openai_says("large"), "busy": BUSY, "calls": openai_says("c"),
              "cheap": openai_says("cheap"), "fresh": limited(90)}  # fmt: skip
    folder = tmp_path_factory.mktemp("gateway")
    with grpc_collector() as (endpoint, collected):
        async with scripted(by_model(plays)) as s, scripted(by_model(others)) as t:
            providers = {
                name: {"kind": "openai-compatible", "base_url": f"{upstream.base_url}/v1", "models": sorted(models)}
                | {"region": REGIONS[name]}
                for name, upstream, models in (("s", s, plays), ("t", t, others))
            }
            (folder / "overlay.yaml").write_text(json.dumps(OVERLAY))
            settings = config(
                providers=providers,
                routes=ROUTES,
                catalog={"overlay": str(folder / "overlay.yaml")},
                retry={"attempts_per_target": 1, "max_attempts": 4},
                breaker={"enabled": False},
            )
            environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "20"}
            async with gateway(settings, folder, environ) as server:
                yield Scene(server, s, t, collected)


@pytest.mark.parametrize("streaming", [False, True], ids=["unary", "stream"])
async def test_a_prompt_that_is_too_long_goes_to_a_larger_window(scene: Scene, streaming: bool) -> None:
    if streaming:
        fold = Fold()
        async for event in scene.server.stub.StreamChat(stream("growing")):
            fold.feed(event)
        response = fold.response()
    else:
        response = await scene.chat("growing")
    assert response.model == "growing"
    assert response.message.parts[0].text == "large"
    assert [attempt.model for attempt in response.route.attempts] == ["little", "large"]


async def test_weights_share_out_calls(scene: Scene) -> None:
    said = Counter([(await scene.chat("split")).message.parts[0].text for _ in range(40)])
    assert said["s"] == pytest.approx(30, abs=2)
    assert said["s"] + said["t"] == 40


async def test_a_route_in_a_route_brings_overrides(scene: Scene) -> None:
    response = await scene.chat("nested", sampling=v1.SamplingOptions(temperature=1.5, seed=3))
    assert [attempt.model for attempt in response.route.attempts] == ["busy", "ok"]
    upstream = scene.s if response.route.provider == "s" else scene.t
    sent = next(request.json for request in reversed(upstream.requests) if request.json["model"] == "ok")
    assert (sent["temperature"], sent["seed"]) == (0.5, 3)


async def test_blocked_prompts_go_to_another_provider_only_where_wanted(scene: Scene) -> None:
    error, info = await scene.refused("strict")
    assert (error.code(), info.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PROMPT_BLOCKED")
    response = await scene.chat("lax")
    assert [(a.provider, a.model) for a in response.route.attempts] == [("s", "blocked"), ("t", "ok")]


async def test_an_error_tells_who_was_asked(scene: Scene) -> None:
    error, info = await scene.refused("down")
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    reasons = [entry.rpartition(":") for entry in info.metadata["trail"].split(",")]
    assert [model for model, _, _ in reasons] == ["s/busy", "t/busy"]
    assert {reason for _, _, reason in reasons} == {info.reason}


async def test_targets_that_cannot_are_passed_over_or_named(scene: Scene) -> None:
    response = await scene.chat("able", tools=TOOLS)
    assert [attempt.model for attempt in response.route.attempts] == ["calls"]
    assert [(w.code, w.message) for w in response.warnings] == [("TARGET_SKIPPED", "s/reasons does not do tools")]
    form = v1.OutputOptions(json_schema=v1.JsonSchemaFormat(name="x", json_schema='{"type":"object"}'))
    error, info = await scene.refused("able", output=form)
    assert (error.code(), info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "UNSUPPORTED_PARAMETER")
    assert "s/reasons does not do json-schema; t/calls does not do json-schema" in (error.details() or "")


async def test_only_targets_in_the_regions_that_are_asked_for(scene: Scene) -> None:
    before = len(scene.s.requests)
    for asked in (["eu-central-1"], ["eu-west-1", "eu-central-1"]):
        response = await scene.chat("split", routing=v1.RoutingOptions(regions=asked))
        assert (response.route.provider, response.route.region) == ("t", "eu-central-1")
        fold = Fold()
        async for event in scene.server.stub.StreamChat(stream("split", routing=v1.RoutingOptions(regions=asked))):
            fold.feed(event)
        assert fold.response().route.region == "eu-central-1"
    assert len(scene.s.requests) == before
    error, info = await scene.refused("s/ok", routing=v1.RoutingOptions(regions=["eu-central-1"]))
    assert (error.code(), info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
    assert info.metadata["field"] == "routing.regions"
    assert "s/ok is in us-east-1" in (error.details() or "")
    assert len(scene.s.requests) == before


async def test_prompts_that_begin_alike_stay_together(scene: Scene) -> None:
    for number in range(8):
        said = {(await scene.chat("near", f"topic {number}")).route.provider for _ in range(4)}
        assert len(said) == 1
    everybody = {(await scene.chat("near", f"topic {number}")).route.provider for number in range(40)}
    assert everybody == {"s", "t"}


async def test_the_cheapest_is_asked_and_a_limit_holds(scene: Scene) -> None:
    assert (await scene.chat("cheap")).message.parts[0].text == "cheap"
    sampling = v1.SamplingOptions(max_output_tokens=100)
    routing = v1.RoutingOptions(max_cost_nano_usd=1000)
    error, info = await scene.refused("cheap", sampling=sampling, routing=routing)
    assert (error.code(), info.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "COST_LIMIT_EXCEEDED")
    assert info.metadata["estimateNanoUsd"] == "202000"  # two tokens at a thousand, a hundred at two thousand
    routing.max_cost_nano_usd = 202000
    assert (await scene.chat("cheap", sampling=sampling, routing=routing)).message.parts[0].text == "cheap"


async def test_the_fastest_is_found(scene: Scene) -> None:
    said = [(await scene.chat("quick")).route.provider for _ in range(12)]
    assert set(said[:2]) == {"s", "t"}, "each is tried"
    assert said[2:].count("t") >= 6, "but for the few that look again"


async def test_the_one_with_most_quota_is_asked(scene: Scene) -> None:
    said = [(await scene.chat("spare")).message.parts[0].text for _ in range(5)]
    assert said == ["10 left"] + ["90 left"] * 4


async def test_a_request_may_say_how_fallbacks_are_ordered(scene: Scene) -> None:
    routing = v1.RoutingOptions(
        fallbacks=[v1.FallbackTarget(model="t/cheap")], strategy=v1.RoutingOptions.STRATEGY_COST
    )
    assert (await scene.chat("s/dear", routing=routing)).message.parts[0].text == "cheap"
    routing.strategy = v1.RoutingOptions.STRATEGY_ORDERED
    assert (await scene.chat("s/dear", routing=routing)).message.parts[0].text == "dear"


async def test_routes_are_among_the_models(scene: Scene) -> None:
    listed = {m.id: m for m in (await scene.server.stub.ListModels(v1.ListModelsRequest(page_size=1000))).models}
    assert list(listed) == sorted(listed)
    assert ROUTES.keys() <= listed.keys()
    nested = listed["nested"]
    assert (nested.provider, nested.display_name, list(nested.targets)) == ("", "Nested", ["s/busy", "s/ok", "t/ok"])
    assert nested.state == v1.Model.STATE_ACTIVE
    able = (await scene.server.stub.GetModel(v1.GetModelRequest(model="able"))).model
    assert list(able.capabilities) == ["reasoning"]
    assert "chat" in able.operations
    growing = (await scene.server.stub.GetModel(v1.GetModelRequest(model="growing"))).model
    assert growing.limits.context_tokens == 2000
    only = await scene.server.stub.ListModels(v1.ListModelsRequest(provider="s"))
    assert {model.provider for model in only.models} == {"s"}


async def test_pages_go_through_models_and_routes_alike(scene: Scene) -> None:
    seen: list[str] = []
    token = ""
    while True:
        page = await scene.server.stub.ListModels(v1.ListModelsRequest(page_size=3, page_token=token))
        seen += [model.id for model in page.models]
        token = page.next_page_token
        if not token:
            break
    assert seen == sorted(set(seen))
    assert ROUTES.keys() <= set(seen)


async def test_a_trace_names_route_and_strategy(scene: Scene) -> None:
    trace_id = "5" * 32
    metadata = (("traceparent", f"00-{trace_id}-{'6' * 16}-01"),)
    await scene.server.stub.Chat(ask("nested"), metadata=metadata)
    spans: list[Span] = []
    async with asyncio.timeout(10):
        while not any(span.kind == Span.SPAN_KIND_SERVER for span in spans):
            await asyncio.sleep(0.01)
            spans = [span for span in scene.collected.spans if span.trace_id.hex() == trace_id]
    assert len(spans) == 3
    for span in spans:
        found = attributes(span.attributes)
        assert (found["parley.route"], found["parley.strategy"]) == ("nested", "ordered")
