"""vLLM in this process: loads the model when it is first needed, generates, and frees the memory.

Importing this module takes milliseconds; the first load imports vLLM.
"""

from __future__ import annotations

import copy
import itertools
import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cached_property

from engine import model_config
from engine.errors import EngineError, EngineUnavailable, OffloadUnsupported
from engine.hardware import memory
from engine.interface import Completion, Control, Conversation, EngineState, EngineStatus, OnPhase, SpeechWindow
from engine.lifecycle import Lifecycle
from engine.loading import SharedLoad, run_in_temporary_thread
from engine.local import engine_args, failures, loader, lora
from engine.local.adapter import EngineAdapter, EngineBroken, clean_up_failed_load
from engine.local.child_processes import ChildProcesses
from engine.local.loader import LoadedModel
from engine.local.locks import ENGINES, ReadWriteLock
from engine.prompts.conversation_checks import ConversationChecks
from engine.schemas.vetting import SchemaVetting
from sandbox.pool import Sandbox
from settings import EngineSettings, missing_vllm
from settings.engine import COMPILE_NOW

log = logging.getLogger("engine")

CLOSE_WAIT_S = 0.2
"""How long `close` waits for other threads to leave the engine."""


class LocalEngine:
    """An engine of `engine.interface` over `vllm.LLM`.

    Any thread may call any method. Generations run side by side. `load`, `offload` and `release` wait for the running
    generations, and later generations wait for them. `close` waits for a moment only.

    Arguments:
        settings: the model and how to run it.
        log_level: vLLM's log level, where the environment does not set one.
        n_callers: how many threads generate at a time.
        ending_fd: a pipe that gets a byte when the process is to end, -1 for none; see `engine.local.reaper`.
        sandbox: checks schemas in child processes; a new one by default.
    """

    def __init__(
        self,
        settings: EngineSettings,
        log_level: str = "INFO",
        n_callers: int = 1,
        ending_fd: int = -1,
        sandbox: Sandbox | None = None,
    ) -> None:
        self._settings = settings
        self._checks = ConversationChecks(settings, SchemaVetting(sandbox or Sandbox()).check)
        self._log_level = log_level
        self._n_callers = n_callers
        self._lifecycle = Lifecycle(
            EngineStatus(
                EngineState.UNLOADED, settings.shown_name, quantization=settings.extra_engine_args.get("quantization")
            )
        )
        self._children = ChildProcesses(ending_fd)
        self._use = ReadWriteLock()
        self._shared_load = SharedLoad()
        self._closed = False
        self._has_failed = False
        self._model: LoadedModel | None = None
        self._n_loads = 0
        self._last_failure: EngineError | None = None

    def status(self) -> EngineStatus:
        """The current status; never loads anything. Its error says also that vLLM is not installed."""
        status = self._lifecycle.status
        if status.state is not EngineState.UNLOADED or self._missing_vllm is None:
            return status
        return replace(status, error=self._missing_vllm)

    @cached_property
    def _missing_vllm(self) -> str | None:
        return missing_vllm()  # looks into each folder of the path, which takes longer than the rest of a status

    def load(self, on_phase: OnPhase | None = None) -> float:
        """Makes the model ready; see `Engine.load`."""
        if self._closed:
            raise EngineUnavailable("The server is shutting down.")
        return 0.0 if self._is_ready else self._shared_load.run(self._make_ready, on_phase)

    def check(self, conversation: Conversation, control: Control) -> Conversation:
        """Checks a conversation; see `Engine.check`."""
        if self._transcribes:
            raise model_config.takes_no_messages(self._settings.shown_name)
        return self._checks.check(conversation, control, self.status().accepts)

    def generate(self, conversations: Iterable[Conversation], control: Control) -> list[Completion]:
        """Generates for all conversations as one batch; see `Engine.generate`."""
        return self._run(conversations, control, transcribes=False)

    def transcribe(self, windows: Iterable[SpeechWindow], control: Control) -> list[Completion]:
        """Writes down what is said in all windows as one batch; see `Engine.transcribe`."""
        return self._run(windows, control, transcribes=True)

    def _run(
        self, requests: Iterable[Conversation | SpeechWindow], control: Control, *, transcribes: bool
    ) -> list[Completion]:
        requests = iter(requests)
        first = next(requests, None)
        if first is None:
            return []
        self._check_kind(transcribes)
        while True:
            if self.load(control.on_phase) and control.on_ready is not None:
                control.on_ready()
            with self._use.shared():
                if not self._is_ready or self._model is None:
                    continue  # another thread has released it
                self._check_kind(transcribes)
                number = self._n_loads
                try:
                    return self._model.scheduler.generate(itertools.chain((first,), requests), control)
                except EngineBroken as broken:
                    cause = broken.__cause__ or broken
                    failures.forget_frames(broken)
                finally:
                    self._lifecycle.touch()
            raise self._failure(number, cause)

    def offload(self) -> None:
        """Moves the model into the host's memory; see `Engine.offload`."""
        with self._use.alone():
            if self._lifecycle.state is not EngineState.READY:
                return
            if not self.status().can_offload:
                raise _offload_unsupported(self.status().device)
            self._in_engine(EngineAdapter.sleep)
            self._lifecycle.move(EngineState.OFFLOADED)

    def release(self) -> None:
        """Unloads the model and frees its memory."""
        with self._use.alone():
            if self._lifecycle.state is EngineState.FAILED:
                self._lifecycle.move(EngineState.UNLOADED)
            elif self._model is not None:
                self._drop(EngineState.UNLOADED)

    def process_ids(self) -> list[int]:
        """This process and those that vLLM has started."""
        return [os.getpid(), *self._children.ids()]

    def close(self) -> None:
        """Ends every process that the engine started; the caller ends this process afterwards.

        An orderly shutdown of vLLM would take seconds: it collects garbage, which holds the GIL. While other threads
        are inside vLLM, the guard stays and ends the processes that they may still start.
        """
        self._closed = True
        self._children.kill()
        if self._use.acquire(CLOSE_WAIT_S):
            try:
                self._children.kill()
                self._children.end_guard()
            finally:
                self._use.release()

    @property
    def _transcribes(self) -> bool | None:
        """Whether the model transcribes and takes no messages; `None` where that is not known before the load."""
        known = self.status().transcribes
        return model_config.transcribes(self._settings) if known is None else known

    def _check_kind(self, transcribes: bool) -> None:
        """Raises `InvalidGeneration` for a request of the other kind."""
        known, name = self._transcribes, self._settings.shown_name
        if known is not None and known != transcribes:
            raise model_config.transcribes_nothing(name) if transcribes else model_config.takes_no_messages(name)

    @property
    def _is_ready(self) -> bool:
        model = self._model
        return model is not None and model.scheduler.broken is None and self._lifecycle.state is EngineState.READY

    def _make_ready(self, on_phase: OnPhase) -> None:
        """Loads the model or wakes it up; see `Engine.load`."""
        with self._use.alone():
            if self._closed:
                raise EngineUnavailable("The server is shutting down.")
            if self._lifecycle.state is EngineState.OFFLOADED:
                self._wake_up(on_phase)
                return
            self._drop_broken()
            if self._model is not None:
                return
            started = time.monotonic()
            self._lifecycle.move(EngineState.LOADING)
            try:
                if self._n_callers > 1:  # another thread makes the steps
                    run_in_temporary_thread(lambda: self._load(on_phase))
                else:
                    self._load(on_phase)
            except BaseException as error:
                if self._closed:  # its processes are killed; cleaning up would delay the end
                    raise EngineUnavailable("The server is shutting down.") from None
                failure = failures.load_failure(error, self._settings)
                failures.forget_frames(error)
                with ENGINES:
                    clean_up_failed_load()
                memory.give_back_memory()
                self._has_failed = True
                self._lifecycle.move(EngineState.FAILED, error=str(failure))
                raise failure from None  # also in place of a panic or exit of a library, which must not end the thread
            assert self._model is not None
            self._lifecycle.move(EngineState.READY, **self._model.facts, load_s=time.monotonic() - started)
            self._n_loads += 1

    def _failure(self, number: int, cause: BaseException) -> EngineError:
        """The error for a generation whose engine broke; the first call for a load drops the engine."""
        with self._use.alone():
            if number == self._n_loads:
                self._drop_broken()
            if self._last_failure is None:
                self._last_failure = failures.step_failure(cause, self._settings)
            return copy.copy(self._last_failure)

    def _drop_broken(self) -> None:
        cause = self._model.scheduler.broken if self._model is not None else None
        if cause is None:
            return
        self._last_failure = failures.step_failure(cause, self._settings)
        failures.forget_frames(cause)
        self._drop(EngineState.FAILED, str(self._last_failure))

    def _wake_up(self, on_phase: OnPhase) -> None:
        on_phase("bringing the model back to the GPU")
        self._in_engine(EngineAdapter.wake_up)
        self._lifecycle.move(EngineState.READY)

    def _in_engine(self, act: Callable[[EngineAdapter], None]) -> None:
        """Does something with the whole engine; when that fails, drops the engine and raises the reason."""
        assert self._model is not None
        try:
            with ENGINES:
                act(self._model.adapter)
        except BaseException as error:
            failure = failures.step_failure(error, self._settings)
            failures.forget_frames(error)
        else:
            return
        self._drop(EngineState.FAILED, str(failure))
        raise failure

    def _load(self, on_phase: OnPhase) -> None:
        """Sets the model. Modules of vLLM keep the exceptions of optional imports (0.32), and with them every frame
        below the first import for good. So no such frame may refer to the model."""
        failures.require_vllm()
        engine_args.model_path(self._settings)
        ranks = lora.ranks_of(self._settings.lora_modules)
        self._children.watch()
        on_phase("importing vLLM")
        loader.import_vllm(self._settings, self._log_level, reloads_kernels=self._has_failed)
        on_phase("compiling" if self._settings.compile == COMPILE_NOW else "loading weights")
        self._model = loader.load(self._settings, ranks, has_thread=self._n_callers > 1)

    def _drop(self, state: EngineState, error: str | None = None) -> None:
        if not self._closed:  # the end of the process gives the memory back sooner
            if self._model is not None:
                self._model.scheduler.close()
                with ENGINES:
                    self._model.adapter.shut_down()
            self._model = None
            memory.give_back_memory()
        self._lifecycle.move(state, error=error)


def _offload_unsupported(device: str | None) -> OffloadUnsupported:
    if device == "cpu":
        return OffloadUnsupported(
            "Offloading is not supported on this backend (cpu): the model is in the host's memory already. Use "
            "release_gpu to give its memory back; the next call loads it again."
        )
    return OffloadUnsupported(
        "This model was loaded without vLLM's sleep mode, so it cannot be offloaded. Use release_gpu to give its "
        "memory back, or remove enable_sleep_mode from VLLM_EXTRA_ENGINE_ARGS and restart the server."
    )
