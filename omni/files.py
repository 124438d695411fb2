"""The folder of what was generated: files appear in it whole or not at all, and none is ever overwritten."""

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
from typing import BinaryIO

from omni import atomic_file, mp4, png
from omni.errors import InvalidParameters, OutputFailed
from settings import working_folder

FOLDER = "generated_images"
PRIVATE = 0o600
"""Rights of files that only their owner reads and writes."""
MAX_NAME_BYTES = 200
TRIAL_BYTES = 65_536
"""Written to find out whether a folder takes files: a disk that has not even so much left is full."""
_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EACCES: "it may not be written",
    errno.EPERM: "it may not be written",
    errno.EROFS: "its file system is read-only",
    errno.EEXIST: "there is a file of that name in the way",
    errno.ENOTDIR: "there is a file of that name in the way",
    errno.ENOENT: "it is gone, or takes no files",
    errno.EIO: "its disk or network drive fails",
    errno.ENOTCONN: "its file system is not connected any more",
    errno.ESTALE: "its file system is not connected any more",
    errno.ENAMETOOLONG: "its name is too long",
}
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\.|$)", re.IGNORECASE)


class OutputFolder:
    """Where generated files go. They carry the prompts they were made from, so by default only their owner reads them.

    Arguments: the folder, relative to the working folder or absolute; None stands for `generated_images` in the
    working folder or, where that may not be written (hosts often start servers in `/`), in the home folder. The rights
    of files; folders that are made have the same ones, and may be entered by whoever may read the files.
    """

    def __init__(self, path: str | None, file_mode: int = PRIVATE) -> None:
        self._path = path
        self._file_mode = file_mode

    @cached_property
    def path(self) -> str:
        """The folder's absolute path; it need not exist yet."""
        if self._path is not None:
            return working_folder.absolute(self._path)
        try:
            here = working_folder.absolute(FOLDER)
        except FileNotFoundError:
            return os.path.join(os.path.expanduser("~"), FOLDER)
        parent = here if os.path.isdir(here) else os.path.dirname(here)
        return here if os.access(parent, os.W_OK) else os.path.join(os.path.expanduser("~"), FOLDER)

    def save(self, data: bytes, name: str) -> str:
        """Writes a file and returns its path; where the name is taken, a number is put behind it.

        Raises: `OutputFailed`, with nothing left behind.
        """
        with self._opened() as folder:
            return os.path.join(self.path, atomic_file.write(folder, name, data, self._file_mode))

    def check(self) -> None:
        """Finds out before a generation whether its file could be written, by writing one and removing it again.

        Raises: `OutputFailed`.
        """
        with self._opened() as folder:
            _try(folder, self._file_mode)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        """A descriptor of the folder, made if need be: what is done through it cannot be led elsewhere by a link."""
        try:
            _make_folders(self.path, folder_mode(self._file_mode))
            folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                yield folder
            finally:
                os.close(folder)
        except OSError as error:
            raise OutputFailed(
                f"The output folder {shown_path(self.path)} cannot be used: {reason(error)}. Mend that, or set "
                "OMNI_OUTPUT_DIR to another folder."
            ) from None


def why_not_written(folder: str) -> str | None:
    """Why files of ours cannot be written into a folder that is there; None where they can. Nothing stays of it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _try(descriptor, PRIVATE)
        finally:
            os.close(descriptor)
    except OSError as error:
        return reason(error)
    return None


def reason(error: OSError) -> str:
    """Why something cannot be written, in words that tell what to do."""
    return _REASONS.get(error.errno or 0) or f"the system refuses it ({error.strerror})"


def folder_mode(file_mode: int) -> int:
    """The rights of a folder whose files have these: whoever may read a file there may enter it."""
    return file_mode | (file_mode & 0o444) >> 2


def shown_path(path: str) -> str:
    """A path for people: names that are not UTF-8 cannot be told as they are."""
    return os.fsencode(path).decode("utf-8", "replace")


def is_ours(file: BinaryIO) -> bool:
    """Whether an open file is one that this server wrote, by the mark in it."""
    if png.is_ours(file):
        return True
    file.seek(0)
    return mp4.is_ours(file)


def automatic_name(kind: str, prompt: str, extension: str) -> str:
    """A name from the time and the prompt: `img_20260218_143022_a1b2c3.png`."""
    digest = hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    return f"{kind}_{time.strftime('%Y%m%d_%H%M%S')}_{digest}{extension}"


def checked_name(name: str, extension: str) -> str:
    """A caller's file name, with the extension if it has none; it names a file in the folder and nothing else.

    Raises: `InvalidParameters`.
    """
    stem, ending = os.path.splitext(name)
    if ending.casefold() != extension:
        if ending.casefold() in (".png", ".jpg", ".jpeg", ".webp", ".gif", ".mp4", ".webm", ".mov", ".avi"):
            raise InvalidParameters(f"filename: files of this kind are {extension} files; leave {ending} out.")
        stem, ending = name, ""
    full_name = stem + (ending or extension)
    if "/" in name or "\\" in name or not stem.strip(" ."):
        raise InvalidParameters(
            "filename: a plain name without folders is expected; files go into the output folder (OMNI_OUTPUT_DIR)."
        )
    if name.startswith((".", "-", "~")) or name != name.strip() or not full_name.isprintable():
        raise InvalidParameters(
            "filename: a name may not begin with '.', '-' or '~', or have spaces at its ends or control characters."
        )
    if _RESERVED.match(name) or any(char in '<>:"|?*' for char in name):
        raise InvalidParameters("filename: this name means something else on some systems; choose another.")
    try:
        n_bytes = len(full_name.encode())
    except UnicodeEncodeError:
        raise InvalidParameters("filename: the name is not valid text.") from None
    if n_bytes > MAX_NAME_BYTES:
        raise InvalidParameters(f"filename: the name has {n_bytes} bytes; at most {MAX_NAME_BYTES} are allowed.")
    return full_name


def _try(folder: int, mode: int) -> None:
    """Writes a file the way that generated ones are written, and removes it; raises `OSError`."""
    name = atomic_file.write(folder, f".{secrets.token_hex(8)}.check", bytes(TRIAL_BYTES), mode)
    atomic_file.remove(folder, name)


def _make_folders(path: str, mode: int) -> None:
    """Makes a folder and all that are missing above it with these rights, whatever the umask; raises `OSError`."""
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
        except FileExistsError:  # somebody else was quicker, or it is no folder, which opening it tells
            continue
        with contextlib.suppress(OSError):  # FAT has no rights
            os.chmod(folder, mode)
