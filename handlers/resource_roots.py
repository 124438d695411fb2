"""Folders with files that tools write and resources serve."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO

import msgspec


class ResourceRoot(msgspec.Struct, frozen=True):
    """A folder whose files are resources.

    Arguments:
        folder: absolute; it need not exist yet.
        description: what the files are.
        is_ours: whether a tool of this server wrote an open file. Other files in the folder are not served.
    """

    folder: str
    description: str
    is_ours: Callable[[BinaryIO], bool]
