"""Completions of arguments: image files, models, sessions, languages."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from handlers.resources.files import card_folders
from media.errors import MediaError
from media.files.folders import entries_of

if TYPE_CHECKING:
    from handlers.services import Services

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
LANGUAGES = """Arabic Chinese Dutch English French German Hindi Italian Japanese Korean Polish Portuguese Russian
Spanish Turkish Ukrainian""".split()  # noqa: SIM905


def images(value: str, services: Services) -> list[str]:
    """Image files and folders inside the allowed folders; nothing if the settings do not restrict images to folders.

    A folder ends with a separator; the next completion lists its content.
    """
    allowed_dirs = services.settings.media.allowed_dirs or ()
    values = {folder.rstrip(os.sep) + os.sep for folder in allowed_dirs}
    values = {folder for folder in values if folder.startswith(value)}
    begin = os.path.basename(value)
    typed = value[: len(value) - len(begin)]
    if allowed_dirs and typed:
        try:
            entries = entries_of(os.path.dirname(value), allowed_dirs)
        except MediaError:
            entries = []
        values |= {
            f"{typed}{entry.name}{typed[-1] if entry.is_folder else ''}"
            for entry in entries
            if entry.name.startswith(begin) and (entry.is_folder or _is_image(entry.name))
        }
    return sorted(values)


def configured_models(value: str, services: Services) -> list[str]:
    """The names of the models that calls may name."""
    return [name for name in services.models.names if name.startswith(value)]


def models(value: str, services: Services) -> list[str]:
    """Models with a model card."""
    return [name for name in card_folders(services) if name.startswith(value)]


def sessions(value: str, services: Services) -> list[str]:
    """Sessions, oldest created first."""
    return [session.id for session in services.published_sessions if session.id.startswith(value)]


def languages(value: str, services: Services) -> list[str]:
    """Common languages; any other is allowed too."""
    return [language for language in LANGUAGES if language.casefold().startswith(value.casefold())]


def _is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES
