"""Many pictures of one call, read side by side: one that cannot be read, or not in time, does not fail the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec

from engine.errors import GenerationCancelled
from engine.interface import ImagePart
from media.call_limits import CallLimits
from media.errors import MediaError
from media.image import decoders

if TYPE_CHECKING:
    from mcp_protocol.call import Call
    from media.image import ImageReader

T = TypeVar("T")

DOWNLOADS = 8
"""Pictures that are fetched at a time."""
LOOK_S = 0.1
"""How often waiting asks whether the call was cancelled."""
NOT_IN_TIME = "The call's time was up before this picture was read."


class SideBySide(Generic[T]):
    """Work that a few threads do on the items of a call, while whoever wants the results takes them one by one.

    So the engine prepares the first pictures while the others are still being decoded. Use it as a context manager:
    at its end, what was not begun is dropped.

    Arguments: `do`, the work on one item by its number; `n_items`; the call that it is for; `late`, what stands for an
    item that is not done at the call's deadline; `fetches`, whether some items wait for the network, and others should
    not wait for them: otherwise there are no more threads than pictures can be decoded at a time.
    """

    def __init__(self, do: Callable[[int], T], n_items: int, call: Call, late: T, *, fetches: bool) -> None:
        self._call = call
        self._late = late
        n_threads = DOWNLOADS if fetches else decoders()
        self._pool = ThreadPoolExecutor(min(n_threads, n_items), thread_name_prefix="pictures")
        self._futures = [self._pool.submit(do, number) for number in range(n_items)]

    def __enter__(self) -> SideBySide[T]:
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def __iter__(self) -> Iterator[T]:
        """The results in the items' order, each as soon as it is there.

        Raises: `GenerationCancelled`.
        """
        for future in self._futures:
            yield self._result(future)

    def _result(self, future: Future[T]) -> T:
        while not future.done():
            if self._call.cancelled():
                raise GenerationCancelled
            left_s = LOOK_S if self._call.deadline_s is None else self._call.deadline_s - time.monotonic()
            if left_s <= 0:
                return self._late
            wait((future,), min(LOOK_S, left_s))
        return future.result()


class PictureData(msgspec.Struct, frozen=True):
    """A picture that came inside the message: base64 text and its media type, where that is told."""

    data: str
    mime_type: str | None = None


PictureSource = str | PictureData
"""A path or URL, or the picture's own data."""


def pictures_of(sources: Sequence[PictureSource], images: ImageReader, call: Call) -> SideBySide[ImagePart | str]:
    """Each source's picture, or why there is none."""

    def read(number: int) -> ImagePart | str:
        return _read(sources[number], images, call)

    return SideBySide(read, len(sources), call, NOT_IN_TIME, fetches=any(map(is_fetched, sources)))


def is_fetched(source: PictureSource) -> bool:
    """Whether a picture comes over the network."""
    return isinstance(source, str) and source[:20].lstrip()[:4].casefold() == "http"


def pictures_in_order(
    sources: Sequence[PictureSource], images: ImageReader, call: Call
) -> AbstractContextManager[Iterable[ImagePart | str]]:
    """The few pictures of one prompt: fetched side by side, where neither a cancellation nor the call's deadline waits
    for the network; without any to fetch, read one after another by whoever takes them."""
    if any(map(is_fetched, sources)):
        return pictures_of(sources, images, call)
    return nullcontext(pictures_here(sources, images, call))


def pictures_here(sources: Sequence[PictureSource], images: ImageReader, call: Call) -> Iterator[ImagePart | str]:
    """Each source's picture, or why there is none, read by the thread that takes them."""
    return (_read(source, images, call) for source in sources)


def read_picture(source: PictureSource, images: ImageReader, call: Call) -> ImagePart | str:
    """One picture, or why there is none.

    Raises: `GenerationCancelled`.
    """
    with pictures_in_order([source], images, call) as pictures:
        return next(iter(pictures))


def limits_of(call: Call) -> CallLimits:
    """What ends reading for a call."""
    return CallLimits(call.cancelled, call.deadline_s)


def _read(source: PictureSource, images: ImageReader, call: Call) -> ImagePart | str:
    try:
        decoded = (
            images.read_base64(source.data, source.mime_type, limits=limits_of(call))
            if isinstance(source, PictureData)
            else images.read(source, limits=limits_of(call))
        )
    except MediaError as error:
        return str(error)
    return ImagePart(decoded.image, decoded.digest)
