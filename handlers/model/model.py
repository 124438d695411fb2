"""The model: its properties, loading it, and the control of its generations."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from engine.errors import GenerationCancelled
from engine.interface import Control, OnText
from handlers.model.states import ModelState, model_states
from settings import SERVER_VERSION

if TYPE_CHECKING:
    from engine.models import ModelInUse
    from handlers.services import Services
    from mcp_protocol.calls.call import Call


ModelName = Annotated[
    str, Meta(min_length=1, max_length=4_096, description="One of the server's models; default: the default model.")
]


class NoArguments(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """For tools without arguments."""


class ModelArguments(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """For tools about one model."""

    model: ModelName | None = None


class ModelInfo(msgspec.Struct, frozen=True):
    """Result of `model_info`; null if unknown before the model is loaded. `models` are all of them, if several."""

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
    supports_audio: bool | None
    supports_video: bool | None
    models: list[ModelState] | msgspec.UnsetType = msgspec.UNSET


def model_info(arguments: ModelArguments, call: Call, services: Services) -> ModelInfo:
    """The properties of the model and the server, without loading anything."""
    services.publish_sessions()
    return model_facts(services, arguments.model)


def model_facts(services: Services, model: str | None = None) -> ModelInfo:
    """The result of `model_info`, with the sessions as last published; safe from any thread."""
    status, settings = services.models.engine(model).status(), services.settings
    engine_settings = services.models.settings_of(model)
    return ModelInfo(
        model_name=status.model_name,
        server_state=status.state,
        dtype=status.dtype,
        max_model_len=status.max_model_len,
        quantization=status.quantization,
        supports_images=status.supports_images,
        has_chat_template=status.has_chat_template,
        max_images_per_prompt=engine_settings.max_images_per_prompt,
        lora_modules=list(engine_settings.lora_modules),
        tensor_parallel_size=engine_settings.tensor_parallel_size,
        pipeline_parallel_size=engine_settings.pipeline_parallel_size,
        gpu_memory_utilization=engine_settings.gpu_memory_utilization,
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
        supports_audio=status.supports_audio,
        supports_video=status.supports_video,
        models=model_states(services),
    )


@contextlib.contextmanager
def model_in_use(call: Call, services: Services, name: str | None = None) -> Iterator[ModelInUse]:
    """Makes a model ready and reports the phases of its load to the call; it stays loaded inside the context.

    Arguments: `name`, the model that the call names, `None` for the default one.

    Raises: `UnknownModel`; the engine's errors; `GenerationCancelled` if the call was answered or cancelled meanwhile.
    """
    with contextlib.ExitStack() as stack:
        try:
            model = stack.enter_context(
                services.models.in_use(name, call.enter_phase, call.cancellation, call.deadline_s)
            )
        finally:
            call.enter_phase(None)
        if call.cancellation.is_set():
            raise GenerationCancelled
        yield model


def control_of(call: Call, on_text: OnText | None) -> Control:
    """The cancellation, the deadline and the listeners of a call, for the engine."""
    return Control(
        cancellation=call.cancellation,
        deadline_s=call.deadline_s,
        on_text=on_text,
        on_phase=call.enter_phase,
        on_ready=lambda: call.enter_phase(None),
    )
