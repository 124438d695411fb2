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

from omni import mp4, png
from omni.errors import InvalidParameters, OutputFailed
from settings import working_folder

FOLDER = "generated_images"
MAX_NAME_BYTES = 200
MAX_TRIES = 10_000
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\.|$)", re.IGNORECASE)


class OutputFolder:
    """Where generated files go.

    Arguments: the folder, relative to the working folder or absolute; None stands for `generated_images` in the
    working folder or, where that may not be written (hosts often start servers in `/`), in the home folder.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path

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
        try:
            folder = self._opened()
        except OSError as error:
            raise self._failed(error) from None
        hidden = f".{secrets.token_hex(8)}.part"
        try:
            _write(folder, hidden, data)
            return os.path.join(self.path, _publish(folder, hidden, name))
        except OSError as error:
            raise self._failed(error) from None
        finally:
            _remove(folder, hidden)
            os.close(folder)

    def check(self) -> None:
        """Finds out before a generation whether its file could be written.

        Raises: `OutputFailed`.
        """
        try:
            os.close(self._opened())
        except OSError as error:
            raise self._failed(error) from None
        if not os.access(self.path, os.W_OK):
            raise self._failed(OSError(errno.EACCES, ""))

    def _opened(self) -> int:
        """A descriptor of the folder, made if need be: what is done through it cannot be led elsewhere by a link."""
        os.makedirs(self.path, exist_ok=True)
        return os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def _failed(self, error: OSError) -> OutputFailed:
        reasons = {
            errno.ENOSPC: "the disk is full",
            errno.EDQUOT: "the disk quota is used up",
            errno.EACCES: "it may not be written",
            errno.EPERM: "it may not be written",
            errno.EROFS: "its file system is read-only",
            errno.EEXIST: "there is a file of that name in the way",
            errno.ENOTDIR: "there is a file of that name in the way",
        }
        why = reasons.get(error.errno or 0, "the system refuses it")
        return OutputFailed(
            f"The output folder {self.path} cannot be used: {why}. Mend that, or set OMNI_OUTPUT_DIR to another folder."
        )


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


def _write(folder: int, name: str, data: bytes) -> None:
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=folder)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def _publish(folder: int, hidden: str, name: str) -> str:
    """Gives a finished file the first name of its kind that is free."""
    for candidate in _candidates(name):
        try:
            os.link(hidden, candidate, src_dir_fd=folder, dst_dir_fd=folder)
            return candidate
        except FileExistsError:
            continue
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK):
                raise
            # A file system without hard links: the name is taken first, then the file put in its place.
            try:
                taken = os.open(candidate, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=folder)
            except FileExistsError:
                continue
            os.close(taken)
            os.replace(hidden, candidate, src_dir_fd=folder, dst_dir_fd=folder)
            return candidate
    raise OSError(errno.EEXIST, name)


def _candidates(name: str) -> Iterator[str]:
    stem, extension = os.path.splitext(name)
    yield name
    yield from (f"{stem}_{number}{extension}" for number in range(2, MAX_TRIES))


def _remove(folder: int, name: str) -> None:
    with contextlib.suppress(OSError):  # mostly it was never written
        os.unlink(name, dir_fd=folder)
