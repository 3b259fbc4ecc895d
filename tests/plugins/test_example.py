"""A provider of a third party: built, installed, served by the real gateway; and what is said of a broken one."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from parley import v1
from parley.fold import Fold
from tests.contract.cases.acorn import AcornCase
from tests.contract.cases.openai_chat import Compatible
from tests.contract.said import Said
from tests.gateway.process import Gateway, ask, config, gateway, stream
from tests.upstream import Exchange, Script, Upstream, scripted

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]
SOURCE = Path(__file__).parent / "parley_provider_example"
SAID = Said(text="Hello from the oak 🌳")


async def run(*command: str, environ: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Exit status of a command, and all that it wrote."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("PARLEY_", "PIP_"))}
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**plain, **(environ or {})},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    written, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, written.decode()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed the package, built from a copy of its sources."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(SOURCE, folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    apart = ("--isolated", "--disable-pip-version-check", "--no-input", "--no-cache-dir")
    offline = ("--no-index", "--no-build-isolation", "--no-deps")
    target = folder / "installed"
    status, written = await run(
        sys.executable, "-m", "pip", *apart, "install", *offline, "--target", str(target), str(folder / "source")
    )
    assert status == 0, written
    return target


def says(case: Any) -> Script:
    async def script(exchange: Exchange) -> None:
        if exchange.request.method == "GET":
            await exchange.answer(404)
        else:
            await case.answer(exchange, SAID)

    return script


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def acorn() -> AsyncIterator[Upstream]:
    async with scripted(says(AcornCase())) as upstream:
        yield upstream


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def walnut() -> AsyncIterator[Upstream]:
    async with scripted(says(Compatible())) as upstream:
        yield upstream


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(
    installed: Path, acorn: Upstream, walnut: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Gateway]:
    providers = {
        "acorn": {"base_url": acorn.base_url, "api_key": "env:ACORN_API_KEY", "models": ["oak"]},
        "nuts": {"kind": "walnut", "base_url": f"{walnut.base_url}/v1", "api_key": "env:WALNUT_API_KEY"},
    }
    environ = {"PYTHONPATH": str(installed), "ACORN_API_KEY": "acorn-key", "WALNUT_API_KEY": "walnut-key"}
    async with gateway(config(providers=providers), tmp_path_factory.mktemp("gateway"), environ) as server:
        yield server


async def test_the_wheel_brings_the_package_and_its_entry_point(installed: Path) -> None:
    assert (installed / "parley_provider_example" / "dialect.py").exists()
    [brought] = metadata.Distribution.discover(path=[str(installed)])
    assert brought.name == "parley-provider-example"
    assert [(entry.group, entry.value) for entry in brought.entry_points] == [
        ("parley.providers", "parley_provider_example:KINDS")
    ]


@pytest.mark.parametrize(
    ("model", "path", "key"),
    [("acorn/oak", "/talk", "acorn-key"), ("nuts/any-model", "/v1/chat/completions", "walnut-key")],
)
async def test_both_kinds_answer_whole_and_as_a_stream(
    running: Gateway, acorn: Upstream, walnut: Upstream, model: str, path: str, key: str
) -> None:
    upstream = acorn if model.startswith("acorn") else walnut
    response = await running.stub.Chat(ask(model))
    assert [part.text for part in response.message.parts] == [SAID.text]
    assert (response.usage.input_tokens, response.usage.output_tokens) == (7, 3)
    assert response.route.provider == model.partition("/")[0]
    fold = Fold()
    async for event in running.stub.StreamChat(stream(model)):
        fold.feed(event)
    assert fold.response().message == response.message
    for sent in [request for request in upstream.requests if request.method == "POST"]:
        assert (sent.path, sent.headers["authorization"]) == (path, f"Bearer {key}")


async def test_the_gateway_knows_them_like_its_own(running: Gateway) -> None:
    info = await running.stub.GetServerInfo(v1.GetServerInfoRequest())
    assert {"acorn", "nuts"} <= set(info.providers)
    listed = await running.stub.ListModels(v1.ListModelsRequest(provider="acorn"))
    assert [model.id for model in listed.models] == ["acorn/oak"]


async def test_a_wish_that_it_cannot_meet_is_a_warning(running: Gateway) -> None:
    request = ask("acorn/oak", sampling=v1.SamplingOptions(temperature=0.5, max_output_tokens=9))
    response = await running.stub.Chat(request)
    assert [(w.code, w.field) for w in response.warnings] == [("UNSUPPORTED_PARAMETER", "sampling.temperature")]


async def test_its_variables_set_it_up_without_any_file(installed: Path) -> None:
    environ = {"PYTHONPATH": str(installed), "ACORN_API_KEY": "k", "ACORN_URL": "http://127.0.0.1:9/oak"}
    status, written = await run(sys.executable, "-m", "parley_server", "check", environ=environ)
    assert status == 0, written
    assert "acorn" in written
    assert "walnut" not in written


async def test_its_settings_are_checked_like_all_others(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "parley.yaml").write_text("providers: {acorn: {base_ulr: http://127.0.0.1:9}}\n")
    status, written = await run(
        sys.executable,
        *("-m", "parley_server", "check", "--config", str(tmp_path / "parley.yaml")),
        environ={"PYTHONPATH": str(installed)},
    )
    assert status == 2
    assert "providers.acorn.base_ulr: unknown key; did you mean base_url?" in written
    assert "providers.acorn.api_key: is not given, and ACORN_API_KEY is not set" in written


# --------------------------------------------------------------------------------------------------- broken packages

KIND = "from parley_server.providers.openai import KIND\n"


def package(folder: Path, code: str, entry: str = "acme_models:KIND") -> Path:
    """What an installed package leaves behind whose module has that code."""
    (folder / "acme_models.py").write_text(code)
    info = folder / "acme_models-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-models\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[parley.providers]\nacme = {entry}\n")
    return folder


@pytest.mark.parametrize(
    ("code", "entry", "problem"),
    [
        ("import missing_library\n", "acme_models:KIND", "cannot be loaded: ModuleNotFoundError: No module named"),
        ("1 / 0\n", "acme_models:KIND", "cannot be loaded: ZeroDivisionError"),
        ("", "acme_models:KIND", "cannot be loaded: AttributeError"),
        ("", "acme_modles:KIND", "cannot be loaded: ModuleNotFoundError: No module named 'acme_modles'"),
        ("KIND = 'openai'\n", "acme_models:KIND", "names an object of the type str, not a Kind"),
        ("KIND = [1]\n", "acme_models:KIND", "names an object of the type list, not a Kind"),
        (KIND, "acme_models:KIND", "brings the kind 'openai', which is there already"),
    ],
)
async def test_a_broken_package_is_named_at_start(tmp_path: Path, code: str, entry: str, problem: str) -> None:
    environ = {"PYTHONPATH": str(package(tmp_path, code, entry))}
    for command in ("check", "serve"):
        status, written = await run(sys.executable, "-m", "parley_server", command, environ=environ)
        assert status == 2, written
        assert f"the installed package acme-models 1.2: its entry point acme ({entry}) of parley.providers" in written
        assert problem in written
        assert "Traceback" not in written
