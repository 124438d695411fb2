"""The model: what is known of it, making it ready, and watching it at work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from engine.errors import GenerationCancelled
from engine.interface import Control, OnText
from settings import SERVER_VERSION

if TYPE_CHECKING:
    from handlers.services import Services
    from mcp_protocol.call import Call


class NoArguments(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """For tools that take nothing."""


class ModelInfo(msgspec.Struct, frozen=True):
    """Result of `model_info`; null where it is not known before the model is loaded."""

    model_name: str
    server_state: str
    dtype: str | None
    max_model_len: int | None
    quantization: str | None
    supports_images: bool | None
    has_chat_template: bool | None
    max_images_per_prompt: int
    lora_modules: list[str]
    tensor_parallel_size: int
    pipeline_parallel_size: int
    gpu_memory_utilization: float
    device: str | None
    load_s: float | None
    error: str | None
    active_sessions: int
    max_sessions: int
    max_session_messages: int
    store_problem: str | None
    default_temperature: float
    default_max_tokens: int
    default_top_p: float
    default_top_k: int
    vllm_version: str | None
    server_version: str


def model_info(arguments: NoArguments, call: Call, services: Services) -> ModelInfo:
    """What is known of the model and the server, without loading anything."""
    services.publish_sessions()
    return model_facts(services)


def model_facts(services: Services) -> ModelInfo:
    """What `model_info` tells, with the sessions as they were last published; safe from any thread."""
    status, settings = services.engine.status(), services.settings
    return ModelInfo(
        model_name=status.model_name,
        server_state=status.state,
        dtype=status.dtype,
        max_model_len=status.max_model_len,
        quantization=status.quantization,
        supports_images=status.supports_images,
        has_chat_template=status.has_chat_template,
        max_images_per_prompt=settings.engine.max_images_per_prompt,
        lora_modules=list(settings.engine.lora_modules),
        tensor_parallel_size=settings.engine.tensor_parallel_size,
        pipeline_parallel_size=settings.engine.pipeline_parallel_size,
        gpu_memory_utilization=settings.engine.gpu_memory_utilization,
        device=status.device,
        load_s=status.load_s,
        error=status.error,
        active_sessions=len(services.published_sessions),
        max_sessions=settings.sessions.max_sessions,
        max_session_messages=settings.sessions.max_session_messages,
        store_problem=services.published_store_problem,
        default_temperature=settings.sampling.temperature,
        default_max_tokens=settings.sampling.max_tokens,
        default_top_p=settings.sampling.top_p,
        default_top_k=settings.sampling.top_k,
        vllm_version=status.vllm_version,
        server_version=SERVER_VERSION,
    )


def load(call: Call, services: Services) -> float:
    """Makes the model ready, telling the call which phase it waits for; returns the seconds that took.

    Raises: the engine's errors; `GenerationCancelled` when the call was answered or cancelled meanwhile.
    """
    try:
        load_s = services.engine.load(call.enter_phase)
    finally:
        call.enter_phase(None)
    if call.cancelled():
        raise GenerationCancelled
    return load_s


def control_of(call: Call, on_text: OnText | None) -> Control:
    """How the engine watches a call's wishes between two steps."""
    return Control(
        cancelled=call.cancelled,
        deadline_s=call.deadline_s,
        on_text=on_text,
        on_phase=call.enter_phase,
        on_ready=lambda: call.enter_phase(None),
    )
