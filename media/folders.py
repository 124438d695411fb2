"""What lies in a folder, told only where files may be read from."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass

from media.errors import MediaForbidden, MediaNotFound, shown
from media.paths import KERNEL_FOLDERS, contains, is_inside

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Entry:
    """A regular file or a folder; `n_bytes` is the size of a file and 0 for a folder."""

    name: str
    is_folder: bool
    n_bytes: int


def entries_of(folder: str, allowed_dirs: Sequence[str] | None) -> list[Entry]:
    """The files and folders in a folder by name; `allowed_dirs` as for `media.paths.open_regular_file`.

    Left out are hidden ones, names that are not printable text, links that lead outside of the allowed folders or
    nowhere, and what is neither file nor folder.

    Raises: `MediaForbidden`, for what is not allowed and for what is not there alike where folders are confined;
    `MediaNotFound`.
    """
    if "\0" in folder or not os.path.isabs(folder):
        raise MediaForbidden(f"The path {shown(folder)} cannot be a folder's name.")
    try:
        descriptor = os.open(folder, _FLAGS)
    except (OSError, ValueError):
        if allowed_dirs is not None:
            raise _not_allowed(folder) from None
        raise MediaNotFound(f"There is no folder {shown(folder)}.") from None
    try:
        real_folder = os.readlink(f"/proc/self/fd/{descriptor}")
        if not is_inside(real_folder, allowed_dirs) or any(contains(kernel, real_folder) for kernel in KERNEL_FOLDERS):
            raise _not_allowed(folder)
        with os.scandir(descriptor) as found:
            entries = [_entry(entry, real_folder, allowed_dirs) for entry in found]
    finally:
        os.close(descriptor)
    return sorted((entry for entry in entries if entry is not None), key=lambda entry: entry.name)


def _entry(found: os.DirEntry[str], real_folder: str, allowed_dirs: Sequence[str] | None) -> Entry | None:
    if found.name.startswith(".") or not found.name.isprintable():  # bytes that are no text come as lone surrogates
        return None
    try:
        status = found.stat()
        if found.is_symlink() and not is_inside(os.path.realpath(os.path.join(real_folder, found.name)), allowed_dirs):
            return None
    except OSError:
        return None
    if stat.S_ISDIR(status.st_mode):
        return Entry(found.name, True, 0)
    return Entry(found.name, False, status.st_size) if stat.S_ISREG(status.st_mode) else None


def _not_allowed(folder: str) -> MediaForbidden:
    return MediaForbidden(f"The folder {shown(folder)} is none that may be listed.")
