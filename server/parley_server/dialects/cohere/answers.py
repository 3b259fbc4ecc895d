"""What events and whole answers of `/v2/chat` have in common."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from parley import v1
from parley_server.core.errors import ProtocolError
from parley_server.core.target import Target
from parley_server.core.usage import cost
from parley_server.dialects.cohere.errors import error_inside
from parley_server.dialects.cohere.messages import DOCUMENT_ID
from parley_server.dialects.hints import provider_text

MALFORMED = (AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError)
"""What reading JSON of another shape than expected raises."""

PLAN = "plan"
"""Where the plan before tool calls stands, beside content blocks, which go by their index."""

_FINISH = {
    "COMPLETE": v1.FINISH_REASON_STOP,
    "STOP_SEQUENCE": v1.FINISH_REASON_STOP,
    "MAX_TOKENS": v1.FINISH_REASON_LENGTH,
    "TOOL_CALL": v1.FINISH_REASON_TOOL_CALL,
    "ERROR": v1.FINISH_REASON_ERROR,
    "TIMEOUT": v1.FINISH_REASON_ERROR,
    "ERROR_TOXIC": v1.FINISH_REASON_CONTENT_FILTER,
    "ERROR_LIMIT": v1.FINISH_REASON_CONTEXT_WINDOW,
}
_NATURAL = (v1.FINISH_REASON_STOP, v1.FINISH_REASON_UNSPECIFIED)
_DOCUMENT = re.compile(rf"{DOCUMENT_ID}(\d{{1,6}})")
_NO_ID_CHARACTER = re.compile(r"[^0-9A-Za-z]+")


def tool_call(call: Mapping[str, Any], number: int, answer_id: str) -> v1.Part:
    """The `number`th tool call of an answer. Raises ProtocolError if it has no name."""
    function = call["function"]
    if not function["name"]:
        raise ProtocolError("the provider called a tool without naming it")
    made_up = f"call_{_NO_ID_CHARACTER.sub('', answer_id)[-24:]}_{number}"
    arguments = function.get("arguments") or ""
    return v1.Part(tool_call=v1.ToolCall(id=call.get("id") or made_up, name=function["name"], arguments_json=arguments))


def reasoning_state(target: Target) -> v1.ReplayState:
    """Says whose thoughts these are, so that they are not sent to another; there is nothing opaque in them."""
    return v1.ReplayState(provider=target.provider, model=target.model)


def cited_block(citation: Mapping[str, Any], first_text: int | None) -> int | str | None:
    """The block that a citation is in, or PLAN; None if it is none that can be cited.

    Older models do not say which block: their answers have one text, so it is the first.
    """
    if citation.get("type") == "PLAN":
        return PLAN
    if citation.get("type") == "THINKING_CONTENT":
        return None
    index = citation.get("content_index")
    return first_text if index is None else int(index)


def citations(citation: Mapping[str, Any]) -> Iterator[v1.Citation]:
    """One citation for each source; its `text` is that of the answer, which the indexes tell already.

    Indexes count code points, as ours do.
    """
    start, end = citation.get("start"), citation.get("end")
    sources: list[Mapping[str, Any]] = citation.get("sources") or [{}]
    for source in sources:
        fields = source.get("document") or source.get("tool_output") or {}
        number = _DOCUMENT.fullmatch(_text(source.get("id")))
        yield v1.Citation(
            start_index=start,
            end_index=end,
            title=_text(fields.get("title")),
            uri=_text(fields.get("url")) or _text(fields.get("uri")),
            source_index=int(number[1]) if number else None,
        )


def _text(value: Any) -> str:
    """`value` if it is a text: the fields of a document are whatever its author made them."""
    return value if isinstance(value, str) else ""


def logprobs(entries: Any) -> Iterator[v1.TokenLogprob]:
    """One entry for each piece of text, which is mostly one token; that of several tokens is their sum."""
    for entry in [entries] if isinstance(entries, dict) else entries or ():
        numbers = entry.get("logprobs")
        if numbers:
            yield v1.TokenLogprob(token=entry.get("text") or "", logprob=sum(numbers))


def usage(said: Mapping[str, Any] | None, target: Target) -> v1.Usage | None:
    """The counts, and where prices are known the cost; None if there are none.

    `tokens` are those that the model read and wrote, its own instructions included, and of which `cached_tokens` is a
    part. Charged are `billed_units`, which are fewer: so the cost is not to be had from the counts. As counts they only
    stand in where there is nothing else.
    """
    said = said or {}
    counted = said.get("tokens") or {}
    counts = counted or said.get("billed_units") or {}
    read, written = _count(counts.get("input_tokens")), _count(counts.get("output_tokens"))
    if read is None and written is None:
        return None
    return v1.Usage(
        source=v1.Usage.SOURCE_PROVIDER,
        input_tokens=read,
        output_tokens=written,
        total_tokens=None if read is None or written is None else read + written,
        cache_read_input_tokens=_count(said.get("cached_tokens")) if counted else None,
        reasoning_output_tokens=_count(counts.get("reasoning_tokens")),
        cost=_charged(said.get("billed_units") or {}, target),
    )


def _charged(billed: Mapping[str, Any], target: Target) -> v1.Cost | None:
    """What the billed units cost; None if that is not known."""
    card = target.card
    if card is None or not card.HasField("pricing") or card.pricing.unpriced_modalities:
        return None
    read, written = _count(billed.get("input_tokens")), _count(billed.get("output_tokens"))
    return cost(card.pricing, v1.Usage(input_tokens=read, output_tokens=written))


def _count(value: Any) -> int | None:
    """A count, which the API gives as a decimal number."""
    return None if value is None else round(value)


def end(said: Mapping[str, Any], target: Target, *, called: bool) -> dict[str, Any]:
    """Finish reason and warnings of the end of an answer, as fields of ours. Raises the error that it reports.

    A tool call that the model could not write properly is no failure of the call: what was said before stands.
    """
    native = said.get("finish_reason") or ""
    reason = _FINISH.get(native, v1.FINISH_REASON_UNSPECIFIED)
    warnings: list[v1.Warning] = []
    if problem := said.get("error"):
        if said.get("error_type") != "INVALID_TOOL_GENERATION":
            raise error_inside(said, target)
        reason = v1.FINISH_REASON_MALFORMED_OUTPUT
        warnings.append(v1.Warning(code="MALFORMED_TOOL_CALL", message=provider_text(str(problem)), field="tools"))
    elif called and reason in _NATURAL:
        reason = v1.FINISH_REASON_TOOL_CALL
    elif reason == v1.FINISH_REASON_TOOL_CALL and not called:
        reason = v1.FINISH_REASON_MALFORMED_OUTPUT
    return {"finish_reason": reason, "native_finish_reason": native, "warnings": warnings}
