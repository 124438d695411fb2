"""The bundle for Claude Desktop and other hosts that install `.mcpb` files (MCPB manifest 0.4, server type `uv`).

python -m release.bundle WHEEL FOLDER    writes FOLDER/mcp-server-vllm-VERSION.mcpb

It has the files of the wheel without the demo model and the launcher: its hosts run on machines without vLLM, and start
`vllm_server.py` itself. The host's own uv installs the wheel's dependencies at the first start. The same wheel always
gives the same bytes, so that a published hash can be checked.
"""

from __future__ import annotations

import json
import sys
import zipfile
from email.parser import HeaderParser
from pathlib import Path, PurePosixPath
from typing import Any

from handlers.tool_table import TOOLS
from release import icons, names
from release.names import FIELDS
from settings import COMMAND, SERVER_VERSION

Json = dict[str, Any]
PACKAGE = "mcp_server_vllm"
LEFT_OUT = {"models", "__init__.py", "__main__.py"}
ENTRY_POINT = "vllm_server.py"
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that an archive can have."""
FILE_MODE = 0o644 << 16


def manifest(requires_python: str) -> Json:
    """The bundle's `manifest.json`."""
    return {
        "manifest_version": "0.4",
        "name": COMMAND,
        "display_name": names.TITLE,
        "version": SERVER_VERSION,
        "description": names.DESCRIPTION,
        "author": {"name": names.AUTHOR},
        "repository": {"type": "git", "url": names.REPOSITORY_URL},
        "license": names.LICENSE,
        "keywords": names.KEYWORDS,
        "icon": "icon.png",
        "icons": [{"src": "icon-48.png", "size": "48x48"}, {"src": "icon.png", "size": "512x512"}],
        "server": {
            "type": "uv",
            "entry_point": ENTRY_POINT,
            "mcp_config": {  # Claude Desktop passes the arguments to its own uv and ignores the command
                "command": "uv",
                "args": ["run", "--directory", "${__dirname}", ENTRY_POINT],
                "env": {field.variable: f"${{user_config.{field.key}}}" for field in FIELDS},
            },
        },
        "compatibility": {"runtimes": {"python": requires_python}},
        "user_config": {field.key: _form_field(field) for field in FIELDS},
        "tools": [{"name": tool.name, "description": tool.title} for tool in TOOLS],
        "tools_generated": False,
        "prompts_generated": True,
    }


def _form_field(field: names.Field) -> Json:
    example = f" Example: {field.example}" if field.example else ""
    return {
        "type": "directory" if field.is_folder else "string",
        "title": field.title,
        "description": field.description + example,
        "required": False,
        "default": "",  # without a default, an empty field reaches the server as its placeholder
        **({"sensitive": True} if field.is_secret else {}),
    }


def project(requires_python: str, dependencies: list[str]) -> str:
    """The bundle's `pyproject.toml`, from which uv makes the environment."""
    return "\n".join(
        (
            "[project]",
            f'name = "{COMMAND}-bundle"',
            f'version = "{SERVER_VERSION}"',
            f'requires-python = "{requires_python}"',
            f"dependencies = {json.dumps(dependencies)}",
            "",
            "[tool.uv]",
            "package = false",
            "",
        )
    )


def files(wheel: Path) -> dict[str, bytes]:
    """All files of the bundle by their paths.

    Raises: `ValueError` if the wheel is of another version.
    """
    found: dict[str, bytes] = {}
    with zipfile.ZipFile(wheel) as archive:
        info = f"{PACKAGE}-{SERVER_VERSION}.dist-info"
        if f"{info}/METADATA" not in archive.namelist():
            raise ValueError(f"{wheel.name} is not a wheel of {COMMAND} {SERVER_VERSION}.")
        metadata = HeaderParser().parsestr(archive.read(f"{info}/METADATA").decode())
        for name in archive.namelist():
            top, *rest = PurePosixPath(name).parts
            if top == PACKAGE and rest[0] not in LEFT_OUT:
                found["/".join(rest)] = archive.read(name)
        found["LICENSE"] = archive.read(f"{info}/licenses/LICENSE")
    requires_python = metadata["Requires-Python"]
    dependencies = [text for text in metadata.get_all("Requires-Dist", []) if "extra ==" not in text]
    found["manifest.json"] = json.dumps(manifest(requires_python), indent=2, ensure_ascii=False).encode() + b"\n"
    found["pyproject.toml"] = project(requires_python, dependencies).encode()
    found["icon.png"] = icons.PNG_512.read_bytes()
    found["icon-48.png"] = icons.PNG_48.read_bytes()
    return found


def build(wheel: Path, folder: Path) -> Path:
    """Writes the bundle and returns its path."""
    bundle = folder / f"{COMMAND}-{SERVER_VERSION}.mcpb"
    with zipfile.ZipFile(bundle, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(files(wheel).items()):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = FILE_MODE
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return bundle


def main() -> int:
    """Returns the exit status."""
    if len(sys.argv) != 3:
        print("usage: python -m release.bundle WHEEL FOLDER", file=sys.stderr)
        return 2
    try:
        print(build(Path(sys.argv[1]), Path(sys.argv[2])))
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        print(f"The bundle was not built: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
