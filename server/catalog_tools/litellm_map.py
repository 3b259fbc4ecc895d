"""Reads LiteLLM's model map: limits, modalities, capabilities, shutdown days, and prices to compare or fall back on."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from importlib import metadata
from pathlib import Path
from typing import Any

from catalog_tools.pricelist import NANO, PriceList, Prices, nano, tier

PROVIDERS = {
    "ai21": "ai21",
    "anthropic": "anthropic",
    "azure": "azure",
    "azure_ai": "azure",
    "baseten": "baseten",
    "bedrock": "bedrock",
    "bedrock_converse": "bedrock",
    "bedrock_mantle": "bedrock",
    "cerebras": "cerebras",
    "cloudflare": "cloudflare",
    "codestral": "mistral",
    "cohere": "cohere",
    "cohere_chat": "cohere",
    "crusoe": "crusoe",
    "dashscope": "dashscope",
    "databricks": "databricks",
    "deepinfra": "deepinfra",
    "deepseek": "deepseek",
    "featherless_ai": "featherless",
    "fireworks_ai": "fireworks",
    "fireworks_ai-embedding-models": "fireworks",
    "friendliai": "friendli",
    "gemini": "gemini",
    "groq": "groq",
    "hyperbolic": "hyperbolic",
    "jina_ai": "jina",
    "lambda_ai": "lambda",
    "minimax": "minimax",
    "mistral": "mistral",
    "moonshot": "moonshot",
    "nebius": "nebius",
    "novita": "novita",
    "nscale": "nscale",
    "nvidia_nim": "nvidia",
    "openai": "openai",
    "ovhcloud": "ovhcloud",
    "perplexity": "perplexity",
    "replicate": "replicate",
    "sambanova": "sambanova",
    "scaleway": "scaleway",
    "snowflake": "snowflake",
    "together_ai": "together",
    "vercel_ai_gateway": "vercel",
    "vertex_ai": "vertex",
    "voyage": "voyage",
    "wandb": "wandb",
    "watsonx": "watsonx",
    "xai": "xai",
    "zai": "zai",
}
"""Ours by theirs; `vertex_ai-…` is vertex as well."""

_OPERATIONS = {"chat": "chat", "responses": "chat", "embedding": "embed", "rerank": "rerank"}
_CAPABILITIES = {
    "supports_function_calling": "tools",
    "supports_parallel_function_calling": "parallel-tools",
    "supports_response_schema": "json-schema",
    "supports_reasoning": "reasoning",
    "supports_prompt_caching": "prompt-cache",
    "supports_mid_conversation_system": "system-turns",
}
_INPUT = {
    "supports_vision": "image",
    "supports_image_input": "image",
    "supports_embedding_image_input": "image",
    "supports_audio_input": "audio",
    "supports_video_input": "video",
    "supports_pdf_input": "document",
}
_MODALITIES = ("text", "image", "audio", "video", "document")

# Sizes and regions that are keys of the map and no names; prices of a commitment; paths of LiteLLM's own.
_NO_NAME = re.compile(
    r"^(together-ai-|fireworks-ai-)|commitment|^(eu|us|us-gov|au|jp|global|global-standard|invoke|converse)/"
    r"|^(us|eu|ap|sa|ca|me|af|il|mx)-[a-z]+-\d/|^us-gov-|^ranking/|(^|/)search$|^preset/"
)
_PRICE = re.compile(
    r"(?P<kind>input_cost_per_token|output_cost_per_token|cache_read_input_token_cost|cache_creation_input_token_cost)"
    r"(?P<hour>_above_1hr)?(_above_(?P<above>\d+)k_tokens)?(_(?P<service>batches|flex|priority|ultrafast))?"
)
_KINDS = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cache_read",
    "cache_creation_input_token_cost": "cache_write",
}
_FEES = ("input_cost_per_request", "input_cost_per_character", "citation_cost_per_token", "off_peak_pricing")
_ABSURD = 1000 * NANO  # a thousand dollars for a million tokens: somebody took the price of a thousand for that of one
_MEDIA_PRICES = {
    "audio": r"audio",
    "image": r"image(?!.*above)",
    "video": r"video",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One model of the map."""

    provider: str
    name: str
    facts: dict[str, Any]
    """Fields of a catalogue row, without prices."""
    prices: PriceList


def entries() -> dict[tuple[str, str], Entry]:
    """All models of the providers we speak to that chat, embed or rerank."""
    path = metadata.distribution("litellm").locate_file("litellm/model_prices_and_context_window_backup.json")
    return read(Path(str(path)).read_text("utf-8"))


