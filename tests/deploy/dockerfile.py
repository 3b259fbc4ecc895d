"""Reads deploy/Dockerfile, and does what it says on this machine: no engine, no base image, the same lines.

The files of each stage lie in a folder of its own, which stands in for the root of its file system. Commands run with
this machine's Python in place of the base image's, and every path that the Dockerfile makes means one in that folder.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

_OWN = ("/opt/parley", "/etc/parley", "/wheels", "/src")
"""What the Dockerfile makes, of all that is in an image."""


@dataclass(frozen=True)
class Instruction:
    """One instruction, its arguments and its flags (`--from=…`)."""

    name: str
    text: str

    @property
    def flags(self) -> dict[str, str]:
        return dict(re.findall(r"--(\w[\w-]*)=(\S+)", self.text if self.name != "RUN" else ""))

    @property
    def words(self) -> list[str]:
        """The arguments: a list in JSON, or words."""
        bare = re.sub(r"^(--\S+\s+)+", "", self.text)
        return list(json.loads(bare)) if bare.startswith("[") else shlex.split(bare)


@dataclass
class Stage:
    """What follows a FROM."""

    base: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)

    def every(self, name: str) -> list[Instruction]:
        return [one for one in self.instructions if one.name == name]

    def last(self, name: str) -> Instruction:
        return self.every(name)[-1]

    @property
    def environ(self) -> dict[str, str]:
        """What ENV sets."""
        pairs = [pair.partition("=") for one in self.every("ENV") for pair in one.words]
        return {name: value for name, _, value in pairs}


@dataclass
class Dockerfile:
    arguments: dict[str, str]
    stages: list[Stage]

    @property
    def image(self) -> Stage:
        """The stage that the image is made of."""
        return self.stages[-1]


def parse(text: str) -> Dockerfile:
    """The Dockerfile's stages, with the arguments before the first one filled in."""
    found = Dockerfile({}, [])
    joined = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE))
    for line in filter(None, map(str.strip, joined.splitlines())):
        name, _, rest = line.partition(" ")
        one = Instruction(name, re.sub(r"\s+", " ", rest.strip()))
        if name == "FROM":
            base, _, called = one.text.partition(" AS ")
            base = re.sub(r"\$\{(\w+)\}", lambda match: found.arguments[match[1]], base)
            found.stages.append(Stage(base, called))
        elif found.stages:
            found.stages[-1].instructions.append(one)
        else:
            assert name == "ARG", f"{name} before the first FROM"
            argument, _, value = one.text.partition("=")
            found.arguments[argument] = value
    return found


def ignored(path: str, rules: str) -> bool:
    """Whether .dockerignore keeps a file of the context from the builder: the last rule that fits counts."""
    kept_away = False
    for rule in filter(None, (line.strip() for line in rules.splitlines() if not line.startswith("#"))):
        pattern = rule.removeprefix("!")
        matcher = re.escape(pattern).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")
        matcher = re.sub(r"\\\[(.*?)\\\]", r"[\1]", matcher)
        if re.fullmatch(f"{matcher}(/.*)?", path):
            kept_away = not rule.startswith("!")
    return kept_away


def interpreter() -> tuple[str, bool]:
    """The Python to build with, and whether other users may run it: one in somebody's home they may not."""
    for found in (os.path.realpath(sys.executable), shutil.which("python3", path="/usr/local/bin:/usr/bin:/bin")):
        way = (Path(found), *Path(found).parents) if found is not None else ()
        if found is not None and all(path.stat().st_mode & stat.S_IXOTH for path in way):
            good = "import ensurepip, sys; sys.exit(sys.version_info < (3, 11))"
            if subprocess.run([found, "-c", good], stderr=subprocess.DEVNULL).returncode == 0:
                return found, True
    return sys.executable, False


def build(found: Dockerfile, context: Path, folder: Path) -> Path:
    """Do every stage's COPY and RUN below `folder`; gives the folder that stands for the root of the image."""
    basis, _ = interpreter()
    roots: dict[str, Path] = {}
    rules = (context / ".dockerignore").read_text()
    for stage in found.stages:
        name = stage.name or "image"
        root = roots[name] = folder / name
        python = folder / f"{name}-python"  # the base image's: commands may change it
        if stage.every("RUN"):
            subprocess.run([basis, "-m", "venv", str(python)], check=True)
        directory = "/"
        root.mkdir()
        for one in stage.instructions:
            match one.name:
                case "WORKDIR":
                    directory = one.words[0]
                    _below(root, directory, directory).mkdir(parents=True, exist_ok=True)
                case "COPY":
                    *sources, target = one.words
                    origin = roots[one.flags["from"]] if "from" in one.flags else context
                    for source in (origin / name.lstrip("/") for name in sources):
                        to = _below(root, directory, target)
                        to = to / source.name if target.endswith("/") and source.is_file() else to
                        _copy(source, to, rules=(context, rules) if origin is context else None)
                case "RUN":
                    _run(one.text, root, _below(root, directory, directory), python, stage.environ)
    return roots["image"]


def below(root: Path, text: str) -> str:
    """`text` with every path that the Dockerfile makes moved below `root`."""
    return re.sub(rf"(?<![\w/.])({'|'.join(_OWN)})(?=[/\s:*]|$)", rf"{root}\1", text)


def _below(root: Path, directory: str, path: str) -> Path:
    return root / os.path.normpath(os.path.join(directory, path)).lstrip("/")


def _copy(source: Path, to: Path, *, rules: tuple[Path, str] | None) -> None:
    """Copy a file or what is in a folder. `rules`: the context and its .dockerignore."""

    def kept_away(path: Path) -> bool:
        return rules is not None and ignored(str(path.relative_to(rules[0])), rules[1])

    def left_out(folder: str, names: list[str]) -> set[str]:
        paths = [Path(folder, name) for name in names]
        return {path.name for path in paths if not path.is_dir() and kept_away(path)}

    assert source.exists(), f"COPY {source}: it is not there"
    if source.is_dir():
        shutil.copytree(source, to, dirs_exist_ok=True, ignore=left_out, symlinks=True)
        return
    assert not kept_away(source), f".dockerignore keeps {source} away"
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, to)


def _run(command: str, root: Path, directory: Path, python: Path, environ: dict[str, str]) -> None:
    """Run a command of RUN as a shell would. pip may keep what it downloads."""
    moved = below(root, command)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    said = {name: value for name, value in environ.items() if name != "PIP_NO_CACHE_DIR"}
    done = subprocess.run(
        ["sh", "-ec", moved],
        cwd=directory,
        env={**kept, **said, "PATH": f"{python}/bin:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, f"RUN {moved}\n{done.stdout}"
