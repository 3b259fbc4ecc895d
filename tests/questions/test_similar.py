"""Similar questions: which are found, and which never."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from parley import v1
from parley_server.embedders.ngrams import HashedNgrams
from parley_server.pipeline.cache.keys import Scope, Target
from parley_server.pipeline.cache.similar import SimilarPolicy, last_turn
from tests.fakes import run
from tests.questions.scene import KEYS, SCOPE, Scene, Topics, ask, question_of

CATS, LIONS, CARS = (1.0, 0.0), (1.0, 0.4), (0.0, 1.0)
ANY_WORDS = SimilarPolicy(words=False)


async def test_the_nearest_first_and_none_below_the_threshold() -> None:
    there = Scene(Topics(cats=CATS, lions=LIONS, cars=CARS), ANY_WORDS)
    cats, lions = await there.keep("Tell me about cats."), await there.keep("Tell me about lions.")
    await there.keep("Tell me about cars.")
    assert [near.key for near in await there.find("What of cats?")] == [cats.key, lions.key]
    assert [near.key for near in await there.find("What of cats?", 0.95)] == [cats.key]
    assert [near.similarity for near in await there.find("What of cats?")] == pytest.approx([1, 0.9285], abs=1e-3)
    assert await there.find("Tell me about cats.", 0.99) == [], "the question itself is no similar one"
    assert there.counts.lookups == 4
    assert there.counts.kept == 3


async def test_words_have_a_veto() -> None:
    there = Scene(HashedNgrams())
    kept = await there.keep("How do I enable notifications on two phones?")
    assert [near.key for near in await there.find("How can I enable notifications on 2 phones?", 0.5)] == [kept.key]
    assert await there.find("How do I disable notifications on two phones?", 0.5) == []
    assert await there.find("How do I enable notifications on 3 phones?", 0.5) == []
    both = Scene(HashedNgrams(), ANY_WORDS)
    await both.keep("How do I enable notifications on two phones?")
    assert await both.find("How do I disable notifications on two phones?", 0.5) != []


async def test_a_veto_of_words_alone_is_counted() -> None:
    there = Scene(Topics(euros=CATS))
    await there.keep("How much is 5 euros in dollars?")
    assert await there.find("How much is 5 dollars in euros?") == []
    assert there.counts.vetoed == 1


async def test_nothing_is_embedded_where_there_is_nothing_to_find() -> None:
    topics = Topics(cats=CATS)
    there = Scene(topics)
    assert await there.find("What do cats eat?") == []
    assert topics.asked == []
    await there.keep("What do cats eat?")
    assert await there.find("What do 3 cats eat?") == []
    assert topics.asked == ["What do cats eat?"], "other numbers are another partition"
    await there.find("How do cats eat?")
    assert len(topics.asked) == 1, "and so is another kind of question"
    assert len(await there.find("Please tell me what cats eat.")) == 1


async def test_a_question_is_embedded_once() -> None:
    topics = Topics(cats=CATS)
    there = Scene(topics, ANY_WORDS)
    await there.keep("Tell me about cats.")
    await there.find("What of cats?")
    await there.keep("What of cats?")
    assert topics.asked == ["Tell me about cats.", "What of cats?"]
    assert len(await there.find("Any cats?", 0.9)) == 2


async def test_looking_takes_no_longer_than_it_may() -> None:
    topics = Topics(cats=CATS)
    there = Scene(topics, SimilarPolicy(timeout=0.05, words=False))
    await there.keep("Tell me about cats.")
    topics.go_on.clear()
    async with asyncio.timeout(5):
        assert await there.find("What of cats?") == []
        assert await there.find("What of cats?", ctx=there.context(deadline=0.01)) == []
        assert await there.find("What of cats?", ctx=there.context(deadline=-1)) == []
    assert there.counts.late == 3


async def test_who_cannot_be_embedded_is_neither_found_nor_kept() -> None:
    there = Scene(Topics(cats=CATS), ANY_WORDS)
    await there.keep("Tell me about dogs.")
    await there.keep("Tell me about cats.")
    assert await there.find("What of dogs?") == []
    assert there.counts.not_embedded == 2
    assert len(there.vectors) == 1


async def test_a_call_does_not_fail_for_a_bug_of_the_index(capsys: pytest.CaptureFixture[str]) -> None:
    structlog.reset_defaults()  # whatever a test before has told the log to leave out
    topics = Topics(cats=CATS)
    there = Scene(topics, ANY_WORDS)
    await there.keep("Tell me about cats.")
    topics.directions = {"cats": (float("nan"), 1, "x")}  # type: ignore[dict-item]
    assert await there.find("What of cats?") == []
    assert "bug" in capsys.readouterr().out


def with_image(request: v1.ChatRequest) -> None:
    request.messages[-1].parts.add().image.source.uri = "https://example.com/cat.png"


def with_document(request: v1.ChatRequest) -> None:
    request.messages[-1].parts.add().document.CopyFrom(v1.DocumentPart())


def from_assistant(request: v1.ChatRequest) -> None:
    request.messages.add(role=v1.ROLE_ASSISTANT).parts.add(text="Cats are")


@pytest.mark.parametrize("change", [with_image, with_document, from_assistant])
async def test_only_last_turns_of_text_alone(change: Callable[[v1.ChatRequest], None]) -> None:
    topics = Topics(cats=CATS)
    there = Scene(topics, ANY_WORDS)
    await there.keep(ask("Tell me about cats.", change))
    assert await there.find(ask("What of cats?", change)) == []
    assert topics.asked == []
    assert len(there.vectors) == 0


def test_last_turns() -> None:
    assert last_turn(ask(" What of cats?\n"), 100) == "What of cats?"
    assert last_turn(ask("one", lambda request: request.messages[-1].parts.add(text="two")), 100) == "one\ntwo"
    assert last_turn(ask("x" * 101), 100) is None
    assert last_turn(ask("  \n"), 100) is None
    assert last_turn(v1.ChatRequest(), 100) is None


CHANGES: dict[str, Callable[[v1.ChatRequest], object]] = {
    "system": lambda r: r.messages.insert(0, v1.Message(role=v1.ROLE_SYSTEM, parts=[v1.Part(text="Be brief.")])),
    "history": lambda r: r.messages.insert(0, v1.Message(role=v1.ROLE_USER, parts=[v1.Part(text="Hello.")])),
    "tools": lambda r: r.tools.add(function=v1.FunctionTool(name="look_up")),
    "tool choice": lambda r: setattr(r.tool_choice, "mode", v1.ToolChoice.MODE_NONE),
    "temperature": lambda r: setattr(r.sampling, "temperature", 0.5),
    "no temperature": lambda r: setattr(r.sampling, "temperature", 0),
    "seed": lambda r: setattr(r.sampling, "seed", 7),
    "most tokens": lambda r: setattr(r.sampling, "max_output_tokens", 100),
    "schema": lambda r: setattr(r.output.json_schema, "json_schema", "{}"),
    "reasoning": lambda r: setattr(r.reasoning, "effort", v1.REASONING_EFFORT_LOW),
    "provider options": lambda r: r.provider_options_json.update(a='{"x": 1}'),
    "raw body": lambda r: setattr(r, "include_provider_response", True),
    "policy": lambda r: setattr(r, "unsupported_policy", v1.UNSUPPORTED_POLICY_ERROR),
    "name": lambda r: setattr(r.messages[-1], "name", "Ann"),
    "parts": lambda r: r.messages[-1].parts.add(text="cats"),
    "breakpoint": lambda r: r.messages[-1].parts[0].cache_breakpoint.SetInParent(),
    "unknown field": lambda r: r.MergeFromString(b"\xfa\x3f\x01a"),
}
SCOPES = {
    "tenant": Scope("other", "", Target("a/m", primary="a/m")),
    "no tenant": Scope("", "", Target("a/m", primary="a/m")),
    "namespace": Scope("tenant", "n", Target("a/m", primary="a/m")),
    "model": Scope("tenant", "", Target("a/n", primary="a/m")),
    "route": Scope("tenant", "", Target("a/m", version="2", primary="a/m")),
}
ALL_CHANGES = st.sets(st.sampled_from(sorted(CHANGES)), max_size=4)
ALL_SCOPES = st.sampled_from([SCOPE, *SCOPES.values()])
TEXTS = st.sampled_from(["Tell me about cats.", "What of cats?", "cats"])


def changed(text: str, names: set[str]) -> v1.ChatRequest:
    request = ask(text)
    for name in sorted(names):
        CHANGES[name](request)
    return request


@pytest.mark.parametrize("name", sorted(CHANGES))
async def test_each_difference_is_a_partition_of_its_own(name: str) -> None:
    there = Scene(Topics(cats=CATS), ANY_WORDS)
    await there.keep("Tell me about cats.")
    assert await there.find("What of cats?") != []
    assert await there.find(changed("What of cats?", {name})) == []


@pytest.mark.parametrize("name", sorted(SCOPES))
async def test_each_scope_is_a_partition_of_its_own(name: str) -> None:
    there = Scene(Topics(cats=CATS), ANY_WORDS)
    await there.keep("Tell me about cats.")
    assert await there.find("What of cats?", scope=SCOPES[name]) == []


@given(st.lists(st.tuples(TEXTS, ALL_CHANGES, ALL_SCOPES), max_size=12), TEXTS, ALL_CHANGES, ALL_SCOPES)
def test_no_hit_ever_crosses_a_partition(
    kept: list[tuple[str, set[str], Scope]], text: str, names: set[str], scope: Scope
) -> None:
    async def play() -> None:
        there = Scene(Topics(cats=CATS), ANY_WORDS)
        made = {}
        for its_text, its_names, its_scope in kept:
            question = await there.keep(changed(its_text, its_names), its_scope)
            made[question.key] = (its_text, its_names, its_scope)
        found = {near.key for near in await there.find(changed(text, names), -1, scope)}
        itself = question_of(changed(text, names), scope).key
        expected = {key for key, (_, its, where) in made.items() if its == names and where == scope} - {itself}
        assert found == expected

    run(play())


async def test_other_embedders_and_secrets_are_partitions_of_their_own() -> None:
    there = Scene(Topics(cats=CATS), ANY_WORDS)
    await there.keep("Tell me about cats.")
    question = question_of("What of cats?")
    assert KEYS.near(question.request, SCOPE, "topics", b"") != KEYS.near(question.request, SCOPE, "others", b"")
    assert KEYS.near(question.request, SCOPE, "ab", b"c") != KEYS.near(question.request, SCOPE, "a", b"bc")
    assert KEYS.near(question.request, SCOPE) != KEYS.chat(ask(""), SCOPE)
    assert type(KEYS)(b"other").near(question.request, SCOPE) != KEYS.near(question.request, SCOPE)
