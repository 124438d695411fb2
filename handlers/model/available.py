"""The models to choose from, and the servers for videos."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from engine.interface import EngineState, EngineStatus
from engine.model_catalog import CatalogModel, catalog
from handlers.model.model import NoArguments
from handlers.model.states import accepted, gigabytes
from settings import missing_vllm

if TYPE_CHECKING:
    from handlers.services import Services
    from mcp_protocol.calls.call import Call


class AvailableModel(msgspec.Struct, frozen=True):
    """A model by its name for `VLLM_MODEL_NAME`; `fits` says whether this machine has the memory it needs.

    A configured model has its name for the argument `model`, its state, whether it is the default, and what it accepts:
    text, image, audio, video; null before its first load.
    """

    name: str
    loaded: bool
    size_on_disk_gb: float | None
    memory_needed_gb: float | None
    fits: bool | None
    note: str
    state: str | msgspec.UnsetType = msgspec.UNSET
    is_default: bool | msgspec.UnsetType = msgspec.UNSET
    accepts: list[str] | msgspec.UnsetType | None = msgspec.UNSET


class VideoServer(msgspec.Struct, frozen=True):
    """A vLLM-Omni server for videos; null if it did not report it.

    `model_types` are the names that select it in generate_video, process_image_to_video and process_video_to_video,
    `name` is the model that it serves. The model generates videos from an image and a voice (`talks`), from words
    (`text`), from an image and words (`image`).
    """

    server_url: str
    model_types: list[str]
    name: str | None
    talks: bool | None
    text: bool | None
    image: bool | None
    note: str


class SpeechServer(msgspec.Struct, frozen=True):
    """The vLLM-Omni server of generate_speech; null if it did not report it.

    `voices` are the names for the argument `voice`; `uploaded_voices` are those among them that somebody uploaded.
    """

    server_url: str
    name: str | None
    voices: list[str] | None
    uploaded_voices: list[str] | None
    note: str


class ModelGroups(msgspec.Struct, frozen=True):
    """The models, each in the first group that it belongs to; `video` and `speech` list servers instead of models."""

    configured: list[AvailableModel]
    bundled: list[AvailableModel]
    cached: list[AvailableModel]
    suggested: list[AvailableModel]
    video: list[VideoServer]
    speech: list[SpeechServer]


class ModelList(msgspec.Struct, frozen=True):
    """Result of `list_available_models`."""

    status: str
    models: ModelGroups
    total_count: int
    message: str


def list_available_models(arguments: NoArguments, call: Call, services: Services) -> ModelList:
    """The models on this machine and suggested downloads, with the memory they need, and the video servers."""
    status = services.engine.status()
    groups, message = (
        _local_models(services) if status.server_url is None else _served_models(status, status.server_url)
    )
    groups = msgspec.structs.replace(
        groups, video=_video_servers(call, services), speech=_speech_servers(call, services)
    )
    listed = [model for name in groups.__struct_fields__ for model in getattr(groups, name)]
    return ModelList(
        status="success",
        models=groups,
        total_count=sum(model.name is not None and not _is_mute(model) for model in listed),
        message=(
            f"{message} For videos set OMNI_VIDEO_URL, or OMNI_VIDEO_MODELS for several servers; for speech set "
            "OMNI_SPEECH_URL."
        ),
    )


def _local_models(services: Services) -> tuple[ModelGroups, str]:
    """The models that the engine of this process can load."""
    models = catalog(services.settings.engine, services.memory_use())
    statuses = services.models.statuses()
    groups = ModelGroups(
        configured=[
            _configured_model(model, status, is_default=name == services.models.default)
            for model, (name, status) in zip(models.configured, statuses.items(), strict=True)
        ],
        bundled=[_available_model(model) for model in models.bundled],
        cached=[_available_model(model) for model in models.cached],
        suggested=[_available_model(model) for model in models.suggested],
        video=[],
        speech=[],
    )
    missing = missing_vllm()
    message = (
        "To use another model, set VLLM_MODEL_NAME to its name, or leave it empty for the bundled one, and restart the "
        "server. Suggested models are downloaded at their first load. memory_needed_gb is an estimate: weights × 1.2 "
        "+ 1 GB."
    )
    return groups, message if missing is None else f"{missing} {message}"


def _served_models(status: EngineStatus, url: str) -> tuple[ModelGroups, str]:
    """The models of the remote server in place of a local engine; its memory is unknown."""
    is_ready = status.state is EngineState.READY
    models = [
        AvailableModel(name, name == status.model_name, None, None, None, f"on the server at {url}")
        for name in (status.served_models if is_ready else ())
    ]
    message = f"These are the models of the server at {url}; VLLM_MODEL_NAME selects one. "
    if not is_ready:
        message = f"The models of the server at {url} are listed at the first call that needs one. "
    message += "Without VLLM_BASE_URL this server runs its own model."
    return ModelGroups(models, [], [], [], [], []), message


def _video_servers(call: Call, services: Services) -> list[VideoServer]:
    if not services.settings.server.offers("video"):
        return []
    states = services.jobs.ask(services.video_maker.servers.states(), call.cancellation)
    return [
        VideoServer(state.url, state.model_types, state.model, state.talks, state.text, state.image, state.note)
        for state in states
    ]


def _speech_servers(call: Call, services: Services) -> list[SpeechServer]:
    if "generate_speech" not in services.settings.server.offered_tools:
        return []
    state = services.jobs.ask(services.speech_maker.state(), call.cancellation)
    return [SpeechServer(state.url, state.model, state.voices, state.uploaded_voices, state.note)]


def _is_mute(entry: object) -> bool:
    """Whether an entry is a speech server whose model, listed with the videos or the images, does not speak."""
    return isinstance(entry, SpeechServer) and entry.voices is None


def _configured_model(model: CatalogModel, status: EngineStatus, is_default: bool) -> AvailableModel:
    return msgspec.structs.replace(
        _available_model(model),
        loaded=status.state in (EngineState.READY, EngineState.OFFLOADED),
        state=status.state,
        is_default=is_default,
        accepts=accepted(status),
    )


def _available_model(model: CatalogModel) -> AvailableModel:
    return AvailableModel(
        model.name, False, gigabytes(model.disk_bytes), gigabytes(model.needs_bytes), model.fits, model.note
    )
