"""A prediction as a `ChatResponse`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from parley import v1
from parley_server.core.errors import OperationUnsupported, ProtocolError
from parley_server.core.target import Target
from parley_server.dialects.base import load_object
from parley_server.dialects.replicate.errors import failed

MALFORMED = (AttributeError, KeyError, TypeError, ValueError, OverflowError)
"""What reading JSON of another shape than expected raises."""

UNDER_WAY = ("starting", "processing")
_ID = re.compile(r"[0-9A-Za-z_-]{1,128}")


def prediction(body: bytes) -> dict[str, Any]:
    """A prediction, under way or over. Raises ProtocolError if `body` is none."""
    said = load_object(body)
    if not isinstance(said.get("id"), str) or not _ID.fullmatch(said["id"]) or not isinstance(said.get("status"), str):
        raise ProtocolError("the provider's answer is not a prediction")
    return said


def decode(said: Mapping[str, Any], target: Target) -> v1.ChatResponse:
    """The answer of a prediction that is over. Raises what its failure means, OperationUnsupported for no text.

    The status tells that the model came to its end, not why it did.
    """
    if said["status"] not in ("succeeded", "successful"):
        raise failed(said, target)
    try:
        return v1.ChatResponse(
            message=v1.Message(role=v1.ROLE_ASSISTANT, parts=[v1.Part(text=_text(said.get("output"), target))]),
            finish_reason=v1.FINISH_REASON_STOP,
            native_finish_reason=said["status"],
            usage=_usage(said.get("metrics") or {}),
            route=v1.RouteInfo(model=said.get("model") or target.model, provider_response_id=said["id"]),
        )
    except MALFORMED as problem:
        raise ProtocolError("the provider's answer is not of the form it should have") from problem


def _text(output: Any, target: Target) -> str:
    match output:
        case None:
            return ""
        case str():
            return output
        case [*pieces] if all(isinstance(piece, str) for piece in pieces):
            return "".join(pieces)
    raise OperationUnsupported(f"{target} does not answer with text", facts={"model": str(target)})


def _usage(metrics: Mapping[str, Any]) -> v1.Usage | None:
    """The counts; None if there are none, as for models that are billed by the second."""
    read, written = metrics.get("input_token_count"), metrics.get("output_token_count")
    if read is None and written is None:
        return None
    total = None if read is None or written is None else read + written
    return v1.Usage(source=v1.Usage.SOURCE_PROVIDER, input_tokens=read, output_tokens=written, total_tokens=total)
