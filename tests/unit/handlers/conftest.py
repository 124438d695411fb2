"""Tools over a fake engine, with real sessions and a real reader of pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import settings
from handlers.catalog import toolbox
from handlers.services import Services
from mcp_protocol.call import Call
from mcp_protocol.versions import Revision
from tests.unit.fake_engine import FakeEngine

Json = dict[str, Any]
NOWHERE = "/nowhere/generated"
"""Where nothing was generated before, as it may have been in the working folder."""


class Desk:
    """Calls tools as the server's worker would, and keeps what they sent on the way."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.engine = FakeEngine()
        self.services = Services(settings.read({"OMNI_OUTPUT_DIR": NOWHERE, **environment}))
        self.services.engine = self.engine
        self.toolbox = toolbox(self.services)
        self.sent: list[Json] = []

    def make_call(self, tool: str, arguments: Json, **options: Any) -> Call:
        """A call that has not run yet."""
        call = Call(1, tool, arguments, Revision("2025-11-25"), send=self.sent.append, **options)
        if (limit_s := self.toolbox.timeout_s(tool, arguments)) is not None:
            call.limit(limit_s)
        return call

    def run(self, tool: str, arguments: Json | None = None, **options: Any) -> Json:
        """Runs one call; its content, `structuredContent` (a Struct) and `isError`."""
        return self.toolbox.run(self.make_call(tool, arguments or {}, **options))

    def result(self, tool: str, arguments: Json | None = None, **options: Any) -> Any:
        """The result Struct of a call that succeeds."""
        result = self.run(tool, arguments, **options)
        assert not result["isError"], result
        return result["structuredContent"]

    def error(self, tool: str, arguments: Json | None = None, **options: Any) -> str:
        """The sentence of a call that fails."""
        result = self.run(tool, arguments, **options)
        assert result["isError"], result
        assert "structuredContent" not in result
        (block,) = result["content"]
        return str(block["text"])

    def chat(self, text: str = "Hi", **arguments: Any) -> Any:
        """The result of a chat with one user message."""
        return self.result("chat_completion", {"messages": [user(text)], **arguments})


def user(content: Any) -> Json:
    """A user's message."""
    return {"role": "user", "content": content}


@pytest.fixture
def make_desk() -> Iterator[Callable[..., Desk]]:
    """Desks with settings of their own: `make_desk(VLLM_MAX_SESSIONS="1")`."""
    made: list[Desk] = []

    def make(**environment: str) -> Desk:
        made.append(Desk(environment))
        return made[-1]

    yield make
    for desk in made:
        desk.services.close()


@pytest.fixture
def desk() -> Desk:
    """A desk with the default settings."""
    return Desk({})


@pytest.fixture
def png() -> bytes:
    """A small red picture."""
    return picture("red")


def picture(color: str) -> bytes:
    """A small picture of one colour as PNG."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), color).save(buffer, "PNG")
    return buffer.getvalue()


def image_parts(folder: Path, png: bytes) -> dict[str, Json]:
    """A picture in all the forms that a message takes it, but those that need a network."""
    path = folder / "picture.png"
    path.write_bytes(png)
    data = base64.b64encode(png).decode()
    return {
        "path": {"type": "image", "path": str(path)},
        "base64": {"type": "image", "data": data, "mimeType": "image/png"},
        "data URL": {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
        "file URL": {"type": "image_url", "image_url": {"url": path.as_uri(), "detail": "high"}},
    }
