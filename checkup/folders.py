"""What is read from and written to: the folder of what is generated, the sessions' file, media folders, the log."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING

from checkup.findings import Finding, gigabytes, off, ok, problem, warning
from engine.errors import StoreDamaged, StoreNewer, StoreUnavailable
from omni import files

if TYPE_CHECKING:
    from handlers.services import Services

LEAST_FREE_BYTES = 500 << 20


def log_file(services: Services) -> list[Finding]:
    """Where the log goes."""
    path = services.settings.server.log_file
    if not path:
        return [ok("log", "Goes to stderr.")]
    folder = os.path.dirname(os.path.abspath(path))
    if os.path.isdir(path) or not os.access(path if os.path.exists(path) else folder, os.W_OK):
        return [problem("log", f"{path} cannot be written. Set VLLM_LOG_FILE to a file in a folder that is there.")]
    return [ok("log", f"Goes to {path}.")]


def output_folder(services: Services) -> list[Finding]:
    """Where pictures and videos go; it is not made before it is needed."""
    if not services.settings.server.offers("images", "video"):
        return [off("output folder", "Not needed: VLLM_TOOLSETS offers neither images nor video.")]
    path = services.output_folder.path
    shown, reason = files.shown_path(path), why_not_written(path)
    if reason is not None:
        return [problem("output folder", f"{shown}: {reason}. Mend that, or set OMNI_OUTPUT_DIR to another folder.")]
    free_bytes = shutil.disk_usage(nearest_folder(path)).free
    made = "" if os.path.isdir(path) else ", made when first needed"
    text = f"{shown}{made}; {gigabytes(free_bytes)} are free there"
    if free_bytes < LEAST_FREE_BYTES:
        return [warning("output folder", f"{text}. Make room, or set OMNI_OUTPUT_DIR to another folder.")]
    return [ok("output folder", f"{text}.")]


def sessions(services: Services) -> list[Finding]:
    """The file of the sessions, as it is: it is neither made nor mended here."""
    path = services.settings.sessions.session_db
    if path is None:
        return [ok("sessions", "In memory: they end with the server. VLLM_SESSION_DB=FILE keeps them.")]
    if not os.path.exists(path):
        reason = why_not_written(os.path.dirname(os.path.abspath(path)))
        if reason is not None:
            return [problem("sessions", f"{path} cannot be made: {reason}. Set VLLM_SESSION_DB to another file.")]
        return [ok("sessions", f"{path} is made with the first session.")]
    return [_session_file(path)]


def _session_file(path: str) -> Finding:
    from engine.session_file import connect

    try:
        with contextlib.closing(connect(path)) as connection:
            (n_sessions,) = connection.execute("SELECT count(*) FROM sessions").fetchone()
    except StoreDamaged as error:
        text = f"{path} is damaged ({error}). The server sets it aside under another name and begins a fresh one."
        return warning("sessions", text)
    except StoreNewer as error:
        return warning("sessions", f"{error} One beside it is used. Update this server to use it.")
    except StoreUnavailable as error:
        return problem("sessions", f"{error} Until that is mended, sessions are in memory only.")
    if not os.access(path, os.W_OK):
        return problem("sessions", f"{path} may be read but not written. Change its rights, or set VLLM_SESSION_DB.")
    return ok("sessions", f"{path} can be used; it holds {n_sessions} sessions.")


def media_folders(services: Services) -> list[Finding]:
    """The folders that pictures and sound may be read from."""
    folders = services.settings.media.allowed_dirs
    if folders == ():
        text = "No files are read over HTTP: clients send base64 or URLs. VLLM_ALLOWED_MEDIA_DIRS allows some."
        return [ok("media folders", text)]
    if folders is None:
        return [ok("media folders", "Any file that this user may read. VLLM_ALLOWED_MEDIA_DIRS confines that.")]
    findings = []
    for folder in folders:
        if not os.path.isdir(folder):
            text = f"There is no folder {folder}. Make it, or change VLLM_ALLOWED_MEDIA_DIRS."
            findings.append(problem("media folders", text))
        elif not os.access(folder, os.R_OK | os.X_OK):
            text = f"{folder} may not be read. Change its rights, or VLLM_ALLOWED_MEDIA_DIRS."
            findings.append(problem("media folders", text))
        else:
            findings.append(ok("media folders", f"{folder} is there."))
    return findings


def nearest_folder(path: str) -> str:
    """The folder itself, or the nearest above it that there is."""
    path = os.path.abspath(path)
    while not os.path.exists(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return path


def why_not_written(folder: str) -> str | None:
    """Why a folder cannot be written, or made; `None` where it can. What is written to find out is gone at once."""
    place = nearest_folder(folder)
    if not os.path.isdir(place):
        return f"{files.shown_path(place)} is a file"
    reason = files.why_not_written(place)
    return f"{files.shown_path(place)} cannot be written: {reason}" if reason is not None else None
