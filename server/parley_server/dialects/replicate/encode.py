"""From a `ChatRequest` to the body of a new prediction.

A model that takes `messages` gets them, as text. Any other takes one prompt and perhaps instructions: a conversation of
one user turn goes as that, a longer one as a transcript, with a warning. The transcript is plain: turns apart by blank
lines, "User: " or "Assistant: " before each, and an "Assistant:" at the end for the model to go on behind. What other
models did with tools is told in it, in brackets.
"""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Any
from urllib.parse import quote

from parley import v1
from parley_server.core.errors import ModelNotFound, OperationUnsupported, UnsupportedParameter, Violation
from parley_server.core.target import Target
from parley_server.dialects.base import JSON, HttpCall, Wishes, dump, web_address
from parley_server.dialects.replicate.schema import Schema

Body = dict[str, Any]

WAIT = 5
"""Seconds to wait for an answer that is whole. Longer ones could not be stopped while they are waited for."""

_OURS = ("version", "stream")
_FLATTENED = "CONVERSATION_FLATTENED"
_SAMPLING = (
    "max_output_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "seed",
)
_ROLES = {v1.ROLE_USER: "User", v1.ROLE_TOOL: "User", v1.ROLE_ASSISTANT: "Assistant"}
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_VERSION = re.compile(r"[0-9a-f]{64}")


def place(target: Target) -> tuple[str, str]:
    """Path of the predictions of a model, and its version where there is one. Raises ModelNotFound for no name of one.

    Names: `owner/name` (an official model), `owner/name:version` or the version alone, `deployments/owner/name`.
    """
    name, _, version = target.model.partition(":")
    match name.split("/"):
        case [owner, model] if owner and model and not version:
            return f"/models/{quote(owner, safe='')}/{quote(model, safe='')}/predictions", ""
        case [owner, model] if owner and model:
            return "/predictions", version
        case [alone] if _VERSION.fullmatch(alone):
            return "/predictions", alone
        case ["deployments", owner, model] if owner and model:
            return f"/deployments/{quote(owner, safe='')}/{quote(model, safe='')}/predictions", ""
    problem = "is not owner/name, owner/name:version or deployments/owner/name"
    raise ModelNotFound(f"{target.model} {problem}", facts={"model": target.model})


def described(target: Target) -> str:
    """Path of the description of a model, which has its schema; empty where there is none to be had."""
    name, _, version = target.model.partition(":")
    match name.split("/"):
        case [owner, model]:
            path = f"/models/{quote(owner, safe='')}/{quote(model, safe='')}"
            return f"{path}/versions/{quote(version, safe='')}" if version else path
    return ""


def encode(request: v1.ChatRequest, target: Target, schema: Schema, *, stream: bool) -> HttpCall:
    """The call that asks for `request`. Raises UnsupportedParameter for content that cannot be sent at all."""
    if not schema.gives_text:
        raise OperationUnsupported(f"{target} does not answer with text", facts={"model": str(target)})
    path, version = place(target)
    wishes = Wishes(request.unsupported_policy)
    inputs: Body = {}
    _Conversation(target, schema, wishes).say(request, inputs)
    _sampling(inputs, request.sampling, schema, wishes)
    _reasoning(inputs, request.reasoning, schema, wishes)
    _elsewhere(inputs, request, schema, wishes)
    body: Body = {"version": version} if version else {}
    body["input"] = inputs
    if stream:
        body["stream"] = True
    options = request.provider_options_json.get(target.provider, "")
    headers = JSON if stream else {**JSON, "prefer": f"wait={WAIT}"}
    return HttpCall(path, dump(body, options, _OURS), headers=headers, warnings=wishes.warnings())


