"""`list_images`: the images that were saved, also those of earlier runs of the server."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from handlers.image_reading import call_limits
from handlers.media_generation.jobs import utc
from handlers.pages import page_of
from handlers.resources.written_files import path_or_url

if TYPE_CHECKING:
    from handlers.services import Services
    from mcp_protocol.calls.call import Call
    from omni.images.written_images import ImageFile, WrittenImage

MAX_CHARACTERS = 200
"""Of a prompt, and of a model's name, in the list."""
LATEST_S = 253_402_300_799
"""The end of the year 9999: some file systems have later times, which no clock shows."""
MAX_READ_FILES = 2_000
"""How many files one call opens: a folder may have many that are not ours, or whose prompts do not match."""


class ListImagesArguments(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Arguments of `list_images`."""

    query: Annotated[str, Meta(max_length=1_000, description="Text in the prompt, in any case.")] | None = None
    limit: Annotated[int, Meta(ge=1, le=100, description="Maximum number of images.")] = 20
    cursor: (
        Annotated[str, Meta(min_length=1, max_length=1_000, description="next_cursor of the page before.")] | None
    ) = None


class ListedImage(msgspec.Struct, frozen=True):
    """One image in `list_images`; null if its file does not say it. A shortened prompt ends with "…".

    `resolution` is WIDTHxHEIGHT in pixels; `modified` is the time of the file's last change in UTC.
    """

    file_path: str
    prompt: str | None
    seed: int | None
    model: str | None
    resolution: str | None
    modified: str
    file_bytes: int


class ImageList(msgspec.Struct, frozen=True):
    """Result of `list_images`, newest first; `next_cursor` is the cursor of the next page, null after the last one."""

    images: list[ListedImage]
    next_cursor: str | None


def list_images(arguments: ListImagesArguments, call: Call, services: Services) -> ImageList:
    """The images in the output folder, one page at a time.

    A page ends early if the result would become too large, or after `MAX_READ_FILES` files, even without an image.
    """
    from omni.images.written_images import newest_files, read_image

    folder, limits, query = services.output_folder.path, call_limits(call), (arguments.query or "").casefold()
    files = newest_files(folder, MAX_READ_FILES + 1, arguments.cursor)
    found: list[tuple[ImageFile, ListedImage]] = []
    n_read = 0
    for file in files[:MAX_READ_FILES]:
        if len(found) == arguments.limit:
            break
        limits.check()
        image = read_image(os.path.join(folder, file.name), folder)
        n_read += 1
        if image is not None and query in _prompt(image).casefold():
            found.append((file, _entry(image)))
    max_bytes = services.settings.server.max_result_bytes
    page, next_offset = page_of(found, 0, len(found), lambda pair: pair[1], max_bytes)
    if next_offset is not None:
        return ImageList(page, found[next_offset - 1][0].cursor)
    return ImageList(page, files[n_read - 1].cursor if n_read < len(files) else None)


def _entry(image: WrittenImage) -> ListedImage:
    made = image.parameters
    return ListedImage(
        file_path=path_or_url(image.path),
        prompt=_shortened(made.prompt) if made else None,
        seed=made.seed if made else None,
        model=_shortened(made.model) if made else None,
        resolution=f"{made.width}x{made.height}" if made else None,
        modified=utc(min(max(image.modified_s, 0.0), LATEST_S)),
        file_bytes=image.n_bytes,
    )


def _prompt(image: WrittenImage) -> str:
    return "" if image.parameters is None else image.parameters.prompt


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - 1] + "…"
