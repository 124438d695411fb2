"""The images of one call: read in parallel, each only once, and counted in the byte budget until the call has ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from engine.errors import GenerationCancelled
from engine.interface import ImagePart
from handlers.media_generation.references import path_of_reference
from media.call_limits import CallLimits
from media.errors import MediaCancelled, MediaError, MediaForbidden, MediaNotFound, MediaTooLarge
from omni.errors import InvalidParameters
from sandbox.budget import OverBudget
from sandbox.limits import n_decoders

if TYPE_CHECKING:
    from handlers.services import Services
    from mcp_protocol.calls.call import Call
    from media.image import DecodedImage, ImageReader
    from sandbox.budget import Holding

T = TypeVar("T")
Source = TypeVar("Source")

MAX_DOWNLOADS = 8
"""Images of one call that are downloaded at the same time."""
NOT_IN_TIME = "The call's time was up before this image was read."


class OrderedPool(Generic[T]):
    """Runs a function on the items of a call in a few threads and yields the results in the items' order.

    The engine prepares the first images while the others are still being decoded. Use it as a context manager: items
    not started at its end are dropped.

    Arguments:
        function: the work on one item, called with the item's index.
        n_items: how many items there are.
        call: its deadline and its cancellation end the waiting.
        late: the result of an item that is not done at the call's deadline.
        downloads: whether items wait for the network. Without downloads there are no more threads than images can be
            decoded at the same time.
    """

    def __init__(self, function: Callable[[int], T], n_items: int, call: Call, late: T, *, downloads: bool) -> None:
        self._call = call
        self._late = late
        n_threads = MAX_DOWNLOADS if downloads else n_decoders()
        self._pool = ThreadPoolExecutor(min(n_threads, n_items), thread_name_prefix="images")
        self._futures = [self._pool.submit(function, index) for index in range(n_items)]

    def __enter__(self) -> OrderedPool[T]:
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def __iter__(self) -> Iterator[T]:
        """Yields each result as soon as it and all before it are ready; raises `GenerationCancelled`."""
        return map(self._result, self._futures)

    def _result(self, future: Future[T]) -> T:
        deadline_s = self._call.deadline_s
        left_s = None if deadline_s is None else max(0.0, deadline_s - time.monotonic())
        if self._call.cancellation.wait_for(future, left_s):
            return future.result()
        if self._call.cancellation.is_set():
            raise GenerationCancelled
        return self._late


class ImageData(msgspec.Struct, frozen=True):
    """An image inside a message: base64 text, and its media type if the message has one."""

    data: str
    mime_type: str | None = None


ImageSource = str | ImageData
"""A path or URL, or the image's own data."""


class PartReader(Generic[Source, T]):
    """Reads the media of one call, in threads where it helps; a subclass reads one.

    Arguments:
        call: its deadline and its cancellation end a read.
    """

    def __init__(self, call: Call) -> None:
        self._call = call

    def part(self, source: Source) -> T | str:
        """Returns the medium as a part of a message, or the error text if it cannot be read."""
        raise NotImplementedError

    def is_download(self, source: Source) -> bool:
        """Whether a medium comes over the network."""
        raise NotImplementedError

    def parallel_parts(self, sources: Sequence[Source]) -> OrderedPool[T | str]:
        """Reads many media in threads."""
        downloads = any(map(self.is_download, sources))
        return OrderedPool(
            lambda index: self.part(sources[index]), len(sources), self._call, NOT_IN_TIME, downloads=downloads
        )

    def prompt_parts(self, sources: Sequence[Source]) -> AbstractContextManager[Iterable[T | str]]:
        """Reads the few media of one prompt.

        Only downloads need threads: a cancellation or the deadline must not wait for the network. Without downloads,
        the caller's thread reads each medium when it takes it.
        """
        return self.parallel_parts(sources) if any(map(self.is_download, sources)) else self.inline_parts(sources)

    def inline_parts(self, sources: Sequence[Source]) -> AbstractContextManager[Iterable[T | str]]:
        """Reads each medium in the caller's thread when it is taken."""
        return nullcontext(map(self.part, sources))

    def single_part(self, source: Source) -> T | str:
        """Reads one medium, downloads in a thread; raises `GenerationCancelled`."""
        with self.prompt_parts([source]) as parts:
            return next(iter(parts))


