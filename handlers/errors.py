"""Turns the exception of a handler into the error text for the caller; nothing else does."""

from __future__ import annotations

import errno
import logging
import os

from engine.errors import EngineError, GenerationCancelled
from media.errors import MediaError
from omni.errors import JobCancelled, OmniError

logger = logging.getLogger("handlers")


def error_text(error: BaseException) -> str:
    """The text of an exception for the caller.

    Errors of the engine, of media and of omni are written for callers and passed on unchanged. Any other exception is
    a defect: its details go to the log under a short id, since they may contain paths, secrets or memory addresses.
    """
    if isinstance(error, GenerationCancelled | JobCancelled):
        # A caller who cancelled gets no response, so this one is answered only because the server is shutting down.
        return "The server is shutting down; this call was stopped."
    if isinstance(error, EngineError | MediaError | OmniError):
        return str(error)
    if _is_out_of_resources(error):
        logger.error("the system is out of memory, threads or open files", exc_info=error)
        return (
            "The server ran out of memory, threads or open files during this call and did not finish it. Request less "
            "at once, such as fewer or smaller images, or raise the server's limits (ulimit -v, -u and -n)."
        )
    error_id = os.urandom(4).hex()
    logger.error("error %s", error_id, exc_info=error)
    return f"Internal error {error_id}; details are in the server's log."


def _is_out_of_resources(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE)
    return isinstance(error, MemoryError) or "can't start new thread" in str(error)
