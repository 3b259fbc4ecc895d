"""Reasoning in other places than a field of its own: in tags before the text, in blocks of the content."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley import v1
from parley.fold import fold
from parley_server.core.target import Target
from parley_server.dialects.openai_chat import OpenAIChat, Quirks
from parley_server.dialects.openai_chat.tags import Splitter, split
from tests.dialects.openai_ask import left_out
from tests.dialects.openai_wire import DONE, SERVER, answer, call, chunk, events, kinds, streamed, texts

TAGS = Quirks(think_tags=True)
BLOCKS = Quirks(reasoning_blocks="thinking")


def unary(message: dict[str, Any], quirks: Quirks, **rest: Any) -> v1.ChatResponse:
    return OpenAIChat(quirks).decode(answer(message, **rest), SERVER)


def said(response: v1.ChatResponse) -> list[tuple[str, str]]:
    """Kinds and texts of the parts."""
    found: list[tuple[str, str]] = []
    for part in response.message.parts:
        kind = part.WhichOneof("kind") or ""
        found.append((kind, part.reasoning.text if kind == "reasoning" else part.text))
    return found


def sent_back(message: v1.Message, quirks: Quirks, target: Target = SERVER) -> tuple[Any, dict[str, str]]:
    """The turn as it goes back, and what is left out."""
    made = OpenAIChat(quirks).encode(v1.ChatRequest(messages=[message]), target, stream=False)
    return json.loads(made.body)["messages"][0], left_out(made)


# ----------------------------------------------------------------------------------------------------------------- tags


@pytest.mark.parametrize(
    ("text", "thought", "words"),
    [
        ("<think>hm</think>42", "hm", "42"),
        ("\n <think>\n\nhm\n</think>\n\n42 ", "hm\n", "42 "),
        ("<think></think>42", "", "42"),
        ("<think>\n\n</think>\n\n42", "", "42"),
        ("<think>never ends", "never ends", ""),
        ("<think>half a tag </thi", "half a tag </thi", ""),
        ("<thi", "", "<thi"),
        (" <thinking>aloud</thinking>", "", " <thinking>aloud</thinking>"),
        ("42 <think>too late</think>", "", "42 <think>too late</think>"),
        ("<think>a</think>b<think>c</think>", "a", "b<think>c</think>"),
        ("  ", "", "  "),
        ("", "", ""),
    ],
)
def test_texts_and_where_they_are_cut(text: str, thought: str, words: str) -> None:
    assert split(text) == (thought, words)


def pieces(text: str, cuts: list[int]) -> list[str]:
    ends = sorted({min(cut, len(text)) for cut in cuts} | {len(text)})
    return [text[begin:end] for begin, end in zip([0, *ends], ends, strict=False) if end > begin]


tagged = st.lists(
    st.sampled_from(["<think>", "</think>", "<th", "ink>", "</", "think>", " ", "\n", "a", "b😀", "<", ">"]),
    max_size=12,
).map("".join)
cuts = st.lists(st.integers(0, 60), max_size=8)


@given(tagged, cuts)
def test_any_pieces_of_a_text_give_the_same_cut(text: str, cuts: list[int]) -> None:
    splitter = Splitter()
    fed = [splitter.feed(piece) for piece in pieces(text, cuts)]
    fed.append(splitter.finish() if splitter.open else ("", ""))
    assert ("".join(a for a, _ in fed), "".join(b for _, b in fed)) == split(text)
    if not splitter.settled:  # then only space came behind the tag
        assert split(text)[1] == ""


@given(tagged, cuts, st.booleans())
def test_streams_and_whole_answers_say_the_same(text: str, cuts: list[int], one_read: bool) -> None:
    chunks = [chunk({"role": "assistant", "content": ""})]
    chunks += [chunk({"content": piece}) for piece in pieces(text, cuts)]
    found = fold(events([*chunks, chunk({}, "stop"), DONE], SERVER, TAGS, one_read=one_read))
    assert found.message == unary({"content": text}, TAGS).message


def test_what_is_certain_comes_at_once() -> None:
    decoder = OpenAIChat(TAGS).decoder(SERVER)
    decoder.feed([chunk({"role": "assistant", "content": "<think>"})])
    (first, *rest) = decoder.feed([chunk({"content": "hm </th"})])
    assert (first.part_started.part.WhichOneof("kind"), rest[0].part_delta.reasoning) == ("reasoning", "hm ")
    assert decoder.feed([chunk({"content": "i"})]) == []
    assert kinds(decoder.feed([chunk({"content": "nk>4"})])) == ["part_completed", "part_started", "part_delta"]
    assert decoder.feed([chunk({"content": "2"})])[0].part_delta.text == "2"


def test_a_text_that_may_be_a_tag_is_said_before_a_call() -> None:
    frames = [chunk({"content": " <"}), call(0, "{}", id="c", name="f"), chunk({}, "tool_calls"), DONE]
    response = streamed(frames, SERVER, TAGS)
    assert said(response) == [("text", " <"), ("tool_call", "")]


def test_log_probabilities_of_tagged_texts_are_kept() -> None:
    tokens = [{"token": token, "logprob": -1.0} for token in ("<think>", "hm", "</think>", "42")]
    frames = [chunk({"content": t["token"]}, choice={"logprobs": {"content": [t]}}) for t in tokens]
    response = streamed([*frames, chunk({}, "stop"), DONE], SERVER, TAGS)
    whole = unary({"content": "<think>hm</think>42"}, TAGS, choice={"logprobs": {"content": tokens}})
    assert (response.message, response.logprobs) == (whole.message, whole.logprobs)
    only = streamed([*frames[:2], chunk({}, "length"), DONE], SERVER, TAGS)
    assert [token.token for token in only.logprobs] == ["<think>", "hm"]


def test_tags_are_text_where_they_are_not_looked_for() -> None:
    assert said(unary({"content": "<think>hm</think>42"}, Quirks())) == [("text", "<think>hm</think>42")]
    assert said(streamed([*texts("<think>hm</think>42"), chunk({}, "stop"), DONE], SERVER, Quirks())) == [
        ("text", "<think>hm</think>42")
    ]


def test_a_field_and_tags_beside_each_other() -> None:
    assert said(unary({"reasoning_content": "a", "content": "<think>b</think>c"}, TAGS)) == [
        ("reasoning", "a"),
        ("reasoning", "b"),
        ("text", "c"),
    ]


def test_reasoning_from_tags_goes_back_in_tags() -> None:
    response = unary({"content": "<think>\nhm\n</think>\n\n42"}, TAGS)
    turn, missing = sent_back(response.message, TAGS)
    assert (turn["content"], missing) == ("<think>hm\n</think>\n\n42", {})
    assert unary({"content": turn["content"]}, TAGS).message == response.message


# --------------------------------------------------------------------------------------------------------------- blocks


THOUGHT = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}], "closed": True, "signature": "s"}
SUMMARY = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm", "signature": "s"}]}


@pytest.mark.parametrize("block", [THOUGHT, SUMMARY])
def test_blocks_go_back_as_they_came(block: dict[str, Any]) -> None:
    content = [block, {"type": "text", "text": "42"}]
    response = unary({"content": content}, BLOCKS)
    assert said(response) == [("reasoning", "hm"), ("text", "42")]
    assert sent_back(response.message, BLOCKS)[0]["content"] == content


def test_streamed_blocks_come_in_pieces() -> None:
    def thought(text: str, **rest: Any) -> dict[str, Any]:
        return {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": text}], **rest}]}

    frames = [
        chunk(thought("h")),
        chunk(thought("m", closed=True)),
        chunk(thought("", signature="s")),
        chunk({"content": [{"type": "text", "text": "4"}]}),
        chunk({"content": "2"}),
        chunk({}, "stop"),
        DONE,
    ]
    response = streamed(frames, SERVER, BLOCKS)
    whole = unary({"content": [THOUGHT, {"type": "text", "text": "42"}]}, BLOCKS)
    assert said(response) == said(whole)
    turn, _ = sent_back(response.message, BLOCKS)
    assert turn["content"] == [THOUGHT, {"type": "text", "text": "42"}]


def test_streamed_summaries_with_their_signature() -> None:
    def thought(**piece: Any) -> dict[str, Any]:
        return {"content": [{"type": "reasoning", "summary": [{"type": "summary_text", **piece}]}]}

    frames = [chunk(thought(text="h")), chunk(thought(text="m")), chunk(thought(text="", signature="s"))]
    response = streamed([*frames, *texts("42"), chunk({}, "stop"), DONE], SERVER, BLOCKS)
    turn, _ = sent_back(response.message, BLOCKS)
    assert turn["content"] == [SUMMARY, {"type": "text", "text": "42"}]


def test_of_another_model_a_block_goes_back_without_what_only_that_model_understands() -> None:
    response = unary({"content": [THOUGHT, {"type": "text", "text": "42"}]}, BLOCKS)
    turn, missing = sent_back(response.message, BLOCKS, Target(SERVER.provider, "another"))
    assert turn["content"][0] == {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    assert missing == {"messages[0].parts[0].replay_state": "REPLAY_STATE_DROPPED"}
    turn, missing = sent_back(response.message, BLOCKS, Target("another", "model"))
    assert (turn["content"], missing) == ("42", {"messages[0].parts[0]": "REPLAY_STATE_DROPPED"})


def test_reasoning_of_nowhere_goes_in_the_block_that_the_server_has() -> None:
    message = v1.Message(
        role=v1.ROLE_ASSISTANT, parts=[v1.Part(reasoning=v1.ReasoningPart(text="hm")), v1.Part(text="42")]
    )
    for kind, block in (
        ("thinking", {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}),
        ("reasoning", {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]}),
    ):
        turn, missing = sent_back(message, Quirks(reasoning_fields=(), reasoning_blocks=kind))  # type: ignore[arg-type]
        assert (turn["content"][0], missing) == (block, {})


@pytest.mark.parametrize(
    "kept",
    [
        {"block": {"type": ["thinking"]}},
        {"block": {"type": {}}},
        {"block": {}},
        {"block": {"type": "thinking", "thinking": "x"}},
        {"block": {"type": "reasoning", "summary": [1]}},
        {"block": 5, "field": ["x"]},
        {"field": {}},
    ],
)
def test_a_state_that_somebody_made_up_breaks_nothing(kept: Any) -> None:
    for model in (SERVER.model, "another"):
        state = v1.ReplayState(provider=SERVER.provider, model=model, data=json.dumps(kept).encode())
        part = v1.Part(reasoning=v1.ReasoningPart(text="hm"), replay_state=state)
        message = v1.Message(role=v1.ROLE_ASSISTANT, parts=[part, v1.Part(text="42")])
        for quirks in (Quirks(), BLOCKS):
            assert "42" in json.dumps(sent_back(message, quirks)[0])


def test_blocks_of_no_type_are_passed_over() -> None:
    content: list[Any] = [{"text": "?"}, {"type": ["x"]}, 5, {"type": "text", "text": "42"}]
    assert said(unary({"content": content}, BLOCKS)) == [("text", "42")]
    frames = [chunk({"content": content}), chunk({}, "stop"), DONE]
    assert said(streamed(frames, SERVER, BLOCKS)) == [("text", "42")]


def test_blocks_of_a_proxy_that_must_go_back_unchanged() -> None:
    whole = [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "redacted_thinking", "data": "d"}]
    frames = [
        chunk(
            {"reasoning_content": "h", "thinking_blocks": [{"type": "thinking", "thinking": "h", "signature": None}]}
        ),
        chunk({"reasoning_content": "m", "thinking_blocks": [{"type": "thinking", "thinking": "m"}]}),
        chunk({"thinking_blocks": [{"type": "thinking", "thinking": "", "signature": "s"}]}),
        chunk({"thinking_blocks": [whole[1]]}),
        *texts("42"),
        chunk({}, "stop"),
        DONE,
    ]
    for response in (
        streamed(frames, SERVER, Quirks()),
        unary({"content": "42", "reasoning_content": "hm", "thinking_blocks": whole}, Quirks()),
    ):
        turn, missing = sent_back(response.message, Quirks())
        assert (turn["reasoning_content"], turn["thinking_blocks"], turn["content"]) == ("hm", whole, "42")
        assert missing == {}


# --------------------------------------------------------------------------------------------------------- small things


def test_an_id_in_name_only() -> None:
    calls = [{"id": "null", "function": {"name": "f", "arguments": "{}"}}]
    for response in (
        unary({"content": None, "tool_calls": calls}, Quirks(), finish="tool_calls"),
        streamed([call(0, "{}", id="null", name="f"), chunk({}, "tool_calls"), DONE], SERVER, Quirks()),
    ):
        assert response.message.parts[0].tool_call.id == "call_chatcmpl1_0"


def test_words_that_stand_around_themselves_break_no_stream() -> None:
    """The text `":"` stands in every chunk, between a name and its value, before it stands where it is the text."""
    for word in ('":"', '","', "index", "choices", "0", "stop", "id"):
        response = streamed([*texts("a", word, word, "b"), chunk({}, "stop"), DONE], SERVER, Quirks())
        assert said(response) == [("text", f"a{word}{word}b")]


USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


@pytest.mark.parametrize(
    ("usage", "quirks", "expected"),
    [
        # xAI: the total says that reasoning is beside the output
        (
            USAGE | {"total_tokens": 22, "completion_tokens_details": {"reasoning_tokens": 7}},
            Quirks(),
            {"input_tokens": 10, "output_tokens": 12, "total_tokens": 22, "reasoning_output_tokens": 7},
        ),
        # inside the output, whatever it is
        (
            USAGE | {"completion_tokens_details": {"reasoning_tokens": 7}},
            Quirks(),
            {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15, "reasoning_output_tokens": 7},
        ),
        (
            USAGE | {"completion_tokens_details": {"reasoning_tokens": 7}},
            Quirks(reasoning_apart=True),
            {"input_tokens": 10, "output_tokens": 12, "total_tokens": 22, "reasoning_output_tokens": 7},
        ),
        (
            USAGE | {"completion_tokens_details": {"reasoning_tokens": 3}},
            Quirks(reasoning_apart=True),
            {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15, "reasoning_output_tokens": 3},
        ),
        # Grok: more was read from the cache than there was input
        (
            USAGE | {"prompt_tokens_details": {"cached_tokens": 30}},
            Quirks(),
            {"input_tokens": 40, "output_tokens": 5, "total_tokens": 45, "cache_read_input_tokens": 30},
        ),
        (
            USAGE | {"num_cached_tokens": 4},  # Mistral
            Quirks(),
            {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15, "cache_read_input_tokens": 4},
        ),
        (
            USAGE | {"prompt_token_details": {"cached_tokens": 4}},  # Mistral too
            Quirks(),
            {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15, "cache_read_input_tokens": 4},
        ),
    ],
)
def test_inclusive_totals(usage: dict[str, Any], quirks: Quirks, expected: dict[str, int]) -> None:
    frames = [*texts("a"), chunk({}, "stop"), chunk(usage=usage), DONE]
    for response in (unary({"content": "a"}, quirks, usage=usage), streamed(frames, SERVER, quirks)):
        counts = {f.name: value for f, value in response.usage.ListFields() if f.name.endswith("_tokens")}
        assert counts == expected
