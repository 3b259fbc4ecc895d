"""A pod's files and variables on this machine, so that the gateway can be asked what it makes of them."""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme

from tests.deploy.renderings import Objects, of_kind, one


@dataclass(frozen=True)
class Staged:
    """`environ`: the container's variables, paths moved to where the files are. `config`: its configuration file."""

    environ: dict[str, str]
    config: Path


def stage(found: Objects, root: Path) -> Staged:
    """Lay out below `root` what the gateway's pod of `found` has mounted.

    Secrets hold the keys that some ExternalSecret or Certificate of `found` puts there, with invented contents; others
    are not there. What the code is told of paths is moved below `root`.
    """
    pod = one(found, "Deployment", "parley")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    moved: list[str] = []
    for mount in container["volumeMounts"]:
        folder = root / mount["mountPath"].lstrip("/")
        folder.mkdir(parents=True, exist_ok=True)
        moved.append(mount["mountPath"])
        for name, content in _content(volumes[mount["name"]], found).items():
            (folder / name).write_text(content)

    def move(text: str) -> str:
        return re.sub(f"({'|'.join(moved)})/", rf"{root}\1/", text)

    config = root / "etc/parley/parley.yaml"
    config.write_text(move(config.read_text()))
    return Staged({name: move(value) for name, value in environment(found).items()}, config)


def environment(found: Objects) -> dict[str, str]:
    """The gateway's variables whose values stand in `found`, by name; those of the pod itself are empty."""
    [container] = one(found, "Deployment", "parley")["spec"]["template"]["spec"]["containers"]
    environ: dict[str, str] = {}
    for source in container.get("envFrom", []):
        name = source["configMapRef"]["name"]
        [config_map] = [it for it in of_kind(found, "ConfigMap") if it["metadata"]["name"] == name]
        environ |= config_map["data"]
    environ |= {variable["name"]: variable.get("value", "") for variable in container.get("env", [])}
    return environ


def _content(volume: dict[str, Any], found: Objects) -> dict[str, str]:
    """What the files of a volume hold, by name."""
    if config_map := volume.get("configMap"):
        return {key: str(value) for key, value in one(found, "ConfigMap", config_map["name"])["data"].items()}
    if secret := volume.get("secret"):
        return _secret(secret["secretName"], found)
    return {}


def _secret(name: str, found: Objects) -> dict[str, str]:
    keys: dict[str, str] = {}
    for it in of_kind(found, "ExternalSecret"):
        if it["spec"]["target"]["name"] == name:
            for entry in it["spec"]["data"]:
                keys[entry["secretKey"]] = hashlib.sha256(f"{name}/{entry['secretKey']}".encode()).hexdigest()
    for it in of_kind(found, "Certificate"):
        if it["spec"]["secretName"] == name:
            keys |= _certificate(tuple(it["spec"]["dnsNames"]))
    return keys


@functools.cache
def _certificate(names: tuple[str, ...]) -> dict[str, str]:
    authority = trustme.CA()
    issued = authority.issue_cert(*names)
    return {
        "tls.crt": "".join(blob.bytes().decode() for blob in issued.cert_chain_pems),
        "tls.key": issued.private_key_pem.bytes().decode(),
        "ca.crt": authority.cert_pem.bytes().decode(),
    }
