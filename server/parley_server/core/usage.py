"""What an answer used and what that costs, in whole numbers.

Costs are billionths of a US dollar, prices billionths of a dollar for a million tokens. Each class of tokens is
multiplied exactly and rounded on its own, half up; the total is the sum of the rounded classes. So the parts of a bill
always add up, and a class is off by at most half a billionth of a dollar. A price list for long prompts or for a
service tier applies to all tokens of a request.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Literal

from parley import v1

_PRICE_UNIT = 1_000_000  # tokens that a price is for
_CHARS_PER_TOKEN = 4
_Price = Literal[
    "input_nano_usd", "output_nano_usd", "cache_read_nano_usd", "cache_write_nano_usd", "cache_write_1h_nano_usd"
]
_SEARCH = "search"  # what rerankers count, among `server_tool_calls`


def cost(pricing: v1.ModelPricing, usage: v1.Usage, service_tier: str = "") -> v1.Cost | None:
    """What `usage` costs by `pricing`; None if a price that is needed is unknown, or the input was not counted.

    Four disjoint classes: input that touched no cache, cache reads, cache writes, output. Where a cache price is unset,
    such tokens cost what input costs, as they do at providers that bill the cache no differently. Output that was not
    counted is taken as none: embeddings have no output. `service_tier`: empty for the standard one. Media with prices
    of their own (`pricing.unpriced_modalities`) are the caller's to look for: usage does not tell them apart. Where
    searches are billed, tokens are not.
    """
    if pricing.HasField("search_nano_usd"):
        fee = usage.server_tool_calls.get(_SEARCH, 0) * pricing.search_nano_usd
        known = _SEARCH in usage.server_tool_calls
        return v1.Cost(other_nano_usd=fee, total_nano_usd=fee, price_version=pricing.price_version) if known else None
    if not usage.HasField("input_tokens"):
        return None
    prices = _price_list(pricing, usage.input_tokens, service_tier)
    if prices is None:
        return None
    read, written = usage.cache_read_input_tokens, usage.cache_write_input_tokens
    for_an_hour = min(written, usage.cache_write_1h_input_tokens)
    plain = max(0, usage.input_tokens - read - written)
    needed: tuple[tuple[int, _Price], ...] = (
        (usage.output_tokens, "output_nano_usd"),
        (usage.input_tokens, "input_nano_usd"),
        (read, "cache_read_nano_usd"),
        (written - for_an_hour, "cache_write_nano_usd"),
        (for_an_hour, "cache_write_1h_nano_usd"),
    )
    if any(tokens and not _is_known(prices, pricing, price) for tokens, price in needed):
        return None
    read_price = prices.cache_read_nano_usd if prices.HasField("cache_read_nano_usd") else prices.input_nano_usd
    write_price = prices.cache_write_nano_usd if prices.HasField("cache_write_nano_usd") else prices.input_nano_usd
    hour_price = prices.cache_write_1h_nano_usd if prices.HasField("cache_write_1h_nano_usd") else write_price
    bill = v1.Cost(
        input_nano_usd=_billed(plain * prices.input_nano_usd),
        cache_read_nano_usd=_billed(read * read_price),
        cache_write_nano_usd=_billed((written - for_an_hour) * write_price + for_an_hour * hour_price),
        output_nano_usd=_billed(usage.output_tokens * prices.output_nano_usd),
        price_version=pricing.price_version,
    )
    bill.total_nano_usd = (
        bill.input_nano_usd + bill.cache_read_nano_usd + bill.cache_write_nano_usd + bill.output_nano_usd
    )
    return bill


def _price_list(
    pricing: v1.ModelPricing, input_tokens: int, service_tier: str
) -> v1.ModelPricing | v1.PriceTier | None:
    """The list that applies: that of the longest prompt size below `input_tokens`, at the service tier.

    None for a service tier without a list, or without one for a prompt size at which the standard price changes.
    """
    found: v1.ModelPricing | v1.PriceTier | None = pricing if not service_tier else None
    size, standard_size = 0, 0
    for tier in pricing.tiers:
        above = tier.above_input_tokens
        if above and input_tokens <= above:
            continue
        if not tier.service_tier:
            standard_size = max(standard_size, above)
        if tier.service_tier == service_tier and above >= size:
            found, size = tier, above
    return found if size >= standard_size else None


def _is_known(prices: v1.ModelPricing | v1.PriceTier, standard: v1.ModelPricing, name: _Price) -> bool:
    """Whether tokens of a class have a price. That of the cache is input's, unless the standard list has its own."""
    return prices.HasField(name) or (name.startswith("cache") and (prices is standard or not standard.HasField(name)))


