"""vLLM's private parts: the only module of this folder that uses what vLLM does not document (written for vLLM 0.32).

What is replaced in vLLM is in `engine.vllm_patches`.

It adds requests, steps, aborts, reads what an unfinished request has, and watches an engine core in a process of its
own. One thread at a time may use it, but for `wait` and `wake`.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import logging
import sys
import threading
import weakref
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import InvalidStateError
from dataclasses import dataclass
from typing import Any

from engine.errors import PromptTooLong
from engine.interface import Control
from engine.local import failures
from engine.parts import NOUNS
from engine.vllm_patches.garbage import garbage_left
from engine.vllm_patches.process_groups import process_groups_kept

log = logging.getLogger("engine")

CORE_WAIT_S = 0.1
"""How long `wait` waits for an engine core in another process, and how often its death is checked."""
SHUTDOWN_WAIT_S = 0.5

_IN_PROCESS: weakref.WeakSet[EngineAdapter] = weakref.WeakSet()
"""The engines in this process that are not shut down. Guarded by the lock `ENGINES`."""


class EngineBroken(Exception):
    """The engine raised in the middle of a step, or its core is gone; `__cause__` has the reason."""


class CoreGone(RuntimeError):
    """The engine core's process ended during a call to it."""


@dataclass(frozen=True, slots=True)
class AddedRequest:
    """A request that vLLM accepted.

    Arguments:
        request_id: the id that its outputs have.
        internal_id: the id to abort it by.
        prompt_token_ids: the rendered prompt.
        media_tokens: how many of them stand for media, by their kind; `None` where vLLM does not say.
    """

    request_id: str
    internal_id: str
    prompt_token_ids: Sequence[int]
    media_tokens: dict[str, int] | None

    @property
    def prompt_tokens(self) -> int:
        """The prompt's length."""
        return len(self.prompt_token_ids)


@dataclass(frozen=True, slots=True)
class PartialOutput:
    """The output so far of an unfinished request; `None` where vLLM does not say.

    Arguments:
        text: what was not part of an output yet.
        token_ids: those of all tokens so far.
        cached_tokens: how many prompt tokens came from the prefix cache.
        logprobs: those of all tokens so far.
    """

    text: str = ""
    token_ids: list[int] | None = None
    cached_tokens: int | None = None
    logprobs: list[Any] | None = None


