"""From the events of a stream to the response they describe, and back.

The gateway and the SDK share this file, so a folded stream is what `Chat` would have returned, on either side.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from parley import v1

# So that an event stays within the 1 MiB that the contract promises: characters have up to 4 bytes, and a token may
# come with the log probabilities of 20 alternatives.
_LONGEST_DELTA = 255 * 1024
_MOST_LOGPROBS = 500


class _OpenPart:
    """A part and the fragments it has received, joined only when somebody asks."""

    __slots__ = ("citations", "fragments", "kind", "part")

    def __init__(self, part: v1.Part) -> None:
        self.part = part
        self.kind = part.WhichOneof("kind")
        self.fragments: list[str] = []
        self.citations: list[v1.Citation] = []

    def whole(self) -> v1.Part:
        part = v1.Part()
        part.CopyFrom(self.part)
        text = "".join(self.fragments)
        match part.WhichOneof("kind"):
            case "text":
                part.text = text
            case "refusal":
                part.refusal.text = text
            case "reasoning":
                part.reasoning.text = text
            case "tool_call":
                part.tool_call.arguments_json = text
        part.citations.extend(self.citations)
        return part


class Fold:
    """Puts a response together from stream events: `feed` every event, ask for `response()` at any time.

    Before `completed` has been fed the response is what there is so far, without finish reason; `complete` is false.
    """

    def __init__(self) -> None:
        self.complete = False
        self.restarted = False
        """Whether parts have been taken back: what was said of them before is not in the response."""
        self._head = v1.ChatResponse()
        self._parts: dict[int, _OpenPart] = {}
        self._logprobs: list[v1.TokenLogprob] = []

    def feed(self, event: v1.StreamChatResponse) -> None:
        """Take in the next event. Kinds that change nothing (heartbeats, unknown ones) are skipped."""
        match event.WhichOneof("event"):
            case "part_delta":
                self._delta(event.part_delta)
            case "part_started":
                self._parts[event.part_started.part_index] = _OpenPart(event.part_started.part)
            case "part_completed":
                index = event.part_completed.part_index
                opened = self._parts.setdefault(index, _OpenPart(event.part_completed.part))
                opened.part = event.part_completed.part
            case "fallback_started":
                self._void(event.fallback_started.first_valid_part_index)
            case "usage":
                self._head.usage.CopyFrom(event.usage)
            case "warning":
                self._head.warnings.append(event.warning)
            case "started":
                started = event.started
                self._head.id = started.response_id
                self._head.model = started.model
                if started.HasField("create_time"):
                    self._head.create_time.CopyFrom(started.create_time)
                if started.provider or started.provider_model:
                    self._head.route.provider = started.provider
                    self._head.route.model = started.provider_model
                if started.HasField("cache"):
                    self._head.cache.CopyFrom(started.cache)
            case "completed":
                self._end(event.completed)

    def kind(self, part_index: int) -> str | None:
        """The kind of a part that has begun ("text", "tool_call", …); None if it has none that is known here."""
        opened = self._parts.get(part_index)
        return opened.kind if opened else None

    def _delta(self, delta: v1.PartDelta) -> None:
        opened = self._parts.get(delta.part_index)
        if opened is None:  # a sender that forgot `part_started` costs the part its kind at worst, not the answer
            opened = self._parts[delta.part_index] = _OpenPart(_implied(delta))
        match delta.WhichOneof("delta"):
            case "text":
                opened.fragments.append(delta.text)
            case "reasoning":
                opened.fragments.append(delta.reasoning)
            case "arguments_json":
                opened.fragments.append(delta.arguments_json)
            case "citation":
                opened.citations.append(delta.citation)
        if delta.logprobs:
            self._logprobs.extend(delta.logprobs)

    def _void(self, below: int) -> None:
        """Forget the parts below an index: another attempt says anew what they said."""
        if below <= 0:
            return
        self.restarted = True
        self._parts = {index: part for index, part in self._parts.items() if index >= below}
        del self._logprobs[:]

    def _end(self, completed: v1.ResponseCompleted) -> None:
        self.complete = True
        head = self._head
        head.finish_reason = completed.finish_reason
        head.native_finish_reason = completed.native_finish_reason
        head.stop_sequence = completed.stop_sequence
        if completed.HasField("usage"):
            head.usage.CopyFrom(completed.usage)
        if completed.HasField("route"):
            head.route.CopyFrom(completed.route)
        if completed.HasField("cache"):
            head.cache.CopyFrom(completed.cache)
        del head.warnings[:]
        head.warnings.extend(completed.warnings)

    def response(self) -> v1.ChatResponse:
        """The response so far."""
        response = v1.ChatResponse()
        response.CopyFrom(self._head)
        response.message.role = v1.ROLE_ASSISTANT
        response.message.parts.extend(self._parts[index].whole() for index in sorted(self._parts))
        response.logprobs.extend(self._logprobs)
        return response


def _implied(delta: v1.PartDelta) -> v1.Part:
    """An empty part of the kind that `delta` belongs to."""
    match delta.WhichOneof("delta"):
        case "text" | "citation":
            return v1.Part(text="")
        case "reasoning":
            return v1.Part(reasoning=v1.ReasoningPart())
        case "arguments_json":
            return v1.Part(tool_call=v1.ToolCall())
        case _:
            return v1.Part()


def fold(events: Iterable[v1.StreamChatResponse]) -> v1.ChatResponse:
    """The response that `events` describe."""
    state = Fold()
    for event in events:
        state.feed(event)
    return state.response()


def pieces(text: str, size: int = _LONGEST_DELTA) -> Iterator[str]:
    """`text` cut into fragments that fit into one event each; nothing for an empty one."""
    for start in range(0, len(text), size):
        yield text[start : start + size]


def hollow(part: v1.Part) -> v1.Part:
    """`part` without the content that travels in deltas, as `part_started` and `part_completed` carry it."""
    shell = v1.Part()
    shell.CopyFrom(part)
    match part.WhichOneof("kind"):
        case "text":
            shell.text = ""
        case "refusal":
            shell.refusal.text = ""
        case "reasoning":
            shell.reasoning.text = ""
        case "tool_call":
            shell.tool_call.arguments_json = ""
    del shell.citations[:]
    return shell


def announced(shell: v1.Part) -> v1.Part:
    """`shell` as `part_started` carries it: without what only the completion brings."""
    if not (shell.HasField("replay_state") or shell.HasField("provider_part")):
        return shell
    opening = v1.Part()
    opening.CopyFrom(shell)
    opening.ClearField("replay_state")
    if opening.HasField("provider_part"):
        opening.provider_part.json = ""
    return opening


def unfold(response: v1.ChatResponse) -> list[v1.StreamChatResponse]:
    """The events of a stream that says what `response` says; `fold(unfold(r)) == r`. The sender numbers them."""
    event = v1.StreamChatResponse
    started = v1.ResponseStarted(
        response_id=response.id,
        model=response.model,
        provider=response.route.provider,
        provider_model=response.route.model,
    )
    if response.HasField("create_time"):
        started.create_time.CopyFrom(response.create_time)
    if response.HasField("cache"):
        started.cache.CopyFrom(response.cache)
    events = [event(started=started)]
    logprobs = list(response.logprobs)
    for index, part in enumerate(response.message.parts):
        shell = hollow(part)
        events.append(event(part_started=v1.PartStarted(part_index=index, part=announced(shell))))
        events.extend(event(part_delta=delta) for delta in _deltas(index, part))
        while (
            logprobs and part.WhichOneof("kind") == "text"
        ):  # a response does not say which of several texts they are of
            some, logprobs = logprobs[:_MOST_LOGPROBS], logprobs[_MOST_LOGPROBS:]
            events.append(event(part_delta=v1.PartDelta(part_index=index, text="", logprobs=some)))
        events.append(event(part_completed=v1.PartCompleted(part_index=index, part=shell)))
    completed = v1.ResponseCompleted(
        finish_reason=response.finish_reason,
        native_finish_reason=response.native_finish_reason,
        stop_sequence=response.stop_sequence,
        warnings=response.warnings,
    )
    if response.HasField("usage"):
        completed.usage.CopyFrom(response.usage)
    if response.HasField("route"):
        completed.route.CopyFrom(response.route)
    if response.HasField("cache"):
        completed.cache.CopyFrom(response.cache)
    events.append(event(completed=completed))
    return events


def _deltas(index: int, part: v1.Part) -> Iterator[v1.PartDelta]:
    match part.WhichOneof("kind"):
        case "text":
            yield from (v1.PartDelta(part_index=index, text=piece) for piece in pieces(part.text))
        case "refusal":
            yield from (v1.PartDelta(part_index=index, text=piece) for piece in pieces(part.refusal.text))
        case "reasoning":
            yield from (v1.PartDelta(part_index=index, reasoning=piece) for piece in pieces(part.reasoning.text))
        case "tool_call":
            arguments = pieces(part.tool_call.arguments_json)
            yield from (v1.PartDelta(part_index=index, arguments_json=piece) for piece in arguments)
    yield from (v1.PartDelta(part_index=index, citation=citation) for citation in part.citations)