def _billed(tokens_by_price: int) -> int:
    return (tokens_by_price + _PRICE_UNIT // 2) // _PRICE_UNIT


def has_media(request: v1.ChatRequest | v1.EmbedRequest | v1.RerankRequest, kinds: Collection[str]) -> bool:
    """Whether a request holds parts of these kinds ("image", "audio", …), in tool results too."""
    if not isinstance(request, v1.ChatRequest):
        return False
    return any(_hold(message.parts, kinds) for message in request.messages)


def _hold(parts: Iterable[v1.Part], kinds: Collection[str]) -> bool:
    for part in parts:
        kind = part.WhichOneof("kind")
        if kind in kinds or (kind == "tool_result" and _hold(part.tool_result.parts, kinds)):
            return True
    return False


def is_counted(usage: v1.Usage) -> bool:
    """Whether the provider has counted anything."""
    return usage.HasField("input_tokens") or usage.HasField("output_tokens")


def unfinished(
    reported: v1.Usage | None, request: v1.ChatRequest | v1.EmbedRequest | v1.RerankRequest, chars: int
) -> v1.Usage:
    """Usage of an answer without final numbers.

    `reported`: the last that the provider said, if anything. `chars`: characters that arrived since. PARTIAL if nothing
    arrived since; otherwise the rest is estimated, and the whole then says ESTIMATED.
    """
    usage = v1.Usage()
    if reported is not None and is_counted(reported):
        usage.CopyFrom(reported)
        usage.source = v1.Usage.SOURCE_PARTIAL
    else:
        usage.source = v1.Usage.SOURCE_ESTIMATED
        usage.input_tokens = estimated_input(request)
        usage.output_tokens = 0
    if chars:
        usage.source = v1.Usage.SOURCE_ESTIMATED
        usage.output_tokens += estimated_tokens(chars)
        usage.ClearField("total_tokens")
    return usage


_COUNTS = tuple(field.name for field in v1.Usage.DESCRIPTOR.fields if field.name.endswith("_tokens"))


def total(usages: Iterable[v1.Usage]) -> v1.Usage:
    """What several attempts used together. ESTIMATED as soon as one is no final count of its provider.

    The cost is unset if that of any is; a count is set if any has it.
    """
    together = v1.Usage()
    exact = all_priced = True
    for usage in usages:
        exact = exact and usage.source == v1.Usage.SOURCE_PROVIDER
        all_priced = all_priced and usage.HasField("cost")
        for name in _COUNTS:
            if usage.HasField(name):  # type: ignore[arg-type]
                setattr(together, name, getattr(together, name) + getattr(usage, name))
        if is_counted(usage) and not usage.HasField("total_tokens"):
            together.total_tokens += usage.input_tokens + usage.output_tokens
        for tool, calls in usage.server_tool_calls.items():
            together.server_tool_calls[tool] += calls
        for field, amount in usage.cost.ListFields():
            if field.name == "price_version":
                together.cost.price_version = amount
            else:
                setattr(together.cost, field.name, getattr(together.cost, field.name) + amount)
    together.source = v1.Usage.SOURCE_PROVIDER if exact else v1.Usage.SOURCE_ESTIMATED
    if all_priced:
        together.cost.SetInParent()
    else:
        together.ClearField("cost")
    return together


def from_cache(usage: v1.Usage) -> v1.Usage:
    """What an answer used that was made for another call: the same counts, and nothing billed."""
    cached = v1.Usage()
    cached.CopyFrom(usage)
    cached.source = v1.Usage.SOURCE_CACHE
    if usage.HasField("cost"):
        cached.cost.Clear()
        cached.cost.price_version = usage.cost.price_version
        cached.cost.SetInParent()
    return cached


def estimated_tokens(chars: int) -> int:
    """Tokens in so many characters, roughly: one for four characters, rounded up.

    English prose comes out within a fifth; code and most other scripts have more tokens than this says.
    """
    return -(-chars // _CHARS_PER_TOKEN)


def estimated_input(request: v1.ChatRequest | v1.EmbedRequest | v1.RerankRequest) -> int:
    """Tokens in a request, roughly: texts, tools, schemas by the rule above, token IDs as such, media not at all."""
    if isinstance(request, v1.EmbedRequest):
        return sum(len(i.tokens.ids) if i.HasField("tokens") else estimated_tokens(len(i.text)) for i in request.inputs)
    if isinstance(request, v1.RerankRequest):
        return sum(estimated_tokens(len(request.query) + len(document)) for document in request.documents)
    chars = len(request.output.json_schema.json_schema)
    for message in request.messages:
        chars += parts_length(message.parts)
    for tool in request.tools:
        f = tool.function
        chars += len(f.name) + len(f.description) + len(f.parameters_json_schema) + len(tool.provider_tool.json)
    return estimated_tokens(chars)


def expected_output(request: v1.ChatRequest | v1.EmbedRequest | v1.RerankRequest, usual: int) -> int:
    """Tokens of output that a request may bring: as many as it wants at most, `usual` where it does not say."""
    if not isinstance(request, v1.ChatRequest):
        return 0
    return request.sampling.max_output_tokens if request.sampling.HasField("max_output_tokens") else usual


def parts_length(parts: Iterable[v1.Part]) -> int:
    """Characters in the text, reasoning, arguments and tool results of `parts`."""
    chars = 0
    for part in parts:
        text = part.text
        if text:  # by far the most common kind
            chars += len(text)
            continue
        match part.WhichOneof("kind"):
            case "reasoning":
                chars += len(part.reasoning.text)
            case "refusal":
                chars += len(part.refusal.text)
            case "tool_call":
                chars += len(part.tool_call.name) + len(part.tool_call.arguments_json)
            case "tool_result":
                chars += parts_length(part.tool_result.parts)
            case "document" if part.document.source.mime_type.startswith("text/"):
                chars += len(part.document.source.data)
            case "provider_part":
                chars += len(part.provider_part.json)
    return chars
