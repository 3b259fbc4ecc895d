"""What a request needs, what a model is known to offer, and what it should cost there.

What nobody knows of a model is taken for granted: providers have the last word, and lists lag behind.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from parley import v1
from parley_server.core import usage as counting
from parley_server.core.service import AnyRequest

USUAL_OUTPUT = 1000
"""Tokens of an answer where the request does not limit it."""
_ESTIMATE_IS_OFF = 0.8  # of what was estimated, what is surely there: estimates are off by a fifth
_MODALITIES = {
    "image": v1.MODALITY_IMAGE,
    "audio": v1.MODALITY_AUDIO,
    "document": v1.MODALITY_DOCUMENT,
}


class Lack(StrEnum):
    """Why a target cannot take a request."""

    CAPABILITY = "capability"
    WINDOW = "window"
    COST = "cost"


@dataclass(frozen=True, slots=True)
class Missing:
    """One thing that a target lacks, as the end of the sentence "the model …"."""

    lack: Lack
    what: str


@dataclass(frozen=True, slots=True)
class Needs:
    """What a request asks of a model."""

    tools: bool = False
    json_schema: bool = False
    reasoning: bool = False
    media: frozenset[v1.Modality.ValueType] = frozenset()
    input_tokens: int = 0
    """Estimated."""
    max_output_tokens: int | None = None

    def with_options(
        self, sampling: v1.SamplingOptions | None, reasoning: v1.ReasoningOptions | None, *, replaces: bool
    ) -> Needs:
        """The same, where a target has options of its own."""
        needs = self
        if sampling is not None and (replaces or sampling.HasField("max_output_tokens")):
            needs = replace(needs, max_output_tokens=_max_output(sampling))
        if reasoning is not None:
            needs = replace(needs, reasoning=_thinks(reasoning))
        return needs


def needs_of(request: AnyRequest) -> Needs:
    """What `request` asks of whoever answers it."""
    tokens = counting.estimated_input(request)
    if not isinstance(request, v1.ChatRequest):
        return Needs(input_tokens=tokens)
    return Needs(
        tools=any(tool.HasField("function") for tool in request.tools),
        json_schema=request.output.HasField("json_schema"),
        reasoning=_thinks(request.reasoning),
        media=_media(request.messages),
        input_tokens=tokens,
        max_output_tokens=_max_output(request.sampling),
    )


def missing(needs: Needs, card: v1.Model | None) -> list[Missing]:
    """What the model of `card` is known to lack for `needs`."""
    if card is None:
        return []
    return [*_capabilities(needs, card), *_limits(needs, card.limits)]


def _capabilities(needs: Needs, card: v1.Model) -> Iterable[Missing]:
    known = card.capabilities
    if known:
        for wanted, name in (
            (needs.tools, "tools"),
            (needs.json_schema, "json-schema"),
            (needs.reasoning, "reasoning"),
        ):
            if wanted and name not in known:
                yield Missing(Lack.CAPABILITY, f"does not do {name}")
    if card.input_modalities:
        for modality in sorted(needs.media.difference(card.input_modalities)):
            name = v1.Modality.Name(modality).removeprefix("MODALITY_").lower()
            yield Missing(Lack.CAPABILITY, f"takes no {name} input")


def _limits(needs: Needs, limits: v1.ModelLimits) -> Iterable[Missing]:
    wanted = needs.max_output_tokens or 0
    if limits.max_output_tokens and wanted > limits.max_output_tokens:
        yield Missing(Lack.CAPABILITY, f"gives at most {limits.max_output_tokens} tokens, {wanted} are asked for")
    surely = int(needs.input_tokens * _ESTIMATE_IS_OFF)
    if limits.max_input_tokens and surely > limits.max_input_tokens:
        yield Missing(
            Lack.WINDOW, f"takes at most {limits.max_input_tokens} tokens, the prompt has about {needs.input_tokens}"
        )
    elif limits.context_tokens and surely + wanted > limits.context_tokens:
        asked = f" and {wanted} for the answer" if wanted else ""
        yield Missing(
            Lack.WINDOW,
            f"has a window of {limits.context_tokens} tokens, the prompt has about {needs.input_tokens}{asked}",
        )


def window(card: v1.Model | None) -> int | None:
    """Tokens that a prompt may have, if known."""
    if card is None:
        return None
    return card.limits.max_input_tokens or card.limits.context_tokens or None


def expected_cost(needs: Needs, request: AnyRequest, card: v1.Model | None) -> int | None:
    """What `request` should cost, in billionths of a US dollar; None if a price is not known.

    The estimated prompt, and as much output as the request allows, or else a usual answer. Caches are not reckoned
    with.
    """
    if card is None or not card.HasField("pricing"):
        return None
    pricing = card.pricing
    media = {v1.Modality.Name(kind).removeprefix("MODALITY_").lower() for kind in pricing.unpriced_modalities}
    if media and counting.has_media(request, media):
        return None
    usage = v1.Usage(input_tokens=needs.input_tokens)
    match request:
        case v1.ChatRequest():
            most = card.limits.max_output_tokens or USUAL_OUTPUT
            limit = needs.max_output_tokens
            usage.output_tokens = min(USUAL_OUTPUT, most) if limit is None else limit
        case v1.RerankRequest():
            usage.server_tool_calls["search"] = 1
    bill = counting.cost(pricing, usage, request.routing.service_tier)
    return None if bill is None else bill.total_nano_usd


def _thinks(reasoning: v1.ReasoningOptions) -> bool:
    return reasoning.effort not in (v1.REASONING_EFFORT_UNSPECIFIED, v1.REASONING_EFFORT_NONE) or bool(
        reasoning.budget_tokens
    )


def _max_output(sampling: v1.SamplingOptions) -> int | None:
    return sampling.max_output_tokens if sampling.HasField("max_output_tokens") else None


def _media(messages: Iterable[v1.Message]) -> frozenset[v1.Modality.ValueType]:
    """What the parts hold besides text, in tool results too."""
    found: set[v1.Modality.ValueType] = set()
    for message in messages:
        for part in message.parts:
            kind = part.WhichOneof("kind")
            if kind == "text":  # by far the most common one
                continue
            for one in part.tool_result.parts if kind == "tool_result" else (part,):
                modality = _MODALITIES.get(one.WhichOneof("kind") or "")
                # Text that was attached is put into the prompt where a model takes no documents.
                if modality and not one.document.source.mime_type.startswith("text/"):
                    found.add(modality)
    return frozenset(found)
