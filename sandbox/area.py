"""Memory that a child and its parent share, for data that are too large for the channel.

It is a file without a name, whose descriptor the child inherits. Each side grows it to what it writes; only one of them
uses it at a time. Where descriptors are not inherited that way (Windows), there is none, and all goes through the
channel.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile

IS_AVAILABLE = os.name == "posix"


class Area:
    """Shared memory behind a descriptor, which this object owns."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._map: mmap.mmap | None = None

    @classmethod
    def made(cls) -> Area:
        """A new, empty one.

        Raises: `OSError`.
        """
        if hasattr(os, "memfd_create"):
            return cls(os.memfd_create("sandbox"))
        with tempfile.TemporaryFile() as file:
            return cls(os.dup(file.fileno()))

    def view(self, n_bytes: int) -> memoryview:
        """The first `n_bytes`, to be read and written; the area grows where it is smaller.

        Whoever asks for more than before must have released earlier views.

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
        """Gives back what lies beyond; the other side must not look there any more."""
        if os.fstat(self.fd).st_size > n_bytes:
            self._unmap()
            os.ftruncate(self.fd, n_bytes)

    def forget(self, n_bytes: int) -> None:
        """Unmaps what lies beyond, for the other side to cut."""
        if self._map is not None and len(self._map) > n_bytes:
            self._unmap()

    def close(self) -> None:
        """Gives all back; a second call does nothing, for the number of the descriptor may be another's by then."""
        self._unmap()
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def _unmap(self) -> None:
        found, self._map = self._map, None
        if found is not None:
            with contextlib.suppress(BufferError):  # a view is still in use, and the map goes with it
                found.close()
