"""Calls tools over a fake engine, with real sessions and a real reader of images."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from PIL import Image

import settings
from handlers.offered_tools import OfferedTools
from handlers.services import Services
from mcp_protocol.calls.call import Call
from settings import EngineSettings
from tests.decoder import DECODER
from tests.unit.fake_engine import FakeEngine
from tests.unit.mcp_protocol.host import make_context

Json = dict[str, Any]


NOWHERE = "/nowhere/generated"


"""Where nothing was generated before, as it may have been in the working folder."""


class Client:
    """Calls tools like a worker of the server, and records the notifications.

    Attributes: `engine`, the default model's; `engines`, those of all models in use so far by their names.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        self.services = Services(settings.read({"OMNI_OUTPUT_DIR": NOWHERE, **environment}))
        self.engine = FakeEngine(self.services.settings.engine)
        self.services.engine = self.engine
        self.engines = {next(iter(self.services.settings.engine.by_name())): self.engine}
        self.services.make_engine = self._make_engine  # type: ignore[method-assign]
        self.services.decoder = DECODER  # one for all clients: each would start processes of its own
        self.toolbox = OfferedTools(self.services)
        self.sent: list[Json] = []

    def _make_engine(self, settings: EngineSettings, beside: object = None) -> FakeEngine:
        """The engine of a further model."""
        engine = FakeEngine(settings, model_name=settings.shown_name)
        return self.engines.setdefault(settings.shown_name, engine)

    def make_call(self, tool: str, arguments: Json, **options: Any) -> Call:
        """A call that has not run yet."""
        row = self.toolbox.find(tool)
        limit_s = (row and row.timeout_s(arguments)) or 0.0
        context_names = {"revision", "progress_token", "log_level"} & options.keys()
        context = make_context(self.sent, **{name: options.pop(name) for name in context_names})
        return Call(1, tool, arguments, context, **{"timeout_s": limit_s, **options})

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


def make_image(color: str) -> bytes:
    """A small image of one colour as PNG."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), color).save(buffer, "PNG")
    return buffer.getvalue()


def image_parts(folder: Path, png: bytes) -> dict[str, Json]:
    """An image in all the forms that a message takes it, but those that need a network."""
    path = folder / "image.png"
    path.write_bytes(png)
    data = base64.b64encode(png).decode()
    return {
        "path": {"type": "image", "path": str(path)},
        "base64": {"type": "image", "data": data, "mimeType": "image/png"},
        "data URL": {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}},
        "file URL": {"type": "image_url", "image_url": {"url": path.as_uri(), "detail": "high"}},
    }
