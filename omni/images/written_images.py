"""The images in the output folder, newest first, with the parameters that their files contain.

There is no index: the files themselves say whether this server wrote them, and how they were made.
"""

from __future__ import annotations

import heapq
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

import msgspec

from media.errors import MediaError
from media.files.paths import open_regular_file
from omni.errors import InvalidParameters, OutputFailed
from omni.files.metadata import PNG_SIGNATURE, is_ours, parameters_text
from omni.files.output_folder import reason, shown_path
from omni.images.parameters import ImageParameters
from operating_system import folders

EXTENSION = ".png"
MAX_DIGITS = 25
"""Of a time in ns; more are no time."""


class ImageFile(msgspec.Struct, frozen=True, order=True):
    """A file that may be an image of ours; the order is from the newest to the oldest, then by name.

    Attributes: `age` is the time of the last change in ns since 1970, times -1.
    """

    age: int
    name: str

    @property
    def cursor(self) -> str:
        """The cursor of the page that begins after this file: files that are added or removed meanwhile move no other
        file to another page."""
        return f"{-self.age}/{self.name}"


class WrittenImage(msgspec.Struct, frozen=True):
    """An image that this server wrote; `parameters` is `None` if its file has none, or they are damaged.

    Attributes: `modified_s`, the time of the last change in seconds since 1970.
    """

    path: str
    modified_s: float
    n_bytes: int
    parameters: ImageParameters | None


def newest_files(folder: str, limit: int, cursor: str | None = None) -> list[ImageFile]:
    """The newest files of a folder that may be images of ours, without opening any.

    Arguments:
        folder: absolute; it need not exist.
        limit: maximum number of files.
        cursor: of the last file of the page before; only files after it are returned.

    Raises: `InvalidParameters` for a wrong cursor; `OutputFailed` if the folder cannot be read.
    """
    files = _files(folder)
    if cursor is not None:
        last = _file_of(cursor)
        files = (file for file in files if file > last)
    return heapq.nsmallest(limit, files)


def read_image(path: str, folder: str) -> WrittenImage | None:
    """An image in a folder; `None` for a file that is not ours, or was removed or changed meanwhile."""
    try:
        with open_regular_file(path, (folder,)) as file:
            if not is_image_of_ours(file):
                return None
            status = os.fstat(file.fileno())
            return WrittenImage(path, status.st_mtime, status.st_size, parameters_of(file))
    except (MediaError, OSError):
        return None


def is_image_of_ours(file: BinaryIO) -> bool:
    """Whether an open file is an image that this server wrote, whatever its name."""
    file.seek(0)
    is_png = file.read(len(PNG_SIGNATURE)) == PNG_SIGNATURE
    file.seek(0)
    return is_png and is_ours(file)


def parameters_of(file: BinaryIO) -> ImageParameters | None:
    """The parameters in an open image of ours; `None` if it has none, or they are damaged."""
    text = parameters_text(file)
    if text is None:
        return None
    try:
        return msgspec.json.decode(text, type=ImageParameters)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None


def _file_of(cursor: str) -> ImageFile:
    time_ns, _, name = cursor.partition("/")
    digits = time_ns.removeprefix("-")
    if not name or not (digits.isascii() and digits.isdigit() and len(digits) <= MAX_DIGITS):
        raise InvalidParameters("cursor: use the next_cursor of an earlier result, or leave it out for the newest.")
    return ImageFile(-int(time_ns), name)


def _files(folder: str) -> Iterator[ImageFile]:
    """The regular files with our extension, in no order. Links are not followed."""
    try:
        with folders.opened(folder) as opened:
            yield from filter(None, map(_file, opened.entries()))
    except FileNotFoundError:  # nothing has been saved yet
        return
    except OSError as error:
        raise OutputFailed(f"The output folder {shown_path(folder)} cannot be read: {reason(error)}.") from None


def _file(entry: os.DirEntry[str]) -> ImageFile | None:
    name = entry.name
    if name.startswith(".") or not name.casefold().endswith(EXTENSION) or not name.isprintable():
        return None
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:  # it was removed meanwhile
        return None
    return ImageFile(-status.st_mtime_ns, name) if stat.S_ISREG(status.st_mode) else None
