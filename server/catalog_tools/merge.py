"""Makes one row of a model out of what the sources say. Decision 0012 has the rules in words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Any

from catalog_tools.genai import Offer
from catalog_tools.litellm_map import Entry
from catalog_tools.pricelist import SEARCH, PriceList, differing, spelt

AGREE = Decimal("0.01")
"""Prices that differ by no more than this share count as equal."""

Row = dict[str, Any]
Key = tuple[str, str]
"""Provider and the provider's own name of a model."""

ORDER = (
    "provider",
    "model",
    "operations",
    "capabilities",
    "input",
    "output",
    "context_tokens",
    "max_input_tokens",
    "max_output_tokens",
    "embedding_dimensions",
    "max_embed_inputs",
    "price",
    "tiers",
    "unpriced",
    "later",
    "released",
    "deprecated",
    "shutdown",
    "local",
    "unlisted",
    "sources",
    "checked",
)
CAPABILITIES = (
    "tools",
    "parallel-tools",
    "json-schema",
    "reasoning",
    "prompt-cache",
    "citations",
    "logprobs",
    "system-turns",
)
MODALITIES = ("text", "image", "document", "audio", "video")
_OTHER_TRADES = re.compile(
    r"whisper|tts|transcri|realtime|-live|imagen|(^|[/-])veo|lyria|orpheus|moderation|dall-e|gpt-image|chatgpt-image|"
    r"stable-diffusion|flux|banana|-image(-|$)|ocr|guard|translate|sonic|indictrans|voice|omni-.*video|voxtral-.*transcribe",
    re.IGNORECASE,
)
_DATED = re.compile(r"(?<!\d)(20\d\d)-?([01]\d)-?([0-3]\d)(?!\d)")


@dataclass(slots=True)
class Merged:
    """All rows by provider and name, and where the sources disagree."""

    rows: dict[Key, Row] = field(default_factory=dict)
    conflicts: list[str] = field(default_factory=list)


def merged(
    entries: Mapping[Key, Entry], offers: Iterable[Offer], corrections: Mapping[str, Any], today: date
) -> Merged:
    """The catalogue as the sources and our corrections have it; `checked` is not set yet."""
    result = Merged()
    by_provider: dict[str, list[Offer]] = {}
    for offer in offers:
        by_provider.setdefault(offer.provider, []).append(offer)
    for key, entry in entries.items():
        found = _offer(by_provider.get(key[0], ()), key[1])
        preferred = next((p["source"] for p in corrections.get("prefer", ()) if _matches(key, p)), "")
        result.rows[key] = _row(entry, found, preferred, result.conflicts)
    spelt_already = {(provider, name.lower()) for provider, name in result.rows}
    described = {provider for provider, _ in entries}
    for provider, those in by_provider.items():
        for offer in those:
            for name in offer.names:
                if (provider, name.lower()) not in spelt_already and _talks(offer, name):
                    row = result.rows[provider, name] = _bare(offer, name)
                    # genai-prices keeps what is long gone; LiteLLM does not
                    row["unlisted"] = provider in described
    for key in [key for key in result.rows if any(_matches(key, drop) for drop in corrections.get("drop", ()))]:
        del result.rows[key]
    for key, row in result.rows.items():
        for rule in corrections.get("rules", ()):
            if rule.get("provider", key[0]) == key[0] and _applies(rule, row):
                _correct(row, rule)
    for given in corrections.get("models", ()):
        key = (given["provider"], given["model"])
        row = result.rows.setdefault(key, {"sources": []})
        row |= {name: value for name, value in given.items() if name != "unset"}
        for name in given.get("unset", ()):
            row.pop(name, None)
        row["sources"] = [*row["sources"], "corrections"]
    result.rows = {key: _tidy(row, today) for key, row in sorted(result.rows.items())}
    return result


def _offer(offers: Iterable[Offer], name: str) -> Offer | None:
    """What genai-prices has under `name`: literally, rather than by a name that only begins or ends alike."""
    meant = [offer for offer in offers if offer.means(name)]
    return next((offer for offer in meant if offer.names_exactly(name)), meant[0] if meant else None)


def _row(entry: Entry, offer: Offer | None, preferred: str, conflicts: list[str]) -> Row:
    row: Row = {"provider": entry.provider, "model": entry.name, **entry.facts, "sources": ["litellm"]}
    prices = entry.prices
    if offer is not None:
        prices = _prices(entry, offer, preferred, conflicts)
        row["sources"].append("genai-prices")
        if prices is not entry.prices:
            row["later"] = _later(offer)
        if offer.deprecated:
            row["deprecated"] = True
        _set_window(row, offer.context or 0, conflicts)
    row |= prices.row()
    return row


def _later(offer: Offer) -> list[Row]:
    return [{"from": day.isoformat(), **prices.row()} for day, prices in offer.later if prices.row()]


