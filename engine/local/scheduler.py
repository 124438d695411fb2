"""The scheduler of one loaded engine: admits requests, makes vLLM's steps, and routes the outputs to their callers.

`vllm.LLM` has no way to stop a request, and hands the outputs of an interrupted call to the next caller. So the loop
over the steps is ours.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from engine.errors import EngineError, GenerationCancelled, GenerationFailed, PromptTooLong
from engine.interface import Completion, Control, Conversation, FinishReason, SpeechWindow
from engine.local import failures
from engine.local.adapter import EngineAdapter, EngineBroken
from engine.local.batch import Batch
from engine.local.inputs.input_processor import InputProcessor
from engine.local.inputs.speech_inputs import SpeechInputProcessor
from engine.local.locks import FairLock
from engine.local.request import Request
from engine.prompts import structured_outputs

log = logging.getLogger("engine")

CLOSE_WAIT_S = 5.0
_FINISH_REASONS = {"stop": FinishReason.STOP, "repetition": FinishReason.STOP, "length": FinishReason.LENGTH}


class Scheduler:
    """Runs the batches of all callers side by side on one engine.

    With one caller at a time, the caller's thread makes the steps while it waits. With several, one thread makes them
    for all: OpenMP keeps worker threads for each thread that computes, and oneDNN its kernels. With more workers than
    processors, each of a step's hundreds of barriers takes longer (a fifth of the time with eight such threads).

    Arguments:
        adapter: the engine.
        inputs: makes vLLM's inputs.
        turns: held for each step and each addition of a request; engines that may only work in turns share it.
        has_thread: whether a thread of its own makes the steps; `close` ends it.

    Attribute: `broken`, what made the engine unusable, `None` while it works.
    """

    def __init__(
        self,
        adapter: EngineAdapter,
        inputs: InputProcessor | SpeechInputProcessor,
        turns: FairLock | None = None,
        *,
        has_thread: bool = False,
    ) -> None:
        self.broken: BaseException | None = None
        self._adapter = adapter
        self._inputs: Any = inputs
        """Makes vLLM's inputs. The engine checks beforehand that a request is of the kind that the model takes."""
        self._turns = turns or FairLock()
        self._lock = FairLock()
        """Held by whoever uses the engine or changes what follows; taken after `_turns` by those who need both."""
        self._batches: dict[Batch, None] = {}
        self._waiting: deque[Request] = deque()
        self._running: dict[str, Request] = {}
        self._is_closed = False
        self._has_work = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True) if has_thread else None
        if self._thread is not None:
            self._thread.start()

    def generate(self, conversations: Iterable[Conversation | SpeechWindow], control: Control) -> list[Completion]:
        """Generates for all conversations, or windows of speech, as one batch; see `Engine.generate`.

        Raises: `EngineBroken`, and those errors of `Engine.generate` that concern the requests.
        """
        with self.open_batch(control) as batch:
            for conversation in conversations:
                self.submit(batch, conversation)
            while batch.n_unfinished:
                if self._thread is None:
                    self.step()
                batch.deliver(waits=self._thread is not None)
        submitted: Any = batch.conversations  # windows have no response format, as free conversations
        return structured_outputs.checked(submitted, batch.results())

    def step(self) -> None:
        """Serves every batch once; what goes wrong reaches the callers and is not raised here.

        Requests expire before the engine's step, so none gets a step that nobody wants.
        """
        is_ready = bool(self._running) and self._adapter.wait()
        with self._turn(lambda: not (self._running or self._waiting)) as has_turn:
            if not has_turn:
                return
            self._admit()
            self._expire()
            if is_ready and self._running:
                self._route(self._adapter.step())
            self._end_lost()

    def close(self) -> None:
        """Ends the thread, if there is one; no batch is left."""
        self._is_closed = True
        self._has_work.set()
        if self._thread is not None:
            self._thread.join(CLOSE_WAIT_S)

    def _run(self) -> None:
        """Makes steps while there are requests, then waits for more."""
        try:
            while not self._is_closed:
                self._has_work.wait()
                self._has_work.clear()
                while (self._running or self._waiting) and not self._is_closed:
                    self.step()
        except BaseException as error:
            with self._engine():
                raise error

    @contextlib.contextmanager
    def open_batch(self, control: Control) -> Iterator[Batch]:
        """A new batch; leaving the context aborts what is unfinished."""
        batch = Batch(control, self._adapter.output_kind(control))
        self._batches[batch] = None
        withdraw = control.cancellation.on_set(self._adapter.wake)
        try:
            if self.broken is not None:  # checked after the batch is registered, so that `_break` cannot miss it
                raise EngineBroken from self.broken
            yield batch
        finally:
            withdraw()
            if batch.n_unfinished:
                with self._engine():
                    self._end(batch, GenerationCancelled("The generation was cancelled."))
            del self._batches[batch]

    @contextlib.contextmanager
    def _engine(self) -> Iterator[None]:
        """Holds the engine, and notifies the callers at the end; an error breaks the engine for all of them."""
        with self._lock:
            try:
                yield
            except BaseException as error:
                self._break(error)
            for batch in list(self._batches):
                batch.flush()

    @contextlib.contextmanager
    def _turn(self, is_needless: Callable[[], bool]) -> Iterator[bool]:
        """Holds the engine in its turn. Another engine may keep the turn for minutes, while it loads: what is cancelled
        or late ends meanwhile, and where the turn `is_needless` then, this yields False without it."""

        def gives_up() -> bool:
            with self._engine():
                self._expire()
                self._expire_waiting()
            return is_needless()

        if not self._turns.acquire(gives_up):
            yield False
            return
        try:
            with self._engine():
                yield True
        finally:
            self._turns.release()

    def submit(self, batch: Batch, conversation: Conversation | SpeechWindow) -> None:
        """Has a conversation admitted, in the caller's thread."""
        index = len(batch.conversations)
        batch.conversations.append(conversation)
        batch.control.stop_if_cancelled()
        if index and batch.control.is_late:  # preparing images takes time
            batch.completions[index] = Completion(finish_reason=FinishReason.TIMEOUT)
            return
        batch.n_unfinished += 1
        try:
            prepared = self._inputs.prepare(conversation)
        except EngineError as error:
            batch.reject(index, error)
            return
        request = Request(batch, index, conversation, prepared)
        self._waiting.append(request)
        with self._turn(lambda: request not in self._waiting) as has_turn:
            if has_turn:
                self._admit()
        self._has_work.set()
        batch.deliver(waits=False)

    def _admit(self) -> None:
        """Adds the waiting requests to the engine."""
        while self._waiting:
            request = self._waiting.popleft()
            if request.batch.is_ended:
                continue
            try:
                self._add(request)
            except Exception as error:
                if failures.is_fatal(error):
                    raise
                request.batch.post(request.batch.reject, request.index, failures.rejection(error))

    def _add(self, request: Request) -> None:
        inputs = self._inputs.process(request.conversation, request.prepared, request.batch.output_kind)
        try:
            request.added = inputs.added_to(self._adapter)
        except Exception as error:
            if failures.is_too_long(error) and not isinstance(error, PromptTooLong):
                raise self._inputs.too_long(inputs) from None
            raise
        request.parser = inputs.parser
        self._running[request.added.request_id] = request

    def _expire(self) -> None:
        """Ends the batches that are cancelled, and completes the requests whose deadline has passed."""
        for batch in list(self._batches):
            if batch.is_ended:
                continue
            if batch.control.cancellation.is_set():
                self._end(batch, GenerationCancelled("The generation was cancelled."))
            elif batch.control.is_late:
                self._time_out([request for request in self._running.values() if request.batch is batch])

    def _expire_waiting(self) -> None:
        """Ends the cancelled and the late requests that are not added yet."""
        for request in list(self._waiting):
            if request.batch.is_ended or request.batch.control.is_late:
                self._waiting.remove(request)
                late = Completion(finish_reason=FinishReason.TIMEOUT)
                request.batch.post(request.batch.complete, request.index, late)

    def _time_out(self, requests: list[Request]) -> None:
        """Completes requests with the text that they have."""
        for request in requests:
            del self._running[request.added.request_id]
            with self._ending_on_errors(request.batch):
                partial = self._adapter.partial_output(request.added, bool(request.text))
                request.append_partial(partial)
                self._complete(request, FinishReason.TIMEOUT, partial.cached_tokens)
        if requests:
            self._abort_orphans()

    def _route(self, outputs: list[Any]) -> None:
        """Gives the outputs of a step to their requests."""
        for request in self._running.values():
            if request.first_token_ms is None and self._adapter.has_first_token(request.added):
                request.note_first_token()
        for output in outputs:
            if (owner := self._running.get(output.request_id)) is not None:
                with self._ending_on_errors(owner.batch):
                    self._take(owner, output)

    def _end_lost(self) -> None:
        """Ends the batches that wait for requests of which the engine knows nothing."""
        if self._running and not self._adapter.has_unfinished():
            for batch in {request.batch for request in self._running.values()}:
                self._end(batch, GenerationFailed("The engine lost a request. Send it again."))

    def _take(self, request: Request, output: Any) -> None:
        new = output.outputs[0]
        if output.finished:
            del self._running[output.request_id]
            if new.finish_reason not in _FINISH_REASONS:
                self._retry(request)
                return
        request.append(new.text, new.token_ids, new.logprobs)
        if output.finished:
            self._complete(request, _FINISH_REASONS[new.finish_reason], output.num_cached_tokens, new.logprobs)

    def _complete(
        self, request: Request, finish_reason: FinishReason, cached_tokens: int | None, logprobs: Any = None
    ) -> None:
        completion = request.completion(finish_reason, cached_tokens)
        completion = self._inputs.finish(completion, request.conversation, request.logprobs or logprobs)
        request.stream_rest(completion.text)
        request.batch.post(request.batch.complete, request.index, completion)

    def _retry(self, request: Request) -> None:
        """Admits a request again that vLLM gave up, typically because its caches have lost images."""
        if request.is_retry or request.text or request.batch.control.is_late:
            error = GenerationFailed("The engine gave this request up. Send it again.")
            request.batch.post(request.batch.reject, request.index, error)
        else:
            self._waiting.append(
                Request(request.batch, request.index, request.conversation, request.prepared, is_retry=True)
            )

    @contextlib.contextmanager
    def _ending_on_errors(self, batch: Batch) -> Iterator[None]:
        """Ends the batch whose output cannot be processed, and no other."""
        try:
            yield
        except Exception as error:
            self._end(batch, error)

    def _end(self, batch: Batch, error: BaseException) -> None:
        """Ends all requests of a batch."""
        batch.end(error)
        self._running = {key: request for key, request in self._running.items() if request.batch is not batch}
        self._abort_orphans()

    def _abort_orphans(self) -> None:
        """Aborts what the engine works on for no request of ours."""
        try:
            self._adapter.abort_all_but({request.added.internal_id for request in self._running.values()})
        except BaseException as error:
            log.warning("Requests could not be aborted.", exc_info=True)
            if not isinstance(error, Exception):
                self._break(error)

    def _break(self, error: BaseException) -> None:
        """Ends all batches: the engine raised in the middle of its work."""
        if self.broken is not None:
            return
        self.broken = (error.__cause__ or error) if isinstance(error, EngineBroken) else error
        self._waiting.clear()
        self._running.clear()
        for batch in list(self._batches):
            broken = EngineBroken()
            broken.__cause__ = self.broken
            batch.end(broken)
        self._abort_orphans()