class _Conversation:
    """Writes the messages of one request as inputs."""

    def __init__(self, target: Target, schema: Schema, wishes: Wishes) -> None:
        self._target = target
        self._schema = schema
        self._wishes = wishes

    def say(self, request: v1.ChatRequest, inputs: Body) -> None:
        instructions: list[str] = []
        turns: list[tuple[str, str]] = []
        images: list[tuple[str, v1.ImagePart]] = []
        asked = max((i for i, m in enumerate(request.messages) if m.role in (v1.ROLE_USER, v1.ROLE_TOOL)), default=-1)
        for index, message in enumerate(request.messages):
            path = f"messages[{index}]"
            if message.name:
                self._wishes.unmet(f"{path}.name", "there are no names of participants here")
            text = self._text(message, path, images if index == asked else None)
            if message.role in (v1.ROLE_SYSTEM, v1.ROLE_DEVELOPER):
                instructions.append(text)
            elif text:
                turns.append((_ROLES[message.role], text))
        if not turns:
            problem = "hold nothing to answer"
            raise UnsupportedParameter(f"messages {problem}", violations=[Violation("messages", problem, "NO_TURN")])
        self._words("\n\n".join(instructions), turns, inputs)
        self._images(images, inputs)

    def _words(self, instructions: str, turns: list[tuple[str, str]], inputs: Body) -> None:
        schema = self._schema
        single = len(turns) == 1 and turns[0][0] == "User"
        if (name := schema.name("messages")) and schema.is_list(name) and not (single and schema.name("prompt")):
            said = [{"role": who.lower(), "content": text} for who, text in turns]
            inputs[name] = [{"role": "system", "content": instructions}, *said] if instructions else said
            return
        prompt = turns[0][1] if single else _transcript(turns)
        if not single:
            self._wishes.unmet(
                "messages", "this model takes one prompt: the conversation is written into it", _FLATTENED
            )
        if instructions:
            if name := schema.name("system"):
                inputs[name] = instructions
            else:
                self._wishes.unmet(
                    "messages",
                    "this model takes no instructions apart: they begin the prompt",
                    _FLATTENED,
                )
                prompt = f"{instructions}\n\n{prompt}"
        inputs[schema.name("prompt") or "prompt"] = prompt

    def _text(self, message: v1.Message, path: str, images: list[tuple[str, v1.ImagePart]] | None) -> str:
        """The text of a message; its images are put into `images`, or refused where there is no place for them."""
        texts: list[str] = []
        for number, part in enumerate(message.parts):
            here = f"{path}.parts[{number}]"
            kind = part.WhichOneof("kind")
            match kind:
                case "text":
                    texts.append(part.text)
                case "refusal":
                    texts.append(part.refusal.text)
                case "document" if part.document.source.mime_type.startswith("text/") and part.document.source.data:
                    document = part.document
                    text = document.source.data.decode("utf-8", "replace")
                    texts.append("\n\n".join(line for line in (document.title, document.context, text) if line))
                    if document.citations_enabled:
                        self._wishes.unmet(f"{here}.document.citations_enabled", "there are no citations here")
                case "image" if images is not None and message.role == v1.ROLE_USER:
                    images.append((f"{here}.image", part.image))
                case "tool_call":
                    call = part.tool_call
                    texts.append(f"[{call.name} was called with {call.arguments_json or '{}'}]")
                    self._wishes.unmet(here, "there are no tools here: the call is told in words", _FLATTENED)
                case "tool_result":
                    result = part.tool_result
                    inner = v1.Message(role=v1.ROLE_TOOL, parts=result.parts)
                    said = self._text(inner, f"{here}.tool_result", None)
                    texts.append(f"[{result.name or 'the tool'} {'failed' if result.is_error else 'answered'}: {said}]")
                    self._wishes.unmet(here, "there are no tools here: the result is told in words", _FLATTENED)
                case "reasoning":
                    self._wishes.unmet(here, "reasoning cannot be sent back here", "REPLAY_STATE_DROPPED")
                    continue
                case "provider_part":
                    foreign = part.provider_part.provider
                    self._wishes.unmet(here, f"a part of {foreign} is left out", "REPLAY_STATE_DROPPED")
                case "image":
                    raise self._unsayable(here, "images can only stand in the last user message here")
                case _:
                    raise self._unsayable(here, f"{kind} cannot be said here: a model takes text")
            if part.HasField("cache_breakpoint"):
                self._wishes.unmet(f"{here}.cache_breakpoint", "there is no prompt cache here")
            if part.HasField("replay_state"):
                self._wishes.unmet(
                    f"{here}.replay_state", "there is no state to send back here", "REPLAY_STATE_DROPPED"
                )
        return "\n\n".join(texts)

    def _images(self, images: list[tuple[str, v1.ImagePart]], inputs: Body) -> None:
        if not images:
            return
        name = self._schema.name("image")
        if not name:
            raise self._unsayable(images[0][0], "this model takes no images")
        urls = [_url(image.source, f"{path}.source", self._target) for path, image in images]
        for path, image in images:
            if image.detail:
                self._wishes.unmet(f"{path}.detail", "there is no choice of detail here")
        if self._schema.is_list(name):
            inputs[name] = urls
        elif len(urls) == 1:
            inputs[name] = urls[0]
        else:
            raise self._unsayable(images[1][0], "this model takes one image")

    def _unsayable(self, path: str, why: str) -> UnsupportedParameter:
        return UnsupportedParameter(f"{self._target}: {why}", violations=[Violation(path, why, "UNSUPPORTED_CONTENT")])


