"""What can go wrong between a request for a picture or video and its file, as one small tree.

Messages are written for the caller: they say what to do, and why a server refused in its own words, as far as those are
plain text of a reasonable length.

OmniError
├─ InvalidParameters      the caller can mend it: a size, a ratio, a file's name, too many pictures
│  └─ UnknownJob          there is no job of that id
├─ TooManyJobs            too many jobs are open; later there is room again
├─ OutputFailed           the output folder cannot be written
├─ ServerUnreachable      there is no connection to the address
├─ ConnectionLost         the connection broke before the answer was there
├─ ServerTooSlow          the answer did not come within the time allowed
├─ ServerRefused          the server refuses this request (4xx)
│  ├─ KeyRefused          ... because it wants a key, or another one
│  └─ ModelChanged        ... because it serves another model by now
├─ ServerBusy             no answer for now, and what was asked for before may go on
├─ ServerFailed           the server could not do it (5xx)
│  └─ ServerOutOfMemory   ... because its memory did not suffice
├─ UnusableAnswer         the server answered something that is no answer
├─ JobFailed              nothing came of a job; the text says why
└─ JobCancelled           the job was cancelled
"""

from __future__ import annotations


class OmniError(Exception):
    """Base of all errors; `str()` is a sentence for the caller."""

    not_begun = False
    """Whether the server has certainly not begun with the request, so that it may be sent again."""
    retry_after_s: float | None = None
    """How long the server asks to wait before that."""


class InvalidParameters(OmniError):
    """The request cannot be made as it is; the caller can mend it."""


class UnknownJob(InvalidParameters):
    """There is no job of that id."""

    def __init__(self, job_id: str) -> None:
        shown_id = job_id if len(job_id) <= 60 else job_id[:60] + "…"
        super().__init__(
            f"There is no job {shown_id!r}. list_jobs names those that exist; they are kept in memory, so a restart of "
            "the server or OMNI_JOB_TTL seconds end them. Files that were saved stay where they are."
        )


class TooManyJobs(OmniError):
    """Too many jobs are open at once."""


class OutputFailed(OmniError):
    """A file could not be written into the output folder."""


class ServerUnreachable(OmniError):
    """There is no connection to the server: nobody answers at its address, or `why` says what else it is: its
    certificate, the proxy on the way, the host's name."""

    def __init__(self, url: str, health_tool: str = "server_health", why: str = "") -> None:
        super().__init__(
            why or f"Cannot connect to vLLM server at {url}. Is the container running? Check with `{health_tool}` tool."
        )
        self.why = why
        self.not_begun = not why


class ConnectionLost(OmniError):
    """The connection broke before the answer was there."""

    def __init__(self, url: str, health_tool: str = "server_health") -> None:
        super().__init__(
            f"The connection to the vLLM server at {url} was lost before its answer was there. "
            f"It may have been stopped or have crashed: check with `{health_tool}` tool and try again."
        )


class ServerTooSlow(OmniError):
    """The answer did not come in time."""


class ServerBusy(OmniError):
    """There is no answer for now, and what was asked for before may go on."""


class ServerRefused(OmniError):
    """The server refuses this request (HTTP 4xx)."""


class KeyRefused(ServerRefused):
    """The server wants a key, or another one."""


class ModelChanged(ServerRefused):
    """The server serves another model than the one it was asked for."""


class ServerFailed(OmniError):
    """The server could not do it (HTTP 5xx)."""


class ServerOutOfMemory(ServerFailed):
    """The memory of the server did not suffice."""

    def __init__(self) -> None:
        super().__init__(
            "Server returned out-of-memory error. Try reducing resolution or use `gpu_status` to check available "
            "memory."
        )


class UnusableAnswer(OmniError):
    """The server's answer is not what its API promises."""


class JobFailed(OmniError):
    """Nothing came of a job."""


class JobCancelled(OmniError):
    """The job was cancelled before this was done."""
