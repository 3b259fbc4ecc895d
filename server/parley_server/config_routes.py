"""The `routes` section: several targets under one name. What it says becomes values of `core/routes.py`.

Of a target's overrides the messages of `parley.v1` are the vocabulary: `sampling` and `reasoning` take their fields, an
enum value by its short name in lower case (`effort: low`).
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal, TypeVar

import orjson
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message
from pydantic import AfterValidator, BeforeValidator, Field

from parley import v1
from parley_server.api import validate
from parley_server.config_cache import CachePolicySettings
from parley_server.core.errors import Violation
from parley_server.core.routes import Overrides
from parley_server.core.strategies import Strategy
from parley_server.settings import Name, Percent, Seconds, Section

_MOST_TARGETS = 32
_MOST_LEAVES = 64
_BYTES = 64 * 1024

StrategyName = Literal["ordered", "weighted", "latency", "cost", "least_busy", "usage", "affinity"]
FallbackOn = Literal["content_blocked", "invalid_request"]
AMessage = TypeVar("AMessage", bound=Message)


def _parsed(value: object, kind: type[AMessage]) -> AMessage:
    """The message that `value` spells out; fields as in the proto, enums by their short names."""
    if isinstance(value, kind):
        return value
    if not isinstance(value, dict):
        raise ValueError("should be a mapping of settings")
    message = kind()
    named = {field.name: field for field in message.DESCRIPTOR.fields}
    spelt: dict[str, object] = {}
    for name, given in value.items():
        field = named.get(str(name))
        if field is None:
            near = difflib.get_close_matches(str(name), named, n=1, cutoff=0.5)
            raise ValueError(f"unknown key {name}" + (f"; did you mean {near[0]}?" if near else ""))
        spelt[field.name] = given
        if field.enum_type is not None and isinstance(given, str):
            names = {
                v.name.removeprefix(_prefix(field.enum_type.values[0].name)).lower(): v.name
                for v in field.enum_type.values
            }
            if given not in names:
                raise ValueError(f"{name}: {given!r} is none of {', '.join([*names][1:])}")
            spelt[field.name] = names[given]
    try:
        ParseDict(spelt, message)
    except ParseError as error:
        raise ValueError(str(error)) from None
    return message


def _prefix(unspecified: str) -> str:
    return unspecified.removesuffix("UNSPECIFIED")


def _sampling(value: object) -> v1.SamplingOptions:
    options = _parsed(value, v1.SamplingOptions)
    _within_limits(validate.sampling(options))
    return options


def _reasoning(value: object) -> v1.ReasoningOptions:
    options = _parsed(value, v1.ReasoningOptions)
    _within_limits(validate.reasoning(options))
    return options


def _within_limits(found: list[Violation]) -> None:
    if found:
        raise ValueError("; ".join(f"{one.field} {one.description}" for one in found))


def _some(targets: tuple[RouteTarget, ...]) -> tuple[RouteTarget, ...]:
    if not 1 <= len(targets) <= _MOST_TARGETS:
        raise ValueError(f"a route has 1 to {_MOST_TARGETS} targets, not {len(targets)}")
    return targets


def _json_object(options: dict[str, Any]) -> dict[str, Any]:
    try:
        size = len(orjson.dumps(options))
    except (TypeError, orjson.JSONEncodeError):
        raise ValueError("has values that JSON does not know, such as dates; write them in quotes") from None
    if size > _BYTES:
        raise ValueError("is larger than 64 KiB")
    return options


class OverrideSettings(Section):
    """What takes the place of the caller's options where this target is asked, one by one."""

    sampling: Annotated[v1.SamplingOptions | None, BeforeValidator(_sampling)] = Field(
        None, description="Fields of SamplingOptions, such as `temperature` and `max_output_tokens`."
    )
    reasoning: Annotated[v1.ReasoningOptions | None, BeforeValidator(_reasoning)] = Field(
        None, description="Fields of ReasoningOptions, such as `effort: low`."
    )
    provider_options: Annotated[dict[str, Any], AfterValidator(_json_object)] = Field(
        {}, description="Fields of the provider's own request, put over those that the caller gives."
    )

    def value(self) -> Overrides | None:
        """As the router applies them; None if there are none."""
        if self.sampling is None and self.reasoning is None and not self.provider_options:
            return None
        return Overrides(self.sampling, self.reasoning, self.provider_options)


