"""The catalogue and the operator's overlay in a gateway that serves: GetModel, ListModels, and what a call cost."""

from __future__ import annotations

from pathlib import Path

from parley import v1
from tests.gateway.process import ask, config, gateway
from tests.upstream import Exchange, scripted

ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-4o",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100},
}


async def answers(exchange: Exchange) -> None:
    """Lists nothing; answers every chat at the tier `flex`."""
    if exchange.request.method == "POST":
        await exchange.answer(200, {**ANSWER, "service_tier": "flex"})
    else:
        await exchange.answer(200, {"object": "list", "data": [{"id": "gpt-4o"}, {"id": "gpt-5.6-sol-2026-07-09"}]})


async def test_prices_limits_and_costs(tmp_path: Path) -> None:
    overlay = tmp_path / "models.yaml"
    overlay.write_text(
        'version: "acme 7"\n'
        'providers: {openai: {gpt-4o: {context_tokens: 100000, prices: {input: "2", output: "8"}, '
        'tiers: [{service_tier: flex, input: "1", output: "4"}]}}}\n'
    )
    async with scripted(answers) as upstream:
        settings = config(
            catalog={"overlay": str(overlay)},
            providers={"openai": {"base_url": f"{upstream.base_url}/v1", "api_key": "env:K"}, "mock": {}},
        )
        async with gateway(settings, tmp_path, {"K": "k"}) as server:
            own = (await server.stub.GetModel(v1.GetModelRequest(model="openai/gpt-4o"))).model
            dated = (await server.stub.GetModel(v1.GetModelRequest(model="openai/gpt-5.6-sol-2026-07-09"))).model
            gone = (await server.stub.GetModel(v1.GetModelRequest(model="openai/gpt-5-2025-08-07"))).model
            listed = await server.stub.ListModels(v1.ListModelsRequest(provider="mock,openai", operation="rerank"))
            bill = (await server.stub.Chat(ask("openai/gpt-4o"))).usage.cost
            unpriced = (await server.stub.Chat(ask("openai/gpt-4o-audio-preview"))).usage
    assert own.limits.context_tokens == 100_000
    assert own.limits.max_output_tokens == 16_384
    assert (own.pricing.input_nano_usd, own.pricing.price_version) == (2 * 10**9, "acme 7")
    assert [tier.service_tier for tier in own.pricing.tiers] == ["flex"]
    assert {tier.above_input_tokens for tier in dated.pricing.tiers if not tier.service_tier} == {272_000}
    assert dated.limits.context_tokens == 1_050_000
    assert gone.shutdown_time.seconds > 0
    assert all(model.provider == "mock" for model in listed.models)
    assert bill.total_nano_usd == 1000 * 1000 + 100 * 4000
    assert bill.price_version == "acme 7"
    assert not unpriced.HasField("cost")
