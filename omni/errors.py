"""The errors of image and video generation. Messages are for the caller: they say what to do.

OmniError
├─ InvalidParameters      the caller can fix it: a size, a ratio, a file name, too many images
│  └─ UnknownJob          there is no job with that id
├─ TooManyJobs            too many jobs are open; try again later
├─ OutputFailed           the output folder cannot be written
├─ ServerUnreachable      no connection to the server
├─ ConnectionLost         the connection broke before the response was complete
├─ ServerTooSlow          no response in time
├─ ServerRefused          the server rejects the request (HTTP 4xx)
│  ├─ KeyRefused          ... because of the key
│  └─ ModelChanged        ... because it serves another model now
├─ ServerBusy             no response now; a running generation may continue
├─ ServerFailed           the server failed (HTTP 5xx)
│  └─ ServerOutOfMemory   ... because it is out of memory
├─ InvalidResponse        the response does not follow the API
├─ JobFailed              the job has no result; the text says why
└─ JobCancelled           the job was cancelled
"""

from __future__ import annotations


class OmniError(Exception):
    """Base of all errors; `str()` is a message for the caller."""

    not_begun = False
    """Whether the server has certainly not begun the request, so that a retry is safe."""
    retry_after_s: float | None = None
    """How long the server asks to wait before a retry."""


class InvalidParameters(OmniError):
    """The request is invalid; the caller can fix it."""


class UnknownJob(InvalidParameters):
    """There is no job with that id."""

    def __init__(self, job_id: str) -> None:
        shown_id = job_id if len(job_id) <= 60 else job_id[:60] + "…"
        super().__init__(
            f"There is no job {shown_id!r}. list_jobs names the existing jobs. Jobs are kept in memory: they are gone "
            "after a restart of the server, or OMNI_JOB_TTL seconds after their end. Saved files are kept."
        )


class TooManyJobs(OmniError):
    """Too many jobs are open at once."""


class OutputFailed(OmniError):
    """A file could not be written into the output folder."""


class ServerUnreachable(OmniError):
    """There is no connection to the server.

    Arguments: `why` names another cause than a server that is not running: its certificate, the proxy, the host name.
    """

    def __init__(self, url: str, health_tool: str = "server_health", why: str = "") -> None:
        super().__init__(
            why or f"Cannot connect to vLLM server at {url}. Is the container running? Check with `{health_tool}` tool."
        )
        self.why = why
        self.not_begun = not why


class ConnectionLost(OmniError):
    """The connection broke before the response was complete."""

    def __init__(self, url: str, health_tool: str = "server_health") -> None:
        super().__init__(
            f"The connection to the vLLM server at {url} was lost before its response was complete. "
            f"It may have been stopped or have crashed: check with `{health_tool}` tool and try again."
        )


class ServerTooSlow(OmniError):
    """There was no response in time."""


class ServerBusy(OmniError):
    """There is no response now; a running generation may continue."""


class ServerRefused(OmniError):
    """The server rejects the request (HTTP 4xx)."""


class KeyRefused(ServerRefused):
    """The server requires a key, or another one."""


class ModelChanged(ServerRefused):
    """The server no longer serves the model of the request."""


class ServerFailed(OmniError):
    """The server failed (HTTP 5xx)."""


class ServerOutOfMemory(ServerFailed):
    """The server is out of memory."""

    def __init__(self) -> None:
        super().__init__(
            "Server returned out-of-memory error. Try reducing resolution or use `gpu_status` to check available "
            "memory."
        )


class InvalidResponse(OmniError):
    """The response does not follow the API."""


class JobFailed(OmniError):
    """The job has no result."""


class JobCancelled(OmniError):
    """The job was cancelled before it was done."""