def _set_window(row: Row, window: int, conflicts: list[str]) -> None:
    """LiteLLM gives the largest input. Where genai-prices knows a window that holds the output as well, both stand."""
    largest, output = row.get("context_tokens", 0), row.get("max_output_tokens", 0)
    if not largest:
        row["context_tokens"] = window
    elif row["operations"] == ["chat"] and largest < window <= largest + output + 1:
        row["context_tokens"] = window
        if window - largest > AGREE * window:
            row["max_input_tokens"] = largest
    elif window and abs(window - largest) > AGREE * window:
        conflicts.append(f"{row['provider']}/{row['model']}: context {window}; LiteLLM {largest}; taken: LiteLLM")


def _prices(entry: Entry, offer: Offer, preferred: str, conflicts: list[str]) -> PriceList:
    """genai-prices wins; LiteLLM where the other has no price, or means the model by a vague pattern and differs.

    `preferred`: whom our corrections trust with this model, if anybody.
    """
    ours, theirs = offer.prices, entry.prices
    if SEARCH in theirs.base:
        return theirs
    if "input" not in theirs.base:
        return ours
    if "input" not in ours.base:
        # it has a price that cannot be said in one number: what LiteLLM says in one number is not the whole of it
        return ours if offer.names_exactly(entry.name) else theirs
    name = f"{entry.provider}/{entry.name}"
    if differing(ours.base, theirs.base, AGREE):
        exact = offer.names_exactly(entry.name)
        taken, why = ("genai-prices", "") if exact else ("litellm", ", which names the model")
        if preferred:
            taken, why = preferred, ", by our corrections"
        said = f"{name}: genai-prices {spelt(ours.base)}; litellm {spelt(theirs.base)}"
        conflicts.append(f"{said}; taken: {taken}{why}")
        return ours if taken == "genai-prices" else theirs
    known = {tier.get("service_tier", "") for tier in ours.tiers} | {""}
    for_an_hour = {kind: price for kind, price in theirs.base.items() if kind == "cache_write_1h"}
    further = [tier for tier in theirs.tiers if tier.get("service_tier", "") not in known]
    return PriceList(for_an_hour | ours.base, [*ours.tiers, *further], sorted({*ours.unpriced, *theirs.unpriced}))


def _talks(offer: Offer, name: str) -> bool:
    """Whether a model that only genai-prices knows is one that chats, embeds or ranks, to judge by price and name."""
    kinds = {"input"} if _trade(name) != "chat" else {"input", "output"}
    return kinds <= offer.prices.base.keys() and not _OTHER_TRADES.search(name)


def _trade(name: str) -> str:
    if "rerank" in name.lower():
        return "rerank"
    return "embed" if re.search(r"embed|(^|/)(bge|gte|e5|voyage)-", name, re.IGNORECASE) else "chat"


def _bare(offer: Offer, name: str) -> Row:
    operation = _trade(name)
    row: Row = {"provider": offer.provider, "model": name, "operations": [operation], "input": ["text"]}
    if operation == "chat":
        row["output"] = ["text"]
    if offer.context:
        row["context_tokens"] = offer.context
    if offer.deprecated:
        row["deprecated"] = True
    row["later"] = _later(offer)
    return row | offer.prices.row() | {"sources": ["genai-prices"]}


def _matches(key: Key, pattern: Mapping[str, str]) -> bool:
    return pattern.get("provider", key[0]) == key[0] and re.search(pattern["name"], key[1]) is not None


def _applies(rule: Mapping[str, Any], row: Row) -> bool:
    names = rule.get("names", ["*"])
    return (
        any(fnmatchcase(row["model"], name) for name in names)
        and not any(fnmatchcase(row["model"], name) for name in rule.get("except", ()))
        and rule.get("operation", row["operations"][0]) in row["operations"]
        and set(rule.get("having", ())) <= set(row.get("capabilities", ()))
        and not set(rule.get("lacking", ())) & set(row.get("capabilities", ()))
    )


def _correct(row: Row, rule: Mapping[str, Any]) -> None:
    capabilities = set(row.get("capabilities", ())) | set(rule.get("add", ()))
    row["capabilities"] = [name for name in CAPABILITIES if name in capabilities - set(rule.get("remove", ()))]
    row["input"] = [name for name in MODALITIES if name in {*row["input"], *rule.get("takes", ())}]
    row |= rule.get("set", {})
    for name in rule.get("unset", ()):
        row.pop(name, None)


def _tidy(row: Row, today: date) -> Row:
    """The row in order, without what says nothing, and with the day that its name has in it."""
    row["capabilities"] = [name for name in CAPABILITIES if name in row.get("capabilities", ())]
    if row["operations"] != ["chat"]:
        row.pop("output", None)
        row.pop("capabilities")
        for prices in (row.get("price", {}), *row.get("tiers", ())):  # no such tokens
            prices.pop("output", None)
    for name in ("input", "output"):
        if name in row:
            row[name] = [medium for medium in MODALITIES if medium in row[name]]
    if row.get("max_output_tokens", 0) > row.get("context_tokens", 0):
        row.pop("max_output_tokens")
    if "released" not in row and (match := _DATED.search(row["model"])):
        with suppress(ValueError):  # eight digits that are no day
            day = date(int(match[1]), int(match[2]), int(match[3]))
            if day <= today:
                row["released"] = day.isoformat()
    return {name: row[name] for name in ORDER if name in row and row[name] not in ([], None, False)}
