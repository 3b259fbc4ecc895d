"""What ListModels says while providers come and go: it answers from memory, whatever they do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.rpc import error_details_pb2 as details
from google.rpc.status_pb2 import Status

from parley import v1
from tests.gateway.process import Gateway, ask, config, gateway
from tests.gateway.wire import openai_answer
from tests.upstream import Exchange, Upstream, refusing, scripted

pytestmark = pytest.mark.asyncio(loop_scope="module")
ACTIVE, UNAVAILABLE, DEPRECATED = v1.Model.STATE_ACTIVE, v1.Model.STATE_UNAVAILABLE, v1.Model.STATE_DEPRECATED
REFRESH = 0.1  # seconds


@dataclass
class Lister:
    """A provider whose listing can be changed while it runs; every chat is answered with the model's name."""

    rows: Any = field(default_factory=list)
    status: int = 200
    body: bytes | None = None
    """Goes out in place of a listing."""
    slow: bool = False
    upstream: Upstream = field(init=False)

    async def __call__(self, exchange: Exchange) -> None:
        if exchange.request.method == "POST":
            await exchange.answer(200, openai_answer(exchange.request.json["model"]))
        elif self.slow:
            await exchange.stall(60)
        elif self.body is not None:
            await exchange.answer(self.status, self.body)
        else:
            await exchange.answer(self.status, {"object": "list", "data": self.rows} if self.status == 200 else {})


@dataclass
class Scene:
    """A gateway in front of listers."""

    server: Gateway
    listers: dict[str, Lister]
    seconds_to_first_list: float

    async def models(self, provider: str = "", **fields: Any) -> dict[str, v1.Model]:
        """All models, by ID, over as many pages as it takes."""
        found: dict[str, v1.Model] = {}
        token = ""
        while True:
            request = v1.ListModelsRequest(provider=provider, page_token=token, page_size=50, **fields)
            page = await self.server.stub.ListModels(request, timeout=1)
            found |= {model.id: model for model in page.models}
            token = page.next_page_token
            if not token:
                assert list(found) == sorted(found)
                return found

    async def until(self, condition: Callable[[dict[str, v1.Model]], bool], within: float = 5.0) -> dict[str, v1.Model]:
        """The models, once they are as they should be."""
        deadline = time.monotonic() + within
        while not condition(models := await self.models()):
            assert time.monotonic() < deadline, sorted((m.id, m.state) for m in models.values())
            await asyncio.sleep(0.02)
        return models


def rows(*names: str, **fields: Any) -> list[dict[str, Any]]:
    return [{"id": name, "object": "model", "owned_by": "us", **fields} for name in names]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    listers = {
        "openai": Lister(rows("gpt-5.1", "gpt-99-unheard-of")),
        "lab": Lister(rows("common", "only-lab", max_model_len=4096)),
        "twin": Lister(rows("common", "org/with/slashes")),
        "odd": Lister(rows("fine-at-first")),
    }
    async with AsyncExitStack() as stack:
        providers: dict[str, Any] = {"mock": {}}
        for name, lister in listers.items():
            lister.upstream = await stack.enter_async_context(scripted(lister))
            providers[name] = {"kind": "openai-compatible", "base_url": f"{lister.upstream.base_url}/v1"}
        providers["openai"] |= {"kind": "openai", "api_key": "env:KEY", "models": ["ft:gpt-tuned"]}
        providers["anthropic"] = {"base_url": f"{stack.enter_context(refusing())}/v1", "api_key": "env:KEY"}
        folder = tmp_path_factory.mktemp("gateway")
        settings = config(providers=providers, refresh_models=REFRESH)
        server = await stack.enter_async_context(gateway(settings, folder, {"KEY": "k"}))
        start = time.monotonic()
        await server.stub.ListModels(v1.ListModelsRequest())
        yield Scene(server, listers, time.monotonic() - start)


def states(models: dict[str, v1.Model], provider: str) -> set[int]:
    return {model.state for model in models.values() if model.provider == provider}


async def test_the_first_answer_does_not_wait_for_providers(scene: Scene) -> None:
    assert scene.seconds_to_first_list < 1


