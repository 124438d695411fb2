"""Files as resources: what the server is delivered with, the cards of its models, and what its tools have written."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote, unquote

import msgspec

from engine.arguments import shown_name
from mcp_protocol.resources import (
    MAX_BLOB_BYTES,
    MAX_READ_BYTES,
    Contents,
    Resource,
    ResourceNotFound,
    ResourceTooLarge,
)
from media.errors import MediaError, MediaNotFound, megabytes
from media.folders import entries_of
from media.paths import open_regular_file, path_of_file_url
from settings import DEMO_MODEL, ROOT

if TYPE_CHECKING:
    from handlers.services import Services

DOCUMENTS_BEGIN = "vllm://docs/"
MODELS_BEGIN = "vllm://models/"
CARD = "README.md"
"""What people call the description of a model, in its folder as on Hugging Face."""

MEDIA_TYPES = {
    ".bmp": "image/bmp",
    ".gif": "image/gif",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".json": "application/json",
    ".md": "text/markdown",
    ".mp3": "audio/mpeg",
    ".mp4": "video/mp4",
    ".png": "image/png",
    ".txt": "text/plain",
    ".wav": "audio/wav",
    ".webm": "video/webm",
    ".webp": "image/webp",
}
"""The types of files that are shown; others in the same folders are neither listed nor read."""


class ResourceRoot(msgspec.Struct, frozen=True):
    """A folder whose files are resources; a tool that writes files adds its own.

    `folder` is absolute and need not exist yet. `description` says what the files are. `is_ours` tells of an open file
    whether the tool wrote it: the folder may hold anything else, which is none of a client's business.
    """

    folder: str
    description: str
    is_ours: Callable[[BinaryIO], bool]


class Document(msgspec.Struct, frozen=True):
    """A file that the server is delivered with; `path` counts from the server's folder."""

    path: str
    title: str
    description: str

    @property
    def uri(self) -> str:
        """The document's URI, the same on every machine."""
        return DOCUMENTS_BEGIN + os.path.basename(self.path)


DOCUMENTS = (
    Document("README.md", "Manual of this server", "All tools, settings, resources and limits, and what errors mean."),
    Document("examples/demo.png", "Picture of the demo", "The bundled model describes a picture in a terminal."),
)


def documents(services: Services) -> Iterator[Resource]:
    """The documents that are there."""
    for document in DOCUMENTS:
        path = os.path.join(ROOT, document.path)
        if os.path.isfile(path):
            size = os.path.getsize(path)
            name = os.path.basename(path)
            yield Resource(document.uri, name, document.title, document.description, media_type(path), size)


def read_document(uri: str, services: Services) -> Contents:
    """One of the documents."""
    return _contents(_document_path(uri), (ROOT,))


def document_version(uri: str, services: Services) -> object:
    """Documents never change while the server runs."""
    return _document_path(uri)


def cards(services: Services) -> Iterator[Resource]:
    """The card of each model that has one on this machine."""
    for name, folder in card_folders(services).items():
        path = os.path.join(folder, CARD)
        yield Resource(
            MODELS_BEGIN + quote(name, safe=""),
            name,
            f"Model card of {name}",
            "What the model can do, and how it was made.",
            media_type(path),
            os.path.getsize(path),
        )


def read_card(uri: str, services: Services) -> Contents:
    """The card of one model."""
    folder = _card_folder(uri, services)
    return _contents(os.path.join(folder, CARD), (folder,))


def card_version(uri: str, services: Services) -> object:
    """Cards are not watched for changes: they come with their models."""
    return _card_folder(uri, services)


def card_folders(services: Services) -> dict[str, str]:
    """Names and folders of the models with a card: the server's own model, and the bundled one."""
    engine = services.settings.engine
    folders = {os.path.basename(DEMO_MODEL): DEMO_MODEL}
    if engine.base_url is None:
        folders = {shown_name(engine): os.path.expanduser(engine.model_name), **folders}
    return {name: folder for name, folder in folders.items() if os.path.isfile(os.path.join(folder, CARD))}


