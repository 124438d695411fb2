"""What an argument may go on to be: picture files, models, sessions, languages."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from handlers.files import card_folders
from media.errors import MediaError
from media.folders import entries_of

if TYPE_CHECKING:
    from handlers.services import Services

PICTURE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
LANGUAGES = (
    "Arabic",
    "Chinese",
    "Dutch",
    "English",
    "French",
    "German",
    "Hindi",
    "Italian",
    "Japanese",
    "Korean",
    "Polish",
    "Portuguese",
    "Russian",
    "Spanish",
    "Turkish",
    "Ukrainian",
)


def pictures(value: str, services: Services) -> list[str]:
    """Picture files and folders, where the settings confine pictures to folders; elsewhere nothing is looked for.

    A folder ends with "/": what lies in it comes with the next completion.
    """
    allowed_dirs = services.settings.media.allowed_dirs or ()
    on_the_way = {f"{folder.rstrip('/')}/" for folder in allowed_dirs}
    found = {folder for folder in on_the_way if folder.startswith(value)}
    folder, slash, begin = value.rpartition("/")
    if allowed_dirs and slash:
        try:
            entries = entries_of(folder or "/", allowed_dirs)
        except MediaError:
            entries = []
        found |= {
            f"{folder}/{entry.name}{'/' if entry.is_folder else ''}"
            for entry in entries
            if entry.name.startswith(begin) and (entry.is_folder or _is_picture(entry.name))
        }
    return sorted(found)


def models(value: str, services: Services) -> list[str]:
    """Models with a card."""
    return [name for name in card_folders(services) if name.startswith(value)]


def sessions(value: str, services: Services) -> list[str]:
    """Sessions, oldest created first."""
    return [session.id for session in services.published_sessions if session.id.startswith(value)]


def languages(value: str, services: Services) -> list[str]:
    """Languages that models often know; any other may be given."""
    return [language for language in LANGUAGES if language.casefold().startswith(value.casefold())]


def _is_picture(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in PICTURE_SUFFIXES
