"""`--install CLIENT`: adds this server to the configuration of a client, by the client's own command or in its file."""

from __future__ import annotations

import difflib
import io
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from cli.clients import config_file, json_file
from cli.clients.config_file import FileProblem
from cli.clients.entry import NAME, Entry
from cli.clients.json_file import NotJson
from cli.clients.table import Client, Format
from operating_system.waiting import wait_until_readable

Json = dict[str, Any]

_STARTS = ("command", "args", "env")
"""What of an entry starts the server."""
_SET_BY_COMMANDS = (*_STARTS, "type", "tools")
"""What the own commands of clients set; the rest of a former entry may be lost."""
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL", re.IGNORECASE)
"""In the name of a variable: its value is not shown."""
_BATCH_FILES = (".cmd", ".bat")
UNCHANGED = "Nothing was changed."


class _Found(msgspec.Struct, frozen=True):
    """What a client has now: the text of its file, its entry for this server, and whether the file can be changed."""

    text: str | None = None
    entry: Any = None
    is_editable: bool = False


def install(client: Client, entry: Entry, environment: Mapping[str, str], *, assume_yes: bool) -> int:
    """Shows what changes, asks, and changes it.

    Arguments:
        client: the client.
        entry: the entry that starts this server.
        environment: the variables of this process, which say where the client's file and command are.
        assume_yes: whether to change it without asking.

    Returns: the exit status; 1 if the client does not have the entry then.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a path may have any characters
    path = client.file(environment)
    if path is None:
        print(client.text(entry))
        return _failed(f"Put this into {client.place}. {UNCHANGED}")
    try:
        installation = _Installation(client, entry, path, _program(client, environment))
        if installation.is_there():
            print(f"Nothing changes: {client.title} has this entry already, in {path}.")
            return 0
        if not installation.is_possible():
            print(client.text(entry))
            return _failed(f"Put this into {path} yourself: --install changes plain JSON only. {UNCHANGED}")
        print(installation.difference())
        return installation.apply() if _agreed(assume_yes) else 1
    except FileProblem as problem:
        return _failed(f"{problem} {UNCHANGED}")


class _Installation:
    """The entry that a client has, the one that it is to have, and the way from one to the other.

    What the user added to the former entry stays, variables included, if it starts a program too.
    """

    def __init__(self, client: Client, entry: Entry, path: str, program: str | None) -> None:
        self._client, self._path, self._program = client, path, program
        self._found = _read(client, path)
        former = self._found.entry
        self._former: Json = former if isinstance(former, dict) and former.keys() & {"command", "cmd"} else {}
        found = self._former.get(client.env)
        variables = found if isinstance(found, dict) else {}
        self._entry = msgspec.structs.replace(entry, env={**variables, **entry.env})
        self._new = {**self._former, **client.shape(self._entry)}
        known = (*variables.items(), *entry.env.items())
        self._secrets = [str(value) for name, value in known if _SECRET.search(name) and value]

    def is_there(self) -> bool:
        """Whether the client has the entry already."""
        return self._new == self._found.entry or (self._program is not None and self._starts_the_same(self._found))

    def is_possible(self) -> bool:
        """Whether there is a command to run or a file that can be changed."""
        return self._program is not None or self._found.is_editable

    def difference(self) -> str:
        """What changes, without secrets."""
        before = [] if self._found.entry is None else json.dumps(self._found.entry, indent=2).splitlines()
        is_set = {name: value for name, value in self._new.items() if not self._program or name in _SET_BY_COMMANDS}
        after = json.dumps(is_set, indent=2).splitlines()
        lines = [f'"{NAME}" in "{self._client.section}" of {self._path}:']
        lines += list(difflib.unified_diff(before, after, n=len(after), lineterm=""))[3:]
        lines += [f"command: {shlex.join(command)}" for command in self._commands()]
        text = "\n".join(lines)
        for secret in self._secrets:
            text = text.replace(json.dumps(secret)[1:-1], "...").replace(secret, "...")
        return text

    def apply(self) -> int:
        """Makes the change; returns the exit status."""
        if self._program is not None:
            return self._run(self._program)
        text = json_file.with_member(self._found.text or "", self._client.section, NAME, self._new)
        backup = config_file.replace(self._path, self._found.text, text)
        print(f"Written to {self._path}." + (f" The former file is {backup}." if backup else ""))
        print(f"Restart {self._client.title}, or let it read its servers again.")
        return 0

    def _commands(self) -> list[Sequence[str]]:
        own = self._client.own
        if own is None or self._program is None:
            return []
        first = [own.remove] if own.remove and self._found.entry is not None else []
        return [*first, own.add(self._entry)]

    def _run(self, program: str) -> int:
        """Runs the client's commands, and looks whether its file has the entry then."""
        own, title = self._client.own, self._client.title
        assert own is not None
        commands = self._commands()
        for command in commands:
            try:
                status: object = subprocess.run([program, *command[1:]], stdin=subprocess.DEVNULL).returncode
            except OSError as error:
                status = error.strerror
            if status != 0:
                name = " ".join(command[:3]) if command is own.remove else own.name
                outcome = UNCHANGED if command is commands[0] else f"{title} has no entry now."
                return _failed(f"`{name}` failed ({status}). {outcome}")
        if not self._starts_the_same(_read(self._client, self._path)):
            return _failed(f"`{own.name}` reports no error, but {self._path} does not have the entry.")
        print(f"{title} has the entry in {self._path}.")
        if own.missing:
            print(own.missing)
        return 0

    def _starts_the_same(self, found: _Found) -> bool:
        """Whether an entry starts the same server as the new one."""
        if not isinstance(found.entry, dict):
            return False
        return all((found.entry.get(name) or None) == (self._new.get(name) or None) for name in _STARTS)


