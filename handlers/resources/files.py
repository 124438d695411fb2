"""Files as resources: the server's documents, the cards of its models, and the files that its tools wrote."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import msgspec

from handlers.resource_roots import ResourceRoot
from mcp_protocol.resources.resource import (
    MAX_BLOB_BYTES,
    MAX_READ_BYTES,
    Contents,
    Resource,
    ResourceNotFound,
    ResourceTooLarge,
)
from media.errors import MediaError, MediaNotFound, megabytes
from media.files.file_urls import path_of_file_url, url_of_path
from media.files.folders import entries_of
from media.files.paths import open_regular_file
from settings import DEMO_MODEL, ROOT

if TYPE_CHECKING:
    from handlers.services import Services

DOCUMENTS_BEGIN = "vllm://docs/"
MODELS_BEGIN = "vllm://models/"
CARD = "README.md"
"""The file name of a model card, as on Hugging Face."""

MEDIA_TYPES = {
    ".bmp": "image/bmp",
    ".flac": "audio/flac",
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
"""The types of files that are served; others in the same folders are neither listed nor read."""


class Document(msgspec.Struct, frozen=True):
    """A file of the server's distribution; `path` is relative to the server's folder."""

    path: str
    title: str
    description: str

    @property
    def uri(self) -> str:
        """The document's URI, the same on every machine."""
        return DOCUMENTS_BEGIN + os.path.basename(self.path)


DOCUMENTS = (
    Document("README.md", "README", "What the server is, how to start it, and where each subject is described."),
    Document("docs/install.md", "Install", "With uv or pip, light or with vLLM; platforms and clients."),
    Document("docs/tools.md", "Tools", "Each tool with its arguments, defaults, bounds and result fields."),
    Document("docs/settings.md", "Settings", "Each environment variable, and how several calls run at once."),
    Document("docs/chat.md", "Chat", "Messages, sessions, JSON output, function calls and reasoning."),
    Document("docs/several-models.md", "Several models", "Which one answers, sessions that change it, memory."),
    Document("docs/vision.md", "Vision", "Image formats and limits; many images with one query."),
    Document("docs/speech.md", "Speech", "Transcripts, translations and subtitles; speech from text."),
    Document("docs/images-and-video.md", "Images and video", "Images, edits, checks, jobs, video, vLLM-Omni on a CPU."),
    Document("docs/view.md", "View", "What hosts with MCP Apps show: images, videos, speech, jobs."),
    Document("docs/providers.md", "Providers", "OpenAI, DashScope and other services; keys, certificates, proxies."),
    Document("docs/resources.md", "Resources and prompts", "What a host can read, watch and complete."),
    Document("docs/terminal.md", "In a terminal", "One tool, the list of tools, or a chat, without a client."),
    Document("docs/http.md", "HTTP", "Several clients, or clients on other machines."),
    Document("docs/deployment.md", "Deployment", "Models, remote vLLM, service, containers, memory, idle timeout."),
    Document("docs/troubleshooting.md", "Troubleshooting", "Error messages, what to do about them, and limits."),
    Document("docs/architecture.md", "Architecture", "Layers, two requests followed step by step, all files."),
    Document("docs/benchmarks.md", "Benchmarks", "Measured figures, and how to measure them again."),
    Document("docs/demo-models.md", "Demo models", "What the bundled models can do."),
    Document("docs/departures.md", "Departures", "Where the server differs from its source documents."),
    Document("examples/demo.png", "Image of the demo", "The demo model describes an image in a terminal."),
)


def documents(services: Services) -> Iterator[Resource]:
    """The documents that exist."""
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
    """A constant: documents do not change while the server runs."""
    return _document_path(uri)


def cards(services: Services) -> Iterator[Resource]:
    """The cards of the models on this machine."""
    for name, folder in card_folders(services).items():
        path = os.path.join(folder, CARD)
        yield Resource(
            MODELS_BEGIN + quote(name, safe=""),
            name,
            f"Model card of {name}",
            "What the model can do, and how it was trained.",
            media_type(path),
            os.path.getsize(path),
        )


def read_card(uri: str, services: Services) -> Contents:
    """The card of one model."""
    folder = _card_folder(uri, services)
    return _contents(os.path.join(folder, CARD), (folder,))


def card_version(uri: str, services: Services) -> object:
    """A constant: cards do not change while the server runs."""
    return _card_folder(uri, services)


def card_folders(services: Services) -> dict[str, str]:
    """Names and folders of the models with a card: the server's own models, and the bundled one."""
    engine = services.settings.engine
    folders = {os.path.basename(DEMO_MODEL): DEMO_MODEL}
    if engine.base_url is None:
        own = {name: os.path.expanduser(each.model_name) for name, each in engine.by_name().items()}
        folders = {**own, **folders}
    return {name: folder for name, folder in folders.items() if os.path.isfile(os.path.join(folder, CARD))}


def written_files(services: Services) -> Iterator[Resource]:
    """The files in the tools' output folders."""
    for root in list(services.resource_roots):
        try:
            entries = entries_of(root.folder, (root.folder,))
        except MediaError:  # nothing has been written yet
            continue
        for entry in entries:
            path = os.path.join(root.folder, entry.name)
            if not entry.is_folder and media_type(path) is not None and _is_ours(root, path):
                uri, kind = url_of_path(path), media_type(path)
                yield Resource(uri, entry.name, None, root.description, kind, entry.n_bytes)


def read_written_file(uri: str, services: Services) -> Contents:
    """One of those files; its path may be written in any form."""
    path, roots = _written(uri, services)
    if not any(_is_ours(root, path) for root in roots):
        raise ResourceNotFound
    return _contents(path, [root.folder for root in roots])


def written_file_version(uri: str, services: Services) -> object:
    """The inode, size and time of a file; `None` while it does not exist."""
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
    """Whether a file is in a root's folder and was written by its tool."""
    try:
        with open_regular_file(path, (root.folder,)) as file:
            return root.is_ours(file)
    except (MediaError, OSError):
        return False


def _written(uri: str, services: Services) -> tuple[str, list[ResourceRoot]]:
    """The path of a URI, which may be anywhere, and the roots that it must be in. Hidden files are excluded: tools use
    such names for unfinished files."""
    roots = list(services.resource_roots)
    try:
        path = path_of_file_url(uri)
    except MediaError:
        raise ResourceNotFound from None
    if not roots or os.path.basename(path).startswith("."):
        raise ResourceNotFound
    return path, roots


def variable_of(uri: str, begin: str) -> str:
    """The value of the variable in a URI of the form `begin{variable}`.

    Raises: `ResourceNotFound` if the value is not percent-encoded according to RFC 6570, or not UTF-8.
    """
    encoded = uri.removeprefix(begin)
    if not encoded or set(encoded) & set("/?#"):
        raise ResourceNotFound
    try:
        return unquote(encoded, errors="strict")
    except UnicodeDecodeError:
        raise ResourceNotFound from None


def _contents(path: str, allowed_dirs: Sequence[str]) -> Contents:
    """A file's contents; a file that may not be read is reported as not found."""
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
    """The MIME type of a served file, by its name; `None` for all others."""
    return MEDIA_TYPES.get(os.path.splitext(path)[1].lower())
