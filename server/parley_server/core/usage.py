"""What an answer used and what that costs, in whole numbers.

Costs are billionths of a US dollar, prices billionths of a dollar for a million tokens. Each class of tokens is
multiplied exactly and rounded on its own, half up; the total is the sum of the rounded classes. So the parts of a bill
always add up, and a class is off by at most half a billionth of a dollar.
"""

from __future__ import annotations

from collections.abc import Iterable

from parley import v1

_PRICE_UNIT = 1_000_000  # tokens that a price is for
_CHARS_PER_TOKEN = 4


def cost(pricing: v1.ModelPricing, usage: v1.Usage) -> v1.Cost | None:
    """What `usage` costs by `pricing`; None if a price that is needed is unknown, or the input was not counted.

    Four disjoint classes: input that touched no cache, cache reads, cache writes, output. Where a cache price is unset,
    such tokens cost what input costs, as they do at providers that bill the cache no differently. Output that was not
    counted is taken as none: embeddings have no output.
    """
    if not usage.HasField("input_tokens"):
        return None
    read, written = usage.cache_read_input_tokens, usage.cache_write_input_tokens
    plain = max(0, usage.input_tokens - read - written)
    if usage.output_tokens and not pricing.HasField("output_nano_usd"):
        return None
    if usage.input_tokens and not pricing.HasField("input_nano_usd"):
        return None
    read_price = pricing.cache_read_nano_usd if pricing.HasField("cache_read_nano_usd") else pricing.input_nano_usd
    write_price = pricing.cache_write_nano_usd if pricing.HasField("cache_write_nano_usd") else pricing.input_nano_usd
    bill = v1.Cost(
        input_nano_usd=_billed(plain, pricing.input_nano_usd),
        cache_read_nano_usd=_billed(read, read_price),
        cache_write_nano_usd=_billed(written, write_price),
        output_nano_usd=_billed(usage.output_tokens, pricing.output_nano_usd),
        price_version=pricing.price_version,
    )
    bill.total_nano_usd = (
        bill.input_nano_usd + bill.cache_read_nano_usd + bill.cache_write_nano_usd + bill.output_nano_usd
    )
    return bill


def _billed(tokens: int, price: int) -> int:
    return (tokens * price + _PRICE_UNIT // 2) // _PRICE_UNIT


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
    chars = sum(parts_length(message.parts) for message in request.messages)
    for tool in request.tools:
        f = tool.function
        chars += len(f.name) + len(f.description) + len(f.parameters_json_schema) + len(tool.provider_tool.json)
    return estimated_tokens(chars + len(request.output.json_schema.json_schema))


def parts_length(parts: Iterable[v1.Part]) -> int:
    """Characters in the text, reasoning, arguments and tool results of `parts`."""
    chars = 0
    for part in parts:
        match part.WhichOneof("kind"):
            case "text":
                chars += len(part.text)
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