def read(text: str) -> dict[tuple[str, str], Entry]:
    """The same out of the map's text. Numbers are read as they are written: money is no float."""
    data = json.loads(text, parse_float=Decimal)
    found: dict[tuple[str, str], Entry] = {}
    for key, said in data.items():
        theirs = str(said.get("litellm_provider"))
        provider = "vertex" if theirs.startswith("vertex_ai-") else PROVIDERS.get(theirs, "")
        operation = _OPERATIONS.get(said.get("mode") or "")
        name = _name(key, theirs)
        if not provider or not operation or not name:
            continue
        at = (provider, name)
        # of two keys that mean one name, the one with the provider's prefix says more
        if at not in found or key.startswith(f"{theirs.partition('-')[0]}/"):
            found[at] = Entry(provider, name, _facts(said, operation), _prices(said))
    return found


def _name(key: str, provider: str) -> str:
    """The provider's own name of a model; empty for a key that is none."""
    name = key
    for prefix in (f"{provider}/", f"{provider.partition('-')[0]}/", "bedrock/", "azure/"):
        name = name.removeprefix(prefix)
    is_path = "/" in name and provider.partition("_")[0] in ("openai", "anthropic", "azure", "bedrock")
    return "" if is_path or _NO_NAME.search(name) else name


def _facts(said: Mapping[str, Any], operation: str) -> dict[str, Any]:
    facts: dict[str, Any] = {"operations": [operation]}
    if operation == "chat":
        facts["capabilities"] = [ours for theirs, ours in _CAPABILITIES.items() if said.get(theirs)]
    taken = {"text", *(medium for field, medium in _INPUT.items() if said.get(field))}
    taken |= {medium.lower() for medium in said.get("supported_modalities", ())}
    facts["input"] = [medium for medium in _MODALITIES if medium in taken]
    if operation == "chat":
        given = {medium.lower() for medium in said.get("supported_output_modalities", ())} | {"text"}
        if said.get("supports_audio_output"):
            given.add("audio")
        facts["output"] = [medium for medium in _MODALITIES if medium in given]
    limits = {"context_tokens": said.get("max_input_tokens") or (said.get("max_tokens") if operation != "chat" else 0)}
    if operation == "chat":
        limits["max_output_tokens"] = said.get("max_output_tokens") or said.get("max_tokens")
    if operation == "embed":
        limits["embedding_dimensions"] = said.get("output_vector_size")
    facts |= {name: int(limit) for name, limit in limits.items() if limit}
    if re.fullmatch(r"\d{4}-\d\d-\d\d", str(said.get("deprecation_date", ""))):
        facts["shutdown"] = said["deprecation_date"]
    return facts


def _prices(said: Mapping[str, Any]) -> PriceList:
    """Its price list; an empty one if it has fees that are not for tokens, says nothing but zeros, or is absurd."""
    lists: dict[tuple[int, str], Prices] = {}
    for field, usd in said.items():
        if usd is None or not (match := _PRICE.fullmatch(field)):
            continue
        kind = _KINDS[match["kind"]]
        if match["hour"]:
            kind = "cache_write_1h" if kind == "cache_write" else ""
        service = "batch" if match["service"] == "batches" else match["service"] or ""
        if kind:
            price = nano(Decimal(usd), 1)
            if price or not kind.startswith("cache"):  # it writes 0 where a cache has no price of its own
                lists.setdefault((int(match["above"] or 0) * 1000, service), {})[kind] = price
    base = lists.pop((0, ""), {})
    steps = said.get("tiered_pricing") or ()
    if steps:
        base = _step(steps[0])
        lists = {(int(step["range"][0]), ""): _step(step) for step in steps[1:]}
    if said.get("mode") == "rerank" and (search := said.get("input_cost_per_query")):
        return PriceList({"search": nano(Decimal(search), 1_000_000)})
    if any(field in said for field in _FEES) or not any(base.values()) or max(base.values()) > _ABSURD:
        return PriceList({})
    for listed in (said, *steps):
        thinking = listed.get("output_cost_per_reasoning_token")
        if thinking is not None and thinking != listed.get("output_cost_per_token"):
            return PriceList({})
    prices = PriceList(base)
    for (above, service), listed in lists.items():
        if "input" in listed and "output" in listed:
            prices.tiers.append(tier(listed, above, service))
    for medium, pattern in _MEDIA_PRICES.items():
        for field, usd in said.items():
            side = "output" if field.startswith("output") else "cache_read" if field.startswith("cache") else "input"
            if "cost" in field and re.search(pattern, field) and isinstance(usd, int | Decimal) and usd:
                per_token = field.endswith(("_token", "_token_cost"))
                if not per_token or nano(Decimal(usd), 1) != base.get(side):
                    prices.unpriced.append(medium)
    return prices


def _step(step: Mapping[str, Any]) -> Prices:
    return {ours: nano(Decimal(step[theirs]), 1) for theirs, ours in _KINDS.items() if theirs in step}
