"""What settings are made of: sections without unknown keys, secrets by reference, addresses. Shared by all that is set.

Validation gets the environment as `context={"environ": …}`; nothing here reads the process's own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    model_validator,
)

from parley_server.core.secret import Secret

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_CREDENTIAL_HEADERS = frozenset({"authorization", "proxy-authorization", "x-api-key", "api-key", "cookie"})


class Section(BaseModel):
    """A part of the tree: frozen, no unknown keys."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        arbitrary_types_allowed=True,
        hide_input_in_errors=True,  # what was written may be a credential in the wrong place
    )


def note_file(info: ValidationInfo, path: Path) -> None:
    """The settings depend on what the file at `path` holds."""
    files: set[Path] | None = (info.context or {}).get("files")
    if files is not None:
        files.add(path)


def _referenced(value: object, info: ValidationInfo) -> Secret:
    match value:
        case Secret():
            return value
        case str() if value.startswith("env:"):
            environ: Mapping[str, str] = (info.context or {}).get("environ", {})
            name = value.removeprefix("env:")
            if not environ.get(name, "").strip():
                raise ValueError(f"the environment variable {name} is not set")
            secret = Secret(environ[name])
        case str() if value.startswith("file:"):
            path = Path(value.removeprefix("file:"))
            note_file(info, path)
            try:
                secret = Secret(path.read_text("utf-8"))
            except OSError as error:
                raise ValueError(f"cannot read the secret file {path}: {error.strerror}") from None
            except ValueError:  # no path, or no text; nothing of it is repeated
                raise ValueError(f"cannot read the secret file {path}: it is not text") from None
            if not secret:
                raise ValueError(f"the secret file {path} is empty")
        case _:  # the value itself is not repeated: it may be a credential
            raise ValueError("write a reference, env:NAME or file:/path, not the credential itself")
    return secret


def header_secret(value: object, info: ValidationInfo) -> Secret:
    """The credential that a reference points to; one that a header can carry."""
    secret = _referenced(value, info)
    if not isinstance(value, Secret) and not fits_header(secret.reveal()):
        raise ValueError(f"what {value} holds is not one line of printable ASCII, so no header can carry it")
    return secret


def fits_header(text: str) -> bool:
    """Whether a header can carry `text`."""
    return text.isascii() and text.isprintable()


def _name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("a name has 1 to 63 lower-case letters, digits, '.', '_' and '-', the first a letter or digit")
    return name


def _url(text: str) -> str:
    url = urlsplit(text)
    if url.scheme not in ("http", "https") or not url.hostname or not url.netloc.isprintable() or " " in text:
        raise ValueError("a base URL is http:// or https://, a host, and perhaps a port and a path")
    if "@" in url.netloc:
        raise ValueError("a base URL holds no credentials: they would be in logs and traces")
    if url.query or url.fragment:
        raise ValueError("a base URL ends with its path: paths of the provider's API are joined to it")
    _ = url.port  # raises ValueError if it is none
    return text.rstrip("/")


def _headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if name.lower() in _CREDENTIAL_HEADERS:
            raise ValueError(f"{name} is for credentials, and headers are shown in full: use api_key")
        if not _HEADER_NAME.fullmatch(name) or not fits_header(value):
            raise ValueError(f"{name!r}: a header is a name without spaces and one line of printable ASCII")
    return {name.lower(): value for name, value in headers.items()}


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    unclear = ":" in host and not (host.startswith("[") and host.endswith("]"))
    if not host or unclear or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise ValueError(f"{text!r} is not host:port (IPv6 hosts are written in brackets)")
    return text


SecretRef = Annotated[Secret, BeforeValidator(header_secret)]
"""A credential, written as `env:NAME` or `file:/path`."""
SecretDocument = Annotated[Secret, BeforeValidator(_referenced)]
"""A credential of several lines, such as a key file, written in the same way. No header carries it."""
Seconds = Annotated[float, Field(gt=0, le=86_400)]
BaseUrl = Annotated[str, AfterValidator(_url)]
"""Without a trailing slash."""
Headers = Annotated[dict[str, str], AfterValidator(_headers)]
"""Names in lower case, none of them for credentials."""
Address = Annotated[str, AfterValidator(_address)]
Name = Annotated[str, AfterValidator(_name)]

NO_SECRET = Secret("")
"""Default of a credential that may be missing."""


Trouble = Literal["rate_limited", "overloaded", "unavailable", "timeout", "interrupted", "protocol"]
"""What may pass by itself: a rate limit (429), too much to do (503, 529), 5xx and broken connections, too slow an
answer (408, 504), an answer that breaks off before its first content, nonsense."""

_LASTING = frozenset({400, 401, 402, 403, 404, 405, 410, 413, 415, 422})


def _statuses(statuses: tuple[int, ...]) -> tuple[int, ...]:
    for status in statuses:
        if not 400 <= status <= 599 or status in _LASTING:
            raise ValueError(f"{status} is not a status of something that passes by itself")
    return statuses


