"""The output folder: files are written atomically, and never overwritten."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import time
from collections.abc import Iterator
from functools import cached_property

from omni.errors import InvalidParameters, OutputFailed
from omni.files import atomic_file
from operating_system import folders
from operating_system.folders import Folder
from settings import working_folder

FOLDER = "generated_images"
PRIVATE = 0o600
"""Permissions: only the owner reads and writes."""
MAX_NAME_BYTES = 200
TRIAL_BYTES = 65_536
"""The size of the file that tests whether the folder is writable; a disk with less space counts as full."""
_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EROFS: "its file system is read-only",
    errno.EEXIST: "a file of that name exists",
    errno.ENOTDIR: "a file of that name exists",
    errno.ENOENT: "it does not exist, or cannot contain files",
    errno.EIO: "the disk or network drive has failed",
    errno.ENOTCONN: "its file system is disconnected",
    errno.ESTALE: "its file system is disconnected",
    errno.ENAMETOOLONG: "its name is too long",
}
_IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".gif")
_VIDEO_ENDINGS = (".mp4", ".webm", ".mov", ".avi")
_AUDIO_ENDINGS = (".wav", ".mp3", ".flac", ".ogg", ".opus", ".m4a", ".aac")
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\.|$)", re.IGNORECASE)


class OutputFolder:
    """Where generated files are saved. They contain their prompts, so by default only the owner can read them.

    Arguments:
        path: absolute or relative to the working folder. `None` stands for `generated_images` in the working folder or,
            where that is not writable (hosts often start servers in `/`), in the home folder.
        file_mode: the permissions of files; new folders get the same, and the right to enter for whoever may read.
    """

    def __init__(self, path: str | None, file_mode: int = PRIVATE) -> None:
        self._path = path
        self._file_mode = file_mode

    @cached_property
    def path(self) -> str:
        """The folder's absolute path; it may not exist yet."""
        if self._path is not None:
            return working_folder.absolute(self._path)
        try:
            here = working_folder.absolute(FOLDER)
        except FileNotFoundError:
            return os.path.join(os.path.expanduser("~"), FOLDER)
        parent = here if os.path.isdir(here) else os.path.dirname(here)
        return here if folders.is_writable(parent) else os.path.join(os.path.expanduser("~"), FOLDER)

    def save(self, data: bytes, name: str) -> str:
        """Writes a file and returns its path; where the name is taken, a number is appended.

        Raises: `OutputFailed`; no partial file is left.
        """
        with self._opened() as folder:
            return os.path.join(self.path, atomic_file.write(folder, name, data, self._file_mode))

    def check(self) -> None:
        """Checks before a generation that files can be written, by writing and removing one; raises `OutputFailed`."""
        with self._opened() as folder:
            _try(folder, self._file_mode)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Folder]:
        """The folder, created where needed."""
        try:
            _make_folders(self.path, folder_mode(self._file_mode))
            with folders.opened(self.path) as folder:
                yield folder
        except OSError as error:
            raise OutputFailed(
                f"The output folder {shown_path(self.path)} cannot be used: {reason(error)}. Fix that, or set "
                "OMNI_OUTPUT_DIR to another folder."
            ) from None


def why_not_written(folder: str) -> str | None:
    """Why files cannot be written into an existing folder; `None` where they can."""
    try:
        with folders.opened(folder) as opened:
            _try(opened, PRIVATE)
    except OSError as error:
        return reason(error)
    return None


def reason(error: OSError) -> str:
    """The cause of a failed write in plain words."""
    return _REASONS.get(error.errno or 0) or f"the system reports: {error.strerror}"


def folder_mode(file_mode: int) -> int:
    """The permissions of a folder for such files: whoever may read a file may enter the folder."""
    return file_mode | (file_mode & 0o444) >> 2


def shown_path(path: str) -> str:
    """A path for messages; bytes that are not UTF-8 are replaced."""
    return os.fsencode(path).decode("utf-8", "replace")


def automatic_name(kind: str, prompt: str, extension: str) -> str:
    """A name from the time and the prompt: `img_20260218_143022_a1b2c3.png`."""
    digest = hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    return f"{kind}_{time.strftime('%Y%m%d_%H%M%S')}_{digest}{extension}"


def checked_name(name: str, extension: str) -> str:
    """A caller's file name with its extension; it cannot name a file outside the folder.

    Raises: `InvalidParameters`.
    """
    stem, ending = os.path.splitext(name)
    if ending.casefold() != extension:
        if ending.casefold() in _IMAGE_ENDINGS + _VIDEO_ENDINGS + _AUDIO_ENDINGS:
            raise InvalidParameters(f"filename: this is a {extension} file; leave {ending} out.")
        stem, ending = name, ""
    full_name = stem + (ending or extension)
    if "/" in name or "\\" in name or not stem.strip(" ."):
        raise InvalidParameters(
            "filename: use a name without folders; files are saved in the output folder (OMNI_OUTPUT_DIR)."
        )
    if name.startswith((".", "-", "~")) or name != name.strip() or not full_name.isprintable():
        raise InvalidParameters(
            "filename: a name must not begin with '.', '-' or '~', or have spaces at its ends or control characters."
        )
    if _RESERVED.match(name) or any(char in '<>:"|?*' for char in name):
        raise InvalidParameters("filename: this name is reserved on some systems; choose another one.")
    try:
        n_bytes = len(full_name.encode())
    except UnicodeEncodeError:
        raise InvalidParameters("filename: the name is not valid Unicode.") from None
    if n_bytes > MAX_NAME_BYTES:
        raise InvalidParameters(f"filename: the name has {n_bytes} bytes; at most {MAX_NAME_BYTES} are allowed.")
    return full_name


def _try(folder: Folder, mode: int) -> None:
    """Writes and removes a file; raises `OSError`."""
    name = atomic_file.write(folder, f".{secrets.token_hex(8)}.check", bytes(TRIAL_BYTES), mode)
    atomic_file.remove(folder, name)


def _make_folders(path: str, mode: int) -> None:
    """Creates a folder and its missing parents with these permissions, whatever the umask; raises `OSError`."""
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        parent = os.path.dirname(path)
        if parent == path:
            break
        path = parent
    for folder in reversed(missing):
        try:
            os.mkdir(folder, mode)
        except FileExistsError:  # another process was faster, or it is a file: opening it shows that
            continue
        with contextlib.suppress(OSError):  # FAT has no permissions
            os.chmod(folder, mode)