def written_files(services: Services) -> Iterator[Resource]:
    """The files in the folders that tools have registered."""
    for root in list(services.resource_roots):
        try:
            entries = entries_of(root.folder, (root.folder,))
        except MediaError:  # nothing has been written yet
            continue
        for entry in entries:
            path = os.path.join(root.folder, entry.name)
            if not entry.is_folder and media_type(path) is not None and _is_ours(root, path):
                uri = "file://" + quote(os.fsencode(path))
                yield Resource(uri, entry.name, None, root.description, media_type(path), entry.n_bytes)


def read_written_file(uri: str, services: Services) -> Contents:
    """One of those files, whatever form of its path the URI has."""
    path, roots = _written(uri, services)
    if not any(_is_ours(root, path) for root in roots):
        raise ResourceNotFound
    return _contents(path, [root.folder for root in roots])


def written_file_version(uri: str, services: Services) -> object:
    """Which file it is, of which size and time; None while there is none."""
    path, roots = _written(uri, services)
    try:
        with open_regular_file(path, [root.folder for root in roots]) as file:
            status = os.fstat(file.fileno())
    except MediaNotFound:
        return None
    except MediaError:
        raise ResourceNotFound from None
    if not any(_is_ours(root, path) for root in roots):
        raise ResourceNotFound
    return status.st_ino, status.st_size, status.st_mtime_ns


def _document_path(uri: str) -> str:
    for document in DOCUMENTS:
        if document.uri == uri:
            return os.path.join(ROOT, document.path)
    raise ResourceNotFound


def _card_folder(uri: str, services: Services) -> str:
    folder = card_folders(services).get(variable_of(uri, MODELS_BEGIN))
    if folder is None:
        raise ResourceNotFound
    return folder


def _is_ours(root: ResourceRoot, path: str) -> bool:
    """Whether a file lies in a root's folder and was written by its tool."""
    try:
        with open_regular_file(path, (root.folder,)) as file:
            return root.is_ours(file)
    except (MediaError, OSError):
        return False


def _written(uri: str, services: Services) -> tuple[str, list[ResourceRoot]]:
    """The path that a URI names, which may lie anywhere, and the roots in one of which it has to lie.

    Hidden files are left out since tools write under such names what is not finished.
    """
    roots = list(services.resource_roots)
    try:
        path = path_of_file_url(uri)
    except MediaError:
        raise ResourceNotFound from None
    if not roots or os.path.basename(path).startswith("."):
        raise ResourceNotFound
    return path, roots


def variable_of(uri: str, begin: str) -> str:
    """What stands for the variable in a URI of the form `begin{variable}`.

    Raises: `ResourceNotFound` where that is not percent-encoded as RFC 6570 has it, or no text.
    """
    encoded = uri.removeprefix(begin)
    if not encoded or set(encoded) & set("/?#"):
        raise ResourceNotFound
    try:
        return unquote(encoded, errors="strict")
    except UnicodeDecodeError:
        raise ResourceNotFound from None


def _contents(path: str, allowed_dirs: Sequence[str]) -> Contents:
    """A file's contents; whatever may not be read is not there."""
    kind = media_type(path)
    if kind is None:
        raise ResourceNotFound
    is_text = kind.startswith("text/") or kind == "application/json"
    max_bytes = MAX_READ_BYTES if is_text else MAX_BLOB_BYTES
    try:
        with open_regular_file(path, allowed_dirs) as file:
            n_bytes = os.fstat(file.fileno()).st_size
            data = file.read(max_bytes + 1) if n_bytes <= max_bytes else b""
    except MediaError:
        raise ResourceNotFound from None
    instead = f"Its file is {path}."
    if max(n_bytes, len(data)) > max_bytes:
        raise ResourceTooLarge(f"The resource is larger than {megabytes(max_bytes)}. {instead}")
    if is_text:
        with contextlib.suppress(UnicodeDecodeError):
            return Contents(kind, data.decode(), instead)
    return Contents(kind, data, instead)


def media_type(path: str) -> str | None:
    """The type of a file that is shown, by its name; None for all others."""
    return MEDIA_TYPES.get(os.path.splitext(path)[1].lower())
