"""`view_media` and `read_media`: what the view shows beyond the results that its host passes on."""

from __future__ import annotations

import os
from base64 import b64encode
from math import isqrt
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from handlers.image_reading import call_limits
from handlers.resources.files import media_type
from handlers.resources.written_files import open_written, path_of
from mcp_protocol.tools.toolbox import ArgumentError, image_block, json_text, text_block
from media.errors import MediaError, MediaForbidden, MediaTooLarge, MediaUnreadable, megabytes, shown

if TYPE_CHECKING:
    from PIL.Image import Image

    from handlers.services import Services
    from mcp_protocol.calls.call import Call
    from mcp_protocol.jsonrpc import Json

MAX_PATHS = 64
PART_BYTES = 499_998
"""A multiple of three, so that the base64 of the parts can be joined. It stays below the MiB of Claude Desktop."""
MAX_FILE_BYTES = 200_000_000
"""The largest generated file that is decoded for a small image."""
ALL_PIXELS = 4_096 * 4_096
"""For the small images of one call together: 64 images of 512 pixels a side."""
BLOCK_BYTES = 200
"""For an image block without its data, and for the result around the blocks."""
ENTRY_BYTES = 400
"""For the entry of a path, which may have an error, without the path."""
MIN_IMAGE_BYTES = 2_000
"""In base64; a JPEG has 630 bytes before its first pixel."""
NO_ROOM = "There is no room for this image in one result; ask for fewer."


class ViewMediaArguments(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Arguments of `view_media`."""

    paths: Annotated[
        list[Annotated[str, Meta(min_length=1)]],
        Meta(min_length=1, max_length=MAX_PATHS, description="Paths of files on the server's machine."),
    ]
    max_side: Annotated[int, Meta(ge=32, le=2_048, description="Longest side in pixels.")] = 512


class ReadMediaArguments(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Arguments of `read_media`."""

    path: Annotated[str, Meta(min_length=1, description="A file that this server generated.")]
    offset: Annotated[int, Meta(ge=0, le=2**50, description="First byte of the part.")] = 0


def view_media(arguments: ViewMediaArguments, call: Call, services: Services) -> list[Json]:
    """Reads files that this server generated, and images that its tools may read, as small JPEGs.

    The first block has an entry for each path; the images of those without an error follow in order.
    """
    from omni.images.previews import thumbnail

    paths = arguments.paths
    side = min(arguments.max_side, isqrt(ALL_PIXELS // len(paths)))
    room = services.settings.server.max_result_bytes - 2 * len(json_text(paths)) - ENTRY_BYTES * len(paths)
    entries: list[Json] = []
    images: list[Image] = []
    for path in paths:
        call_limits(call).check()
        try:
            if room < (len(images) + 1) * (MIN_IMAGE_BYTES + BLOCK_BYTES):
                raise MediaTooLarge(NO_ROOM)
            images.append(_small_image(path, side, call, services))
            entries.append({"path": path})
        except MediaError as error:
            entries.append({"path": path, "error": str(error)})
    max_bytes = (room // max(1, len(images)) - BLOCK_BYTES) * 3 // 4
    blocks = [image_block(thumbnail(image, max_bytes), "image/jpeg") for image in images]
    return [text_block(json_text({"results": entries})), *blocks]


def read_media(arguments: ReadMediaArguments, call: Call, services: Services) -> list[Json]:
    """Reads a part of a generated file, as base64 in the JSON of the first block."""
    path, offset = arguments.path, arguments.offset
    with open_written(path, services) as file:
        total_bytes = os.fstat(file.fileno()).st_size
        if offset >= total_bytes:
            raise ArgumentError(f"arguments.offset: the file has {total_bytes} bytes.")
        facts = {"path": path, "mime_type": media_type(path_of(path)), "total_bytes": total_bytes, "offset": offset}
        room = services.settings.server.max_result_bytes - 2 * len(json_text(facts)) - 2 * BLOCK_BYTES
        file.seek(offset)
        part = file.read(max(3, min(PART_BYTES, room * 3 // 4 // 3 * 3)))
    return [text_block(json_text({**facts, "n_bytes": len(part), "data": b64encode(part).decode("ascii")}))]


def _small_image(path: str, side: int, call: Call, services: Services) -> Image:
    """An image, or a frame of a video, of at most `side` pixels a side; raises `MediaError`."""
    from omni.images.previews import MAX_PIXELS, reduced

    limits = call_limits(call)
    try:
        file = open_written(path, services)
    except MediaForbidden:
        if media_type(path_of(path)) == "video/mp4":
            raise
        decoded = services.images.read_path(path_of(path), side, limits)
        with services.budget.hold(decoded.n_bytes):
            return reduced(decoded.image, side)
    with file:
        if (media_type(path_of(path)) or "").startswith("audio/"):
            raise MediaUnreadable(f"The file {shown(path)} is audio; there is no image in it.")
        n_bytes = os.fstat(file.fileno()).st_size
        if n_bytes > MAX_FILE_BYTES:
            raise MediaTooLarge(f"The file {shown(path)} is larger than {megabytes(MAX_FILE_BYTES)}.")
        with services.budget.hold(n_bytes):
            data = file.read(n_bytes)
            if data[4:8] == b"ftyp":
                return reduced(services.decoder.poster(data, limits), side)
            return reduced(services.decoder.image(data, MAX_PIXELS, side, limits), side)
