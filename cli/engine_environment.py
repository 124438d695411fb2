"""The environment with vLLM that `--install-engine` makes for an installed server; the server then runs in it.

It is looked for before msgspec is known to be there, so this module needs the standard library alone, and little of it:
every start of an installed server imports it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import NamedTuple

REQUIREMENTS = {"cpu": "requirements-cpu.txt", "gpu": "requirements.txt"}
"""The packages of each kind, as in `scripts/setup`."""
STAMP = "setup.done.run"
"""The file of a complete environment, written by `scripts/setup`: kind and installer, then the requirements."""


class EngineEnvironment(NamedTuple):
    """The environment in `folder`, if there is one, for the server in `root`."""

    folder: str
    root: str

    @property
    def python(self) -> str:
        """Its interpreter."""
        return os.path.join(self.folder, "bin", "python")

    def kind(self) -> str | None:
        """What it was installed for, a key of `REQUIREMENTS`; None if it is not complete or not there."""
        kind = (self._stamp() or "").partition(" ")[0]
        return kind if kind in REQUIREMENTS else None

    def problem(self) -> str | None:
        """Why the server cannot run in it, after "the engine"; None if it can."""
        kind = self.kind()
        if kind is None:
            return "is not complete"
        _, _, installed = (self._stamp() or "").partition("\n")
        with open(os.path.join(self.root, REQUIREMENTS[kind]), encoding="utf-8") as file:
            if installed != file.read():
                return "was installed for another version"
        # bin/python is a link. After an upgrade of the system, it may lead nowhere, or to a Python without packages.
        version = re.fullmatch(r"python3\.\d+", os.path.basename(os.path.realpath(self.python)))
        if not os.access(self.python, os.X_OK) or (
            version is not None and not os.path.isdir(os.path.join(self.folder, "lib", version[0]))
        ):
            return "was installed for another Python"
        return None

    def _stamp(self) -> str | None:
        try:
            with open(os.path.join(self.folder, STAMP), encoding="utf-8") as file:
                return file.read()
        except (OSError, ValueError):
            return None


def engine_environment(root: str, environment: Mapping[str, str]) -> EngineEnvironment:
    """The place for the server in `root`: `VLLM_ENGINE_DIR`, else the user's folder of data."""
    folder = environment.get("VLLM_ENGINE_DIR", "")
    if not folder:
        data = environment.get("XDG_DATA_HOME") or os.path.join("~", ".local", "share")
        folder = os.path.join(data, "mcp-server-vllm", "engine")
    return EngineEnvironment(os.path.abspath(os.path.expanduser(folder)), root)
