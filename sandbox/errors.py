"""What can become of a call in the sandbox, as one small tree.

SandboxError
├─ SandboxFailed       the function raised an exception of its own; it has its name and its text
├─ SandboxMemory       it wanted more memory than it may have
├─ SandboxTimeout      it took longer than it may
│  └─ SandboxBusy      no child became free in that time
├─ SandboxCancelled    the caller does not want it any more
├─ SandboxCrashed      its process ended
└─ SandboxUnavailable  no process could be started, or the sandbox is closed
"""

from __future__ import annotations


class SandboxError(Exception):
    """Base of all errors of the sandbox. Its text says what happened, but knows no setting: the caller does."""


class SandboxFailed(SandboxError):
    """The function raised. `kind` is the exception's dotted path, such as "media.errors.MediaTooLarge"."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class SandboxMemory(SandboxError):
    """The function wanted more memory than it may have."""


class SandboxTimeout(SandboxError):
    """The function took longer than it may."""


class SandboxBusy(SandboxTimeout):
    """All children worked for others all the time."""


class SandboxCancelled(SandboxError):
    """The caller does not want the result any more."""


class SandboxCrashed(SandboxError):
    """The child ended before it answered: by a fault of a library, or by itself."""


class SandboxUnavailable(SandboxError):
    """No child can be started, or the sandbox is closed."""
