"""Opens regular files in allowed folders, and nothing else.

All checks are made on the open descriptor, not on the path, so replacing a link in between has no effect.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from typing import BinaryIO

from media.errors import MediaError, MediaForbidden, MediaNotFound, MediaTooLarge, MediaUnreadable, megabytes, shown
from media.files.similar_names import difference, similar_path
from media.files.unsafe_names import why_unsafe
from media.kinds import IMAGE, MediaKind
from operating_system.files import PathChanged, open_for_reading, real_path
from settings import working_folder
from settings.windows_paths import is_foreign, local_form, paths_here

_SYSTEM_FOLDERS = ("/proc", "/sys", "/dev")
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def read_file(path: str, allowed_dirs: Sequence[str] | None, max_bytes: int, kind: MediaKind = IMAGE) -> bytes:
    """Reads a whole file of at most `max_bytes`; errors as in `open_regular_file`, and `MediaTooLarge`."""
    with open_regular_file(path, allowed_dirs) as file:
        n_bytes = os.fstat(file.fileno()).st_size
        if n_bytes <= max_bytes:
            # A growing file is read up to the limit.
            data = file.read(max_bytes + 1)
            n_bytes = len(data)
    if n_bytes > max_bytes:
        raise MediaTooLarge(
            f"The file {shown(path)} is larger than the {megabytes(max_bytes)} that {kind.max_bytes_setting} allows."
        )
    if not data:
        raise MediaUnreadable(f"The file {shown(path)} is empty.")
    return data


def open_regular_file(path: str, allowed_dirs: Sequence[str] | None) -> BinaryIO:
    """Opens a regular file for reading.

    Arguments:
        path: absolute, beginning with "~", or relative to the folder in which the server was started. A path of Windows
            or Git Bash means the file in WSL that it names, if that exists. On Windows, a path of Git Bash or WSL means
            the file on the drive.
        allowed_dirs: absolute folders, compared by real path; `None` allows all folders except /proc, /sys and /dev, an
            empty sequence none.

    Raises: `MediaNotFound`, `MediaForbidden` or `MediaUnreadable`. For a path outside the allowed folders, the error is
    the same whether or not a file exists.
    """
    if "\0" in path or not path.strip():
        raise MediaForbidden(f"The path {shown(path)} is not a valid file name.")
    if not is_foreign(path) and (reason := why_unsafe(local_form(path))) is not None:
        raise MediaForbidden(f"The path {shown(path)} {reason}.")
    full_path = path_here(path)
    try:
        descriptor = open_for_reading(full_path)
    except ValueError:
        raise MediaForbidden(f"The path {shown(path)} is not a valid file name.") from None
    except OSError as error:
        raise _open_error(error, path, full_path, allowed_dirs) from None
    try:
        _check_descriptor(descriptor, path, full_path, allowed_dirs)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def path_here(path: str) -> str:
    """The full path on this machine: the path itself, or its meaning in WSL if that exists."""
    candidates = paths_here(path)
    usual = candidates[0] if candidates and is_foreign(path) else _full_path(local_form(path))
    return next(filter(_exists, (usual, *candidates)), usual) if candidates else usual


def _exists(path: str) -> bool:
    try:
        return os.path.lexists(path)
    except ValueError:  # a null byte or half a surrogate pair
        return False


def _full_path(path: str) -> str:
    expanded = os.path.expanduser(path)
    try:
        return working_folder.absolute(expanded)
    except FileNotFoundError:
        raise MediaNotFound(f"The path {shown(path)} is relative, and the server has no working folder.") from None


def _check_descriptor(descriptor: int, path: str, full_path: str, allowed_dirs: Sequence[str] | None) -> None:
    try:
        found = real_path(descriptor, full_path)
    except (PathChanged, FileNotFoundError):
        raise MediaUnreadable(f"The file {shown(path)} was replaced while it was opened; try again.") from None
    if not is_inside(found, allowed_dirs):
        raise _outside(path, allowed_dirs)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        raise _not_a_file(path, mode)
    if _is_system_path(found):
        raise MediaForbidden(f"The path {shown(path)} is a system file: nothing under /proc, /sys or /dev is read.")


def is_inside(real_path: str, allowed_dirs: Sequence[str] | None) -> bool:
    """Whether a real path lies in one of these folders; `None` means every folder."""
    return allowed_dirs is None or any(_contains(os.path.realpath(folder), real_path) for folder in allowed_dirs)


def is_listable(real_path: str, allowed_dirs: Sequence[str] | None) -> bool:
    """Whether the names at a real path may be reported: it is allowed, and not the system's."""
    return is_inside(real_path, allowed_dirs) and not _is_system_path(real_path)


