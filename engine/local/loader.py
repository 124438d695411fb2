"""Loads a model into vLLM in this process."""

from __future__ import annotations

import dataclasses
import inspect
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, get_args

from engine import model_config, model_files, vllm_import
from engine.cpu import speedups
from engine.local import engine_args, failures, lora, model_facts, output_parsers, vllm_logging
from engine.local.adapter import EngineAdapter, llm_class
from engine.local.inputs import frame_reader
from engine.local.inputs.input_processor import InputProcessor
from engine.local.inputs.speech_inputs import SpeechInputProcessor
from engine.local.locks import ENGINES
from engine.local.lora import LoraAdapters
from engine.local.output_parsers import OutputParsers
from engine.local.scheduler import Scheduler
from engine.prompts.rendering import PLAIN_STOPS, Renderer, plain_template
from engine.vllm_patches.decoder_prompts import keep_decoder_prompts
from engine.vllm_patches.model_inspection import inspect_model_classes_here
from operating_system import machine
from settings import EngineSettings, missing_vllm
from settings.engine import COMPILE_NOW

log = logging.getLogger("engine")

HEAPS = 2
"""For the threads of all engines. With one for each thread, memory grew by 4 MB each time a model gave way."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in vLLM.

    Arguments:
        llm: the `vllm.LLM`.
        adapter: the engine below it.
        scheduler: runs the generations on it.
        facts: what the status says of it, by the fields of `EngineStatus`.
    """

    llm: Any
    adapter: EngineAdapter
    scheduler: Scheduler
    facts: dict[str, Any]


def import_ahead(settings: EngineSettings, log_level: str) -> None:
    """Imports vLLM before the first load, unless it is not installed; the first load reports what goes wrong.

    Arguments: as those of `import_vllm`.
    """
    if missing_vllm() is None:
        _prepare(settings, log_level)
        begin_s = time.monotonic()
        if vllm_import.import_ahead():
            log.info("vLLM was imported in the background, in %.1f s.", time.monotonic() - begin_s)


def _prepare(settings: EngineSettings, log_level: str) -> None:
    engine_args.prepare_environment(settings, log_level, os.environ)
    vllm_logging.lower_warnings(os.environ)


def import_vllm(settings: EngineSettings, log_level: str, *, reloads_kernels: bool) -> None:
    """Imports vLLM, which takes seconds, and checks the settings that depend on its version and platform.

    Arguments:
        settings: the model and how to run it.
        log_level: vLLM's log level, where the environment does not set one.
        reloads_kernels: whether an earlier load has failed; vLLM goes on without its compiled part if that found no
            memory, and does not try again by itself.
    Raises: `EngineUnavailable`.
    """
    _prepare(settings, log_level)
    try:
        vllm_import.import_vllm()
        import vllm
        from vllm.engine.arg_utils import EngineArgs
        from vllm.model_executor.layers.quantization import QUANTIZATION_METHODS
        from vllm.platforms import current_platform

        parameters = inspect.signature(vllm.LLM).parameters
    except Exception as error:
        raise failures.import_failure(error) from None
    vllm_logging.quieten_transformers()
    frame_reader.register()
    if reloads_kernels:
        current_platform.import_kernels()
    names = {field.name for field in dataclasses.fields(EngineArgs)} | {*parameters}
    supported = current_platform.supported_quantization or QUANTIZATION_METHODS  # few platforms list theirs
    methods = [method for method in QUANTIZATION_METHODS if method in supported]
    engine_args.check_arguments(settings, names - {"kwargs"}, methods)
    output_parsers.check_names(settings)
    if current_platform.is_cpu():
        inspect_model_classes_here()
        machine.share_heaps(HEAPS)
        # In this process the engine loads in 2 s instead of 15 s and takes half the memory. On a GPU, its faults and
        # its memory are better kept in a process of its own.
        os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        if settings.extra_engine_args.get("enforce_eager", True) and settings.compile != COMPILE_NOW:
            # vLLM 0.32 compiles a few sampling functions even with enforce_eager: the first log-probabilities would
            # take half a minute, and need a C++ compiler. Code that is kept loads all the same.
            os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")


