"""Dockerfile, .dockerignore and Compose files as data, as far as ours go: what tests look into and carry out."""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
Json = dict[str, Any]


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile with its flags (`--from=build`) and the rest of it."""

    name: str
    flags: dict[str, str]
    text: str

    @property
    def words(self) -> list[str]:
        """Its arguments, in either form."""
        return list(json.loads(self.text)) if self.text.startswith("[") else shlex.split(self.text)


@dataclass(frozen=True)
class Stage:
    """A stage: its name, what it begins from, and its instructions."""

    name: str
    base: str
    instructions: tuple[Instruction, ...]

    def all(self, name: str) -> list[Instruction]:
        """Those of that name."""
        return [instruction for instruction in self.instructions if instruction.name == name]

    def last(self, name: str) -> Instruction:
        """The one that holds."""
        return self.all(name)[-1]


def stages() -> dict[str, Stage]:
    """The stages of our Dockerfile in their order."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = [line for line in re.sub(r"\\\n", " ", text).splitlines() if line.strip()]
    found: dict[str, Stage] = {}
    for line in lines:
        name, _, rest = line.partition(" ")
        if name == "FROM":
            base, _, stage = rest.partition(" AS ")
            found[stage] = Stage(stage, base, ())
            continue
        flags = {}
        while match := re.match(r"\s*--([a-z-]+)=(\S+)\s*", rest):
            flags[match[1]], rest = match[2], rest[match.end() :]
        stage, last = found.popitem()
        found[stage] = Stage(stage, last.base, (*last.instructions, Instruction(name, flags, rest.strip())))
    return found


def built_from(name: str) -> list[Stage]:
    """A stage and those that it begins from, the first of them first."""
    known = stages()
    chain = [known[name]]
    while chain[0].base in known:
        chain.insert(0, known[chain[0].base])
    return chain


class Context:
    """What of the repository an image can have: the files that .dockerignore leaves in."""

    def __init__(self) -> None:
        lines = (ROOT / ".dockerignore").read_text().splitlines()
        self._rules = [line.strip() for line in lines if line.strip() and not line.startswith("#")]

    def has(self, path: str) -> bool:
        """Whether the file is in it; the last rule that names it, or a folder above it, decides."""
        ignored = False
        parts = path.split("/")
        names = ["/".join(parts[: n + 1]) for n in range(len(parts))]
        for rule in self._rules:
            pattern = rule.removeprefix("!").rstrip("/")
            if any(_matches(name, pattern) for name in names):
                ignored = not rule.startswith("!")
        return not ignored

    def files(self, folder: Path = ROOT) -> Iterator[str]:
        """All files in it, in the repository's own folders."""
        for path in sorted(folder.iterdir()):
            name = path.relative_to(ROOT).as_posix()
            if path.name in (".git", ".venv", ".venv-omni", ".cache", "__pycache__") or path.is_symlink():
                continue
            if path.is_dir():
                yield from self.files(path)
            elif self.has(name):
                yield name


def _matches(name: str, pattern: str) -> bool:
    """As Docker matches: a star stands for no slash, two stars for any folders."""
    if pattern.startswith("**/"):
        return fnmatch.fnmatchcase(name.rpartition("/")[2], pattern[3:])
    names, patterns = name.split("/"), pattern.split("/")
    return len(names) == len(patterns) and all(map(fnmatch.fnmatchcase, names, patterns))


class Unset(Exception):
    """A variable that must be set, with the message that the file has for it."""


def compose(name: str, environment: Mapping[str, str]) -> Json:
    """A Compose file with its variables filled in as Compose does.

    Raises: `Unset`.
    """
    found: Json = yaml.safe_load(interpolated((ROOT / name).read_text(), environment))
    return found


def interpolated(text: str, environment: Mapping[str, str]) -> str:
    """Fills in `${NAME:-default}` and `${NAME:?message}`, in comments too."""

    def value(match: re.Match[str]) -> str:
        name, kind, rest = match[1], match[2], match[3]
        if found := environment.get(name):
            return found
        if kind == ":?":
            raise Unset(rest)
        return rest or ""

    return re.sub(r"\$\{([A-Z_]+)(?:(:-|:\?)([^}]*))?\}", value, text)
