"""Where models are asked, as their providers' settings tell it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from parley_server.config import load
from parley_server.core.target import Target
from parley_server.providers import bedrock, sagemaker, vertex, watsonx
from parley_server.providers.base import Provider
from parley_server.providers.kind import Kind
from parley_server.providers.registry import Registry
from tests.providers.cards import made

AWS: dict[str, Any] = {"access_key_id": "env:KEY", "secret_access_key": "env:KEY"}
BEDROCK: dict[str, Any] = {"region": "eu-central-1"}
VERTEX: dict[str, Any] = {"project": "p"}
WATSONX: dict[str, Any] = {"project_id": "p"}


class Nothing:
    """A list of models that has none."""

    def get(self, _model_id: str) -> None:
        return None

    def ids_of(self, _bare_name: str) -> list[str]:
        return []

    def ids(self) -> list[str]:
        return []


@pytest.mark.parametrize(
    ("kind", "settings", "model", "region"),
    [
        (bedrock.KIND, BEDROCK, "anthropic.claude-sonnet-4-5-20250929-v1:0", "eu-central-1"),
        (bedrock.KIND, BEDROCK, "amazon.titan-embed-text-v2:0", "eu-central-1"),
        (bedrock.KIND, BEDROCK, "deepseek.v3.1", "eu-central-1"),
        (bedrock.KIND, BEDROCK, "eu.anthropic.claude-sonnet-4-5-20250929-v1:0", "eu"),
        (bedrock.KIND, BEDROCK, "global.anthropic.claude-sonnet-4-5-20250929-v1:0", "global"),
        (bedrock.KIND, BEDROCK, "us-gov.meta.llama3-1-70b-instruct-v1:0", "us-gov"),
        (
            bedrock.KIND,
            BEDROCK,
            "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.meta.llama3-1-70b-instruct-v1:0",
            "us",
        ),
        (bedrock.KIND, BEDROCK | {"base_models": {"arn:mine": "eu.amazon.nova-pro-v1:0"}}, "arn:mine", "eu"),
        (sagemaker.KIND, BEDROCK | AWS, "llama", "eu-central-1"),
        (vertex.KIND, VERTEX, "gemini-2.5-flash", "global"),
        (vertex.KIND, VERTEX | {"location": "europe-west3"}, "gemini-2.5-flash", "europe-west3"),
        (vertex.KIND, VERTEX | {"location": "eu"}, "claude-sonnet-4-5", "eu"),
        (vertex.KIND, {"location": "europe-west3"}, "gemini-2.5-flash", "global"),
        (watsonx.KIND, WATSONX | {"region": "eu-de"}, "ibm/granite", "eu-de"),
        (watsonx.KIND, WATSONX, "ibm/granite", "us-south"),
        (watsonx.KIND, WATSONX | {"base_url": "https://cpd.lab"}, "ibm/granite", ""),
        (watsonx.KIND, WATSONX | {"base_url": "https://cpd.lab", "region": "home"}, "ibm/granite", "home"),
    ],
)
def test_where_a_model_is_asked(kind: Kind, settings: dict[str, Any], model: str, region: str) -> None:
    card: Provider = made(kind, "p", **settings)
    _, target = Registry({"p": card}, Nothing()).resolve(f"p/{model}", "chat")
    assert target.region == region


def test_a_provider_of_which_nothing_is_known_is_where_its_settings_say() -> None:
    config = load("providers: {mock: {region: eu-west-9}, lab: {kind: mock}}", {})
    assert [settings.region for settings in config.providers.values()] == ["eu-west-9", ""]
    card = replace(made(bedrock.KIND, "p", **BEDROCK), region_for=None)
    assert card.region_of(Target("p", "eu.anthropic.claude-x")) == "eu-central-1"
