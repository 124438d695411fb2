"""The icon: its files and data URIs come from the same shapes, and it is small."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import pytest
from PIL import Image, ImageChops, ImageStat

from mcp_protocol.server_info import ServerInfo
from release import icons
from settings.icons import ICONS
from tests.mcp_results import check_result

MAX_BYTES = 4096
"""For all icons in the reply to `initialize`."""
MAX_DIFFERENCE = 4
"""Between the average colours of a file and of the shapes: the file has few colours."""


def data(icon: dict[str, object]) -> bytes:
    """The bytes in a data URI."""
    head, _, text = str(icon["src"]).partition(",")
    assert head == f"data:{icon['mimeType']};base64"
    return base64.b64decode(text, validate=True)


@pytest.mark.parametrize(("path", "size"), [(icons.PNG_48, 48), (icons.PNG_512, 512)], ids=["48", "512"])
def test_file_shows_the_shapes(path: Path, size: int) -> None:
    with Image.open(path) as file:
        assert (file.format, file.size) == ("PNG", (size, size))
        difference = ImageChops.difference(file.convert("RGBA"), icons.image(size))
    assert max(ImageStat.Stat(difference).mean) < MAX_DIFFERENCE


def test_svg_file_has_the_shapes() -> None:
    assert icons.SVG.read_text(encoding="utf-8") == icons.svg() + "\n"


def test_server_has_the_files_as_data_uris() -> None:
    bitmap, vector = ICONS
    assert data(vector).decode() == icons.svg()
    assert data(bitmap) == icons.PNG_48.read_bytes()
    assert icons.MODULE.read_text(encoding="utf-8") == icons.module(data(vector), data(bitmap))
    with Image.open(io.BytesIO(data(bitmap))) as file:
        assert bitmap["sizes"] == [f"{file.width}x{file.height}"]


def test_icons_are_as_the_protocol_has_them() -> None:
    described = ServerInfo("name", "title", "1.0.0", "description", "instructions", ICONS).with_icons()
    result = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": described}
    check_result("initialize", "2025-11-25", {"jsonrpc": "2.0", "id": 1, "result": result})


def test_icons_are_small() -> None:
    assert len(json.dumps(ICONS)) <= MAX_BYTES
