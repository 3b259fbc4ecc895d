"""Bedrock: who asks, where each path goes, and which dialect a request is put in."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from parley import v1
from parley_server.core.target import Target
from parley_server.providers import bedrock
from parley_server.providers.auth import Bearer, aws
from parley_server.providers.aws import AwsSettings
from parley_server.providers.base import Provider
from parley_server.providers.kind import Shared
from tests.dialects.bedrock_ask import function, request
from tests.providers.cards import Unreachable

ENVIRON = {"ID": "AKID", "SECRET": "s", "TOKEN": "t", "KEY": "k"}
STATIC: dict[str, Any] = {"access_key_id": "env:ID", "secret_access_key": "env:SECRET"}
REGION: dict[str, Any] = {"region": "us-east-1"}


def settings(environ: dict[str, str] | None = None, **given: Any) -> bedrock.Bedrock:
    context = {"environ": {**ENVIRON, **(environ or {})}}
    return bedrock.Bedrock.model_validate({"kind": "bedrock", **given}, context=context)


def card(**given: Any) -> Provider:
    return bedrock.card("bedrock", settings(**given), Shared(Unreachable()))


def identity(found: AwsSettings) -> tuple[str, str, str]:
    return found.access_key_id.reveal(), found.session_token.reveal(), found.profile


def test_the_environment_says_who_asks_and_where() -> None:
    environ = {
        "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "A",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_SESSION_TOKEN": "t",
    }
    found = settings(environ)
    assert (found.region, identity(found)) == ("eu-west-1", ("A", "t", ""))
    assert settings({"AWS_DEFAULT_REGION": "eu-west-2", "AWS_BEARER_TOKEN_BEDROCK": "k"}).region == "eu-west-2"


def test_who_is_named_is_not_mixed_with_who_the_environment_has() -> None:
    environ = {
        "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "A",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_SESSION_TOKEN": "t",
        "AWS_BEARER_TOKEN_BEDROCK": "k",
    }
    named = settings(environ, **STATIC)
    assert (identity(named), bool(named.api_key)) == (("AKID", "", ""), False)
    assert identity(settings(environ, profile="lab")) == ("", "", "lab")
    assert identity(settings(environ, api_key="env:KEY")) == ("", "", "")


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"api_key": "env:KEY"}, "region"),
        ({**REGION, "access_key_id": "env:ID"}, "both of them"),
        ({**STATIC, "region": "nowhere"}, "region"),
    ],
)
def test_what_is_incomplete_is_refused(given: Any, problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        settings(**given)


def test_without_a_key_it_takes_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    assert repr(card(**REGION).auth) == "AwsAuth(us-east-1, a chain of sources)"
    monkeypatch.setattr(aws, "has_chain", lambda: False)
    with pytest.raises(ValidationError, match="extra `aws`"):
        settings(**REGION)


async def test_an_api_key_is_shown_as_it_is() -> None:
    auth = card(**REGION, api_key="env:KEY").auth
    assert isinstance(auth, Bearer)
    assert isinstance(card(**REGION, **STATIC).auth, aws.AwsAuth)


def test_each_path_has_its_host() -> None:
    target = Target("bedrock", "m")
    plain = card(**REGION, **STATIC)
    assert plain.url("/model/m/converse", target) == "https://bedrock-runtime.us-east-1.amazonaws.com/model/m/converse"
    assert plain.url("/foundation-models", target) == "https://bedrock.us-east-1.amazonaws.com/foundation-models"
    assert plain.url("/inference-profiles?x=1", target).startswith("https://bedrock.us-east-1.amazonaws.com/inf")
    openai = plain.url("/openai/v1/chat/completions", target)
    assert openai == "https://bedrock-mantle.us-east-1.api.aws/openai/v1/chat/completions"
    china = card(region="cn-north-1", **STATIC)
    assert china.url("/model/m/converse", target).startswith("https://bedrock-runtime.cn-north-1.amazonaws.com.cn/")
    own = {"base_url": "http://run", "control_url": "http://control", "openai_url": "http://openai/v1"}
    moved = card(**REGION, **STATIC, **own)
    paths = ("/model/m/invoke", "/foundation-models", "/openai/v1/responses")
    assert [moved.url(path, target) for path in paths] == [
        "http://run/model/m/invoke",
        "http://control/foundation-models",
        "http://openai/v1/responses",
    ]


NONE = v1.ToolChoice(mode=v1.ToolChoice.MODE_NONE)


@pytest.mark.parametrize(
    ("model", "asked", "dialect"),
    [
        ("us.anthropic.claude-sonnet-4-6", request(), bedrock.CONVERSE),
        ("us.anthropic.claude-sonnet-4-6", request(tools=[function("f")], tool_choice=NONE), bedrock.CLAUDE),
        ("anthropic.claude-v2:1", request(tools=[function("f")], tool_choice=NONE), bedrock.CONVERSE),
        ("amazon.nova-lite-v1:0", request(tools=[function("f")], tool_choice=NONE), bedrock.CONVERSE),
        ("openai.gpt-oss-120b-1:0", request(), bedrock.CONVERSE),
        ("openai.gpt-5.5", request(), bedrock.OPENAI),
        ("us.openai.gpt-5.5", request(), bedrock.OPENAI),
        ("openai.gpt-5.5", request(tools=[function("f")]), bedrock.OPENAI_RESPONSES),
    ],
)
def test_the_dialect_of_a_request(model: str, asked: v1.ChatRequest, dialect: object) -> None:
    provider = card(**REGION, **STATIC)
    assert provider.choose_chat(asked, Target("bedrock", model)) is dialect
    profile = Target("bedrock", "arn:aws:bedrock:us-east-1:0:application-inference-profile/x", base_model=model)
    assert provider.choose_chat(asked, profile) is dialect


def test_it_is_usual_where_its_own_key_is_set() -> None:
    assert bedrock.KIND.usually({"AWS_BEARER_TOKEN_BEDROCK": "k", "AWS_REGION": "us-east-1"}) == {}
    assert bedrock.KIND.usually({"AWS_BEARER_TOKEN_BEDROCK": "k"}) is None
    assert bedrock.KIND.usually({"AWS_ACCESS_KEY_ID": "A", "AWS_REGION": "us-east-1"}) is None
