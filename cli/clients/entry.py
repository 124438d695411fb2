"""How a client starts this server: one entry, which `shapes` puts into the form of each client."""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
from collections.abc import Mapping

import msgspec

from settings.installation import COMMAND, ROOT, is_clone, is_of_uvx

NAME = "vllm"
"""The server's name in the configuration of a client."""
TITLE = "vLLM"
UVX = "uvx"
_OF_EXTRA_MEDIA = ("av", "numpy")


class Entry(msgspec.Struct, frozen=True):
    """A server on stdin and stdout: the program, its arguments, and the variables to add to its environment."""

    command: str
    args: tuple[str, ...]
    env: Mapping[str, str] = {}


def this_server(env: Mapping[str, str], *, by_uvx: bool = False) -> Entry:
    """The entry that starts this installation.

    Arguments:
        env: the variables of the entry.
        by_uvx: whether `uvx` is to start the published package, whatever this installation is.
    """
    if by_uvx:
        return Entry(UVX, (COMMAND,), env)
    if is_clone():
        return Entry(_python_of_clone(), (os.path.join(ROOT, "vllm_server.py"),), env)
    prefix = _prefix()
    if is_of_uvx(prefix):
        return Entry(UVX, (*_uvx_source(), COMMAND), env)
    script = _script_in(prefix)
    return Entry(script, (), env) if script else Entry(sys.executable, (os.path.join(ROOT, "vllm_server.py"),), env)


def _python_of_clone() -> str:
    """The Python of the clone's own environment, or without one the Python that runs this."""
    own = os.path.join(ROOT, ".venv", *(("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")))
    return own if os.path.exists(own) else sys.executable


def _prefix() -> str:
    """The folder of the environment that this package is installed in; `sys.prefix` may be that of the engine."""
    folder = ROOT
    while folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
        if _script_in(folder) or os.path.exists(os.path.join(folder, "pyvenv.cfg")):
            return folder
    return sys.prefix


def _script_in(prefix: str) -> str | None:
    """The command of this package in an environment."""
    scripts = (os.path.join(prefix, "bin", COMMAND), os.path.join(prefix, "Scripts", f"{COMMAND}.exe"))
    return next(filter(os.path.exists, scripts), None)


def _uvx_source() -> tuple[str, ...]:
    """The option that makes `uvx` install what it has installed here: the extra, and a file or a repository."""
    packages = os.path.dirname(ROOT)
    extra = "[media]" if all(os.path.isdir(os.path.join(packages, name)) for name in _OF_EXTRA_MEDIA) else ""
    found = next(iter(importlib.metadata.distributions(name=COMMAND, path=[packages])), None)
    direct_url = None if found is None else found.read_text("direct_url.json")
    if direct_url is None:
        return ("--from", f"{COMMAND}{extra}") if extra else ()
    origin = json.loads(direct_url)
    url = str(origin["url"])
    if vcs := origin.get("vcs_info"):
        url = f"{vcs['vcs']}+{url}@{vcs.get('requested_revision') or vcs['commit_id']}"
    return ("--from", f"{COMMAND}{extra} @ {url}")
