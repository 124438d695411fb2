"""Memory that a child and its parent share, for data that are too large for the channel.

It is an unnamed file, whose descriptor the child inherits. Each side grows it to the size of its data; only one side
uses it at a time. On Windows, where descriptors are not inherited that way, all data go through the channel.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
import tempfile

IS_AVAILABLE = sys.platform != "win32"


class Area:
    """Shared memory of a descriptor, which this object owns."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._map: mmap.mmap | None = None

    @classmethod
    def made(cls) -> Area:
        """A new, empty area; raises `OSError`."""
        if hasattr(os, "memfd_create"):
            return cls(os.memfd_create("sandbox"))
        with tempfile.TemporaryFile() as file:
            return cls(os.dup(file.fileno()))

    def view(self, n_bytes: int) -> memoryview:
        """The first `n_bytes`, readable and writable; the area grows if it is smaller.

        Earlier views must be released before the area grows.

        Raises: `OSError`, `MemoryError`.
        """
        if self._map is None or len(self._map) < n_bytes:
            self._unmap()
            size = max(n_bytes, os.fstat(self.fd).st_size, mmap.PAGESIZE)
            os.ftruncate(self.fd, size)
            try:
                self._map = mmap.mmap(self.fd, size)
            except OSError as error:
                raise MemoryError(f"no address space for {size} bytes") from error
        return memoryview(self._map)[:n_bytes]

    def cut(self, n_bytes: int) -> None:
        """Frees the memory beyond `n_bytes`; the other side must not access it any more."""
        if os.fstat(self.fd).st_size > n_bytes:
            self._unmap()
            os.ftruncate(self.fd, n_bytes)

    def forget(self, n_bytes: int) -> None:
        """Unmaps the memory beyond `n_bytes`, so that the other side can cut it."""
        if self._map is not None and len(self._map) > n_bytes:
            self._unmap()

    def close(self) -> None:
        """Frees the area. A second call does nothing: the number of the descriptor may be in use again."""
        self._unmap()
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def _unmap(self) -> None:
        old, self._map = self._map, None
        if old is not None:
            with contextlib.suppress(BufferError):  # a view is still in use, and keeps the map
                old.close()
