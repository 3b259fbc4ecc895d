"""What kustomize makes of deploy/kustomize: the overlays, the base, and each component on the base."""

from __future__ import annotations

import functools
import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.clients.toolchain import needs

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUSTOMIZE = DEPLOY / "kustomize"
OVERLAYS = sorted(path.name for path in (KUSTOMIZE / "overlays").iterdir())
COMPONENTS = sorted(path.name for path in (KUSTOMIZE / "components").iterdir())
ALL = ("base", *OVERLAYS, *COMPONENTS)

Object = dict[str, Any]
Objects = list[Object]

CALLERS = "callers: {billing: {key: file:/run/secrets/parley/callers/billing}}\nproviders: {mock: {}}\n"
NEEDS = {"tls": ("external-secrets",)}
"""Components that another one asks for; `tls` asks for callers as well, which `rendering` gives it."""


def kustomize(folder: Path) -> str:
    """The YAML that `kubectl kustomize` writes for `folder`. Raises AssertionError with what it complains of.

    Without kubectl the test is skipped; in CI it fails.
    """
    needs("kubectl")
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"kubectl kustomize {folder}: {done.stderr}"
    assert not done.stderr, done.stderr  # warnings of what is deprecated
    return done.stdout


def objects(text: str) -> Objects:
    """The objects of a YAML text."""
    return [one for one in yaml.safe_load_all(text) if one is not None]


@functools.cache
def rendered(name: str) -> str:
    """The YAML of one of ALL."""
    if name in COMPONENTS:
        return on_the_base(name, *NEEDS.get(name, ()), config=CALLERS if name == "tls" else "")
    return kustomize(KUSTOMIZE / ("base" if name == "base" else f"overlays/{name}"))


def on_the_base(*components: str, config: str = "") -> str:
    """The base with `components`, and with another parley.yaml if `config` is one."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.relpath(KUSTOMIZE, folder)
        said: Object = {
            "resources": [f"{path}/base"],
            "components": [f"{path}/components/{component}" for component in components],
        }
        if config:
            Path(folder, "parley.yaml").write_text(config)
            options = {"disableNameSuffixHash": True}
            generator = {"name": "parley-config", "behavior": "replace", "files": ["parley.yaml"], "options": options}
            said["configMapGenerator"] = [generator]
        Path(folder, "kustomization.yaml").write_text(yaml.safe_dump(said))
        return kustomize(Path(folder))


def of_kind(found: Sequence[Object], *kinds: str) -> Iterator[Object]:
    """The objects of those kinds."""
    return (one for one in found if one["kind"] in kinds)


def one(found: Sequence[Object], kind: str, name: str) -> Object:
    """The one object of that kind and name, which may have a hash behind it."""
    named = [it for it in of_kind(found, kind) if it["metadata"]["name"].removesuffix(_hash(it)) == name]
    assert len(named) == 1, f"{len(named)} of {kind} {name}"
    return named[0]


def _hash(it: Object) -> str:
    head, dash, tail = it["metadata"]["name"].rpartition("-")
    return dash + tail if head and it["kind"] == "ConfigMap" and len(tail) == 10 else ""
