"""One exception to one sentence: the only place where a handler's failure becomes words for the caller."""

from __future__ import annotations

import errno
import logging
import secrets

from engine.errors import EngineError, GenerationCancelled
from media.errors import MediaError
from omni.errors import JobCancelled, OmniError

logger = logging.getLogger("handlers")


def explain(error: BaseException) -> str:
    """The sentence for the caller.

    Errors of the engine, of media and of omni are written for callers and shown as they are. Anything else is a
    defect: its details go to the log under a short id, since they may hold paths, secrets or memory addresses.
    """
    if isinstance(
        error, GenerationCancelled | JobCancelled
    ):  # a caller who cancelled gets no answer; this one meets a shutdown
        return "The server is shutting down; this call was stopped."
    if isinstance(error, EngineError | MediaError | OmniError):
        return str(error)
    if _is_shortage(error):
        logger.error("the system gives no more", exc_info=error)
        return (
            "The server ran out of memory, threads or open files on this call and did not finish it. Ask for less at "
            "once, such as fewer or smaller pictures, or raise the server's limits (ulimit -v, -u and -n)."
        )
    error_id = secrets.token_hex(4)
    logger.error("error %s", error_id, exc_info=error)
    return f"Internal error {error_id}; details are in the server's log."


def _is_shortage(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE)
    return isinstance(error, MemoryError) or "can't start new thread" in str(error)
