"""Where a call belongs: the version of the API, and the project or space that pays for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from parley_server.core.target import Target

DEPLOYMENT = "deployment/"
"""Begins the names of models that are deployments; the deployment's ID or serving name follows."""

_WHO = ("project_id", "space_id")


@dataclass(frozen=True, slots=True)
class Scope:
    """What all calls of an account have in common."""

    version: str
    """Of the API, a date: the newest version up to it answers."""
    project_id: str = ""
    space_id: str = ""

    def path(self, operation: str, target: Target) -> str:
        """Path of `operation`, such as "chat", of a model or a deployment."""
        deployment = _deployment(target)
        of = f"deployments/{quote(deployment, safe='')}/" if deployment else ""
        return f"/ml/v1/{of}text/{operation}?version={self.version}"

    def add(self, body: dict[str, Any], target: Target) -> dict[str, Any]:
        """`body` behind the model and who pays; a deployment knows both itself."""
        if _deployment(target):
            return body
        if self.project_id or self.space_id:
            who = {"project_id": self.project_id} if self.project_id else {"space_id": self.space_id}
            body = {**who, **{name: value for name, value in body.items() if name not in _WHO}}
        return {"model_id": target.model, **body}


def _deployment(target: Target) -> str:
    return target.model.removeprefix(DEPLOYMENT) if target.model.startswith(DEPLOYMENT) else ""
