"""From names as providers have them to names as the catalogue has them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_server.catalog import Catalog
from parley_server.catalog.names import Candidate, candidates

# provider, name, a candidate that has to be among them, whether prices under it hold
TABLE = [
    ("openai", "gpt-6.1-sol-2026-10-01", "gpt-6.1-sol", True),
    ("openai", "chatgpt-4o-latest", "chatgpt-4o", True),
    ("openai", "ft:gpt-4o-2024-08-06:acme:support:abc123", "ft:gpt-4o-2024-08-06", True),
    ("openai", "ft:gpt-4o-2024-08-06:acme:support:abc123:ckpt-step-70", "gpt-4o-2024-08-06", False),
    ("openai", "ft:gpt-4o-2024-08-06:acme:support:abc123", "gpt-4o", False),
    ("mistral", "ft:open-mistral-7b:acme:20240712:abc", "open-mistral-7b", False),
    ("anthropic", "claude-haiku-4-5-20251001", "claude-haiku-4-5", True),
    ("anthropic", "claude-haiku-4-5@20251001", "claude-haiku-4-5", True),
    ("vertex", "claude-opus-5-5@default", "claude-opus-5-5", True),
    ("vertex", "claude-haiku-4-5@20251001", "claude-haiku-4-5", True),
    ("vertex", "publishers/anthropic/models/claude-opus-5-5@20260901", "claude-opus-5-5", True),
    ("vertex", "projects/p/locations/l/publishers/meta/models/llama-3.3-70b-instruct-maas",
     "meta/llama-3.3-70b-instruct-maas", True),
    ("vertex", "google/gemini-2.5-pro", "gemini-2.5-pro", True),
    ("vertex", "gemini-2.0-flash-001", "gemini-2.0-flash", True),
    ("gemini", "models/gemini-2.5-pro", "gemini-2.5-pro", True),
    ("bedrock", "us.anthropic.claude-opus-5-5", "anthropic.claude-opus-5-5", False),
    ("bedrock", "eu.amazon.nova-pro-v1:0", "amazon.nova-pro-v1:0", False),
    ("bedrock", "us-gov.anthropic.claude-sonnet-5", "anthropic.claude-sonnet-5", False),
    ("bedrock", "global.anthropic.claude-haiku-4-5-20251001-v1:0", "anthropic.claude-haiku-4-5", False),
    ("bedrock", "anthropic.claude-haiku-4-5-20251001-v1:0", "anthropic.claude-haiku-4-5", True),
    ("bedrock", "anthropic.claude-3-haiku-20240307-v1:0:200k", "anthropic.claude-3-haiku-20240307", True),
    ("bedrock", "amazon.nova-pro", "amazon.nova-pro-v1:0", True),
    ("bedrock", "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/eu.amazon.nova-pro-v1:0",
     "eu.amazon.nova-pro-v1:0", True),
    ("bedrock", "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-pro-v1:0", "amazon.nova-pro-v1:0", True),
    ("azure", "gpt-35-turbo", "gpt-3.5-turbo", True),
    ("azure", "gpt-3.5-turbo", "gpt-35-turbo", True),
    ("azure", "gpt-4o-2024-08-06.ft-0e208cf33a6a466994aff31a08aba678", "gpt-4o-2024-08-06", False),
    ("openrouter", "deepseek/deepseek-r1:free", "deepseek/deepseek-r1", False),
    ("openrouter", "openai/gpt-4o:nitro", "openai/gpt-4o", False),
    ("replicate", "meta/llama-2-70b-chat:02e509c789964a7ea8736978a43525956ef40397be9033abf9fd2badfe68c9e3",
     "meta/llama-2-70b-chat", True),
    ("huggingface", "openai/gpt-oss-120b:groq", "openai/gpt-oss-120b", False),
    ("fireworks", "deepseek-v3p2", "accounts/fireworks/models/deepseek-v3p2", True),
    ("fireworks", "accounts/fireworks/models/deepseek-v3p2", "deepseek-v3p2", True),
    ("fireworks", "accounts/fireworks/models/deepseek-v3p2#accounts/acme/deployments/d1",
     "accounts/fireworks/models/deepseek-v3p2", False),
    ("databricks", "system.ai.gpt-oss-120b", "databricks-gpt-oss-120b", True),
    ("databricks", "databricks-kimi-k3", "system.ai.kimi-k3", True),
    ("ollama", "qwen3:8b-q4_K_M", "qwen3", True),
]  # fmt: skip

ELSEWHERE = [
    ("azure", "gpt-35-turbo", "openai", "gpt-3.5-turbo"),
    ("azure", "claude-opus-4-9", "anthropic", "claude-opus-4-9"),
    ("vertex", "gemini-4-argon-001", "gemini", "gemini-4-argon"),
    ("gemini", "gemini-2.5-pro", "vertex", "gemini-2.5-pro"),
    ("openrouter", "anthropic/claude-opus-5.5", "anthropic", "claude-opus-5-5"),
    ("openrouter", "google/gemini-2.5-pro:free", "gemini", "gemini-2.5-pro"),
    ("vercel", "xai/grok-4.7", "xai", "grok-4.7"),
]


@pytest.mark.parametrize(("provider", "name", "candidate", "priced"), TABLE)
def test_candidates(provider: str, name: str, candidate: str, priced: bool) -> None:
    found = list(candidates(provider, name))
    assert found[0] == Candidate(provider, name)
    assert Candidate(provider, candidate, priced) in found


@pytest.mark.parametrize(("provider", "name", "other", "candidate"), ELSEWHERE)
def test_the_same_model_at_another_provider_has_the_same_limits_and_other_prices(
    provider: str, name: str, other: str, candidate: str
) -> None:
    assert Candidate(other, candidate, priced=False) in list(candidates(provider, name))


@pytest.mark.parametrize(
    ("provider", "name"),
    [
        ("openai", "gpt-4o"),
        ("openai", "gpt-4o-mini"),
        ("groq", "openai/gpt-oss-120b"),
        ("together", "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
        ("xai", "grok-4-0709"),
        ("cohere", "command-r-08-2024"),
        ("mistral", "mistral-large-2512"),
        ("openai", "gpt-oss:20b"),
    ],
)
def test_nothing_else_is_guessed(provider: str, name: str) -> None:
    assert list(candidates(provider, name)) == [Candidate(provider, name)]


@given(st.sampled_from([*Catalog.load().providers(), ""]), st.text("abg0125-@:./#ft", max_size=30))
def test_candidates_are_few_distinct_and_never_empty(provider: str, name: str) -> None:
    found = list(candidates(provider, name))
    places = [(candidate.provider, candidate.name) for candidate in found]
    assert len(set(places)) == len(places) <= 24
    assert all(name for _, name in places)
    assert not found or found[0] == Candidate(provider, name)
