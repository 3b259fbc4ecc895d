"""Where the Gemini API is served, as data: Google Cloud takes the same bodies, with small differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote


def model_path(model: str) -> str:
    """The path of a model of the Gemini API: names such as tunedModels/… are paths already."""
    return _path(model, "/models/", ("models/", "tunedModels/"))


def _path(model: str, folder: str, folders: tuple[str, ...]) -> str:
    """`model` in its folder, or where its own name says; never elsewhere, whatever it is called."""
    steps = model.split("/")
    if model.startswith(folders) and not {"", ".", ".."} & set(steps):
        return f"/{quote(model, safe='/@')}"
    return f"{folder}{quote(model, safe='@')}"


@dataclass(frozen=True, slots=True)
class Hosting:
    """One place that serves the API. The default is the Gemini API itself."""

    path: Callable[[str], str] = model_path
    """The path of a model; `:` and a verb follow."""

    call_ids: bool = True
    """Function calls and their responses take an `id`; otherwise they are told apart by name and order alone."""

    refused_uris: tuple[str, ...] = ("gs://", "s3://")
    """Beginnings of URIs that this place cannot fetch."""

    titles: bool = False
    """Inline data takes a `displayName`."""

    mixed_tools_flag: bool = True
    """The API's own tools beside functions must be announced in `toolConfig`, from Gemini 3 on."""

    end_user_label: str = ""
    """Label that carries the pseudonym of the end user; empty: there are no labels."""

    tier_field: str = "serviceTier"
    """Field of the body for the service tier; empty: it is a header, or nothing."""

    tier_headers: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """By service tier, the name and value of the header that asks for it."""


GEMINI = Hosting()


def _vertex_path(model: str) -> str:
    """Models of Google by name; one's own endpoints and other publishers' models are paths already."""
    return _path(model.removeprefix("google/"), "/publishers/google/models/", ("endpoints/", "publishers/"))


VERTEX = Hosting(
    path=_vertex_path,
    refused_uris=("https://generativelanguage.googleapis.com/", "s3://"),  # files of the Gemini API are not seen here
    titles=True,
    mixed_tools_flag=False,
    end_user_label="end_user",
    tier_field="",
    tier_headers={
        "dedicated": ("x-vertex-ai-llm-request-type", "dedicated"),
        "shared": ("x-vertex-ai-llm-request-type", "shared"),
        "priority": ("x-vertex-ai-llm-shared-request-type", "priority"),
        "flex": ("x-vertex-ai-llm-shared-request-type", "flex"),
    },
)
"""Google Cloud, below `/projects/{project}/locations/{location}`."""
