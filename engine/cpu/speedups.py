"""Makes the engine of a model with what `VLLM_CPU_INT8` and `VLLM_COMPILE` ask for, or without where that cannot be."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from typing import Any

from engine.cpu import compiled_code, int8
from engine.errors import EngineUnavailable
from engine.vllm_patches.compiled_code import let_compiled_code_load, run_eagerly_without_compiled_code
from settings import EngineSettings, program
from settings.engine import COMPILE_NOW, COMPILE_OFF

log = logging.getLogger("engine")

Make = Callable[..., Any]


def make_llm(make: Make, arguments: Mapping[str, Any], settings: EngineSettings, *, on_cpu: bool) -> Any:
    """An instance of `vllm.LLM`.

    Arguments:
        make: makes it from its arguments.
        arguments: all arguments without any speed-up.
        settings: the model and how to run it.
        on_cpu: vLLM runs without an accelerator.
    Raises: what `make` raises; `EngineUnavailable` for `COMPILE_NOW` where nothing can be compiled.
    """
    if not on_cpu:
        if settings.compile == COMPILE_NOW:
            raise EngineUnavailable(
                "Only for a model on a CPU is code compiled and kept; vLLM does so on a GPU itself."
            )
        if settings.cpu_int8 or settings.compile != COMPILE_OFF:
            _say_once("VLLM_CPU_INT8 and VLLM_COMPILE are for models on a CPU; here they do nothing.")
        return make(**arguments)
    if not settings.cpu_int8:
        return _with_code(make, dict(arguments), settings)
    if "quantization" in arguments:
        _say_unused("VLLM_CPU_INT8", settings, "VLLM_EXTRA_ENGINE_ARGS has a quantization of its own")
        return _with_code(make, dict(arguments), settings)
    int8.register()
    try:
        return _with_code(make, {**arguments, "quantization": int8.METHOD}, settings)
    except ValueError as error:
        if "does not match the quantization" not in str(error):  # vLLM 0.32, before it loads anything
            raise
    _say_unused("VLLM_CPU_INT8", settings, "its weights are quantized already")
    return _with_code(make, dict(arguments), settings)


def _with_code(make: Make, arguments: dict[str, Any], settings: EngineSettings) -> Any:
    if settings.compile == COMPILE_OFF:
        return make(**arguments)
    note = compiled_code.note_path(arguments)
    reason = _no_code(arguments)
    if settings.compile == COMPILE_NOW:
        if reason is not None:
            raise EngineUnavailable(f"No code can be compiled: {reason}.")
        return _compiling(make, arguments, settings, note)
    if reason is None and not compiled_code.has_note(note):
        reason = f"there is no code yet; `{program()} compile` makes it"
    if reason is not None:
        _say_unused("VLLM_COMPILE", settings, reason)
        return make(**arguments)
    let_compiled_code_load()
    n_before = compiled_code.n_loaded()
    with run_eagerly_without_compiled_code():
        llm = make(**{**arguments, "enforce_eager": False})
    if compiled_code.n_loaded() > n_before:
        log.info("%s runs with compiled code.", settings.shown_name)
    else:
        compiled_code.drop_note(note)
        _say_unused("VLLM_COMPILE", settings, f"the code does not load; `{program()} compile` makes it again")
    return llm


def _no_code(arguments: Mapping[str, Any]) -> str | None:
    """Why a model can have no compiled code, if so."""
    if arguments.get("enforce_eager") is False or "compilation_config" in arguments:
        return "VLLM_EXTRA_ENGINE_ARGS says how vLLM compiles"
    if arguments.get("enable_lora"):
        return "vLLM compiles no model with LoRA adapters on a CPU"
    if (missing := compiled_code.missing_compiler()) is not None:
        return f"torch finds no C++ compiler ({missing})"
    return None


def _compiling(make: Make, arguments: dict[str, Any], settings: EngineSettings, note: str) -> Any:
    let_compiled_code_load()
    n_before = compiled_code.n_kept()
    llm = make(**{**arguments, "enforce_eager": False})
    if compiled_code.n_kept() == n_before:
        raise EngineUnavailable(f"vLLM has compiled nothing of {settings.shown_name}.")
    try:
        compiled_code.write_note(note, settings.model_name)
    except OSError as error:
        compiled_code.drop_note(note)
        raise EngineUnavailable(f"The code is not kept: {note} cannot be written ({error.strerror}).") from None
    return llm


def _say_unused(variable: str, settings: EngineSettings, reason: str) -> None:
    log.warning("%s does nothing for %s: %s.", variable, settings.shown_name, reason)


@functools.cache
def _say_once(text: str) -> None:
    log.warning("%s", text)
