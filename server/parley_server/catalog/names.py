"""From the name of a model, as its provider has it, to the names under which the catalogue may know it. Pure.

One name can mean a snapshot, a region, a variant, a fine-tune or a deployment of a model that the catalogue has under a
plainer name. What a candidate costs is not always what the name costs: a fine-tune has the limits of its base model and
prices of its own. Such candidates are not `priced`: all but their prices holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple


class Candidate(NamedTuple):
    """A name to look up."""

    provider: str
    """Part of the catalogue."""
    name: str
    priced: bool = True
    """Whether prices under this name hold for the name that was asked for."""


_SNAPSHOT = re.compile(r"(?:[-@]20\d{6}|-20\d\d-\d\d-\d\d|[-@]latest|@default)$")
_NUMBERED = re.compile(r"-00\d$")
_REGION = re.compile(r"^(?:us-gov|us|eu|apac|jp|au|ca|sa|global)\.")
_VERSION = re.compile(r"(?:-v\d+)?(?::\d+)?(?::\w+)?$")
_PUBLISHED = re.compile(r"(?:^|.*/)publishers/(?P<publisher>[^/]+)/models/(?P<name>[^/]+)$")

_VENDORS = {
    "openai": "openai",
    "anthropic": "anthropic",
    "google": "gemini",
    "mistralai": "mistral",
    "x-ai": "xai",
    "xai": "xai",
    "deepseek": "deepseek",
    "cohere": "cohere",
    "moonshotai": "moonshot",
    "z-ai": "zai",
    "zai": "zai",
}
"""Part of the catalogue by a vendor's name at resellers."""


def candidates(provider: str, name: str) -> Iterator[Candidate]:
    """What `name` may be called in the catalogue, likeliest first, each once; the name itself comes first.

    Nothing for an empty name. `provider` is a part of the catalogue (`Provider.catalog`), not a provider's short name.
    """
    seen: set[tuple[str, str]] = set()
    for candidate in _guesses(provider, name) if name else ():
        for one in (candidate, candidate._replace(name=_SNAPSHOT.sub("", candidate.name))):
            at = (one.provider, one.name)
            if one.name and at not in seen:
                seen.add(at)
                yield one


def _guesses(provider: str, name: str) -> Iterator[Candidate]:
    yield Candidate(provider, name)
    match provider:
        case "ollama":  # the tag says size and quantisation
            yield Candidate(provider, name.partition(":")[0])
        case "bedrock":
            yield from _bedrock(name)
        case "vertex" | "gemini":
            yield from _google(provider, name)
        case "openrouter" | "vercel" | "replicate":
            yield from _reseller(provider, name)
        case "fireworks":
            bare = name.partition("#")[0]  # behind it a deployment, billed by the hour
            yield Candidate(provider, bare, priced=bare == name)
            yield Candidate(provider, bare.rpartition("/")[2], priced=bare == name)
            yield Candidate(provider, f"accounts/fireworks/models/{bare}", priced=bare == name)
        case "databricks":
            bare = name.removeprefix("system.ai.").removeprefix("databricks-")
            yield Candidate(provider, f"databricks-{bare}")
            yield Candidate(provider, f"system.ai.{bare}")
        case "huggingface":  # which backend answers, the router decides
            yield Candidate(provider, name.partition(":")[0], priced=False)
        case "azure" if not name.startswith("ft:"):
            base = re.sub(r"\.ft-.*$", "", name)
            yield from _spelt_by_azure(base, priced=base == name)
    if name.startswith("ft:"):  # ft:model:organisation:suffix:id
        base = name.split(":")[1]
        yield Candidate(provider, f"ft:{base}")
        yield Candidate(provider, base, priced=False)


def _bedrock(name: str) -> Iterator[Candidate]:
    """ARNs, inference profiles, versions. Prices of a region are its own."""
    bare = name.rpartition("/")[2] if name.startswith("arn:") else name
    yield Candidate("bedrock", bare)
    yield from _versions(bare, priced=True)
    anywhere = _REGION.sub("", bare)
    if anywhere != bare:
        yield Candidate("bedrock", anywhere, priced=False)
        yield from _versions(anywhere, priced=False)


def _versions(name: str, *, priced: bool) -> Iterator[Candidate]:
    plain = _VERSION.sub("", name)
    if plain == name:  # short for the first version
        for version in ("-v1:0", "-v1", ":0"):
            yield Candidate("bedrock", f"{name}{version}", priced)
    else:
        yield Candidate("bedrock", plain, priced)


def _google(provider: str, name: str) -> Iterator[Candidate]:
    """Resource names, numbered versions; Vertex and the Gemini API know each other's models."""
    bare = name.removeprefix("models/").removeprefix("google/")
    if published := _PUBLISHED.match(name):
        bare = published["name"]
        yield Candidate(provider, f"{published['publisher']}/{bare}")
    yield Candidate(provider, bare)
    yield Candidate(provider, _NUMBERED.sub("", bare))
    yield Candidate("gemini" if provider == "vertex" else "vertex", _NUMBERED.sub("", bare), priced=False)


def _reseller(provider: str, name: str) -> Iterator[Candidate]:
    """Variants (`:free`) and versions (`:1a2b`) behind a colon; then what the vendor itself says, at its own prices."""
    bare = name.partition(":")[0]
    yield Candidate(provider, bare, priced=bare == name or provider == "replicate")
    vendor, _, model = bare.partition("/")
    if own := _VENDORS.get(vendor):
        yield Candidate(own, model, priced=False)
        if own == "anthropic":
            yield Candidate(own, model.replace(".", "-"), priced=False)


def _spelt_by_azure(name: str, *, priced: bool) -> Iterator[Candidate]:
    yield Candidate("azure", name, priced)
    yield Candidate("azure", name.replace("gpt-35", "gpt-3.5"), priced)
    yield Candidate("azure", name.replace("gpt-3.5", "gpt-35"), priced)
    vendor = "anthropic" if name.startswith("claude") else "openai"
    yield Candidate(vendor, name.replace("gpt-35", "gpt-3.5"), priced=False)
