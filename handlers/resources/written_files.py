"""Files that tools of this server wrote: how results name them, and how calls open them again."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, BinaryIO

from handlers.resources.files import media_type
from media.errors import MediaForbidden, MediaUnreadable, shown
from media.files.file_urls import path_of_file_url, url_of_path
from media.files.paths import open_regular_file
from omni.files.output_folder import shown_path

if TYPE_CHECKING:
    from handlers.services import Services


def path_or_url(path: str) -> str:
    """A path for a result; a path that is not UTF-8 becomes a file: URL, which calls accept too."""
    return path if shown_path(path) == path else url_of_path(path)


def open_written(reference: str, services: Services) -> BinaryIO:
    """Opens a file that a tool of this server wrote, at its beginning.

    Raises: `MediaForbidden` for any other file, whether or not it exists; `MediaNotFound` and `MediaUnreadable` for
    what is wrong in the output folders.
    """
    path = path_of(reference)
    not_ours = MediaForbidden(f"The file {shown(reference)} is none that this server generated.")
    kind = media_type(path) or ""
    if os.path.basename(path).startswith(".") or not kind.startswith(("image/", "video/", "audio/")):
        raise not_ours
    for root in list(services.resource_roots):
        try:
            file = open_regular_file(path, (root.folder,))
        except MediaForbidden:
            continue
        try:
            if root.is_ours(file):
                file.seek(0)
                return file
        except OSError:
            file.close()
            raise MediaUnreadable(f"The file {shown(reference)} cannot be read.") from None
        file.close()
    raise not_ours


def path_of(reference: str) -> str:
    """The path of a file whose name a result has as a path, or as a `file:` URL; raises `MediaForbidden`."""
    return path_of_file_url(reference) if reference[:5].casefold() == "file:" else reference
