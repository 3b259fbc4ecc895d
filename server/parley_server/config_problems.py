"""What is wrong with a configuration, in words: where, by which variable, and what was probably meant."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """`error` as pydantic has it, at `place`, in settings of the class `root` that lie at the path `above`."""

    error: Any
    root: Any
    above: tuple[str, ...]


def problems_of(error: ValidationError, root: Any, above: tuple[str, ...]) -> list[Problem]:
    """All that `error` has to say of settings of the class `root` that lie at the path `above`."""
    return [Problem(one, root, above) for one in error.errors(include_input=False, include_url=False)]


def said(problem: Problem, variables: Mapping[str, str]) -> str:
    """One line: where, by which variable if any, what is wrong, and what was probably meant."""
    error = problem.error
    inside, keys = place(error["loc"], problem.root)
    path = [*problem.above, *inside]
    message = str(error["msg"]).removeprefix("Value error, ")
    here = ".".join(path)
    behind = [variable for at, variable in variables.items() if f"{here}.".startswith(f"{at}.")]
    match error["type"]:
        case "extra_forbidden" | "unexpected_keyword_argument":
            near = difflib.get_close_matches(path[-1], keys, n=1, cutoff=0.5)
            message = f"unknown key; did you mean {near[0]}?" if near else f"unknown key; known keys: {', '.join(keys)}"
            behind = behind or [variable for at, variable in variables.items() if at.startswith(f"{here}.")]
        case "kind":
            at_all = here.removesuffix("kind")
            behind = behind or [variable for at, variable in variables.items() if at.startswith(at_all)]
        case "missing" if names := getattr(problem.root, "variables", {}).get(path[-1]):
            message = f"is not given, and {' or '.join(names)} is not set"
        case "model_type" | "dict_type" | "dataclass_type" | "model_attributes_type":
            message = "should be a mapping of settings"
    return f"{here} ({', '.join(behind)}): {message}" if behind else f"{here}: {message}"


def place(location: tuple[int | str, ...], root: Any) -> tuple[list[str], list[str]]:
    """The path of an error as its author wrote it, without labels of union members, and the keys there are."""
    path: list[str] = []
    kind: Any = root
    keys: list[str] = []
    if root is None:
        return [str(step) for step in location], keys
    for step in location:
        if step == "[key]":
            break
        if get_origin(kind) in (Union, UnionType):  # of what may be None there is one other member, and no label
            members = [member for member in get_args(kind) if member is not NoneType]
            kind = members[0] if len(members) == 1 else kind
        if get_origin(kind) is Annotated:
            kind = get_args(kind)[0]
        if get_origin(kind) in (dict, tuple):
            kind = get_args(kind)[1 if get_origin(kind) is dict else 0]
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            keys = sorted(kind.model_fields)
            kind = kind.model_fields[str(step)].annotation if step in kind.model_fields else None
        elif isinstance(kind, type) and dataclasses.is_dataclass(kind):
            keys = sorted(field.name for field in dataclasses.fields(kind))
            kind = None
        elif kind is not None:
            break
        path.append(str(step))
    return path, keys