class EngineAdapter:
    """The engine below a loaded `vllm.LLM`.

    Arguments:
        llm: an instance of `llm_class()`.
    """

    def __init__(self, llm: Any) -> None:
        self._llm = llm
        self._engine = llm.llm_engine
        self.is_in_process = self._core_outputs is None
        if self.is_in_process:
            _IN_PROCESS.add(self)

    def output_kind(self, control: Control) -> Any:
        """Only final outputs where nobody listens to new text (8 % faster), otherwise the new text of each step.

        A deadline needs the text so far. Where vLLM does not let it be read, it is collected step by step.
        """
        from vllm.sampling_params import RequestOutputKind

        collects = control.deadline_s is not None and not hasattr(self._engine.output_processor, "request_states")
        return RequestOutputKind.DELTA if control.on_text or collects else RequestOutputKind.FINAL_ONLY

    def add(self, messages: list[dict[str, Any]], params: Any, options: dict[str, Any]) -> AddedRequest:
        """Renders a prompt and adds it; whatever vLLM raises leaves no trace in the engine.

        Arguments:
            messages: vLLM's chat messages.
            params: vLLM's `SamplingParams`.
            options: further arguments of `LLM.enqueue_chat`.
        """
        try:
            self._llm.enqueue_chat(messages, params, use_tqdm=False, **options)
        except Exception as error:
            if not failures.is_cache_miss(error):
                raise
            self._llm.enqueue_chat(messages, params, use_tqdm=False, **options)  # the caches have dropped the images
        added: AddedRequest = self._llm.added_request
        return added

    def add_prompt(self, prompt: dict[str, Any], params: Any) -> AddedRequest:
        """Adds a prompt that is rendered already, as `add`."""
        self._llm.enqueue([prompt], [params], use_tqdm=False)
        added: AddedRequest = self._llm.added_request
        return added

    def wait(self) -> bool:
        """Whether `step` would return soon; waits up to `CORE_WAIT_S` for an engine core in another process."""
        outputs = self._core_outputs
        if outputs is None:
            return True
        with outputs.not_empty:
            if not outputs.queue:
                outputs.not_empty.wait(CORE_WAIT_S)
            return bool(outputs.queue) or self._core_is_dead

    def wake(self) -> None:
        """Ends a `wait` in another thread."""
        if (outputs := self._core_outputs) is not None:
            with outputs.not_empty:
                outputs.not_empty.notify_all()

    def step(self) -> list[Any]:
        """The outputs of one step; raises `EngineBroken`.

        vLLM's client waits without end for an engine core that has died (0.32).
        """
        outputs = self._core_outputs
        if outputs is not None and not outputs.queue and self._core_is_dead:
            raise EngineBroken("The engine core's process is gone.")
        try:
            made: list[Any] = self._engine.step()
        except Exception as error:
            raise EngineBroken from error
        return made

    def has_unfinished(self) -> bool:
        """Whether the engine works on any request."""
        return bool(self._engine.has_unfinished_requests())

    def has_first_token(self, added: AddedRequest) -> bool:
        """Whether a request has its first token; also True when it is finished or vLLM does not say."""
        return not getattr(self._states.get(added.internal_id), "is_prefilling", False)

    def partial_output(self, added: AddedRequest, has_text: bool) -> PartialOutput:
        """The output so far of an unfinished request.

        Arguments:
            has_text: whether earlier outputs had text, which is then left out.
        """
        state = self._states.get(added.internal_id)
        logprobs = list(getattr(getattr(state, "logprobs_processor", None), "logprobs", None) or ()) or None
        detokenizer = getattr(state, "detokenizer", None)
        if detokenizer is None:
            return PartialOutput(logprobs=logprobs)
        text = detokenizer.get_next_output_text(True, has_text)
        cached_tokens = getattr(state, "num_cached_tokens", None)
        return PartialOutput(text, list(detokenizer.output_token_ids), cached_tokens, logprobs)

    def abort_all_but(self, internal_ids: Collection[str]) -> None:
        """Aborts every request that is not one of these."""
        if orphans := [internal_id for internal_id in self._states if internal_id not in internal_ids]:
            self._engine.abort_request(orphans, internal=True)

    def add_lora(self, lora_request: Any) -> None:
        """Loads a LoRA adapter; raises what vLLM raises."""
        self._engine.add_lora(lora_request)

    def sleep(self) -> None:
        """Moves the weights to the host's memory and drops the KV cache with the prefix and image caches."""
        with self._failing_with_the_core():
            self._llm.sleep(level=1)

    def wake_up(self) -> None:
        """Moves the weights back and makes a new KV cache."""
        with self._failing_with_the_core():
            self._llm.wake_up()

    def shut_down(self) -> None:
        """Ends the engine core; logs what goes wrong. To be called with the lock `ENGINES`."""
        _IN_PROCESS.discard(self)
        try:
            with contextlib.ExitStack() as stack:
                if _IN_PROCESS:
                    stack.enter_context(process_groups_kept())
                if self.is_in_process:
                    stack.enter_context(garbage_left())
                try:
                    self._core.shutdown(timeout=SHUTDOWN_WAIT_S)
                except TypeError:  # vLLM before 0.32 has no such argument
                    self._core.shutdown()
        except BaseException:
            log.warning("The engine did not shut down in order.", exc_info=True)

    @property
    def _core(self) -> Any:
        return self._engine.engine_core

    @property
    def _core_outputs(self) -> Any:
        """The queue of outputs of an engine core in another process, `None` for one in this process."""
        return getattr(self._core, "outputs_queue", None)

    @property
    def _states(self) -> dict[str, Any]:
        states: dict[str, Any] = getattr(self._engine.output_processor, "request_states", {})
        return states

    @property
    def _core_is_dead(self) -> bool:
        return bool(getattr(self._core.resources, "engine_dead", False))

    @contextlib.contextmanager
    def _failing_with_the_core(self) -> Iterator[None]:
        """Makes calls to an engine core in another process raise `CoreGone` when that process ends.

        vLLM's client waits for the result without end (0.32). The system may well kill the process while it moves a
        large model into the host's memory.
        """
        if not hasattr(self._core, "utility_results"):
            yield
            return
        over = threading.Event()
        threading.Thread(target=self._watch_core, args=(over,), name="engine-core-watch", daemon=True).start()
        try:
            yield
        finally:
            over.set()

    def _watch_core(self, over: threading.Event) -> None:
        while not over.wait(CORE_WAIT_S):
            if self._core.resources.engine_dead:
                for future in list(self._core.utility_results.values()):
                    with contextlib.suppress(InvalidStateError):
                        future.set_exception(CoreGone("The engine core's process is gone."))


