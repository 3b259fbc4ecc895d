"""ListModels and GetModel: pages after AIP-158, from memory."""

from __future__ import annotations

import base64
import binascii
import difflib
import hashlib
from collections.abc import Iterable
from itertools import islice
from typing import Protocol

from parley import v1
from parley_server.core.errors import InvalidRequest, ModelNotFound, PageTokenInvalid, Violation

_DEFAULT_PAGE = 100
_LARGEST_PAGE = 1000
_DIGEST = 8  # bytes


class Known(Protocol):
    """The models there are."""

    def get(self, model_id: str) -> v1.Model | None: ...
    def ids_of(self, bare_name: str) -> list[str]: ...
    def ids(self) -> list[str]: ...
    def after(self, model_id: str) -> Iterable[v1.Model]: ...


class Models:
    """Cuts the list of models into pages.

    A page token holds the last ID of the page and a digest of the other arguments: it survives a restart, means the
    same on every replica, and is refused for other arguments. It grants nothing.
    """

    def __init__(self, known: Known) -> None:
        self.known = known

    def page(self, request: v1.ListModelsRequest) -> v1.ListModelsResponse:
        """The page that `request` asks for. Raises InvalidRequest or PageTokenInvalid."""
        if request.page_size < 0:
            message = "must not be negative"
            raise InvalidRequest(f"page_size {message}", violations=[Violation("page_size", message, "INVALID")])
        if request.operation not in ("", "chat", "embed", "rerank"):
            message = f"{request.operation[:32]!r} is none of chat, embed, rerank"
            raise InvalidRequest(f"operation {message}", violations=[Violation("operation", message, "INVALID")])
        size = min(request.page_size or _DEFAULT_PAGE, _LARGEST_PAGE)
        digest = _digest(request)
        after = _open(request.page_token, digest) if request.page_token else ""
        providers = _providers(request)
        found = list(islice((m for m in self.known.after(after) if _matches(m, providers, request)), size + 1))
        response = v1.ListModelsResponse(models=found[:size])
        if len(found) > size:
            response.next_page_token = base64.urlsafe_b64encode(digest + found[size - 1].id.encode()).decode()
        return response

    def one(self, name: str) -> v1.Model:
        """The model that goes by `name`. Raises ModelNotFound, InvalidRequest for an ambiguous bare name."""
        if not name:
            raise InvalidRequest("model is required", violations=[Violation("model", "is required", "INVALID")])
        model = self.known.get(name)
        if model is not None:
            return model
        match self.known.ids_of(name):
            case [one] if (model := self.known.get(one)) is not None:
                return model
            case []:
                near = difflib.get_close_matches(name, self.known.ids(), n=3, cutoff=0.4)
                hint = f"; did you mean {' or '.join(near)}?" if near else ""
                raise ModelNotFound(f"no model goes by the name {name[:256]!r}{hint}", facts={"model": name[:256]})
            case several:
                message = f"several providers have {name!r}: write {' or '.join(several)}"
                raise InvalidRequest(message, violations=[Violation("model", message, "AMBIGUOUS_MODEL")])


def _providers(request: v1.ListModelsRequest) -> frozenset[str]:
    """Short names of the providers that are asked for; empty for all."""
    return frozenset(name.strip() for name in request.provider.split(",") if name.strip())


def _matches(model: v1.Model, providers: frozenset[str], request: v1.ListModelsRequest) -> bool:
    return (
        (not providers or model.provider in providers)
        and (not request.operation or request.operation in model.operations)
        and all(capability in model.capabilities for capability in request.capabilities)
    )


def _digest(request: v1.ListModelsRequest) -> bytes:
    arguments = v1.ListModelsRequest(
        provider=",".join(sorted(_providers(request))),
        capabilities=sorted(set(request.capabilities)),
        operation=request.operation,
    )
    return hashlib.blake2b(arguments.SerializeToString(deterministic=True), digest_size=_DIGEST).digest()


def _open(token: str, digest: bytes) -> str:
    try:
        data = base64.b64decode(token, altchars=b"-_", validate=True)
        cursor = data[_DIGEST:].decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        data, cursor = b"", ""
    if data[:_DIGEST] != digest or not cursor:
        message = "is not a token this request was given; start again without it, or keep the other fields as they were"
        raise PageTokenInvalid(f"page_token {message}", violations=[Violation("page_token", message, "INVALID")])
    return cursor