async def test_configured_listed_and_catalogued_facts_are_merged(scene: Scene) -> None:
    models = await scene.until(lambda found: {"openai/gpt-99-unheard-of", "lab/only-lab", "mock/echo"} <= found.keys())
    known = models["openai/gpt-5.1"]
    assert known.provider_model == "gpt-5.1"
    assert known.limits.context_tokens > 100_000
    assert known.pricing.input_nano_usd > 0
    assert known.pricing.price_version
    assert list(known.operations) == ["chat"]
    unheard_of = models["openai/gpt-99-unheard-of"]
    assert not unheard_of.HasField("pricing")
    assert unheard_of.state == ACTIVE
    assert models["openai/ft:gpt-tuned"].state == ACTIVE
    assert "openai/gpt-4o" not in models, "a provider that answers has the last word on what it offers"
    assert models["lab/only-lab"].limits.context_tokens == 4096
    assert {"mock/echo", "mock/embed"} <= models.keys()
    assert {"embed"} == set(models["mock/embed"].operations)


async def test_a_provider_that_was_never_reached_is_listed_from_the_catalogue(scene: Scene) -> None:
    models = await scene.until(lambda found: states(found, "anthropic") == {UNAVAILABLE})
    assert "anthropic/claude-opus-5" in models
    assert models["anthropic/claude-opus-5"].limits.max_output_tokens > 0
    assert any(line["event"] == "models_not_listed" and line["provider"] == "anthropic" for line in scene.server.log)


async def test_a_slow_provider_holds_nobody_up(tmp_path: Path) -> None:
    slow, quick = Lister(slow=True), Lister(rows("ready"))
    async with scripted(slow) as tardy, scripted(quick) as prompt:
        slow.upstream, quick.upstream = tardy, prompt
        providers: dict[str, Any] = {
            "slow": {"kind": "openai-compatible", "base_url": tardy.base_url, "models": ["configured"]},
            "quick": {"kind": "openai-compatible", "base_url": prompt.base_url},
        }
        async with gateway(config(providers=providers), tmp_path) as server:
            scene = Scene(server, {"slow": slow, "quick": quick}, 0)
            models = await scene.until(lambda found: "quick/ready" in found, within=2)
            assert models["slow/configured"].state == ACTIVE  # nothing is known against it yet
            assert tardy.open_connections == 1, "it is still being waited for"
            assert (await server.stub.Chat(ask("slow/configured"))).message.parts[0].text == "configured"
        assert await tardy.closed_within(1), "the gateway hung up when it ended"


async def test_a_provider_that_goes_down_keeps_its_models_and_comes_back(scene: Scene) -> None:
    lab = scene.listers["lab"]
    await scene.until(lambda found: states(found, "lab") == {ACTIVE})
    lab.status = 503
    models = await scene.until(lambda found: states(found, "lab") == {UNAVAILABLE})
    assert {"lab/common", "lab/only-lab"} <= models.keys()
    assert states(models, "twin") == {ACTIVE}
    assert (await scene.server.stub.Chat(ask("lab/only-lab"))).message.parts[
        0
    ].text == "only-lab"  # it is asked all the same
    await asyncio.sleep(3 * REFRESH)
    said = [line for line in scene.server.log if line["event"] == "models_not_listed" and line["provider"] == "lab"]
    assert len(said) == 1, "said once, not at every refresh"
    lab.status, lab.rows = 200, rows("common", "only-lab", "newcomer")
    await scene.until(lambda found: "lab/newcomer" in found and states(found, "lab") == {ACTIVE})
    lab.rows = rows("common", "only-lab")
    await scene.until(lambda found: "lab/newcomer" not in found)


NONSENSE: dict[str, bytes] = {
    "not_json": b"<html>welcome</html>",
    "empty": b"",
    "no_rows": b'{"object":"list","data":null}',
    "error_inside_200": b'{"error":{"message":"no","code":500}}',
    "a_string": b'"models"',
    "deep": b"[" * 100_000,
    "lone_surrogate": b'{"data":[{"id":"\\ud800"}]}',
    "not_utf8": b'{"data":[{"id":"\xff"}]}',
}
ODD_ROWS: dict[str, bytes] = {
    "numbers_for_rows": b'{"data":[1,null,"x",{"id":"odd-one"}]}',
    "created_in_milliseconds": b'{"data":[{"id":"odd-one","created":1700000000000}]}',
    "created_beyond_all_calendars": b'{"data":[{"id":"odd-one","created":99999999999999999999}]}',
    "created_as_text": b'{"data":[{"id":"odd-one","created":"yesterday","context_length":"many"}]}',
    "id_is_a_number": b'{"data":[{"id":7},{"id":"odd-one"}]}',
    "id_is_an_object": b'{"data":[{"id":{"a":1}},{"id":"odd-one"}]}',
    "the_same_twice": b'{"data":[{"id":"odd-one"},{"id":"odd-one"}]}',
}