Statuses = Annotated[tuple[int, ...], AfterValidator(_statuses)]
"""HTTP statuses that a retry may help against."""
Attempts = Annotated[int, Field(ge=1, le=32)]
Region = Annotated[str, Field(pattern=r"^$|^[a-z0-9][a-z0-9-]{0,62}$")]
Percent = Annotated[float, Field(ge=50, le=99)]
"""Of what is usual: at least half, and not so much that it would take thousands of observations to know."""


class ProviderRetry(Section):
    """How one provider's failed attempts are tried again, where that differs from `retry`."""

    attempts_per_target: Attempts | None = Field(None, description="Attempts at one target before the next fallback.")
    base: Seconds | None = Field(None, description="Longest wait before the first retry, in seconds.")
    cap: Seconds | None = Field(None, description="Longest wait of the backoff, in seconds.")
    max_retry_after: Seconds | None = Field(None, description="Longest wait it may ask for and get, in seconds.")
    classes: tuple[Trouble, ...] | None = Field(None, description="Which troubles are tried again.")
    statuses: Statuses | None = Field(None, description="Further HTTP statuses that are tried again.")


PerMinute = Annotated[int, Field(ge=1, le=1_000_000_000)]


class ModelLimits(Section):
    """What a provider allows one key in a minute."""

    requests_per_minute: PerMinute | None = Field(None, description="Requests in a minute; no limit if unset.")
    tokens_per_minute: PerMinute | None = Field(
        None, description="Tokens in a minute, input and output together; no limit if unset."
    )


class ProviderLimits(ModelLimits):
    """What a provider allows each of its keys in a minute: for all models together, or for those of `models` alone."""

    models: dict[str, ModelLimits] = Field(
        {}, description="Limits of single models, by the provider's name of them: counted for themselves."
    )
    window: Literal["sliding", "bucket"] = Field(
        "sliding",
        description="How to count: never more than the limit within any minute, or a bucket that is refilled steadily, "
        "from which twice the limit may go in the first minute.",
    )
    max_wait: float = Field(30, ge=0, le=3600, description="Seconds a call waits for room at most; 0: not at all.")
    queue: int = Field(1000, ge=0, le=1_000_000, description="Calls that may wait for room.")
    expected_output: int = Field(
        500, ge=0, le=10_000_000, description="Output tokens reserved for a call that does not say how many it wants."
    )


class KindSettings(Section):
    """What every provider can be told, the mock too.

    `variables`: by field, the environment variables that usually hold it, first one set wins. They fill fields that the
    configuration leaves out; `kind.py` tells from them which providers are set up where no configuration names any.
    """

    variables: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    kind: str
    region: Region = Field("", description="Where it is, for requests that ask for regions, where that is not known.")
    only_if_reachable: bool = Field(False, description="Leave it out, silently, unless it answers at start.")
    limits: ProviderLimits | None = Field(None, description="What it allows in a minute, so that it need not refuse.")
    retry: ProviderRetry | None = Field(None, description="What is different from `retry` for it.")

    @model_validator(mode="before")
    @classmethod
    def _usual_variables(cls, data: Any, info: ValidationInfo) -> Any:
        environ: Mapping[str, str] = (info.context or {}).get("environ", {})
        if not isinstance(data, dict):
            return data
        filled = dict(data)
        for field, names in cls.variables.items():
            name = next((name for name in names if environ.get(name, "").strip()), None)
            if name is not None and field not in filled:
                is_secret = Secret in _types(cls.model_fields[field].annotation)
                filled[field] = f"env:{name}" if is_secret else environ[name].strip()
        return filled


class ProviderSettings(KindSettings):
    """What every provider behind a network can be told. A kind of provider derives its own settings from this."""

    headers: Headers = Field({}, description="Further headers for every request. Not for credentials.")
    models: tuple[str, ...] = Field((), description="Models to list although the provider does not list them.")


class KeyedSettings(ProviderSettings):
    """What a provider can be told that is shown a key: one in `api_key`, several in `api_keys`, or both.

    Its own field `api_key` says whether it needs any; `keys` are those that there are, that of `api_key` first.
    """

    api_keys: tuple[SecretRef, ...] = Field(
        (),
        description="Several API keys, each as good as the other: one that is refused or at its limit is set aside.",
    )

    @model_validator(mode="before")
    @classmethod
    def _first_of_several(cls, data: Any) -> Any:
        """Before the usual variables are looked at: who lists keys wants these and no others."""
        if isinstance(data, dict) and "api_key" not in data:
            match data.get("api_keys"):
                case [first, *_]:
                    return {**data, "api_key": first}
        return data

    @property
    def keys(self) -> tuple[Secret, ...]:
        """All keys, each once; an empty one if there is none."""
        key: Secret = getattr(self, "api_key", NO_SECRET)
        return tuple(dict.fromkeys((*((key,) if key else ()), *self.api_keys))) or (key,)


def _types(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, or the one type there is."""
    return getattr(annotation, "__args__", ()) or (annotation,)