class RouteTarget(Section):
    """One target of a route."""

    model: str = Field(description="provider/model, or the name of another route.", min_length=1, max_length=256)
    weight: int = Field(1, ge=0, le=1000, description="Share, relative to the others; 0: only after them.")
    overrides: OverrideSettings = Field(OverrideSettings(), description="What is different about requests to it.")


class RouteHedging(Section):
    """How targets of one route are raced, where that differs from `hedging`."""

    enabled: bool = Field(True, description="Ask the next target as well where the first is slow to begin.")
    delay: Seconds | None = Field(None, description="Seconds to the first content of a stream before that happens.")
    whole_delay: Seconds | None = Field(None, description="Seconds to a whole answer before that happens.")
    percentile: Percent | None = Field(None, description="Instead: as long as it takes so many of a hundred answers.")
    budget_share: float | None = Field(None, ge=0, le=1, description="Second targets for each call of the route.")
    budget: float | None = Field(
        None,
        ge=0,
        le=10_000,
        description="Second targets of the route at any time; without a budget it shares that of all.",
    )


class RouteSettings(Section):
    """Several targets under one name that callers use as a model."""

    targets: Annotated[tuple[RouteTarget, ...], AfterValidator(_some)] = Field(description="Who may answer.")
    strategy: StrategyName = Field("ordered", description="In which order they are asked.")
    fallback_on: tuple[FallbackOn, ...] = Field(
        (), description="Failures after which the next target is asked, besides those after which it always is."
    )
    hedging: RouteHedging | None = Field(None, description="Whether its targets are raced, and what is different then.")
    cache: CachePolicySettings = Field(CachePolicySettings(), description="What differs from `cache` for its answers.")
    display_name: str = Field("", max_length=128, description="Human-readable name in the list of models.")

    def order(self) -> Strategy:
        """The strategy as it is in requests."""
        return v1.RoutingOptions.Strategy.Value(f"STRATEGY_{self.strategy.upper()}")


Routes = dict[Name, RouteSettings]


def problems(routes: Mapping[str, RouteSettings], providers: Collection[str]) -> list[str]:
    """What is wrong with routes taken together: targets that nobody has, and circles."""
    found: list[str] = []
    known = [*routes, *providers]
    for name, route in routes.items():
        for index, target in enumerate(route.targets):
            provider, slash, model = target.model.partition("/")
            if target.model in routes or (provider in providers and model):
                continue
            near = difflib.get_close_matches(provider, known, n=1, cutoff=0.6)
            hint = f"; did you mean {near[0]}{slash}{model}?" if near and near[0] != provider else ""
            what = (
                f"no provider {provider} is configured" if slash and model else "is neither provider/model nor a route"
            )
            found.append(f"routes.{name}.targets.{index}.model: {what}{hint}")
    for name in routes:
        circle = _circle(name, routes, (name,), set())
        if circle is not None and name == min(circle):  # told once, not from each of its routes
            found.append(f"routes.{name}: leads back to itself: {' -> '.join(circle)}")
    if not found:
        for name in routes:
            count = _leaves(name, routes, {})
            if count > _MOST_LEAVES:
                found.append(f"routes.{name}: stands for {count} targets in all; at most {_MOST_LEAVES} are allowed")
    return found


def _circle(
    at: str, routes: Mapping[str, RouteSettings], path: tuple[str, ...], seen: set[str]
) -> tuple[str, ...] | None:
    """A way that leads from `at` back to the first route of `path`. `seen`: routes from which there is none."""
    for target in routes[at].targets:
        if target.model == path[0]:
            return (*path, target.model)
        if target.model in routes and target.model not in seen:
            seen.add(target.model)
            found = _circle(target.model, routes, (*path, target.model), seen)
            if found is not None:
                return found
    return None


def _leaves(name: str, routes: Mapping[str, RouteSettings], counted: dict[str, int]) -> int:
    if name not in counted:
        counted[name] = sum(
            _leaves(target.model, routes, counted) if target.model in routes else 1 for target in routes[name].targets
        )
    return counted[name]