def load(settings: EngineSettings, ranks: Mapping[str, int], *, has_thread: bool) -> LoadedModel:
    """Loads the model, once vLLM is imported. Engines in this process wait meanwhile.

    Arguments:
        settings: the model and how to run it.
        ranks: the ranks of the LoRA adapters by their names.
        has_thread: whether the scheduler gets a thread of its own.
    """
    import torch
    import vllm
    from vllm.config.lora import MaxLoRARanks
    from vllm.platforms import current_platform

    on_cpu = current_platform.is_cpu()
    speech_config = _speech_config(settings)
    if settings.n_models > 1 and not os.path.isdir(path := engine_args.model_path(settings)):
        _download(path, settings)
    with ENGINES:
        free_bytes = machine.free_memory_bytes() or 0
        if speech_config is not None:
            arguments = engine_args.speech_arguments(
                settings,
                speech_config,
                on_cpu=on_cpu,
                free_bytes=free_bytes,
                cpu_capability=torch.backends.cpu.get_cpu_capability(),
            )
            llm = llm_class()(**arguments)
        else:
            arguments = engine_args.llm_arguments(
                settings,
                on_cpu=on_cpu,
                free_bytes=free_bytes,
                for_adapters=lora.engine_arguments(ranks, get_args(MaxLoRARanks)),
                can_sleep=current_platform.is_sleep_mode_available(),
            )
            llm = speedups.make_llm(llm_class(), arguments, settings, on_cpu=on_cpu)
        adapter = EngineAdapter(llm)
        try:
            facts = {**_facts(llm), "device": current_platform.device_type, "vllm_version": vllm.__version__}
            facts["transcribes"] = speech_config is not None
            inputs: InputProcessor | SpeechInputProcessor
            if speech_config is not None:
                inputs = _speech_input_processor(llm, settings)
            else:
                lora_adapters = LoraAdapters(settings.lora_modules)
                lora_adapters.load(llm.model_config.get_hidden_size(), adapter.add_lora)
                inputs = _input_processor(llm, settings, facts, lora_adapters)
        except BaseException:
            adapter.shut_down()
            raise
    turns = ENGINES if adapter.is_in_process else None
    return LoadedModel(llm, adapter, Scheduler(adapter, inputs, turns, has_thread=has_thread), facts)


def _download(name: str, settings: EngineSettings) -> None:
    """Downloads a model's weights ahead, as the load would: engines in this process would wait for it.

    What goes wrong is left to the load, which reports it.
    """
    if {"load_format", "revision", "download_dir", "model_loader_extra_config"} & settings.extra_engine_args.keys():
        return
    try:
        from vllm.config.load import LoadConfig
        from vllm.model_executor.model_loader import get_model_loader

        get_model_loader(LoadConfig()).download_model(SimpleNamespace(model=name, revision=None))
    except Exception:
        log.debug("The download ahead failed.", exc_info=True)


def _speech_config(settings: EngineSettings) -> dict[str, Any] | None:
    """The `config.json` of a model that transcribes, which is downloaded where it is not here; `None` for others.

    Raises: `LocalEntryNotFoundError` if nothing of the model is here and the hub cannot be reached; vLLM would try
    again and again for minutes.
    """
    if model_config.transcribes(settings) is None:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            hf_hub_download(settings.model_name, "config.json", token=settings.hf_token)
        except LocalEntryNotFoundError:
            if model_files.snapshot(settings.hf_cache, settings.model_name) is None:
                raise
        except Exception:  # vLLM finds out why, and says so in its own error
            log.debug("There is no config.json.", exc_info=True)
    return model_config.model_config(settings) if model_config.transcribes(settings) else None


def _speech_input_processor(llm: Any, settings: EngineSettings) -> SpeechInputProcessor:
    keep_decoder_prompts(llm)
    generation_config, config = llm.model_config.try_get_generation_config(), llm.model_config.hf_config

    def value(name: str) -> Any:
        found = generation_config.get(name)
        return getattr(config, name, None) if found is None else found

    return SpeechInputProcessor(llm, settings.shown_name, value)


def _facts(llm: Any) -> dict[str, Any]:
    config = llm.model_config
    media = model_facts.supported_media(llm)
    return {
        "dtype": str(config.dtype).removeprefix("torch."),
        "max_model_len": config.max_model_len,
        "supports_images": "image" in media,
        "supports_audio": "audio" in media,
        "supports_video": "video" in media,
        "has_chat_template": model_facts.has_chat_template(llm),
        "quantization": config.quantization,
        "can_offload": bool(getattr(config, "enable_sleep_mode", False)),
    }


def _input_processor(
    llm: Any, settings: EngineSettings, facts: dict[str, Any], lora_adapters: LoraAdapters
) -> InputProcessor:
    renderer = Renderer(
        settings.shown_name,
        accepts=model_facts.supported_media(llm),
        max_images=settings.max_images_per_prompt,
        break_tokens=model_facts.token_breaker(llm, settings.max_images_per_prompt),
        audio_rate=model_facts.audio_rate(llm),
    )
    has_template = facts["has_chat_template"]
    parsers = OutputParsers(llm, settings.tool_parser, settings.reasoning_parser, writes_lines=not has_template)
    if has_template:
        return InputProcessor(llm, renderer, lora_adapters, parsers)
    template = plain_template(model_facts.begins_with_bos(llm))
    return InputProcessor(llm, renderer, lora_adapters, parsers, template, PLAIN_STOPS)
