"""What docs/tracing.md and the pages of backends say: their variables, their command, the spans that come of it."""

from __future__ import annotations

import asyncio
import base64
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from parley_server import telemetry
from parley_server.config import load
from tests.docs.blocks import Block, blocks
from tests.gateway.process import gateway
from tests.telemetry.collectors import attributes, grpc_collector, http_collector
from tests.telemetry.traced import finish
from tests.tools.metrics import PAGES, rewritten

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "tracing.md"
BACKENDS = sorted(path.stem for path in (ROOT / "docs" / "tracing").glob("*.md"))
BLOCKS = [block for name in BACKENDS for block in blocks(f"tracing/{name}.md")]
HEADERS = {
    "langfuse": {
        "authorization": "Basic " + base64.b64encode(b"pk-lf-YOURS:sk-lf-YOURS").decode(),
        "x-langfuse-ingestion-version": "4",
    },
    "langsmith": {"x-api-key": "lsv2_YOURS", "langsmith-project": "parley"},
    "datadog": {"dd-api-key": "YOURS", "dd-otlp-source": "llmobs"},
    "mlflow": {"x-mlflow-experiment-id": "0"},
}


def exported(block: Block) -> dict[str, str]:
    """The variables that a block sets, as a shell understands it."""
    done = subprocess.run(
        ["bash", "-c", f"{block.text}\nenv"], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=True
    )
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if line.startswith("OTEL_"))


def test_every_block_is_run_or_says_why_not() -> None:
    assert BACKENDS == ["datadog", "langfuse", "langsmith", "mlflow", "phoenix"]
    for block in BLOCKS:
        assert block.language == "sh"
        assert block.word in ("environment", "gateway", "call") or block.word.startswith("not run: "), block
    page = PAGE.read_text("utf-8")
    assert re.findall(r"\(tracing/(\w+)\.md\)", page) == ["phoenix", "mlflow", "langfuse", "langsmith", "datadog"]
    assert rewritten(page, PAGES[PAGE]) == page
    told = {block.language: block for block in blocks("tracing.md") if not block.word}
    assert exported(told["sh"]) == {
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.01",
    }
    for block in blocks("tracing.md"):
        match block.language, block.word:
            case "yaml", "":
                assert load(block.text, {}).model_fields_set >= set(yaml.safe_load(block.text))
            case _, word:
                assert word in ("", "not ours")


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.word == "environment"], ids=str)
async def test_spans_arrive_as_the_backend_wants_them(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    environ = exported(block)
    settings = load("", environ).telemetry
    assert settings.enabled
    assert settings.traces
    assert settings.metrics == ("OTEL_EXPORTER_OTLP_ENDPOINT" in environ)
    [name] = [name for name in environ if name.endswith("_ENDPOINT")]
    real = urlsplit(environ[name])
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "50")

    async def send(endpoint: str) -> None:
        for variable, value in {**environ, name: endpoint + real.path}.items():
            monkeypatch.setenv(variable, value)
        telling = telemetry.start(settings)
        assert telling.tracer is not None
        telling.tracer.start_span("call").end()
        await finish(telling)

    if settings.protocol == "grpc":
        with grpc_collector() as (endpoint, collected):
            await send(endpoint)
    else:
        async with http_collector() as (endpoint, collected):
            await send(endpoint)
        assert collected.paths == [real.path]
    assert [span.name for span in collected.spans] == ["call"]
    [headers] = collected.headers
    lower = {key.lower(): value for key, value in headers.items()}
    expected = {} if settings.protocol == "grpc" else HEADERS[block.page.removeprefix("tracing/").removesuffix(".md")]
    assert {key: lower.get(key) for key in expected} == expected


async def test_a_fallback_as_the_pages_have_it(tmp_path: Path) -> None:
    [config] = {block.text.split()[-1] for block in BLOCKS if block.word == "gateway"}
    [call] = {block.text for block in BLOCKS if block.word == "call"}
    command, model, *_ = call.split()[1:]
    prompt = call.partition('"')[2].rstrip().removesuffix('"')
    settings: dict[str, Any] = yaml.safe_load((ROOT / config).read_text("utf-8"))
    ports = {"server": {"address": "127.0.0.1:0"}, "admin": {"address": "127.0.0.1:0"}}
    with grpc_collector() as (endpoint, collected):
        environ = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "20"}
        async with gateway(
            {**settings, **ports, "log": {"format": "json", "calls": True}}, tmp_path, environ
        ) as server:
            parley = Path(sys.executable).with_name("parley")
            said = await asyncio.create_subprocess_exec(
                *(parley, command, model, prompt, "--address", server.address), stdout=asyncio.subprocess.PIPE
            )
            assert (await said.communicate())[0] == b"Ships are named after what their owners hope for.\n"
            assert said.returncode == 0
        [line] = [line for line in server.log if line["event"] == "call"]

    whole, failed, answered = (
        collected.span(name) for name in ("parley.v1.GatewayService/StreamChat", "chat down", "chat gpt-5.1")
    )
    assert not whole.parent_span_id
    assert failed.parent_span_id == answered.parent_span_id == whole.span_id
    assert {span.trace_id.hex() for span in collected.spans} == {line["trace_id"]}
    assert failed.end_time_unix_nano <= answered.start_time_unix_nano
    assert (failed.status.code, failed.status.message) == (2, "mock is overloaded")
    assert attributes(failed.attributes)["error.type"] == "PROVIDER_OVERLOADED"
    found, of_call = attributes(answered.attributes), attributes(whole.attributes)
    assert found["gen_ai.response.id"].startswith("chatcmpl-")
    assert (found["gen_ai.usage.input_tokens"], found["gen_ai.usage.output_tokens"]) == (5, 9)
    assert 0.15 < found["gen_ai.response.time_to_first_chunk"] < 5
    assert (
        found["parley.cost_nano_usd"]
        == of_call["parley.cost_nano_usd"]
        == line["cost_nano_usd"]
        == 5 * 1250 + 9 * 10_000
    )
    assert (of_call["parley.attempts"], of_call["parley.request.id"]) == (2, line["request_id"])


def test_pictures_are_small_and_shown() -> None:
    pages = "".join((ROOT / "docs" / "tracing" / f"{name}.md").read_text("utf-8") for name in BACKENDS)
    shown = re.findall(r"!\[[^\]]+\]\(\.\./images/([\w-]+\.png)\)", pages)
    assert len(shown) == 5
    for picture in (ROOT / "docs" / "images" / name for name in shown):
        assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        assert picture.stat().st_size < 300_000