def _transcript(turns: list[tuple[str, str]]) -> str:
    return "\n\n".join([*(f"{who}: {text}" for who, text in turns), "Assistant:"])


def _url(source: v1.MediaSource, path: str, target: Target) -> str:
    if source.WhichOneof("source") == "uri":
        return web_address(source, path, target)
    return f"data:{source.mime_type};base64,{b64encode(source.data).decode()}"


def _sampling(inputs: Body, sampling: v1.SamplingOptions, schema: Schema, wishes: Wishes) -> None:
    for field, value in sampling.ListFields():
        match field.name:
            case wish if wish in _SAMPLING and (name := schema.name(wish)):
                inputs[name] = value
            case "stop_sequences" if name := schema.name("stop_sequences"):
                inputs[name] = list(value) if schema.is_list(name) else ",".join(value)
                if any("," in sequence for sequence in value) and not schema.is_list(name):
                    wishes.unmet("sampling.stop_sequences", "commas divide stop sequences here")
            case wish:
                wishes.unmet(f"sampling.{wish}", f"this model has no {wish}")


def _reasoning(inputs: Body, reasoning: v1.ReasoningOptions, schema: Schema, wishes: Wishes) -> None:
    if reasoning.effort:
        wanted = v1.ReasoningEffort.Name(reasoning.effort).removeprefix("REASONING_EFFORT_").lower()
        name = schema.name("effort")
        levels = [level for level in _EFFORTS if level in schema.choices.get(name, (wanted,))]
        if not name or not levels:
            wishes.unmet("reasoning.effort", "this model has no reasoning effort")
        else:
            rank = _EFFORTS.index(wanted)
            inputs[name] = level = min(levels, key=lambda level: abs(_EFFORTS.index(level) - rank))
            if level != wanted:
                wishes.unmet("reasoning.effort", f"there is no effort {wanted}; {level} is asked for", "CLAMPED")
    if reasoning.HasField("budget_tokens"):
        wishes.unmet("reasoning.budget_tokens", "reasoning takes no number of tokens here")
    if reasoning.visibility:
        wishes.unmet("reasoning.visibility", "there is no choice of what reasoning is shown here")


def _elsewhere(inputs: Body, request: v1.ChatRequest, schema: Schema, wishes: Wishes) -> None:
    """Tools, forms of output and the rest: wishes that have no place in a prediction."""
    if request.tools and request.tool_choice.mode != v1.ToolChoice.MODE_NONE:
        wishes.unmet("tools", "models take no tools here")
    output = request.output
    match output.WhichOneof("format"):
        case "json_object" | "json_schema" as form:
            wishes.unmet(f"output.{form}", "the form of the output cannot be chosen here")
    if output.verbosity:
        if name := schema.name("verbosity"):
            inputs[name] = output.verbosity
        else:
            wishes.unmet("output.verbosity", "there is no choice of verbosity here")
    if output.predicted_text:
        wishes.unmet("output.predicted_text", "there is no predicted output here")
    cache = request.prompt_cache
    for field in ("key", "ttl"):
        if getattr(cache, field) and (field != "ttl" or cache.HasField("ttl")):
            wishes.unmet(f"prompt_cache.{field}", "there is no prompt cache here")
    if request.routing.service_tier:
        wishes.unmet("routing.service_tier", "there are no service tiers here")
    if request.end_user_id:
        wishes.unmet("end_user_id", "the end user cannot be named here")
