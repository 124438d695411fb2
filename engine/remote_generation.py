"""One generation on a remote server: its requests side by side, until all conversations are answered."""

from __future__ import annotations

import asyncio
import queue
import time
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from engine.errors import EngineError, EngineUnavailable
from engine.event_stream import Chunk
from engine.interface import Completion, Control, Conversation, FinishReason
from engine.streamed_answer import StreamedAnswer

AT_ONCE = 32
"""Requests that one generation has open; more wait, so that their pictures need no memory yet."""
LOOK_S = 0.02
"""How often cancelling and the deadline are looked at while the server is silent."""

OnChunk = Callable[[Chunk], None]


@dataclass(slots=True)
class Asked:
    """A request to be made: what it does on the loop, and the answer that its events make."""

    stream: Callable[[OnChunk], Coroutine[Any, Any, None]]
    answer: StreamedAnswer


@dataclass(slots=True)
class _Running:
    answer: StreamedAnswer
    future: Future[None]
    first_token_ms: float | None = None
    told: str = ""


class RemoteGeneration:
    """The state of one `RemoteEngine.generate`.

    Arguments: `prepare`, which makes a request of a conversation or raises why that cannot be; `submit`, which starts
    it; the conversations; how they are watched and stopped.
    `conversations` are those taken so far, all of them at the end.
    """

    def __init__(
        self,
        prepare: Callable[[Conversation], Asked],
        submit: Callable[[Coroutine[Any, Any, None]], Future[None]],
        conversations: Iterable[Conversation],
        control: Control,
    ) -> None:
        self.conversations: list[Conversation] = []
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
        """Sends the requests and takes their answers until all are there, refused or late; see `Engine.generate`."""
        try:
            for index, conversation in enumerate(self._source):
                self.conversations.append(conversation)
                self._control.stop_if_cancelled()
                if index and self._control.is_late:  # preparing a picture takes its time
                    self._completions[index] = Completion(finish_reason=FinishReason.TIMEOUT)
                    continue
                self._start(index, conversation)
                self._take_events(AT_ONCE - 1)
            self._take_events(0)
        finally:
            for running in self._running.values():
                running.future.cancel()
        self._raise_refusal()
        return [self._completions[index] for index in range(len(self.conversations))]

    def _start(self, index: int, conversation: Conversation) -> None:
        try:
            asked = self._prepare(conversation)
        except EngineError as error:
            self._fail(index, error)
            return
        stream = self._streamed(index, asked.stream)
        self._running[index] = _Running(asked.answer, self._submit(stream))

    async def _streamed(self, index: int, stream: Callable[[OnChunk], Coroutine[Any, Any, None]]) -> None:
        """Runs on the loop, and only passes on what comes."""
        try:
            await stream(lambda chunk: self._events.put((index, chunk)))
        except BaseException as error:
            self._events.put((index, error))
            if not isinstance(error, Exception):
                raise
        else:
            self._events.put((index, None))

    def _take_events(self, most_running: int) -> None:
        """Takes events until no more than so many requests are open."""
        while len(self._running) > most_running:
            self._control.stop_if_cancelled()
            if self._control.is_late:
                self._end_unfinished()
                return
            try:
                index, event = self._events.get(timeout=LOOK_S)
            except queue.Empty:
                continue
            self._take(index, event)

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
            self._fail(index, running.answer.kept(error))

    def _take_chunk(self, index: int, running: _Running, chunk: Chunk) -> None:
        text = running.answer.take(chunk)
        if text is None:
            return
        if running.first_token_ms is None:
            running.first_token_ms = (time.monotonic() - self._started_s) * 1e3
        if self._control.on_text is not None:
            running.told += text
            self._control.on_text(index, text, running.answer.completion_tokens)

    def _end_unfinished(self) -> None:
        """Ends every unfinished answer at the deadline with the text that it has."""
        while not self._events.empty():
            self._take(*self._events.get())
        for index, running in list(self._running.items()):
            running.future.cancel()
            del self._running[index]
            self._finish(index, running, FinishReason.TIMEOUT)

    def _finish(self, index: int, running: _Running, finish_reason: FinishReason | None = None) -> None:
        """Notes a completion, and shows a listener what turned out to be text only at its end."""
        completion = running.answer.completion(running.first_token_ms, finish_reason)
        rest = completion.text.removeprefix(running.told)
        if self._control.on_text is not None and rest and completion.text.startswith(running.told):
            self._control.on_text(index, rest, completion.completion_tokens)
        self._note(index, completion)

    def _fail(self, index: int, error: EngineError) -> None:
        self._refusals[index] = error
        self._note(index, Completion(error=str(error)))

    def _note(self, index: int, completion: Completion) -> None:
        self._completions[index] = completion
        if self._control.on_finished is not None:
            self._control.on_finished(index)

    def _raise_refusal(self) -> None:
        """Raises where there is one conversation and it was refused, or where nobody could be answered at all."""
        refusals = list(self._refusals.values())
        if refusals and len(refusals) == len(self.conversations):
            if len(refusals) == 1:
                raise refusals[0]
            if all(isinstance(refusal, EngineUnavailable) for refusal in refusals):
                raise refusals[0]

    @property
    def unavailable(self) -> EngineUnavailable | None:
        """Why the server could not be used, where that is what some request found."""
        found = (error for error in self._refusals.values() if isinstance(error, EngineUnavailable))
        return next(found, None)