class CallImages(PartReader[ImageSource, ImagePart]):
    """Reads the images of one call. Any thread may call it.

    Every source is read once, and equal images share one object. An image counts in the budget until the call has
    ended, even if a session keeps it: sessions have limits of their own.

    Arguments:
        reader: decodes a path, URL or base64 text.
        holding: the call's part of the byte budget.
        call: its deadline and its cancellation end a read.
        written: what this server's own tools wrote; `None` where that makes no difference.
    """

    def __init__(self, reader: ImageReader, holding: Holding, call: Call, written: WrittenFiles | None = None) -> None:
        super().__init__(call)
        self._reader = reader
        self._holding = holding
        self._written = written
        self._by_source: dict[ImageSource, DecodedImage] = {}
        self._by_digest: dict[str, DecodedImage] = {}
        self._lock = threading.Lock()

    def read(self, source: ImageSource) -> DecodedImage:
        """Returns the decoded image.

        Raises: `MediaError`; its kind `MediaTooLarge` also if the budget has no room for the image.
        """
        with self._lock:
            image = self._by_source.get(source)
        if image is not None:
            return image
        decoded = self._decoded(source)
        with self._lock:
            if decoded.digest not in self._by_digest:
                try:
                    self._holding.add(decoded.n_bytes)
                except OverBudget as error:
                    raise MediaTooLarge(str(error)) from None
                self._by_digest[decoded.digest] = decoded
            image = self._by_source[source] = self._by_digest[decoded.digest]
            return image

    def _decoded(self, source: ImageSource) -> DecodedImage:
        limits = call_limits(self._call)
        if isinstance(source, ImageData):
            return self._reader.read_base64(source.data, source.mime_type, limits=limits)
        if self._written is None:
            return self._reader.read(source, limits=limits)
        path = self._written.path_of(source)
        try:
            return self._reader.read(path, limits=limits)
        except MediaForbidden:
            own = self._written.path_if_own(path)
            if own is None:
                raise
            return self._reader.read_written(own, limits)

    def part(self, source: ImageSource) -> ImagePart | str:
        """Returns the image as a part of a message, or the error text if it cannot be read."""
        try:
            decoded = self.read(source)
        except MediaCancelled:
            return NOT_IN_TIME
        except MediaError as error:
            return str(error)
        return ImagePart(decoded.image, decoded.digest)

    def is_download(self, source: ImageSource) -> bool:
        """Whether an image comes over the network."""
        return is_download(source)


class WrittenFiles:
    """The files that this server's tools wrote: calls may name them by their jobs, and read them whatever folders the
    settings allow."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def path_of(self, reference: str) -> str:
        """The path of a job's file, for the job's id; any other text unchanged. Raises `MediaNotFound`."""
        try:
            return path_of_reference(reference, self._services)
        except InvalidParameters as error:
            raise MediaNotFound(str(error)) from None

    def path_if_own(self, reference: str) -> str | None:
        """The path that a text is or a `file:` URL has, if it names such a file."""
        from handlers.resources.written_files import open_written, path_of

        try:
            open_written(reference, self._services).close()
            return path_of(reference)
        except MediaError:
            return None


def call_images(call: Call, services: Services) -> CallImages:
    """The reader for the images of a call."""
    holding = services.budget.hold()
    call.on_release(holding.release)
    return CallImages(services.images, holding, call, WrittenFiles(services))


def call_limits(call: Call) -> CallLimits:
    """The deadline and the cancellation of a call, for media."""
    return CallLimits(call.cancellation, call.deadline_s)


def is_download(source: ImageSource) -> bool:
    """Whether an image comes over the network."""
    return isinstance(source, str) and source[:20].lstrip()[:4].casefold() == "http"
