"""Variables of the environment become settings, or errors that name them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from parley_server.config import load
from parley_server.providers.mock import Mock
from parley_server.providers.ollama import Ollama
from tests.config.problems import problems

# ------------------------------------------------------------------------------------------------------- OLLAMA_HOST


@pytest.mark.parametrize(
    ("host", "url"),
    {
        "h": "http://h:11434",
        "h:1234": "http://h:1234",
        "http://h": "http://h:80",
        "https://h/": "https://h:443",
        "http://h:1234/": "http://h:1234",
        "https://h/ollama": "https://h:443/ollama",
        "0.0.0.0": "http://127.0.0.1:11434",
        "0.0.0.0:8080": "http://127.0.0.1:8080",
        "http://0.0.0.0:8080": "http://127.0.0.1:8080",
        ":8080": "http://127.0.0.1:8080",
        "[::]:8080": "http://[::1]:8080",
        "::": "http://[::1]:11434",
        "[::1]": "http://[::1]:11434",
        "fe80::7": "http://[fe80::7]:11434",
        " '127.0.0.1:99' ": "http://127.0.0.1:99",
    }.items(),
)
def test_ollama_host_in_all_its_forms(host: str, url: str) -> None:
    ollama = load("", {"OLLAMA_HOST": host}).providers["ollama"]
    assert isinstance(ollama, Ollama)
    assert ollama.base_url == url


def test_ollama_host_that_is_none() -> None:
    (problem,) = problems("", {"OLLAMA_HOST": "h:port"})
    assert problem.startswith("providers.ollama.base_url: ")
    assert load("providers: {mock: {}}", {"OLLAMA_HOST": "h:port"}).providers.keys() == {"mock"}


# ------------------------------------------------------------------------------------------------- PARLEY_ variables


def test_variables_override_the_file_with_types() -> None:
    config = load(
        "server: {drain: 1}\nproviders: {mock: {models: {a.b: {reply: x}}}}",
        {
            "PARLEY_SERVER__ADDRESS": "127.0.0.1:6000",
            "PARLEY_SERVER__DRAIN": "2.5",
            "PARLEY_SERVER__REFLECTION": "false",
            "PARLEY_LOG__LEVEL": "debug",
            "PARLEY_PROVIDERS__MOCK__MODELS__A_B__REPLY": "y",
            "PARLEY_PROVIDERS__MOCK__MODELS__C": "{reply: z, cached_tokens: 3}",
            "PARLEY_REFRESH_MODELS": "60",
            "PARLEY_UNSUPPORTED_POLICY": "error",
        },
    )
    assert (config.server.address, config.server.drain, config.server.reflection) == ("127.0.0.1:6000", 2.5, False)
    assert (config.log.level, config.refresh_models, config.unsupported_policy) == ("debug", 60, "error")
    mock = config.providers["mock"]
    assert isinstance(mock, Mock)
    assert mock.models["a.b"].reply == "y"
    assert (mock.models["c"].reply, mock.models["c"].cached_tokens) == ("z", 3)


def test_underscores_of_a_variable_stand_for_dashes_of_names_that_are_there() -> None:
    text = "providers: {my-vllm: {kind: openai-compatible, base_url: http://h/v1}}"
    environ = {"PARLEY_PROVIDERS__MY_VLLM__BASE_URL": "http://other/v1"}
    providers = load(text, environ).providers
    assert list(providers) == ["my-vllm"]
    assert getattr(providers["my-vllm"], "base_url", "") == "http://other/v1"
    both = text.replace("providers: {", "providers: {my_vllm: {kind: mock}, ")
    assert problems(both, environ)[0].startswith("providers.my_vllm.base_url (PARLEY_PROVIDERS__MY_VLLM__BASE_URL)")


def test_variables_add_to_the_usual_providers() -> None:
    environ = {
        "OPENAI_API_KEY": "k",
        "PARLEY_PROVIDERS__OPENAI__PROJECT": "p",
        "PARLEY_PROVIDERS__LOCAL__KIND": "openai-compatible",
        "PARLEY_PROVIDERS__LOCAL__BASE_URL": "http://h/v1",
    }
    providers = load("", environ).providers
    assert list(providers) == ["openai", "ollama", "mock", "local"]
    assert getattr(providers["openai"], "project", "") == "p"


def test_variables_of_a_section_with_nothing_in_it() -> None:
    config = load("server:\nproviders: {mock: }", {"PARLEY_SERVER__DRAIN": "2", "PARLEY_PROVIDERS__MOCK__CAPTURE": "f"})
    assert config.server.drain == 2
    assert getattr(config.providers["mock"], "capture", None) == Path("f")


def test_variables_that_kubernetes_makes_for_services_are_left_alone() -> None:
    links: dict[str, Any] = {
        "PARLEY_PORT": "tcp://10.0.0.1:50051",
        "PARLEY_SERVICE_HOST": "10.0.0.1",
        "PARLEY_SERVICE_PORT_GRPC": "50051",
        "PARLEY_PORT_50051_TCP_ADDR": "10.0.0.1",
        "PARLEY_SERVER_PORT": "tcp://10.0.0.2:1",
        "PARLEY_CONFIG": "/etc/parley.yaml",
    }
    assert load("", links) == load("", {})


@pytest.mark.parametrize(
    ("environ", "begin"),
    [
        ({"PARLEY_SERVER__DRAIM": "5"}, "server.draim (PARLEY_SERVER__DRAIM): unknown key; did you mean drain?"),
        ({"PARLEY_SERVR__DRAIN": "5"}, "servr (PARLEY_SERVR__DRAIN): unknown key; did you mean server?"),
        ({"PARLEY_SERVER__DRAIN": "soon"}, "server.drain (PARLEY_SERVER__DRAIN): "),
        ({"PARLEY_SERVER__ADDRESS": "0.0.0.0:5"}, "server.address (PARLEY_SERVER__ADDRESS): "),
        ({"PARLEY_SERVER__ADDRESS": "[oops"}, "PARLEY_SERVER__ADDRESS: not YAML: "),
        ({"PARLEY_SERVER__ADDRESS__PORT": "5"}, "PARLEY_SERVER__ADDRESS__PORT: server.address is not a section"),
        ({"PARLEY_PROVIDERS__GROK__API_KEY": "env:A"}, "providers.grok.kind (PARLEY_PROVIDERS__GROK__API_KEY): "),
        ({"PARLEY_PROVIDERS__MOCK": "[1]"}, "providers.mock (PARLEY_PROVIDERS__MOCK): "),
        ({"PARLEY_REFRESH_MODELS": "-1"}, "refresh_models (PARLEY_REFRESH_MODELS): "),
        ({"PARLEY_SERVER__": "5"}, "server. (PARLEY_SERVER__): unknown key"),
    ],
)
def test_variables_that_mean_nothing_are_errors_that_name_them(environ: dict[str, str], begin: str) -> None:
    (problem,) = problems("server: {address: 127.0.0.1:1}", environ)
    assert problem.startswith(begin)


def test_problems_of_file_and_variables_come_together() -> None:
    assert len(problems("log: {level: loud}", {"PARLEY_SERVER__DRAIN": "[", "PARLEY_SERVER__DRAIM": "1"})) == 3


# ------------------------------------------------------------------------------------------ variables of OpenTelemetry


def test_standard_telemetry_variables() -> None:
    on = load("", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:4317", "OTEL_SERVICE_NAME": "123"}).telemetry
    assert (on.enabled, on.protocol, on.service_name) == (True, "grpc", "123")
    http = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://h", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
    assert load("", http).telemetry.protocol == "http/protobuf"
    assert not load("", http | {"OTEL_SDK_DISABLED": "true"}).telemetry.enabled
    traces, metrics = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"
    for environ, sent in (
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h"}, (True, True)),
        ({traces: "http://h"}, (True, False)),
        ({metrics: "http://h"}, (False, True)),
        ({traces: "http://h", metrics: "http://h"}, (True, True)),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h", "OTEL_METRICS_EXPORTER": "none"}, (True, False)),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h", "OTEL_TRACES_EXPORTER": "none"}, (False, True)),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h", "OTEL_METRICS_EXPORTER": "prometheus"}, (True, False)),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h", "OTEL_METRICS_EXPORTER": "otlp, prometheus"}, (True, True)),
    ):
        found = load("", environ).telemetry
        assert (found.enabled, found.traces, found.metrics) == (True, *sent), environ
    assert load("telemetry: {metrics: true}", {traces: "http://h"}).telemetry.metrics
    by_file = load("telemetry: {enabled: true}", {}).telemetry
    assert (by_file.traces, by_file.metrics) == (True, True)
    assert not load("telemetry: {enabled: false}", http).telemetry.enabled
    assert not load("", http | {"PARLEY_TELEMETRY__ENABLED": "false"}).telemetry.enabled


def test_where_prometheus_is_told() -> None:
    wanted = {"OTEL_METRICS_EXPORTER": "otlp,prometheus"}
    assert load("", {}).admin.metrics_address is None
    assert load("", wanted).admin.metrics_address == "localhost:9464"
    there = wanted | {"OTEL_EXPORTER_PROMETHEUS_HOST": "127.0.0.2", "OTEL_EXPORTER_PROMETHEUS_PORT": "9000"}
    assert load("admin: {address: '127.0.0.1:1'}", there).admin.metrics_address == "127.0.0.2:9000"
    assert load("admin: {metrics_address: '127.0.0.1:1'}", there).admin.metrics_address == "127.0.0.1:1"
    beyond = wanted | {"OTEL_EXPORTER_PROMETHEUS_HOST": "0.0.0.0"}
    (problem,) = problems("", beyond)
    assert problem.startswith("admin: 0.0.0.0 is reachable from other machines, and nothing authenticates operators")
    assert load("admin: {insecure: true}", beyond).admin.metrics_address == "0.0.0.0:9464"