def clean_up_failed_load() -> None:
    """Removes the distributed state of a failed load, which would make the next load fail; not that of other engines.

    To be called with the lock `ENGINES`.
    """
    gc.unfreeze()  # vLLM freezes what a load has made before the load is over
    if "vllm" not in sys.modules or _IN_PROCESS:
        return
    with contextlib.suppress(BaseException):
        from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

        cleanup_dist_env_and_memory()


def llm_class() -> type[Any]:
    """The subclass of `vllm.LLM` that `EngineAdapter` takes; imports vLLM, which takes seconds."""
    from vllm import LLM

    class SteppedLLM(LLM):  # type: ignore[misc]
        """An `LLM` that keeps the output kind it is given, and says what `enqueue_chat` added last."""

        added_request: AddedRequest

        def _add_request(
            self, prompt: Any, params: Any, lora_request: Any = None, priority: int = 0, **more: Any
        ) -> str:
            request_id = str(next(self.request_counter))
            try:
                prompt_token_ids = self._prompt_token_ids(prompt)
                internal_id: str = self.llm_engine.add_request(
                    request_id, prompt, params, lora_request=lora_request, priority=priority, **more
                )
            except BaseException:
                # vLLM would wait without end for a request that was added in part.
                self.llm_engine.abort_request([request_id])
                self._forget_images(prompt)
                raise
            self.added_request = AddedRequest(request_id, internal_id, prompt_token_ids, media_tokens(prompt))
            return internal_id

        def _prompt_token_ids(self, prompt: Any) -> Sequence[int]:
            decoder_prompt = prompt.get("decoder_prompt", prompt)  # of a model with an encoder
            prompt_token_ids: Sequence[int] = decoder_prompt.get("prompt_token_ids") or ()
            max_model_len = self.llm_engine.model_config.max_model_len
            if len(prompt_token_ids) >= max_model_len:
                raise PromptTooLong(len(prompt_token_ids), max_model_len)
            return prompt_token_ids

        def _forget_images(self, prompt: Any) -> None:
            """Makes vLLM send these images in full next time.

            Rendering has put them into the sender's cache, but the engine core never got them. The next prompt with
            one of them would fail with a cache miss (vLLM 0.32) or an assertion (before).
            """
            hashes = prompt.get("mm_hashes")
            if not hashes:
                return
            cache: Any = getattr(self.llm_engine.renderer, "mm_processor_cache", None)
            if not hasattr(cache, "invalidate"):
                self.reset_mm_cache()
                return
            for mm_hash in itertools.chain.from_iterable(hashes.values()):
                cache.invalidate(mm_hash)

    return SteppedLLM


def media_tokens(prompt: Any) -> dict[str, int] | None:
    """How many tokens of a rendered prompt stand for media, by their kind; `None` where vLLM does not say."""
    if prompt.get("type") not in ("token", "multimodal"):
        return None
    try:
        placeholders = prompt.get("mm_placeholders", {})
        return {kind: sum(_embeddings(place) for place in placeholders.get(kind, ())) for kind in NOUNS}
    except (AttributeError, TypeError):
        return None


def _embeddings(place: Any) -> int:
    get_num_embeds = getattr(place, "get_num_embeds", None)
    return int(get_num_embeds() if get_num_embeds is not None else place.length)
