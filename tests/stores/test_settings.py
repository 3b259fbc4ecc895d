"""How a Redis server is written down, and what is said of mistakes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from parley_server import shelves
from parley_server.config import load
from parley_server.config_sources import ConfigError
from parley_server.stores.memory.keyvalue import MemoryKeyValue
from parley_server.stores.settings import RedisSettings


@pytest.mark.parametrize(
    ("url", "kind", "encrypted", "hosts", "database"),
    [
        ("redis://a", "standalone", False, (("a", 6379),), 0),
        ("rediss://a.example:6380/3", "standalone", True, (("a.example", 6380),), 3),
        ("redis://[::1]:7000/", "standalone", False, (("::1", 7000),), 0),
        ("redis+sentinel://a,b:26380/main", "sentinel", False, (("a", 26379), ("b", 26380)), 0),
        ("rediss+sentinel://a:1/the%20main/5", "sentinel", True, (("a", 1),), 5),
        ("redis+cluster://a,b,c:7002", "cluster", False, (("a", 6379), ("b", 6379), ("c", 7002)), 0),
        ("rediss+cluster://a", "cluster", True, (("a", 6379),), 0),
    ],
)
def test_urls(url: str, kind: str, encrypted: bool, hosts: tuple[tuple[str, int], ...], database: int) -> None:
    settings = RedisSettings(url=url)
    assert (settings.kind, settings.encrypted, settings.hosts, settings.database) == (kind, encrypted, hosts, database)
    assert settings.primary == ("" if kind != "sentinel" else "the main" if "%20" in url else "main")
    assert all(f"{host}:{port}" in settings.name for host, port in hosts)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://a", "write redis://host:6379/0, redis+sentinel://"),
        ("a:6379", "write redis://host:6379/0"),
        ("redis://", "write redis://host:6379/0"),
        ("redis://:secret@a", "holds no credentials: they would be in logs; use redis.username and redis.password"),
        ("redis://a?password=secret", "holds no credentials"),
        ("redis://a?db=3", "ends with its path"),
        ("redis://a/x", "the database is a number"),
        ("redis://a/1/2", "the database is a number"),
        ("redis://a,b", "several hosts are redis+sentinel://… or redis+cluster://…"),
        ("redis://a:99999", "Port out of range"),
        ("redis+sentinel://a,b", "after the Sentinels comes the name of the primary"),
        ("redis+cluster://a/1", "a cluster has no numbered databases"),
        ("redis+cluster://a,,b", "is not host or host:port"),
    ],
)
def test_mistakes(url: str, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(f"redis: {{url: '{url}'}}", {})
    assert said in str(error.value)
    assert "redis.url" in str(error.value)
    assert "secret" not in str(error.value)


def test_the_url_may_come_from_the_environment() -> None:
    settings = load("", {"PARLEY_REDIS__URL": "redis://a", "PARLEY_REDIS__ON_FAILURE__LIMITS": "closed"})
    assert settings.redis.hosts == (("a", 6379),)
    assert settings.redis.on_failure.limits == "closed"


def test_the_password_is_a_reference() -> None:
    with pytest.raises(ConfigError, match=r"redis.password: write a reference, env:NAME or file:/path"):
        load("redis: {url: 'redis://a', password: secret}", {})
    assert "secret" not in repr(load("redis: {url: 'redis://a', password: env:P}", {"P": "secret"}).redis)


def test_without_the_packages_it_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "redis" else find(name))
    with pytest.raises(ConfigError, match=r"pip install 'parley-server\[redis\]'"):
        load("redis: {url: 'redis://a'}", {})
    assert load("", {}).redis.url is None


def test_certificates_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"redis.tls.ca_file"):
        load(f"redis: {{url: 'rediss://a', tls: {{ca_file: {tmp_path}/none.pem}}}}", {})
    (tmp_path / "empty.pem").touch()
    settings = load(f"redis: {{url: 'rediss://a', tls: {{ca_file: {tmp_path}/empty.pem}}}}", {})
    with pytest.raises(OSError, match=r"the certificates of redis\.tls cannot be used"):
        shelves.build(settings)


def test_nothing_set_is_memory() -> None:
    assert isinstance(shelves.build(load("", {})).keyvalue("cache"), MemoryKeyValue)
