"""A function call whose arguments come value by value, each with its path: Google Cloud's `partialArgs`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]|\[(?:'([^']*)'|\"([^\"]*)\")\]")
_VALUES = ("stringValue", "numberValue", "boolValue", "nullValue")


class PartialCall:
    """Puts the arguments of one call together."""

    def __init__(self) -> None:
        self.arguments: dict[str, Any] = {}
        self._continued = ""  # path of the text that goes on

    @staticmethod
    def begins(call: Mapping[str, Any]) -> bool:
        """Whether `call` is the first piece of one."""
        return bool(call.get("willContinue") or call.get("partialArgs"))

    def add(self, call: Mapping[str, Any]) -> None:
        """One piece. Raises ValueError for a path that leads nowhere."""
        self.arguments.update(call.get("args") or {})
        for piece in call.get("partialArgs") or ():
            self._set(piece)

    def _set(self, piece: Mapping[str, Any]) -> None:
        path = piece["jsonPath"]
        kind = next((kind for kind in _VALUES if kind in piece), None)
        value = None if kind in (None, "nullValue") else piece[kind]
        steps = list(_steps(path))
        place: Any = self.arguments
        for step, following in pairwise(steps):
            place = _enter(place, step, [] if isinstance(following, int) else {})
        last = steps[-1]
        if self._continued == path and kind == "stringValue":
            value = _enter(place, last, "") + value
        _put(place, last, value)
        self._continued = path if piece.get("willContinue") else ""


def _steps(path: str) -> Iterator[str | int]:
    """The steps of a JSON path such as `$.a[0]['b c']`."""
    at = 1
    if not path.startswith("$") or path == "$":
        raise ValueError("a path that does not begin at the arguments")
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None:
            raise ValueError("a path of another form than is documented")
        name, number, quoted, double = match.groups()
        yield int(number) if number is not None else next(one for one in (name, quoted, double) if one is not None)
        at = match.end()


def _enter(place: Any, step: str | int, default: Any) -> Any:
    """What is at `step` of `place`, made there if it was nothing."""
    found = place.get(step) if isinstance(step, str) else place[step] if step < len(place) else None
    if found is None:
        found = default
        _put(place, step, found)
    return found


def _put(place: Any, step: str | int, value: Any) -> None:
    if isinstance(step, int) and step == len(place):
        place.append(value)  # lists grow item by item; a gap would be an IndexError
    else:
        place[step] = value
