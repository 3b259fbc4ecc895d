"""No dialect is left out of the suite, and the suite finds what is wrong with one."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import Any

import pytest

import parley_server.dialects
from parley import v1
from parley_server.core.errors import StreamInterrupted
from parley_server.core.target import Target
from parley_server.dialects.openai_chat import OpenAIChat, Quirks
from tests.contract.cases import DIALECTS, cases
from tests.contract.cases.openai_chat import OpenAI
from tests.contract.said import Said, heard, turn_of

VERBS = ("encode", "decode", "decoder", "error")


def chatting(module: Any) -> bool:
    """Whether a module of dialects has a class that chats."""
    classes = [item for item in vars(module).values() if isinstance(item, type)]
    return any(all(hasattr(one, verb) for verb in VERBS) or hasattr(one, "converse") for one in classes)


def test_every_dialect_that_chats_has_a_case() -> None:
    shared = {"base", "steps"}
    names = {module.name for module in pkgutil.iter_modules(parley_server.dialects.__path__)} - shared
    found = {name for name in names if chatting(import_module(f"parley_server.dialects.{name}"))}
    assert found == set(DIALECTS) - {"acorn"}


def test_names_of_cases_tell_them_apart() -> None:
    names = [case.name for case in cases()]
    assert len(set(names)) == len(names)


class Sloppy(OpenAI):
    """A wire whose dialect takes the end of the connection for the end of the answer, and forgets a part."""

    dialect = OpenAIChat(Quirks(done_marker=False, reasoning_fields=()))

    def enough(self, said: Said) -> int:
        return len(self.events(said))


def test_a_dialect_that_takes_a_torn_answer_for_a_whole_one_is_found() -> None:
    case, said = Sloppy(), Said(text="hello")
    writes = case.stream(said)
    whole = b"".join(writes)
    cut = len(b"".join(writes[:-2]))  # before the counts and [DONE]
    assert cut < len(whole) - case.trailing
    response = case.decoded([whole[:cut]])  # what `test_a_prefix_is_interrupted_and_never_an_answer` does not let pass
    assert response.finish_reason == v1.FINISH_REASON_STOP
    with pytest.raises(StreamInterrupted):
        OpenAI().decoded([whole[:cut]])


def test_a_dialect_that_forgets_a_part_is_found() -> None:
    class Forgetful(OpenAIChat):
        def decode(self, body: bytes, target: Target) -> v1.ChatResponse:
            response = super().decode(body, target)
            del response.message.parts[:]
            return response

    said = Said(text="hello")
    response = Forgetful().decode(OpenAI().whole(said), OpenAI.target)
    assert heard(response) != turn_of(said)
