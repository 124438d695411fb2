"""One generation on a remote server: sends its requests concurrently and collects the completions."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import time
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from engine.errors import EngineError, EngineUnavailable
from engine.interface import Completion, Control, Conversation, FinishReason
from engine.remote.accumulator import StreamedCompletion
from engine.remote.chunks import Chunk

MAX_IN_FLIGHT = 32
"""Open requests of one generation; the others wait, so that their images are not in memory yet."""
_WAKE_UP = -1, None
"""An event of no request: it only ends the wait for the next event."""

OnChunk = Callable[[Chunk], None]


@dataclass(slots=True)
class PendingRequest:
    """A request that is ready to be sent.

    Attributes: `stream` sends it on the event loop and passes on its events; `completion` collects them.
    """

    stream: Callable[[OnChunk], Coroutine[Any, Any, None]]
    completion: StreamedCompletion


@dataclass(slots=True)
class _Running:
    completion: StreamedCompletion
    future: Future[None]
    first_token_ms: float | None = None
    sent_text: str = ""
    """What `on_text` has been called with."""


class RemoteGeneration:
    """The state of one `RemoteEngine.generate`.

    Arguments:
        prepare: makes a request from a conversation, or raises why that is not possible.
        submit: starts a coroutine on the event loop.
        conversations: taken one by one.
        control: how the generation is watched and stopped.
    """

    def __init__(
        self,
        prepare: Callable[[Conversation], PendingRequest],
        submit: Callable[[Coroutine[Any, Any, None]], Future[None]],
        conversations: Iterable[Conversation],
        control: Control,
    ) -> None:
        self.conversations: list[Conversation] = []
        """Those taken so far."""
        self._prepare = prepare
        self._submit = submit
        self._source = conversations
        self._control = control
        self._started_s = time.monotonic()
        self._events: queue.SimpleQueue[tuple[int, Chunk | BaseException | None]] = queue.SimpleQueue()
        self._running: dict[int, _Running] = {}
        self._completions: dict[int, Completion] = {}
        self._refusals: dict[int, EngineError] = {}

    def run(self) -> list[Completion]:
        """Sends the requests and collects the completions until all have ended; see `Engine.generate`."""
        withdraw = self._control.cancellation.on_set(lambda: self._events.put(_WAKE_UP))
        try:
            for index, conversation in enumerate(self._source):
                self.conversations.append(conversation)
                self._control.stop_if_cancelled()
                if index and self._control.is_late:  # preparing an image may take seconds
                    self._completions[index] = Completion(finish_reason=FinishReason.TIMEOUT)
                    continue
                self._start(index, conversation)
                self._take_events(MAX_IN_FLIGHT - 1)
            self._take_events(0)
        finally:
            withdraw()
            for running in self._running.values():
                running.future.cancel()
        self._raise_refusal()
        return [self._completions[index] for index in range(len(self.conversations))]

    def _start(self, index: int, conversation: Conversation) -> None:
        try:
            request = self._prepare(conversation)
        except EngineError as error:
            self._fail(index, error)
            return
        stream = self._streamed(index, request.stream)
        self._running[index] = _Running(request.completion, self._submit(stream))

    async def _streamed(self, index: int, stream: Callable[[OnChunk], Coroutine[Any, Any, None]]) -> None:
        """Runs on the event loop and only passes events on."""
        try:
            await stream(lambda chunk: self._events.put((index, chunk)))
        except BaseException as error:
            self._events.put((index, error))
            if not isinstance(error, Exception):
                raise
        else:
            self._events.put((index, None))

    def _take_events(self, max_running: int) -> None:
        """Handles events until at most `max_running` requests are open."""
        while len(self._running) > max_running:
            self._control.stop_if_cancelled()
            if self._control.is_late:
                self._end_unfinished()
                return
            deadline_s = self._control.deadline_s
            timeout_s = None if deadline_s is None else max(0.0, deadline_s - time.monotonic())
            with contextlib.suppress(queue.Empty):
                self._take(*self._events.get(timeout=timeout_s))

    def _take(self, index: int, event: Chunk | BaseException | None) -> None:
        running = self._running.get(index)
        if running is None:
            return
        try:
            if isinstance(event, asyncio.CancelledError):
                raise EngineUnavailable("The server is shutting down.")
            if isinstance(event, BaseException):
                raise event
            if event is None:
                del self._running[index]
                self._finish(index, running)
            else:
                self._take_chunk(index, running, event)
        except EngineError as error:
            self._running.pop(index, None)
            running.future.cancel()
            self._fail(index, running.completion.with_text(error))

    def _take_chunk(self, index: int, running: _Running, chunk: Chunk) -> None:
        text = running.completion.take(chunk)
        if text is None:
            return
        if running.first_token_ms is None:
            running.first_token_ms = (time.monotonic() - self._started_s) * 1e3
        if self._control.on_text is not None:
            running.sent_text += text
            self._control.on_text(index, text, running.completion.completion_tokens)

    def _end_unfinished(self) -> None:
        """Ends every unfinished completion at the deadline with the text so far."""
        while not self._events.empty():
            self._take(*self._events.get())
        for index, running in list(self._running.items()):
            running.future.cancel()
            del self._running[index]
            self._finish(index, running, FinishReason.TIMEOUT)

    def _finish(self, index: int, running: _Running, finish_reason: FinishReason | None = None) -> None:
        """Stores a completion; text that is only known at the end is passed to `on_text` now."""
        completion = running.completion.completion(running.first_token_ms, finish_reason)
        rest = completion.text.removeprefix(running.sent_text)
        if self._control.on_text is not None and rest and completion.text.startswith(running.sent_text):
            self._control.on_text(index, rest, completion.completion_tokens)
        self._store(index, completion)

    def _fail(self, index: int, error: EngineError) -> None:
        self._refusals[index] = error
        self._store(index, Completion(error=str(error)))

    def _store(self, index: int, completion: Completion) -> None:
        self._completions[index] = completion
        if self._control.on_finished is not None:
            self._control.on_finished(index)

    def _raise_refusal(self) -> None:
        """Raises where the only conversation was refused, or where the server was unavailable for all of them."""
        refusals = list(self._refusals.values())
        if refusals and len(refusals) == len(self.conversations):
            if len(refusals) == 1:
                raise refusals[0]
            if all(isinstance(refusal, EngineUnavailable) for refusal in refusals):
                raise refusals[0]

    @property
    def unavailable(self) -> EngineUnavailable | None:
        """The error of the first request that found the server unavailable."""
        return next((error for error in self._refusals.values() if isinstance(error, EngineUnavailable)), None)
