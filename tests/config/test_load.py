"""From text to settings: what is meant, and every problem at once where something cannot be."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import pydantic
import pytest

from parley_server.config import Config, load, read
from parley_server.config_sources import ConfigError
from parley_server.providers.anthropic import Anthropic
from parley_server.providers.mock import Mock
from parley_server.providers.ollama import Ollama
from parley_server.providers.openai import OpenAI
from parley_server.providers.rows import RowSettings
from tests.config.problems import problems

# ------------------------------------------------------------------------------------------------------- what is meant


def test_nothing_at_all_is_a_configuration() -> None:
    config = load("", {})
    assert config.server.address == "127.0.0.1:50051"
    assert config.admin.address == "127.0.0.1:50052"
    assert not config.server.insecure
    assert not config.telemetry.enabled
    assert list(config.providers) == ["ollama", "mock"]
    ollama = config.providers["ollama"]
    assert isinstance(ollama, Ollama)
    assert ollama.only_if_reachable


def test_usual_key_variables_bring_their_providers() -> None:
    config = load("", {"OPENAI_API_KEY": "k1", "ANTHROPIC_API_KEY": "k2"})
    openai, anthropic = config.providers["openai"], config.providers["anthropic"]
    assert isinstance(openai, OpenAI)
    assert isinstance(anthropic, Anthropic)
    assert (openai.api_key.reveal(), anthropic.api_key.reveal()) == ("k1", "k2")


def test_blank_key_variables_bring_nothing() -> None:
    assert list(load("", {"OPENAI_API_KEY": "  ", "ANTHROPIC_API_KEY": ""}).providers) == ["ollama", "mock"]


def test_named_providers_are_the_only_ones() -> None:
    assert list(load("providers: {mock: {}}", {"OPENAI_API_KEY": "k"}).providers) == ["mock"]
    assert load("providers: {}", {"OPENAI_API_KEY": "k"}).providers == {}


@pytest.mark.parametrize("section", ["server", "providers", "retry", "telemetry", "refresh_models"])
def test_a_section_whose_lines_are_all_commented_out_says_nothing(section: str) -> None:
    assert load(f"{section}:\n#  drain: 3\n", {}) == load("", {})


def test_a_name_that_is_a_kind_needs_no_kind_and_may_have_another() -> None:
    config = load("providers: {mock: , openai: {kind: openai-compatible, base_url: http://127.0.0.1:8000/v1}}", {})
    assert isinstance(config.providers["mock"], Mock)
    assert isinstance(config.providers["openai"], RowSettings)


def test_the_environment_of_the_process_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARLEY_SERVER__DRAIN", "7")
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    assert load("", {}) == Config(providers=load("", {}).providers)
    assert read(None).server.drain == 7


def test_loading_changes_nothing_and_gives_the_same_again(tmp_path: Path) -> None:
    environ = {"A": "key", "PARLEY_SERVER__DRAIN": "3", "PARLEY_PROVIDERS__X__MODELS": "[a]", "OLLAMA_HOST": "h"}
    text = "providers: {x: {kind: openai, api_key: env:A}}"
    before, process = copy.deepcopy(environ), dict(os.environ)
    assert load(text, environ) == load(text, environ)
    assert environ == before
    assert dict(os.environ) == process


def test_settings_cannot_be_changed() -> None:
    config = load("providers: {mock: {models: {m: {reply: hi}}}}", {})
    mock = config.providers["mock"]
    assert isinstance(mock, Mock)
    for target, name in ((config, "server"), (config.server, "drain"), (mock, "models"), (mock.models["m"], "reply")):
        with pytest.raises(pydantic.ValidationError, match="frozen"):
            setattr(target, name, None)


def test_quirks_left_out_are_those_of_any_compatible_server() -> None:
    text = "providers: {local: {kind: openai-compatible, base_url: http://h/v1, quirks: {end_user_field: ''}}}"
    local = load(text, {}).providers["local"]
    quirks = vars(local)["quirks"]
    assert quirks.end_user_field == ""
    assert quirks.token_limit_field == "max_tokens"


# ------------------------------------------------------------------------------------------------------------ problems


def test_every_problem_is_told_at_once_with_its_path_and_what_was_probably_meant() -> None:
    found = problems(
        """
        server: {adress: x, drain: -1}
        retry: {max_attempts: 0, bse: 1}
        admin: {address: 0.0.0.0:1}
        logs: {}
        providers:
          openai: {api_key: env:NOT_THERE, organisation: o}
          lab: {base_url: http://h/v1}
          local: {kind: openai-compatible, base_url: http://h/v1, quirks: {token_limit_fild: max_tokens}}
          mock: {models: {m: {replay: hi, replies: [{patern: x, pattern: y}]}}}
        """,
    )
    begun = {problem.partition(":")[0]: problem for problem in found}
    assert begun.keys() == {
        "server.adress",
        "server.drain",
        "retry.max_attempts",
        "retry.bse",
        "admin",
        "logs",
        "providers.openai.api_key",
        "providers.openai.organisation",
        "providers.lab.kind",
        "providers.local.quirks.token_limit_fild",
        "providers.mock.models.m.replay",
        "providers.mock.models.m.replies.0.patern",
    }
    for path, meant in (
        ("server.adress", "address"),
        ("retry.bse", "base"),
        ("logs", "log"),
        ("providers.openai.organisation", "organization"),
        ("providers.local.quirks.token_limit_fild", "token_limit_field"),
        ("providers.mock.models.m.replay", "reply"),
        ("providers.mock.models.m.replies.0.patern", "pattern"),
    ):
        assert begun[path].endswith(f"unknown key; did you mean {meant}?")
    assert "openai-compatible" in begun["providers.lab.kind"]


def test_a_key_like_no_other_gets_the_list_of_keys() -> None:
    (problem,) = problems("log: {zzz: 1}")
    assert problem == "log.zzz: unknown key; known keys: calls, format, level"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("server: 5", "server"),
        ("server: [a]", "server"),
        ("providers: 5", "providers"),
        ("providers: {mock: 5}", "providers.mock"),
        ("providers: {mock: {models: [m]}}", "providers.mock.models"),
        ("server: {drain: [1]}", "server.drain"),
        ("server: {drain: .nan}", "server.drain"),
        ("server: {insecure: perhaps}", "server.insecure"),
        ("server: {max_request_bytes: 1.5}", "server.max_request_bytes"),
        ("log: {level: loud}", "log.level"),
        ("unsupported_policy: ignore", "unsupported_policy"),
        ("refresh_models: 0", "refresh_models"),
        ("providers: {mock: {models: {m: {chunking: sometimes}}}}", "providers.mock.models.m.chunking"),
        ("providers: {mock: {models: {m: {size: 3, endless: true}}}}", "providers.mock.models.m"),
        ("providers: {mock: {models: {m: {replies: [{pattern: '('}]}}}}", "providers.mock.models.m.replies.0.pattern"),
        ("providers: {Mock: {kind: mock}}", "providers.Mock"),
        ("providers: {'a/b': {kind: mock}}", "providers.a/b"),
        ("providers: {openai: {}}", "providers.openai.api_key"),
        ("providers: {x: {kind: openai-compatible}}", "providers.x.base_url"),
        ("providers: {x: {kind: openai-compatible, base_url: h/v1}}", "providers.x.base_url"),
        ("providers: {x: {kind: openai-compatible, base_url: ftp://h}}", "providers.x.base_url"),
        ("providers: {x: {kind: openai-compatible, base_url: 'http://h:port'}}", "providers.x.base_url"),
        ("providers: {x: {kind: openai-compatible, base_url: 'http://h/v1?key=a'}}", "providers.x.base_url"),
        ("providers: {ollama: {headers: {'a b': c}}}", "providers.ollama.headers"),
        ('providers: {ollama: {headers: {a: "b\\r\\nc: d"}}}', "providers.ollama.headers"),
        ("1: 2", "1"),
        ("server: {1: 2}", "server.1"),
    ],
)
def test_wrong_values_are_named_by_path(text: str, path: str) -> None:
    assert {problem.partition(": ")[0] for problem in problems(text)} == {path}


def test_a_trailing_slash_of_a_base_url_is_left_out() -> None:
    local = load("providers: {x: {kind: openai-compatible, base_url: https://h/v1/}}", {}).providers["x"]
    assert isinstance(local, RowSettings)
    assert local.base_url == "https://h/v1"


@pytest.mark.parametrize(
    "text", ["a: [", "'x", "a: 1\n b: 2", "x: \x01", "x: 2026-13-45", "? [a]\n: b", "x: !!python/name:os.system"]
)
def test_what_is_no_yaml_is_one_problem_of_one_line(text: str) -> None:
    (problem,) = problems(text)
    assert problem.startswith("not YAML: ")
    assert "\n" not in problem


def test_keys_that_are_there_twice_are_refused_at_every_level() -> None:
    assert problems("server: {}\nlog: {}\nserver: {}") == ["not YAML: server is there twice (line 3, column 1)"]
    (problem,) = problems("providers:\n  mock:\n    models:\n      m: {reply: a}\n      m: {reply: b}")
    assert problem == "not YAML: m is there twice (line 5, column 7)"


def test_anchors_and_merges_are_plain_yaml() -> None:
    text = "providers: {mock: {models: {a: &a {reply: hi, cached_tokens: 1}, b: {<<: *a, reply: ho}}}}"
    mock = load(text, {}).providers["mock"]
    assert isinstance(mock, Mock)
    assert (mock.models["b"].reply, mock.models["b"].cached_tokens) == ("ho", 1)


def test_a_list_is_no_configuration() -> None:
    (problem,) = problems("- server")
    assert "mapping of sections" in problem


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin1.yaml").write_bytes(b"a: \xe9")
    for path, why in (
        (tmp_path / "none.yaml", "No such file"),
        (tmp_path, "directory"),
        (tmp_path / "latin1.yaml", "UTF-8"),
    ):
        with pytest.raises(ConfigError, match=why):
            read(path)


# ----------------------------------------------------------------------------------------------- beyond this machine


@pytest.mark.parametrize("address", ["127.0.0.1:1", "[::1]:1", "localhost:0", "LocalHost:5", "127.8.9.1:65535"])
def test_loopback_needs_no_leave(address: str) -> None:
    assert load(f"server: {{address: '{address}'}}\nadmin: {{address: '{address}'}}", {}).server.address == address


@pytest.mark.parametrize("address", ["0.0.0.0:1", "[::]:1", "10.0.0.7:50051", "gateway.internal:50051", "[fe80::1]:5"])
def test_beyond_loopback_only_with_leave(address: str) -> None:
    (problem,) = problems(f"server: {{address: '{address}'}}")
    assert problem.startswith("server.address: ")
    assert "insecure: true" in problem
    assert "authenticates callers" in problem
    assert "server.tls" in problem
    (problem,) = problems(f"admin: {{address: '{address}'}}")
    assert problem.startswith("admin: ")
    assert len(problems(f"server: {{address: '{address}'}}\nadmin: {{address: '{address}'}}")) == 2
    allowed = load(f"server: {{address: '{address}', insecure: true}}\nadmin: {{address: '{address}'}}", {})
    assert allowed.admin.address == address


def test_an_admin_port_that_is_not_served_may_be_anywhere() -> None:
    assert not load("admin: {enabled: false, address: 0.0.0.0:1}", {}).admin.enabled


@pytest.mark.parametrize(
    "address",
    [
        "",
        "127.0.0.1",
        ":50051",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1:٣",
        "::1:5",
        "[::1:5",
        "unix:/run/parley.sock",
        "dns:///localhost:5",
    ],
)
def test_an_address_is_host_and_port(address: str) -> None:
    (problem,) = problems(f"server: {{insecure: true, address: '{address}'}}")
    assert problem.startswith("server.address: ")
    assert "host:port" in problem
