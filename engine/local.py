"""vLLM in this process: loads the model when it is first needed, answers, gives the memory back.

Importing this module costs milliseconds; vLLM and what it brings are imported by the first load.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import inspect
import itertools
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any, get_args

from engine import adapters, arguments, failures, memory, model_facts, parsers, quiet, sleep
from engine.adapters import Adapters
from engine.errors import EngineError, EngineUnavailable, OffloadUnsupported
from engine.interface import Completion, Control, Conversation, EngineState, EngineStatus, OnPhase
from engine.lifecycle import Lifecycle
from engine.loading import SharedLoad, on_passing_thread
from engine.processes import ChildProcesses
from engine.rendering import PLAIN_STOPS, Renderer, plain_template
from engine.schema_vetting import SchemaVetting
from engine.shared_steps import EngineBroken
from engine.step_loop import StepLoop
from engine.stepped_llm import stepped_llm_class
from engine.turns import SharedUse
from sandbox.pool import Sandbox
from settings import EngineSettings

log = logging.getLogger("engine")

# How long `close` waits for other threads to leave the engine, and a release for vLLM's processes.
CLOSE_WAIT_S = 0.2
SHUTDOWN_WAIT_S = 0.5


class LocalEngine:
    """An engine of `engine.interface` over `vllm.LLM`.

    Any thread may call any method. Generations run side by side; what changes the engine as a whole (`load`, `offload`,
    `release`) waits for those in flight, and later ones wait for it. `close` does so for a moment only.

    Arguments:
        settings: the model and how to run it.
        log_level: how much vLLM writes to stderr, unless the environment says it already.
        n_callers: how many threads generate at a time.
        ending_fd: a pipe in which a byte lies when the process is to end, -1 for none; see `engine.guard`.
        sandbox: where schemas are tried; by default one of its own.
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
        self._vetting = SchemaVetting(sandbox or Sandbox())
        self._log_level = log_level
        self._n_callers = n_callers
        self._lifecycle = Lifecycle(
            EngineStatus(
                EngineState.UNLOADED, arguments.shown_name(settings), quantization=settings.quantization or None
            )
        )
        self._children = ChildProcesses(ending_fd)
        self._use = SharedUse()
        self._shared_load = SharedLoad()
        self._closed = False
        self._has_failed = False
        self._llm: Any = None
        self._loop: StepLoop | None = None
        self._n_loads = 0
        self._last_failure: EngineError | None = None

    def status(self) -> EngineStatus:
        """What is known now; never loads anything; safe from any thread."""
        return self._lifecycle.status

    def load(self, on_phase: OnPhase | None = None) -> float:
        """Makes the model ready; see `Engine.load`."""
        if self._closed:
            raise EngineUnavailable("The server is shutting down.")
        return 0.0 if self._is_ready else self._shared_load.run(self._make_ready, on_phase)

    def vet(self, schema: dict[str, Any], control: Control) -> None:
        """Tries a schema in a child; see `Engine.vet`."""
        self._vetting.check(schema, control)

    def generate(self, conversations: Iterable[Conversation], control: Control) -> list[Completion]:
        """Answers all conversations as one batch; see `Engine.generate`."""
        conversations = iter(conversations)
        first = next(conversations, None)
        if first is None:
            return []
        while True:
            if self.load(control.on_phase) and control.on_ready is not None:
                control.on_ready()
            with self._use.shared():
                if not self._is_ready or self._loop is None:
                    continue  # another thread has released it meanwhile
                number = self._n_loads
                try:
                    return self._loop.run(itertools.chain((first,), conversations), control)
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
            self._in_engine(sleep.fall_asleep)
            self._lifecycle.move(EngineState.OFFLOADED)

    def release(self) -> None:
        """Drops the model and gives its memory back."""
        with self._use.alone():
            if self._lifecycle.state is EngineState.FAILED:
                self._lifecycle.move(EngineState.UNLOADED)
            elif self._loop is not None:
                self._drop(EngineState.UNLOADED)

    def process_ids(self) -> list[int]:
        """This process and those that vLLM has started; safe from any thread."""
        return [os.getpid(), *self._children.ids()]

    def close(self) -> None:
        """Ends every process that the engine started; the caller is expected to end this one, and with it the engine.

        Shutting vLLM down in order would take seconds: it collects garbage, which holds Python's lock. While other
        threads are inside vLLM, the guard stays for what is started meanwhile.
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
    def _is_ready(self) -> bool:
        loop = self._loop
        return loop is not None and loop.broken is None and self._lifecycle.state is EngineState.READY

    def _make_ready(self, on_phase: OnPhase) -> None:
        """Loads the model or wakes it up, alone; see `Engine.load`."""
        with self._use.alone():
            if self._closed:
                raise EngineUnavailable("The server is shutting down.")
            if self._lifecycle.state is EngineState.OFFLOADED:
                self._wake_up(on_phase)
                return
            self._drop_broken()
            if self._loop is not None:
                return
            started = time.monotonic()
            self._lifecycle.move(EngineState.LOADING)
            try:
                if self._n_callers > 1:
                    on_passing_thread(lambda: self._load(on_phase, started))  # another one steps
                else:
                    self._load(on_phase, started)
            except BaseException as error:
                if self._closed:  # its processes were killed; tidying up would hold up the end
                    raise EngineUnavailable("The server is shutting down.") from None
                failure = failures.load_failure(error, self._settings)
                failures.forget_frames(error)
                self._forget()
                _clean_up_distributed()
                memory.give_back_memory()
                self._has_failed = True
                self._lifecycle.move(EngineState.FAILED, error=str(failure))
                raise failure from None  # also for a library's panic or exit: the thread goes on
            self._n_loads += 1

    def _failure(self, number: int, cause: BaseException) -> EngineError:
        """What a generation is told whose engine broke, the one of that load; the first to ask drops the engine."""
        with self._use.alone():
            if number == self._n_loads:
                self._drop_broken()
            if self._last_failure is None:
                self._last_failure = failures.step_failure(cause, self._settings)
            return copy.copy(self._last_failure)

    def _drop_broken(self) -> None:
        cause = self._loop.broken if self._loop is not None else None
        if cause is None:
            return
        self._last_failure = failures.step_failure(cause, self._settings)
        failures.forget_frames(cause)
        self._drop(EngineState.FAILED, str(self._last_failure))

    def _wake_up(self, on_phase: OnPhase) -> None:
        on_phase("bringing the model back to the GPU")
        self._in_engine(sleep.wake_up)
        self._lifecycle.move(EngineState.READY)

    def _in_engine(self, act: Callable[[Any], None]) -> None:
        """Does something with the whole engine; when it fails, drops the engine and tells why."""
        try:
            act(self._llm)
        except BaseException as error:
            failure = failures.step_failure(error, self._settings)
            failures.forget_frames(error)
        else:
            return
        self._drop(EngineState.FAILED, str(failure))
        raise failure

    def _load(self, on_phase: OnPhase, started: float) -> None:
        arguments.model_path(self._settings)
        ranks = adapters.ranks_of(self._settings.lora_modules)
        self._children.watch()
        on_phase("importing vLLM")
        arguments.prepare_environment(self._settings, self._log_level, os.environ)
        quiet.expect_warnings(os.environ)
        try:
            llm_class = stepped_llm_class()
            import vllm
            from vllm.config.lora import MaxLoRARanks
            from vllm.engine.arg_utils import EngineArgs
            from vllm.model_executor.layers.quantization import QUANTIZATION_METHODS
            from vllm.platforms import current_platform
        except Exception as error:
            raise failures.import_failure(error) from None
        quiet.quieten_transformers()
        if self._has_failed:  # vLLM goes on without its compiled part that found no memory, and never tries it again
            current_platform.import_kernels()
        names = {field.name for field in dataclasses.fields(EngineArgs)} | {*inspect.signature(vllm.LLM).parameters}
        here = current_platform.supported_quantization or QUANTIZATION_METHODS  # few platforms name theirs
        methods = [method for method in QUANTIZATION_METHODS if method in here]
        arguments.check_arguments(self._settings, names - {"kwargs"}, methods)
        parsers.check_names(self._settings)
        on_cpu = current_platform.is_cpu()
        if on_cpu:
            # In this process the engine loads in 2 s instead of 15 s and takes half the memory; a GPU's faults and
            # memory are better off in a process of their own.
            os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
            if self._settings.enforce_eager is not False:
                # vLLM 0.32 compiles a few sampling functions even then: the first log-probabilities would take half a
                # minute, and need a C++ compiler.
                os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
        on_phase("loading weights")
        self._llm = llm_class(
            **arguments.llm_arguments(
                self._settings,
                on_cpu=on_cpu,
                free_bytes=memory.free_memory_bytes(),
                for_adapters=adapters.engine_arguments(ranks, get_args(MaxLoRARanks)),
                can_sleep=current_platform.is_sleep_mode_available(),
            )
        )
        known_adapters = Adapters(self._settings.lora_modules)
        known_adapters.load_into(self._llm.llm_engine)
        facts = self._model_facts()
        self._loop = self._step_loop(facts["supports_images"], facts["has_chat_template"], known_adapters)
        self._lifecycle.move(
            EngineState.READY,
            **facts,
            device=current_platform.device_type,
            vllm_version=vllm.__version__,
            load_s=time.monotonic() - started,
        )

    def _model_facts(self) -> dict[str, Any]:
        config = self._llm.llm_engine.model_config
        return {
            "dtype": str(config.dtype).removeprefix("torch."),
            "max_model_len": config.max_model_len,
            "supports_images": model_facts.supports_images(self._llm),
            "has_chat_template": model_facts.has_chat_template(self._llm),
            "quantization": config.quantization,
            "can_offload": bool(getattr(config, "enable_sleep_mode", False)),
        }

    def _step_loop(self, supports_images: bool, has_chat_template: bool, known_adapters: Adapters) -> StepLoop:
        renderer = Renderer(
            arguments.shown_name(self._settings),
            supports_images=supports_images,
            max_images=self._settings.max_images_per_prompt,
            break_tokens=model_facts.token_breaker(self._llm, self._settings.max_images_per_prompt),
        )
        output_parsers = parsers.OutputParsers(
            self._llm,
            self._settings.tool_parser,
            self._settings.reasoning_parser,
            writes_lines=not has_chat_template,
        )
        plain: tuple[str | None, tuple[str, ...]] = (None, ())
        if not has_chat_template:
            plain = (plain_template(model_facts.begins_with_bos(self._llm)), PLAIN_STOPS)
        return StepLoop(self._llm, renderer, known_adapters, output_parsers, *plain, own_thread=self._n_callers > 1)

    def _drop(self, state: EngineState, error: str | None = None) -> None:
        if not self._closed:  # the end of the process gives everything back, and sooner
            self._shut_down()
            memory.give_back_memory()
        self._lifecycle.move(state, error=error)

    def _shut_down(self) -> None:
        llm = self._forget()
        if llm is None:
            return
        core = llm.llm_engine.engine_core
        try:
            try:
                core.shutdown(timeout=SHUTDOWN_WAIT_S)
            except TypeError:  # before vLLM had that argument
                core.shutdown()
        except BaseException:
            log.warning("The engine did not shut down in order.", exc_info=True)

    def _forget(self) -> Any:
        if self._loop is not None:
            self._loop.steps.end()
        llm, self._llm, self._loop = self._llm, None, None
        return llm


def _offload_unsupported(device: str | None) -> OffloadUnsupported:
    if device == "cpu":
        return OffloadUnsupported(
            "Offloading is not supported on this backend (cpu): the model is in the host's memory already. Use "
            "release_gpu to give its memory back; the next call loads it again."
        )
    return OffloadUnsupported(
        "This model was loaded without vLLM's sleep mode, so it cannot be offloaded. Use release_gpu to give its "
        "memory back, or set VLLM_ENABLE_SLEEP_MODE=1 and start the server again."
    )


def _clean_up_distributed() -> None:
    """Undoes what a load that failed half-way has set up and would stand in the way of the next one."""
    if "vllm" not in sys.modules:
        return
    with contextlib.suppress(BaseException):
        from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

        cleanup_dist_env_and_memory()
