"""What becomes of a stream that breaks off after content was sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parley import v1
from parley.fold import Fold, fold, unfold
from parley_server.core.context import Context
from parley_server.core.errors import (
    CredentialsRejected,
    GatewayError,
    ModelNotFound,
    PromptBlocked,
    QuotaExhausted,
    StreamInterrupted,
    Unavailable,
)
from parley_server.core.reply import Batch
from parley_server.core.routes import Candidate
from parley_server.core.service import Service
from parley_server.core.target import Target
from parley_server.pipeline.meter import Meter
from parley_server.pipeline.prefill import Prefill, takes_prefill
from parley_server.pipeline.recover import Recover
from parley_server.pipeline.router import Router
from tests.fakes import Step, Upstream, chat, completed, context, delta, opened, run, started, used
from tests.strategies import responses

Options = v1.RoutingOptions
FAIL, RESTART, CONTINUE = (
    Options.MID_STREAM_FALLBACK_FAIL,
    Options.MID_STREAM_FALLBACK_RESTART,
    Options.MID_STREAM_FALLBACK_CONTINUE,
)
EXACT, PARAGRAPH, SUMMARIZE = (
    Options.CONTINUATION_EXACT,
    Options.CONTINUATION_PARAGRAPH,
    Options.CONTINUATION_SUMMARIZE,
)
BROKEN = StreamInterrupted("cut")
Event = v1.StreamChatResponse


def closed(index: int = 0, **shell: Any) -> Event:
    return Event(part_completed=v1.PartCompleted(part_index=index, part=v1.Part(**(shell or {"text": ""}))))


def begun(index: int = 0, **shell: Any) -> Event:
    return Event(part_started=v1.PartStarted(part_index=index, part=v1.Part(**shell)))


def thought(text: str, index: int = 0) -> Event:
    return Event(part_delta=v1.PartDelta(part_index=index, reasoning=text))


def argued(text: str, index: int = 0) -> Event:
    return Event(part_delta=v1.PartDelta(part_index=index, arguments_json=text))


THOUGHT = v1.ReasoningPart()
SIGNED = v1.ReplayState(provider="a", data=b"signature")
CALL = v1.ToolCall(id="c", name="f")


def whole(text: str, **counts: int) -> list[Step]:
    counts = counts or {"input_tokens": 5, "output_tokens": 7}
    return [[started(), opened()], [delta(text)], [closed()], [completed(**counts)]]


class Provider(Upstream):
    """Makes its events anew for every request, as providers do: layers may write into them."""

    async def events(self) -> AsyncGenerator[Batch, None]:
        async with aclosing(super().events()) as batches:
            async for batch in batches:
                yield [copied(event) for event in batch]


def copied(event: Event) -> Event:
    other = Event()
    other.CopyFrom(event)
    return other


def taking(service: Service) -> Service:
    """Draws on the budget, as the retries around every target do."""

    async def taken(request: Any, ctx: Context) -> Any:
        ctx.budget.take()
        return await service(request, ctx)

    return taken


class Scene:
    """Targets a, b, c behind a router, with the layer around it."""

    def __init__(self, *scripts: Sequence[Step], budget: int = 4) -> None:
        self.upstreams = [Provider(*script) for script in scripts]
        price = v1.ModelPricing(input_nano_usd=10**9, output_nano_usd=10**9)
        self.candidates = {}
        for name, upstream in zip("abc", self.upstreams, strict=False):
            target = Target(name, "m")
            self.candidates[f"{name}/m"] = Candidate(target, taking(Meter(target, price)(upstream)))
        self.service: Service = Recover()(Router(self._resolve, budget))

    def _resolve(self, model: str, _operation: Any) -> Candidate:
        if model not in self.candidates:
            raise ModelNotFound(model)
        return self.candidates[model]

    @property
    def asked(self) -> list[int]:
        return [upstream.opened for upstream in self.upstreams]

    @property
    def all_closed(self) -> bool:
        return all(u.opened == u.closed == u.generators_closed for u in self.upstreams)

    def request(self, policy: Any, continuation: Any = 0, **fields: Any) -> v1.ChatRequest:
        request = chat("a/m")
        request.MergeFrom(v1.ChatRequest(**fields))
        request.routing.mid_stream_fallback = policy
        request.routing.continuation = continuation
        for name in list(self.candidates)[1:]:
            request.routing.fallbacks.add(model=name)
        return request


async def read(service: Service, request: v1.ChatRequest, ctx: Context) -> tuple[Batch, GatewayError | None]:
    """All events, and the error that ended them."""
    events: Batch = []
    try:
        async with await service(request, ctx) as reply:
            async for batch in reply:
                events += batch
    except GatewayError as error:
        return events, error
    return events, None


def text(response: v1.ChatResponse) -> str:
    return "".join(part.text for part in response.message.parts)


def kinds(events: Batch) -> list[str]:
    return [event.WhichOneof("event") or "" for event in events]


def check_order(events: Batch) -> None:
    """The promises of the contract: each part begins once, ends at most once, and indices only grow."""
    began: list[int] = []
    ended: list[int] = []
    for event in events:
        match event.WhichOneof("event"):
            case "part_started":
                began.append(event.part_started.part_index)
            case "part_delta":
                assert event.part_delta.part_index in began
                assert event.part_delta.part_index not in ended
            case "part_completed":
                assert event.part_completed.part_index in began
                assert event.part_completed.part_index not in ended
                ended.append(event.part_completed.part_index)
    assert began == sorted(set(began))
    assert kinds(events).count("started") == 1


# What was sent before the break, and whether somebody may go on with it.
SENT: dict[str, tuple[list[Step], bool]] = {
    "in_a_text": ([[started(), opened(), delta("Once upon")]], True),
    "between_texts": ([[started(), opened(), delta("Once upon"), closed()]], True),
    "behind_reasoning": (
        [
            [started(), begun(reasoning=THOUGHT), thought("hm"), closed(reasoning=THOUGHT)],
            [opened(1), delta("Once upon", 1)],
        ],
        True,
    ),
    "in_reasoning": ([[started(), begun(reasoning=THOUGHT), thought("hm")]], False),
    "behind_signed_reasoning": (
        [
            [started(), begun(reasoning=THOUGHT), thought("hm"), closed(reasoning=THOUGHT, replay_state=SIGNED)],
            [opened(1), delta("Once upon", 1)],
        ],
        False,
    ),
    "in_a_tool_call": ([[started(), begun(tool_call=CALL), argued('{"a')]], False),
    "behind_a_tool_call": ([[started(), begun(tool_call=CALL), argued("{}"), closed(tool_call=CALL)]], False),
    "in_a_refusal": ([[started(), begun(refusal=v1.RefusalPart()), delta("I'd rather")]], False),
}
POLICIES = {
    "unspecified": (0, 0),
    "fail": (FAIL, 0),
    "restart": (RESTART, 0),
    "continue": (CONTINUE, 0),
    "exact": (CONTINUE, EXACT),
    "paragraph": (CONTINUE, PARAGRAPH),
    "summarize": (CONTINUE, SUMMARIZE),
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("sent", SENT)
async def test_position_and_policy_decide(sent: str, policy: str) -> None:
    before, can_go_on = SENT[sent]
    chosen, continuation = POLICIES[policy]
    there = Scene([*before, BROKEN], whole(" a time"))
    events, error = await read(there.service, there.request(chosen, continuation), context())
    check_order(events)
    assert there.all_closed
    recovers = chosen == RESTART or (chosen == CONTINUE and can_go_on)
    assert (error is None) == recovers
    assert there.asked == [1, 1 if recovers else 0]
    if not recovers:
        assert error is BROKEN
        assert "fallback_started" not in kinds(events)
        return
    answer = fold(events)
    anew = policy in ("restart", "paragraph")  # there is no paragraph break
    assert text(answer) == (" a time" if anew else "Once upon a time")
    assert [part.WhichOneof("kind") for part in answer.message.parts].count("reasoning") == (
        1 if sent == "behind_reasoning" and not anew else 0
    )
    told = next(event.fallback_started for event in events if event.HasField("fallback_started"))
    assert told.first_valid_part_index == (len(events_parts(before)) if anew else 0)
    assert (told.failed_attempt.provider, told.failed_attempt.status.code) == ("a", 14)
    assert (told.provider, told.model) == ("mock", "echo")
    assert [a.status.code for a in answer.route.attempts] == [14, 0]


def events_parts(script: Sequence[Step]) -> list[Event]:
    return [event for step in script if isinstance(step, list) for event in step if event.HasField("part_started")]


@pytest.mark.parametrize("policy", [RESTART, CONTINUE])
async def test_what_fails_before_content_is_not_its_business(policy: Any) -> None:
    there = Scene([[started()], BROKEN], whole("hello"))
    events, error = await read(there.service, there.request(policy), context())
    assert error is None
    assert "fallback_started" not in kinds(events)
    assert text(fold(events)) == "hello"


@pytest.mark.parametrize("output", [{"json_object": {}}, {"json_schema": {"json_schema": "{}"}}], ids=str)
async def test_structured_output_is_restarted_but_not_continued(output: Any) -> None:
    broken: list[Step] = [[started(), opened(), delta('{"a":')], BROKEN]
    there = Scene(broken, whole('{"a": 1}'))
    _, error = await read(there.service, there.request(CONTINUE, output=v1.OutputOptions(**output)), context())
    assert error is BROKEN
    there = Scene(broken, whole('{"a": 1}'))
    events, error = await read(there.service, there.request(RESTART, output=v1.OutputOptions(**output)), context())
    assert error is None
    assert text(fold(events)) == '{"a": 1}'


@pytest.mark.parametrize(
    ("error", "recovers"),
    [
        (Unavailable("x"), True),
        (QuotaExhausted("x"), True),
        (CredentialsRejected("x"), True),
        (PromptBlocked("x"), False),
        (GatewayError("x"), False),
    ],
    ids=lambda value: getattr(value, "reason", ""),
)
async def test_only_what_others_may_do_better_is_recovered_from(error: GatewayError, recovers: bool) -> None:
    there = Scene([[started(), opened(), delta("a")], error], whole("b"))
    _, raised = await read(there.service, there.request(RESTART), context())
    assert raised is (None if recovers else error)


async def test_the_same_target_is_asked_again_if_there_is_no_other() -> None:
    upstream = Upstream([started(), opened(), delta("a")], BROKEN)
    target = Target("a", "m")

    async def ask(request: Any, ctx: Context) -> Any:
        if upstream.opened:
            upstream.script = tuple(whole("again"))
        return await Meter(target, None)(upstream)(request, ctx)

    service = Recover()(Router(lambda *_: Candidate(target, ask), 2))
    request = chat("a/m")
    request.routing.mid_stream_fallback = RESTART
    events, error = await read(service, request, context())
    assert error is None
    assert text(fold(events)) == "again"
    assert upstream.opened == 2


@pytest.mark.parametrize(("budget", "asked"), [(1, [1, 0, 0]), (2, [1, 1, 0]), (3, [1, 1, 1]), (9, [1, 1, 1])])
async def test_recoveries_draw_on_the_budget_of_the_call(budget: int, asked: list[int]) -> None:
    broken: list[Step] = [[started(), opened(), delta("a ")], BROKEN]
    there = Scene(broken, broken, whole("end"))
    request = there.request(CONTINUE)
    request.routing.max_attempts = budget
    ctx = context()
    events, error = await read(there.service, request, ctx)
    assert there.asked == asked
    assert there.all_closed
    check_order(events)
    if error is None:
        assert text(fold(events)) == "a a end"
        assert kinds(events).count("fallback_started") == 2
        assert ctx.broken == ["a/m", "b/m"]


async def test_if_nobody_goes_on_the_error_is_that_of_the_break() -> None:
    there = Scene([[started(), opened(), delta("a")], BROKEN], [Unavailable("down")])
    request = there.request(CONTINUE)
    request.routing.max_attempts = 2
    events, error = await read(there.service, request, context())
    assert error is BROKEN
    assert there.asked == [1, 1]
    assert "fallback_started" not in kinds(events)
    assert there.all_closed


async def test_the_target_that_broke_is_asked_after_all_others() -> None:
    there = Scene([[started(), opened(), delta("a")], BROKEN], [Unavailable("down")])
    events, error = await read(there.service, there.request(RESTART), context())
    assert error is BROKEN
    assert there.asked == [2, 2]  # a breaks off; b is down, so a again; b is still down, and the budget is used up
    assert kinds(events).count("fallback_started") == 1
    assert there.all_closed


async def test_every_attempt_is_settled_and_the_end_tells_of_all_whose_content_was_sent() -> None:
    there = Scene(
        [[started(), opened(), delta("Once upon")], [used(input_tokens=3, output_tokens=2)], BROKEN],
        [
            [started(), used(input_tokens=8, output_tokens=1), opened(), delta(" a time")],
            [closed(), completed(input_tokens=8, output_tokens=4)],
        ],
    )
    ctx = context()
    events, _ = await read(there.service, there.request(CONTINUE), ctx)
    end = next(event.completed for event in events if event.HasField("completed"))
    assert [(a.usage.input_tokens, a.usage.output_tokens) for a in ctx.ledger.attempts] == [(3, 2), (8, 4)]
    assert (end.usage.input_tokens, end.usage.output_tokens, end.usage.total_tokens) == (11, 6, 17)
    assert end.usage.source == v1.Usage.SOURCE_ESTIMATED
    assert end.usage.cost.total_nano_usd == ctx.ledger.cost_nano_usd() == 17_000
    assert [(e.usage.input_tokens, e.usage.output_tokens) for e in events if e.HasField("usage")] == [(3, 2), (11, 3)]


PROSE = "First paragraph.\n\nSecond one is\n\nThe third was cut o"


async def asked_for(continuation: Any, script: Sequence[Step], said: str = PROSE) -> tuple[v1.ChatResponse, Any]:
    there = Scene([[started(), opened(), delta(said[:10])], [delta(said[10:])], BROKEN], script)
    events, error = await read(there.service, there.request(CONTINUE, continuation), context())
    assert error is None
    check_order(events)
    return fold(events), there.upstreams[1].requests[0]


async def test_exactly_sends_the_text_as_a_turn_and_takes_out_what_is_repeated() -> None:
    answer, asked = await asked_for(EXACT, whole("The third was cut off here."))
    assert text(answer) == PROSE + "ff here."
    assert [m.role for m in asked.messages] == [v1.ROLE_USER, v1.ROLE_ASSISTANT, v1.ROLE_USER]
    assert asked.messages[1].parts[0].text == PROSE


async def test_a_paragraph_is_written_anew() -> None:
    answer, asked = await asked_for(PARAGRAPH, whole("The third is whole."))
    kept = PROSE[: PROSE.rindex("The third")]
    assert asked.messages[1].parts[0].text == kept
    assert [part.text for part in answer.message.parts] == [kept, "The third is whole."]


async def test_a_summary_is_cheap() -> None:
    long = "x" * 9000 + " and this is the very end"
    answer, asked = await asked_for(SUMMARIZE, whole(" of it."), long)
    assert text(answer) == long + " of it."
    assert [m.role for m in asked.messages] == [v1.ROLE_USER, v1.ROLE_USER]
    assert "and this is the very end" in asked.messages[1].parts[0].text
    assert len(asked.messages[1].parts[0].text) < 2500


async def test_what_was_held_back_is_sent_if_the_continuation_breaks_too() -> None:
    there = Scene(
        [[started(), opened(), delta("The quick brown fox")], BROKEN],
        [[started(), opened(), delta("The quick")], BROKEN],
        whole(" brown dog"),
    )
    events, error = await read(there.service, there.request(CONTINUE), context())
    assert error is None
    assert text(fold(events)) == "The quick brown foxThe quick brown dog"


async def test_going_away_closes_whatever_is_open() -> None:
    there = Scene([[started(), opened(), delta("a")], BROKEN], [[started(), opened(), delta("b")], 100.0])
    ctx = context()

    async def reading() -> None:
        await read(there.service, there.request(CONTINUE), ctx)

    task = asyncio.ensure_future(reading())
    await asyncio.sleep(10)
    assert there.asked == [1, 1]
    task.cancel()
    await asyncio.wait((task,))
    assert there.all_closed
    assert [a.status.code for a in ctx.ledger.attempts] == [14, 1]


async def test_a_reply_that_is_never_read_is_closed() -> None:
    there = Scene(whole("a"))
    async with await there.service(there.request(CONTINUE), context()):
        pass
    assert there.all_closed


async def test_whole_answers_and_other_policies_pass_untouched() -> None:
    there = Scene(whole("a"))
    reply = await there.service(there.request(RESTART), context(streaming=False))
    assert text(await reply.response()) == "a"


@settings(max_examples=60, deadline=None)
@given(responses(), responses(), st.data())
def test_a_restarted_stream_folds_to_the_second_answer(
    first: v1.ChatResponse, second: v1.ChatResponse, data: st.DataObject
) -> None:
    for response in (first, second):
        del response.warnings[:]
        response.ClearField("usage")
        response.ClearField("route")
        response.usage.MergeFrom(v1.Usage(source=v1.Usage.SOURCE_PROVIDER, input_tokens=1, output_tokens=1))
    begin = unfold(first)[:-1]
    contents = [n for n, event in enumerate(begin) if event.WhichOneof("event") in ("part_delta", "part_completed")]
    if not contents:
        return
    cut = data.draw(st.integers(contents[0] + 1, len(begin)))
    there = Scene([begin[:cut], BROKEN], [unfold(second)])
    expected = Fold()
    for event in unfold(second):
        expected.feed(event)

    events, error = run(_read_on_a_new_loop(there))
    assert error is None
    answer = fold(events)
    assert answer.message == expected.response().message
    assert answer.logprobs == expected.response().logprobs
    assert answer.finish_reason == second.finish_reason


async def _read_on_a_new_loop(there: Scene) -> tuple[Batch, GatewayError | None]:
    return await read(there.service, there.request(RESTART), context())


@pytest.mark.parametrize("continuation", [EXACT, PARAGRAPH, SUMMARIZE])
async def test_models_that_can_go_on_by_themselves_are_not_told_to(continuation: Any) -> None:
    there = Scene([[started(), opened(), delta(PROSE)], BROKEN], whole("ff."))
    candidate = there.candidates["b/m"]
    card = v1.Model(capabilities=["tools", "assistant-prefill"])
    assert takes_prefill(Target("b", "m", card))
    assert not takes_prefill(candidate.target)
    there.candidates["b/m"] = Candidate(candidate.target, Prefill()(candidate.service))
    _, error = await read(there.service, there.request(CONTINUE, continuation), context())
    assert error is None
    (asked,) = there.upstreams[1].requests
    last = v1.ROLE_USER if continuation == SUMMARIZE else v1.ROLE_ASSISTANT
    assert [message.role for message in asked.messages] == [v1.ROLE_USER, last]
