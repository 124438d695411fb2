"""Checks of files and folders: generated files, the file of the sessions, media folders, the log."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING

from cli.check.findings import Finding, gigabytes, off, ok, problem, warning
from engine.errors import StoreDamaged, StoreNewer, StoreUnavailable
from omni.files import output_folder as output_folders

if TYPE_CHECKING:
    from handlers.services import Services

MIN_FREE_BYTES = 500 << 20


def log_file(services: Services) -> list[Finding]:
    """Whether the log can be written."""
    path = services.settings.server.log_file
    if not path:
        return [ok("log", "Written to stderr.")]
    folder = os.path.dirname(os.path.abspath(path))
    if os.path.isdir(path) or not os.access(path if os.path.exists(path) else folder, os.W_OK):
        return [problem("log", f"{path} cannot be written. Set VLLM_LOG_FILE to a file in an existing folder.")]
    return [ok("log", f"Written to {path}.")]


def output_folder(services: Services) -> list[Finding]:
    """The folder for generated images and videos; it is created only when needed."""
    if not services.settings.server.offers("images", "video"):
        return [off("output folder", "Not needed: the settings offer no tool for images or video.")]
    path = services.output_folder.path
    shown, reason = output_folders.shown_path(path), why_not_written(path)
    if reason is not None:
        return [problem("output folder", f"{shown}: {reason}. Fix that, or set OMNI_OUTPUT_DIR to another folder.")]
    free_bytes = shutil.disk_usage(nearest_folder(path)).free
    made = "" if os.path.isdir(path) else ", created when first needed"
    text = f"{shown}{made}; {gigabytes(free_bytes)} free"
    if free_bytes < MIN_FREE_BYTES:
        return [warning("output folder", f"{text}. Free some space, or set OMNI_OUTPUT_DIR to another folder.")]
    return [ok("output folder", f"{text}.")]


def sessions(services: Services) -> list[Finding]:
    """The file of the sessions; the check neither creates nor repairs it."""
    path = services.settings.sessions.session_db
    if path is None:
        return [
            ok("sessions", "Kept in memory until the server ends. VLLM_SESSION_DB=FILE keeps them across restarts.")
        ]
    if not os.path.exists(path):
        reason = why_not_written(os.path.dirname(os.path.abspath(path)))
        if reason is not None:
            return [problem("sessions", f"{path} cannot be created: {reason}. Set VLLM_SESSION_DB to another file.")]
        return [ok("sessions", f"{path} will be created with the first session.")]
    return [_session_file(path)]


def _session_file(path: str) -> Finding:
    from engine.sessions.db_file import connect

    try:
        with contextlib.closing(connect(path)) as connection:
            (n_sessions,) = connection.execute("SELECT count(*) FROM sessions").fetchone()
    except StoreDamaged as error:
        text = f"{path} is damaged ({error}). The server will rename it and create a new one."
        return warning("sessions", text)
    except StoreNewer as error:
        return warning(
            "sessions", f"{error} Another file in the same folder is used. Update this server to use this one."
        )
    except StoreUnavailable as error:
        return problem("sessions", f"{error} Until that is fixed, sessions are in memory only.")
    if not os.access(path, os.W_OK):
        return problem("sessions", f"{path} is not writable. Change its permissions, or set VLLM_SESSION_DB.")
    return ok("sessions", f"{path} works; it holds {n_sessions} sessions.")


def media_folders(services: Services) -> list[Finding]:
    """The folders that media files may be read from."""
    folders = services.settings.media.allowed_dirs
    if folders == ():
        text = "No files are read over HTTP: clients send base64 or URLs. VLLM_ALLOWED_MEDIA_DIRS allows folders."
        return [ok("media folders", text)]
    if folders is None:
        return [
            ok("media folders", "All files that this user may read. VLLM_ALLOWED_MEDIA_DIRS limits them to folders.")
        ]
    findings = []
    for folder in folders:
        if not os.path.isdir(folder):
            text = f"The folder {folder} does not exist. Create it, or change VLLM_ALLOWED_MEDIA_DIRS."
            findings.append(problem("media folders", text))
        elif not os.access(folder, os.R_OK | os.X_OK):
            text = f"{folder} is not readable. Change its permissions, or VLLM_ALLOWED_MEDIA_DIRS."
            findings.append(problem("media folders", text))
        else:
            findings.append(ok("media folders", f"{folder} is readable."))
    return findings


def nearest_folder(path: str) -> str:
    """The folder itself, or its nearest existing parent."""
    path = os.path.abspath(path)
    while not os.path.exists(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return path


def why_not_written(folder: str) -> str | None:
    """Why a folder cannot be written or created; `None` if it can. The test file is removed at once."""
    place = nearest_folder(folder)
    if not os.path.isdir(place):
        return f"{output_folders.shown_path(place)} is a file"
    reason = output_folders.why_not_written(place)
    return f"{output_folders.shown_path(place)} cannot be written: {reason}" if reason is not None else None