@pytest.mark.parametrize("name", NONSENSE)
async def test_nonsense_for_a_listing_counts_as_down(scene: Scene, name: str) -> None:
    odd = scene.listers["odd"]
    odd.body = b'{"data":[{"id":"fine"}]}'
    await scene.until(lambda found: states(found, "odd") == {ACTIVE} and "odd/fine" in found)
    odd.body = NONSENSE[name]
    models = await scene.until(lambda found: states(found, "odd") == {UNAVAILABLE})
    assert "odd/fine" in models
    odd.body = b'{"data":[{"id":"fine-again"}]}'
    await scene.until(lambda found: "odd/fine-again" in found and states(found, "odd") == {ACTIVE})


@pytest.mark.parametrize("name", ODD_ROWS)
async def test_odd_rows_do_not_spoil_the_others(scene: Scene, name: str) -> None:
    odd = scene.listers["odd"]
    odd.body = b'{"data":[{"id":"fine"}]}'
    await scene.until(lambda found: "odd/fine" in found)
    odd.body = ODD_ROWS[name]
    await scene.until(lambda found: "odd/odd-one" in found and states(found, "odd") == {ACTIVE})
    assert not [line for line in scene.server.log if line.get("level") == "error"], scene.server.log[-5:]


async def refused(call: Any) -> tuple[grpc.StatusCode, str, details.ErrorInfo]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    status = Status.FromString(dict(caught.value.trailing_metadata())["grpc-status-details-bin"])
    info = details.ErrorInfo()
    assert status.details[0].Unpack(info)
    return caught.value.code(), str(caught.value.details()), info


async def test_a_bare_name_means_the_one_provider_that_has_it(scene: Scene) -> None:
    await scene.until(lambda found: {"lab/only-lab", "twin/org/with/slashes"} <= found.keys())
    response = await scene.server.stub.Chat(ask("only-lab"))
    assert (response.route.provider, response.model) == ("lab", "only-lab")
    assert response.message.parts[0].text == "only-lab"
    assert (await scene.server.stub.Chat(ask("org/with/slashes"))).message.parts[0].text == "org/with/slashes"
    assert (await scene.server.stub.Chat(ask("twin/org/with/slashes"))).message.parts[0].text == "org/with/slashes"
    assert (await scene.server.stub.GetModel(v1.GetModelRequest(model="only-lab"))).model.id == "lab/only-lab"


async def test_an_ambiguous_bare_name_is_refused_with_its_candidates(scene: Scene) -> None:
    await scene.until(lambda found: {"lab/common", "twin/common"} <= found.keys())
    for call in (
        scene.server.stub.Chat(ask("common")),
        scene.server.stub.GetModel(v1.GetModelRequest(model="common")),
    ):
        code, message, _ = await refused(call)
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "lab/common" in message
        assert "twin/common" in message


async def test_a_model_that_nobody_lists_is_still_passed_on_to_the_provider_it_names(scene: Scene) -> None:
    assert (await scene.server.stub.Chat(ask("lab/not-listed-yet"))).message.parts[0].text == "not-listed-yet"


async def test_a_mistyped_name_is_met_with_the_nearest_ones(scene: Scene) -> None:
    await scene.until(lambda found: "lab/only-lab" in found)
    code, message, info = await refused(scene.server.stub.Chat(ask("only-lap")))
    assert code is grpc.StatusCode.NOT_FOUND
    assert "lab/only-lab" in message
    assert info.reason == "MODEL_NOT_FOUND"


async def test_filters_and_pages_go_together(scene: Scene) -> None:
    await scene.until(lambda found: "openai/gpt-5.1" in found)
    embedding = await scene.models(operation="embed")
    assert "mock/embed" in embedding
    assert all("embed" in model.operations for model in embedding.values())
    assert {model.provider for model in (await scene.models("anthropic")).values()} == {"anthropic"}
    able = await scene.models(capabilities=["reasoning", "tools"])
    assert able
    assert all({"reasoning", "tools"} <= set(model.capabilities) for model in able.values())
