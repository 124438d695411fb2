"""The errors of the sandbox.

SandboxError
├─ SandboxFailed       the function raised an exception
├─ SandboxMemory       the function exceeded its memory limit
├─ SandboxTimeout      the function exceeded its time limit
│  └─ SandboxBusy      no child became free in that time
├─ SandboxCancelled    the caller cancelled
├─ SandboxCrashed      the child process ended
└─ SandboxUnavailable  no process could be started, or the sandbox is closed
"""

from __future__ import annotations


class SandboxError(Exception):
    """Base class. The text says what happened and names no setting; the caller adds advice."""


class SandboxFailed(SandboxError):
    """The function raised. `kind` is the exception's dotted path, such as "media.errors.MediaTooLarge"."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class SandboxMemory(SandboxError):
    """The function exceeded its memory limit."""


class SandboxTimeout(SandboxError):
    """The function exceeded its time limit."""


class SandboxBusy(SandboxTimeout):
    """No child became free within the time limit."""


class SandboxCancelled(SandboxError):
    """The caller cancelled."""


class SandboxCrashed(SandboxError):
    """The child process ended before it replied, for example by a crash in a library."""


class SandboxUnavailable(SandboxError):
    """No child can be started, or the sandbox is closed."""