def _read(client: Client, path: str) -> _Found:
    """What is in the client's file; of YAML only the text.

    Raises: `FileProblem`.
    """
    text = config_file.read(path)
    if client.format is Format.YAML:
        return _Found(text)
    try:
        if client.format is Format.TOML:
            content, is_editable = tomllib.loads(text or ""), False
        else:
            content, is_editable = json_file.parsed(text or "")
    except (NotJson, tomllib.TOMLDecodeError) as error:
        raise FileProblem(f"{path} is not valid {client.format.value}: {error}. Correct it first.") from None
    servers = content.get(client.section, {})
    if not isinstance(servers, dict):
        raise FileProblem(f'In {path}, "{client.section}" is not an object. Correct it first.')
    return _Found(text, servers.get(NAME), is_editable)


def _program(client: Client, environment: Mapping[str, str]) -> str | None:
    """The client's own program, where there is one that takes every argument as it is: a batch file does not."""
    if client.own is None:
        return None
    program = shutil.which(client.own.name.split()[0], path=environment.get("PATH"))
    return None if program is None or program.lower().endswith(_BATCH_FILES) else program


def _agreed(assume_yes: bool) -> bool:
    """Asks whether to go on, if there is somebody to ask."""
    if assume_yes:
        return True
    if not sys.stdin.isatty():
        _failed(f"This is no terminal, so nobody can be asked; --yes agrees in advance. {UNCHANGED}")
        return False
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        print("Change it? [y/N] ", end="", flush=True)
        wait_until_readable(sys.stdin.fileno())
        answer = sys.stdin.readline()
    except KeyboardInterrupt:
        answer = ""
    finally:
        signal.signal(signal.SIGINT, former)
    if not answer:
        print()
    if answer.strip().lower() in ("y", "yes"):
        return True
    _failed(UNCHANGED)
    return False


def _failed(text: str) -> int:
    sys.stdout.flush()
    print(text, file=sys.stderr)
    return 1
