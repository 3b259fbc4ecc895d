"""Who is asked, in which order, and whose error is told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from parley import v1
from parley_server.core.context import Context, Operation
from parley_server.core.errors import (
    CircuitOpen,
    ContextLengthExceeded,
    CredentialsRejected,
    GatewayError,
    InvalidRequest,
    ModelNotFound,
    OperationUnsupported,
    Overloaded,
    PromptBlocked,
    RateLimited,
)
from parley_server.core.reply import Reply
from parley_server.core.routes import Candidate
from parley_server.core.service import Service
from parley_server.core.target import Target
from parley_server.pipeline.retry import Retry, RetryPolicy
from parley_server.pipeline.router import Router
from tests.fakes import Attempts, answering, chat, context

BUSY = Overloaded("busy")


class House:
    """Targets by name; each has its own layers for retries, as in the real stack."""

    def __init__(self, **services: Attempts | GatewayError) -> None:
        self.services = {name.replace("_", "/"): service for name, service in services.items()}

    def resolve(self, model: str, operation: Operation) -> Candidate:
        service = self.services.get(model, ModelNotFound(f"no model {model}"))
        if isinstance(service, GatewayError):
            raise service
        provider, _, name = model.partition("/")
        retry = Retry(RetryPolicy(attempts=3, base=0), asyncio.sleep, lambda: 0.0)
        return Candidate(Target(provider, name), retry(service))

    def made(self) -> dict[str, int]:
        return {name: service.made for name, service in self.services.items() if isinstance(service, Attempts)}


def ok() -> Attempts:
    return Attempts(answering("hi"))


def failing(error: Exception = BUSY) -> Attempts:
    return Attempts(error)


def asking(*fallbacks: str, **routing: Any) -> v1.ChatRequest:
    request = chat("a/1")
    request.routing.MergeFrom(v1.RoutingOptions(**routing))
    for model in fallbacks:
        request.routing.fallbacks.add(model=model)
    return request


async def test_requested_model_answers() -> None:
    house = House(a_1=ok(), b_1=ok())
    await Router(house.resolve, 4)(chat("a/1"), context())
    assert house.made() == {"a/1": 1, "b/1": 0}


@pytest.mark.parametrize(
    ("house", "request_", "made"),
    [
        (House(a_1=failing(), b_1=ok()), asking("b/1"), [3, 1]),
        (House(a_1=failing(CredentialsRejected("x")), b_1=ok()), asking("b/1"), [1, 1]),
        (House(a_1=failing(ContextLengthExceeded("x")), b_1=ok()), asking("b/1"), [1, 1]),
        (House(a_1=failing(), b_1=failing(), c_1=ok()), asking("b/1", "c/1"), [2, 1, 1]),
        (House(a_1=failing(), b_1=ok()), asking("b/1", max_attempts=2), [1, 1]),
        (House(a_1=failing(), b_1=failing(), c_1=ok()), asking("b/1", "c/1", max_attempts=6), [3, 2, 1]),
        (House(a_1=ModelNotFound("x"), b_1=ok()), asking("b/1"), [1]),
        (House(a_1=failing(), b_1=ok()), asking("nobody/1", "b/1"), [3, 1]),
        (House(a_1=failing(), b_1=ok()), asking("b/1", denied_providers=["a"]), [0, 1]),
        (House(a_1=failing(), b_1=ok()), asking("b/1", allowed_providers=["b"]), [0, 1]),
    ],
    ids=[
        "after_all_retries",
        "at_once_where_retries_do_not_help",
        "larger_window",
        "an_attempt_is_kept_for_each_fallback",
        "one_attempt_each",
        "retries_of_fallbacks_too",
        "requested_model_unknown",
        "unknown_fallback_is_passed_over",
        "requested_provider_denied",
        "only_the_fallback_allowed",
    ],
)
async def test_fallbacks(house: House, request_: v1.ChatRequest, made: list[int]) -> None:
    reply = await Router(house.resolve, 4)(request_, context())
    assert (await reply.response()).message.parts[0].text == "hi"
    assert list(house.made().values()) == made


@pytest.mark.parametrize(
    ("house", "request_", "error", "made"),
    [
        (House(a_1=failing()), asking(), "busy", [3]),
        (House(a_1=failing(), b_1=ok()), asking("b/1", max_attempts=1), "busy", [1, 0]),
        (House(a_1=failing(PromptBlocked("no")), b_1=ok()), asking("b/1"), "no", [1, 0]),
        (House(a_1=failing(InvalidRequest("bad")), b_1=ok()), asking("b/1"), "bad", [1, 0]),
        (House(a_1=failing(), b_1=failing(RateLimited("slow"))), asking("b/1", max_attempts=2), "slow", [1, 1]),
        (House(a_1=failing(), b_1=failing(ModelNotFound("gone"))), asking("b/1", max_attempts=2), "busy", [1, 1]),
        (House(a_1=failing()), asking("nobody/1"), "busy", [3]),
        (House(b_1=ok()), asking(), "no model a/1", [0]),
        (House(), asking("nobody/1"), "no model a/1", []),
        (House(a_1=OperationUnsupported("no embed"), b_1=ok()), asking("b/1"), "no embed", [0]),
        (House(a_1=failing(ValueError("bug")), b_1=ok()), asking("b/1"), "bug", [1, 0]),
    ],
    ids=[
        "no_fallback",
        "one_attempt_means_neither_retry_nor_fallback",
        "blocked_prompt_does_not_fall_back",
        "bad_request_does_not_fall_back",
        "last_error_is_told",
        "a_fallback_its_provider_does_not_know_says_less",
        "an_unknown_fallback_says_nothing",
        "unknown_model",
        "all_unknown",
        "operation_unsupported_is_told_at_once",
        "bugs_are_not_papered_over",
    ],
)
async def test_failures(house: House, request_: v1.ChatRequest, error: str, made: list[int]) -> None:
    with pytest.raises(Exception, match=f"^{error}$"):
        await Router(house.resolve, 4)(request_, context())
    assert list(house.made().values()) == made


@pytest.mark.parametrize(
    ("routing", "field"),
    [
        ({"allowed_providers": ["z"]}, "routing.allowed_providers"),
        ({"denied_providers": ["a", "b"]}, "routing.denied_providers"),
        ({"allowed_providers": ["a"], "denied_providers": ["a"]}, "routing.allowed_providers"),
    ],
)
async def test_nobody_left(routing: dict[str, Any], field: str) -> None:
    house = House(a_1=ok(), b_1=ok())
    with pytest.raises(InvalidRequest) as refused:
        await Router(house.resolve, 4)(asking("b/1", **routing), context())
    assert refused.value.violations[0].field == field
    assert house.made() == {"a/1": 0, "b/1": 0}


async def test_every_named_target_is_asked_even_if_there_are_more_than_attempts() -> None:
    house = House(**{f"{name}_1": failing() for name in "abcdef"})
    with pytest.raises(Overloaded):
        await Router(house.resolve, 4)(asking(*(f"{name}/1" for name in "bcdef")), context())
    assert list(house.made().values()) == [1] * 6


async def test_skipped_fallback_is_warned_about() -> None:
    ctx = context()
    house = House(a_1=failing(CredentialsRejected("x")), b_1=ok())
    await Router(house.resolve, 4)(asking("nobody/1", "b/1"), ctx)
    assert [(warning.code, warning.field) for warning in ctx.warnings] == [
        ("TARGET_SKIPPED", "routing.fallbacks[0].model")
    ]


async def test_fallback_brings_its_own_sampling_and_reasoning() -> None:
    first, second, third = failing(CredentialsRejected("x")), failing(CredentialsRejected("x")), ok()
    house = House(a_1=first, b_1=second, c_1=third)
    request = asking("b/1", "c/1")
    request.sampling.temperature = 0.9
    request.sampling.seed = 7
    request.reasoning.effort = v1.REASONING_EFFORT_HIGH
    request.routing.fallbacks[0].sampling.temperature = 0.1
    request.routing.fallbacks[0].reasoning.effort = v1.REASONING_EFFORT_LOW
    before = request.SerializeToString(deterministic=True)
    await Router(house.resolve, 4)(request, context())
    assert request.SerializeToString(deterministic=True) == before
    assert first.requests == [request]
    [adapted] = second.requests
    assert adapted.sampling == v1.SamplingOptions(temperature=0.1)
    assert adapted.reasoning.effort == v1.REASONING_EFFORT_LOW
    assert adapted.messages == request.messages
    assert third.requests == [request]


async def test_embeddings_are_routed_too() -> None:
    house = House(a_1=failing(CredentialsRejected("x")), b_1=ok())
    request = v1.EmbedRequest(model="a/1")
    request.routing.fallbacks.add(model="b/1")
    await Router(house.resolve, 4)(request, context("embed", streaming=False))
    assert house.made() == {"a/1": 1, "b/1": 1}


class Cooling:
    """A target that is left alone until a time."""

    def __init__(self, until: float) -> None:
        self.until = asyncio.get_running_loop().time() + until
        self.asked = 0

    async def __call__(self, request: Any, ctx: Context, /) -> Reply[Any]:
        left = self.until - ctx.clock()
        if left > 0:
            raise CircuitOpen("left alone", retry_after=left)
        self.asked += 1
        return await answering("hi")(request, ctx)


def routed(*services: Service) -> Router:
    by_name = {f"t/{number}": service for number, service in enumerate(services)}

    def resolve(model: str, _: Operation) -> Candidate:
        return Candidate(Target("t", model.removeprefix("t/")), by_name[model])

    return Router(resolve, max_attempts=4)


def cascade(number: int) -> v1.ChatRequest:
    request = chat("t/0")
    request.routing.fallbacks.extend(v1.FallbackTarget(model=f"t/{n}") for n in range(1, number))
    return request


@pytest.mark.parametrize(("deadline", "answered"), [(None, True), (11.0, True), (9.0, False)])
async def test_where_all_are_left_alone_the_first_to_come_back_is_waited_for(
    deadline: float | None, answered: bool
) -> None:
    slow, soon = Cooling(20), Cooling(10)
    ctx = context(deadline=deadline)
    if answered:
        await routed(slow, soon)(cascade(2), ctx)
        assert (slow.asked, soon.asked) == (0, 1)
        assert ctx.clock() - ctx.received == pytest.approx(10.0)
    else:
        with pytest.raises(CircuitOpen) as caught:
            await routed(slow, soon)(cascade(2), ctx)
        assert caught.value.retry_after == pytest.approx(10.0)
        assert ctx.clock() == ctx.received  # refused at once


async def test_nobody_waits_longer_than_allowed() -> None:
    with pytest.raises(CircuitOpen):
        await routed(Cooling(31))(cascade(1), context())


async def test_what_a_target_said_counts_more_than_that_another_was_not_asked() -> None:
    with pytest.raises(Overloaded):
        await routed(Attempts(Overloaded("busy")), Cooling(1))(cascade(2), context())


async def test_a_target_that_is_left_alone_costs_no_attempt() -> None:
    ctx = context()
    request = cascade(2)
    request.routing.max_attempts = 1
    first = Retry(RetryPolicy(), asyncio.sleep, lambda: 0.0)(Cooling(5))
    second = Retry(RetryPolicy(), asyncio.sleep, lambda: 0.0)(answering("hi"))
    reply = await routed(first, second)(request, ctx)
    assert (await reply.response()).message.parts[0].text == "hi"
