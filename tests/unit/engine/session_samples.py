"""Messages, images and turns for tests of sessions."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

from PIL import Image

from engine.interface import AudioPart, ImagePart, Message, TextPart, VideoPart
from engine.parts import Part
from engine.sessions.sqlite_backend import SqliteBackend
from engine.sessions.store import SessionStore
from settings import SessionSettings

MAX_IMAGES = 4
OPENED: list[SessionStore] = []
"""The stores over files that a test has made; `conftest.py` closes them after it."""


def make_image(shade: int, side: int = 2) -> ImagePart:
    """A grey image; equal arguments give equal digests."""
    image = Image.new("RGB", (side, side), (shade, shade, shade))
    return ImagePart(image, hashlib.sha256(f"{side}".encode() + image.tobytes()).hexdigest())


def make_audio(level: float, n_samples: int = 4) -> AudioPart:
    """A constant sound; equal arguments give equal digests."""
    samples = struct.pack("<f", level) * n_samples
    return AudioPart(samples, f"audio-{hashlib.sha256(samples).hexdigest()}")


def make_video(*shades: int, side: int = 2) -> VideoPart:
    """A video of one grey frame a second; equal arguments give equal digests."""
    frames = tuple(make_image(shade, side).image for shade in shades)
    times_s = tuple(number + 0.5 for number in range(len(frames)))
    return VideoPart(frames, times_s, float(len(frames)), 1.0, f"video-{side}-{shades}")


def message(role: str, *content: str | Part) -> Message:
    """A message of texts and media."""
    return Message(role, tuple(TextPart(part) if isinstance(part, str) else part for part in content))


def say(store: SessionStore, session_id: str, *content: str | Part, max_images: int = MAX_IMAGES) -> int:
    """One turn, answered with "ok"; returns how many messages were dropped for it."""
    plan = store.plan(session_id, [message("user", *content)], max_images)
    return store.commit(plan, message("assistant", "ok")).truncated_messages


def texts(messages: tuple[Message, ...]) -> list[str]:
    """What the messages say."""
    return [message.text for message in messages]


def stored(path: str, max_sessions: int = 100, max_messages: int = 50, loaded_bytes: int = 1 << 20) -> SessionStore:
    """The sessions of a server that has just started on a file."""
    settings = SessionSettings(max_sessions=max_sessions, max_session_messages=max_messages)
    OPENED.append(SessionStore(settings, backend=SqliteBackend(path, max_sessions, loaded_bytes)))
    return OPENED[-1]


def filled(path: str) -> str:
    """A file with one session; returns its path."""
    store = stored(path)
    say(store, "old", "what was said " * 400, make_image(1, side=200))
    say(store, "old", "and more " * 400)
    store.close()
    return path


def problem_of(store: SessionStore) -> str:
    problem = store.problem()
    assert problem is not None
    return problem


def aside(path: str) -> list[Path]:
    """The damaged files that lie beside the file under a name that says so, without their logs."""
    return [
        file for file in Path(path).parent.glob("sessions.db.damaged-*") if not file.name.endswith(("-wal", "-shm"))
    ]
