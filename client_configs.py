"""Configuration entries for MCP clients: the templates of `examples/` with the paths of this clone."""

import json
import os
from typing import Any

TEMPLATES = {
    "claude-desktop": "examples/clients/claude-desktop.json",
    "claude-desktop-windows": "examples/clients/claude-desktop-windows.json",
    "claude-code": "examples/clients/claude-code.json",
    "vscode": "examples/clients/vscode.json",
    "cursor": "examples/clients/cursor.json",
    "fluidmcp": "examples/vllm-config.json",
}
PLACEHOLDER = "/path/to/vllm-mcp-server"
ANY_PYTHON = "python3"


def client_config(client: str, root: str) -> str:
    """The JSON text for `client` (a key of TEMPLATES) with the server of the folder `root`.

    The interpreter is the one of the folder's own `.venv` where there is one.
    """
    with open(os.path.join(root, TEMPLATES[client]), encoding="utf-8") as file:
        template = json.load(file)
    own_python = os.path.join(root, ".venv", "bin", "python")
    python = own_python if os.path.exists(own_python) else ANY_PYTHON
    return json.dumps(_filled_in(template, root, python), indent=2)


def _filled_in(value: Any, root: str, python: str) -> Any:
    if isinstance(value, dict):
        return {key: _filled_in(entry, root, python) for key, entry in value.items()}
    if isinstance(value, list):
        return [_filled_in(entry, root, python) for entry in value]
    if value == ANY_PYTHON:
        return python
    return value.replace(PLACEHOLDER, root) if isinstance(value, str) else value
