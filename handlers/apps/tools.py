"""The tools of the view. Hosts with MCP Apps do not show them to the model."""

from __future__ import annotations

from handlers.apps import media
from mcp_protocol.tools.toolbox import Annotations, Tool

APP_TOOLS = (
    Tool(
        name="view_media",
        title="Small images for the view",
        description="For the view only: files reduced to max_side pixels, one image block for each that can be shown.",
        arguments=media.ViewMediaArguments,
        handler=media.view_media,
        annotations=Annotations(idempotent=True),
        bypass_queue=True,
        app_only=True,
    ),
    Tool(
        name="read_media",
        title="Part of a file for the view",
        description="For the view only: a part of a generated file as base64, from offset on.",
        arguments=media.ReadMediaArguments,
        handler=media.read_media,
        annotations=Annotations(idempotent=True),
        bypass_queue=True,
        app_only=True,
    ),
)
