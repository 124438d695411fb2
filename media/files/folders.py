"""Lists folders, only where the settings allow reading."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass

from media.errors import MediaForbidden, MediaNotFound, shown
from media.files.paths import is_inside, is_listable
from media.files.unsafe_names import why_unsafe
from operating_system import folders


@dataclass(frozen=True, slots=True)
class Entry:
    """A regular file or a folder; `n_bytes` is the size of a file and 0 for a folder."""

    name: str
    is_folder: bool
    n_bytes: int


def entries_of(folder: str, allowed_dirs: Sequence[str] | None) -> list[Entry]:
    """The files and folders in a folder, sorted by name.

    Hidden entries, names that are not printable, links that are broken or lead outside the allowed folders, and entries
    that are neither files nor folders are left out.

    Arguments:
        folder: an absolute path.
        allowed_dirs: as for `media.files.paths.open_regular_file`.

    Raises: `MediaForbidden`, where folders are restricted also for a folder that does not exist; `MediaNotFound`.
    """
    if "\0" in folder or not os.path.isabs(folder) or why_unsafe(folder) is not None:
        raise MediaForbidden(f"The path {shown(folder)} is not a valid folder name.")
    try:
        with folders.opened(folder) as opened:
            real_folder = opened.real_path()
            if not is_listable(real_folder, allowed_dirs):
                raise _not_allowed(folder)
            entries = [_entry(entry, real_folder, allowed_dirs) for entry in opened.entries()]
    except (OSError, ValueError):
        if allowed_dirs is not None:
            raise _not_allowed(folder) from None
        raise MediaNotFound(f"There is no folder {shown(folder)}.") from None
    return sorted((entry for entry in entries if entry is not None), key=lambda entry: entry.name)


def _entry(found: os.DirEntry[str], real_folder: str, allowed_dirs: Sequence[str] | None) -> Entry | None:
    if found.name.startswith(".") or not found.name.isprintable():  # invalid UTF-8 appears as lone surrogates
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
    return MediaForbidden(f"The folder {shown(folder)} may not be listed.")