def _is_system_path(real_path: str) -> bool:
    return any(_contains(folder, real_path) for folder in _SYSTEM_FOLDERS)


def _contains(folder: str, real_path: str) -> bool:
    real_path, folder = os.path.normcase(real_path), os.path.normcase(folder)  # only Windows ignores case
    return real_path == folder or real_path.startswith(folder.rstrip(os.sep) + os.sep)


def _open_error(error: OSError, path: str, full_path: str, allowed_dirs: Sequence[str] | None) -> MediaError:
    if not is_inside(os.path.realpath(full_path), allowed_dirs):
        return _outside(path, allowed_dirs)
    if error.errno == errno.EACCES and os.path.isdir(full_path):  # Windows opens no folders
        return _not_a_file(path, stat.S_IFDIR)
    if error.errno in (errno.EACCES, errno.EPERM):
        return MediaForbidden(f"The server may not read the file {shown(path)}.")
    if error.errno in (errno.ENXIO, errno.ENODEV):
        return _not_a_file(path, stat.S_IFSOCK if error.errno == errno.ENXIO else stat.S_IFCHR)
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP):
        return _not_found(path, full_path, allowed_dirs)
    return MediaUnreadable(f"The file {shown(path)} cannot be read.")


def _not_found(path: str, full_path: str, allowed_dirs: Sequence[str] | None) -> MediaNotFound:
    """The error for a missing file; it suggests a similar name, or says that the path is of another system."""
    found = similar_path(full_path, lambda folder: is_listable(folder, allowed_dirs))
    if found is not None and is_listable(os.path.realpath(found), allowed_dirs):
        return MediaNotFound(
            f"There is no file {shown(path)}, but one whose name looks the same, {shown(found)}: "
            f"{difference(full_path, found)}. Use the exact name."
        )
    candidates = paths_here(path)
    if is_foreign(path):
        return MediaNotFound(
            f"There is no file {shown(path)}. This is a Windows path, and the server runs on another system: in WSL it "
            f"would be {shown(candidates[0])}, which does not exist. Use a path of the server's machine."
        )
    if candidates and not os.path.lexists(f"/{path[1:].partition('/')[0]}"):  # no such folder at the root
        return MediaNotFound(
            f"There is no file {shown(path)}, nor {' or '.join(map(shown, candidates))}: it looks like a path of Git "
            "Bash or WSL. Use a path of the server's machine."
        )
    if os.path.isabs(os.path.expanduser(path)):
        return MediaNotFound(f"There is no file {shown(path)}.")
    return MediaNotFound(f"There is no file {shown(full_path)} in the server's working folder; use the full path.")


def _outside(path: str, allowed_dirs: Sequence[str] | None) -> MediaForbidden:
    if not allowed_dirs:
        return MediaForbidden(
            f"The path {shown(path)} is not allowed: VLLM_ALLOWED_MEDIA_DIRS allows no folder. Send the file as "
            "base64, as a data: URL or as an http(s) URL."
        )
    outside = f"The path {shown(path)} is outside the folders that VLLM_ALLOWED_MEDIA_DIRS allows."
    if is_foreign(path):
        outside += " It is a Windows path, and the server runs on another system: use a path of the server's machine."
    return MediaForbidden(outside)


def _not_a_file(path: str, mode: int) -> MediaUnreadable:
    kind = next((f"{name}, not a file" for is_kind, name in _KINDS if is_kind(mode)), "not a regular file")
    return MediaUnreadable(f"The path {shown(path)} is {kind}.")
