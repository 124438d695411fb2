"""Files on this machine, opened so that a path cannot name anything but a regular file in an allowed folder.

Every check is made on the opened descriptor, not on the path: a link that is swapped meanwhile changes nothing.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from typing import BinaryIO
from urllib.parse import unquote_to_bytes

from media.errors import MediaError, MediaForbidden, MediaNotFound, MediaTooLarge, MediaUnreadable, megabytes, shown
from media.kinds import PICTURE, MediaKind
from media.lookalikes import difference, lookalike
from settings import working_folder
from settings.windows_paths import is_windows_path, paths_here, windows_path_of_url

# O_NONBLOCK: opening a FIFO without a writer would hang. O_NOCTTY: opening a terminal must not make it ours.
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
KERNEL_FOLDERS = ("/proc", "/sys", "/dev")
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def read_file(path: str, allowed_dirs: Sequence[str] | None, max_bytes: int, kind: MediaKind = PICTURE) -> bytes:
    """Reads a whole file of at most `max_bytes`; errors as in `open_regular_file`, and `MediaTooLarge`."""
    with open_regular_file(path, allowed_dirs) as file:
        n_bytes = os.fstat(file.fileno()).st_size
        if n_bytes <= max_bytes:
            # A file that grows meanwhile is read up to the limit and no further.
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

    `path` may begin with "~"; a relative path counts from the folder that the server was started in. A path as Windows
    or Git Bash writes it means the file of WSL that it names, where that is there. `allowed_dirs` are absolute folders,
    compared by real path; None allows every folder except /proc, /sys and /dev, and no folder allows none.

    Raises `MediaNotFound`, `MediaForbidden` or `MediaUnreadable`. For a path outside of the allowed folders the
    error is the same whether or not something is there.
    """
    if "\0" in path or not path.strip():
        raise MediaForbidden(f"The path {shown(path)} cannot be a file's name.")
    if path.startswith("\\\\") and not is_windows_path(path):
        raise MediaForbidden(f"The path {shown(path)} names another machine; only this machine's files are read.")
    full_path = _path_here(path)
    try:
        descriptor = os.open(full_path, _FLAGS)
    except ValueError:
        raise MediaForbidden(f"The path {shown(path)} cannot be a file's name.") from None
    except OSError as error:
        raise _open_error(error, path, full_path, allowed_dirs) from None
    try:
        _check_descriptor(descriptor, path, allowed_dirs)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def path_of_file_url(url: str) -> str:
    """The absolute path that a `file:` URL names; raises `MediaForbidden` for other machines and odd forms.

    `?` and `#` are part of the name, as in a path that was only prefixed with file://.
    """
    rest = url[len("file:") :]
    host = ""
    if (windows_path := windows_path_of_url(_unquoted(rest, url))) is not None:
        return windows_path
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        rest = slash + path
    if host.casefold() not in ("", "localhost") or rest.startswith("//") or "\\" in rest:
        raise MediaForbidden(f"The URL {shown(url)} names another machine; only this machine's files are read.")
    if not rest.startswith("/"):
        raise MediaForbidden(f"The URL {shown(url)} has no absolute path; it must look like file:///folder/name.")
    return _unquoted(rest, url)


def _unquoted(rest: str, url: str) -> str:
    try:
        return os.fsdecode(unquote_to_bytes(rest))
    except UnicodeEncodeError:
        raise MediaForbidden(f"The URL {shown(url)} cannot be a file's name.") from None


def _path_here(path: str) -> str:
    """The full path of this machine that is meant: the path itself, or what it means in WSL, where something is there.

    Where nothing is, a path that only Windows writes stands for its likeliest meaning.
    """
    candidates = paths_here(path)
    if not candidates:
        return _full_path(path)
    usual = candidates[0] if is_windows_path(path) else _full_path(path)
    return next(filter(_is_there, (usual, *candidates)), usual)


def _is_there(path: str) -> bool:
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


