"""The files that name a release: the entry of the MCP registry, the plugin, its marketplace, and marks in other files.

python -m release.metadata                    rewrite them
python -m release.metadata --tag v0.1.0       exit 1 if this tag cannot be released as the files are
python -m release.metadata --bundle FILE      rewrite them, with the bundle of this release in the registry's entry

Names and texts are in `release/names.py`, the version is `SERVER_VERSION`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from release import icons, names
from release.names import FIELDS
from settings import COMMAND, SERVER_NAME, SERVER_VERSION

Json = dict[str, Any]
ROOT = Path(__file__).parents[1]
SERVER_JSON = ROOT / "server.json"
MARKETPLACE = ROOT / ".claude-plugin" / "marketplace.json"
PLUGIN = ROOT / "plugin" / ".claude-plugin" / "plugin.json"
PLUGIN_SERVERS = ROOT / "plugin" / ".mcp.json"
MARKS = (
    (ROOT / "README.md", "<!-- mcp-name: ", " -->"),
    (ROOT / "Dockerfile", 'LABEL io.modelcontextprotocol.server.name="', '"'),
)
"""Where the registry looks for its name in what is published: the file, and the text around the name."""


def registry_entry(bundle: Path | None = None) -> Json:
    """The registry's `server.json`; a bundle needs its hash, so only a release has it."""
    tag = f"v{SERVER_VERSION}"
    packages: list[Json] = [
        {
            "registryType": "pypi",
            "identifier": COMMAND,
            "version": SERVER_VERSION,
            "runtimeHint": "uvx",
            "transport": {"type": "stdio"},
            "environmentVariables": [_environment_variable(field) for field in FIELDS],
        }
    ]
    if bundle is not None:
        packages.append(
            {
                "registryType": "mcpb",
                "identifier": f"{names.REPOSITORY_URL}/releases/download/{tag}/{bundle.name}",
                "fileSha256": hashlib.sha256(bundle.read_bytes()).hexdigest(),
                "transport": {"type": "stdio"},
            }
        )
    icon = icons.PNG_512.relative_to(ROOT).as_posix()
    return {
        "$schema": "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json",
        "name": names.REGISTRY_NAME,
        "title": names.TITLE,
        "description": names.DESCRIPTION,
        "version": SERVER_VERSION,
        "repository": {"url": names.REPOSITORY_URL, "source": "github"},
        "icons": [
            {
                "src": f"https://raw.githubusercontent.com/{names.OWNER}/{SERVER_NAME}/{tag}/{icon}",
                "mimeType": "image/png",
                "sizes": ["512x512"],
            }
        ],
        "packages": packages,
    }


def _environment_variable(field: names.Field) -> Json:
    return {
        "name": field.variable,
        "description": field.description,
        **({"placeholder": field.example} if field.example else {}),
        **({"format": "filepath"} if field.is_folder else {}),
        **({"isSecret": True} if field.is_secret else {}),
    }


def marketplace() -> Json:
    """The list of this repository's plugins, for Claude Code."""
    return {
        "name": names.PLUGIN,
        "description": names.DESCRIPTION,
        "owner": {"name": names.AUTHOR},
        "plugins": [{"name": names.PLUGIN, "source": "./plugin", "description": names.DESCRIPTION}],
    }


def plugin() -> Json:
    """The plugin's manifest."""
    return {
        "name": names.PLUGIN,
        "version": SERVER_VERSION,
        "description": names.DESCRIPTION,
        "author": {"name": names.AUTHOR},
        "repository": names.REPOSITORY_URL,
        "license": names.LICENSE,
        "keywords": names.KEYWORDS,
    }


def plugin_servers() -> Json:
    """The plugin's server; Claude Code fills in the user's variables."""
    environment = {field.variable: f"${{{field.variable}:-}}" for field in FIELDS}
    entry = {"command": "uvx", "args": [f"{COMMAND}@{SERVER_VERSION}"], "env": environment}
    return {"mcpServers": {names.PLUGIN: entry}}


def files(bundle: Path | None = None) -> dict[Path, str]:
    """All files with the text that they must have."""
    values = {
        SERVER_JSON: registry_entry(bundle),
        MARKETPLACE: marketplace(),
        PLUGIN: plugin(),
        PLUGIN_SERVERS: plugin_servers(),
    }
    found = {path: json.dumps(value, indent=2, ensure_ascii=False) + "\n" for path, value in values.items()}
    for path, before, after in MARKS:
        pattern = re.compile(f"({re.escape(before)}).*?({re.escape(after)})")
        found[path] = pattern.sub(rf"\g<1>{names.REGISTRY_NAME}\g<2>", path.read_text(encoding="utf-8"))
    return found


def releases(changelog: str) -> list[str]:
    """The versions of a change log, the newest first."""
    return re.findall(r"^## \[(\d\S*)\]", changelog, re.MULTILINE)


def problems(tag: str) -> Iterator[str]:
    """A sentence for each reason why a tag cannot be released."""
    if names.OWNER == names.PLACEHOLDER:
        yield "OWNER in release/names.py is a placeholder: set it, run python -m release.metadata and commit."
    if tag != f"v{SERVER_VERSION}":
        yield f"The tag is {tag}, but SERVER_VERSION in settings/__init__.py is {SERVER_VERSION}."
    if releases((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))[:1] != [SERVER_VERSION]:
        yield f"The newest release in CHANGELOG.md is not {SERVER_VERSION}."
    for path, text in files().items():
        if path.read_text(encoding="utf-8") != text:
            yield f"{path.relative_to(ROOT)} is out of date: run python -m release.metadata and commit."


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m release.metadata")
    parser.add_argument("--tag", help="only check whether this tag can be released")
    parser.add_argument("--bundle", type=Path, help="the bundle of this release")
    options = parser.parse_args()
    if options.tag is not None:
        found = list(problems(options.tag))
        print("\n".join(found) or f"{options.tag} can be released.")
        return 1 if found else 0
    for path, text in files(options.bundle).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