def _check_descriptor(descriptor: int, path: str, allowed_dirs: Sequence[str] | None) -> None:
    real_path = os.readlink(f"/proc/self/fd/{descriptor}")
    if not is_inside(real_path, allowed_dirs):
        raise _outside(path, allowed_dirs)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        raise _not_a_file(path, mode)
    if any(contains(folder, real_path) for folder in KERNEL_FOLDERS):
        raise MediaForbidden(f"The path {shown(path)} is the system's: nothing under /proc, /sys or /dev is read.")


def is_inside(real_path: str, allowed_dirs: Sequence[str] | None) -> bool:
    """Whether a path without links lies in one of these folders; None stands for every folder."""
    return allowed_dirs is None or any(contains(os.path.realpath(folder), real_path) for folder in allowed_dirs)


def contains(folder: str, real_path: str) -> bool:
    """Whether a path is this folder or lies below it; both without links."""
    return real_path == folder or real_path.startswith(folder.rstrip("/") + "/")


def _open_error(error: OSError, path: str, full_path: str, allowed_dirs: Sequence[str] | None) -> MediaError:
    if not is_inside(os.path.realpath(full_path), allowed_dirs):
        return _outside(path, allowed_dirs)
    if error.errno in (errno.EACCES, errno.EPERM):
        return MediaForbidden(f"The server may not read the file {shown(path)}.")
    if error.errno in (errno.ENXIO, errno.ENODEV):
        return _not_a_file(path, stat.S_IFSOCK if error.errno == errno.ENXIO else stat.S_IFCHR)
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP):
        return _not_found(path, full_path, allowed_dirs)
    return MediaUnreadable(f"The file {shown(path)} cannot be read.")


def _not_found(path: str, full_path: str, allowed_dirs: Sequence[str] | None) -> MediaNotFound:
    """Why there is no such file, as far as that can be told: another form of path, or a name that only looks alike."""

    def is_readable(folder: str) -> bool:
        return is_inside(folder, allowed_dirs) and not any(contains(kernel, folder) for kernel in KERNEL_FOLDERS)

    found = lookalike(full_path, is_readable)
    if found is not None and is_readable(os.path.realpath(found)):
        return MediaNotFound(
            f"There is no file {shown(path)}, but one that looks the same, {shown(found)}: "
            f"{difference(full_path, found)}. Give its name exactly."
        )
    candidates = paths_here(path)
    if is_windows_path(path):
        return MediaNotFound(
            f"There is no file {shown(path)}. This is a Windows path, and the server runs on Linux: in WSL it would be "
            f"{shown(candidates[0])}, which is not there. Give the path as the server's machine has it."
        )
    if candidates and not os.path.lexists(f"/{path[1:].partition('/')[0]}"):  # no such folder at the root
        return MediaNotFound(
            f"There is no file {shown(path)}, nor {' or '.join(map(shown, candidates))}: it looks like a path of Git "
            "Bash or WSL. Give the path as the server's machine has it."
        )
    if os.path.isabs(os.path.expanduser(path)):
        return MediaNotFound(f"There is no file {shown(path)}.")
    return MediaNotFound(f"There is no file {shown(full_path)} in the server's working folder; give the full path.")


def _outside(path: str, allowed_dirs: Sequence[str] | None) -> MediaForbidden:
    if not allowed_dirs:
        return MediaForbidden(
            f"The path {shown(path)} is not read: no folder is set for it (VLLM_ALLOWED_MEDIA_DIRS). Give the file as "
            "base64, as a data: URL or by its address on the web."
        )
    outside = f"The path {shown(path)} is outside of the folders that VLLM_ALLOWED_MEDIA_DIRS allows."
    if is_windows_path(path):
        outside += " It is a Windows path, and the server runs on Linux: give it as the server's machine has it."
    return MediaForbidden(outside)


def _not_a_file(path: str, mode: int) -> MediaUnreadable:
    kind = next((name for is_kind, name in _KINDS if is_kind(mode)), "no regular file")
    return MediaUnreadable(f"The path {shown(path)} is {kind}, not a file.")
