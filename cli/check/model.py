"""Checks of the models: their files and memory, their adapters, their server, and one generation of each."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from cli.check.findings import Finding, gigabytes, off, ok, problem, warning
from cli.check.folders import nearest_folder
from engine.errors import EngineError
from engine.hardware.memory import total
from engine.interface import Control, Conversation, ImagePart, Message, Sampling, TextPart
from engine.local import engine_args
from engine.local.lora import ranks_of
from engine.model_catalog import SUGGESTED, catalog
from engine.model_files import missing_files, snapshot
from media.errors import MediaError
from settings import program

if TYPE_CHECKING:
    from engine.hardware.memory import MemoryUse
    from engine.interface import Engine
    from engine.model_catalog import CatalogModel
    from handlers.services import Services
    from settings import EngineSettings

ANSWER_TOKENS = 16
MAX_NAMES = 5
IMAGE = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAEAAAABAAQMAAACQp+OdAAAABlBMVEUAAP//AADF+ovTAAAAcklEQVR42s3QsQ3CMBSE4c/P"
    "SKRkBDYhbO4RGCEjuIwQiilMCgsKyvzV6e6e9HQcj3P9iNuGjCWlIkjMvdJaJZiYiP00uHAiuBJjNJNGp5MpSOU7+kdkzNx/"
    "dwptdBY2gsprjFZWgicPgtZ/29cY9jkAb7FqFwcNkzldAAAAAElFTkSuQmCC"
)
"""A red circle on a blue background, 64 × 64 pixels."""


def model(services: Services) -> list[Finding]:
    """The models that local engines load, the default one first."""
    settings = services.settings.engine
    if settings.base_url is not None:
        return []
    use = services.memory_use()
    entries = catalog(settings, use).configured
    return [_model(each, entry, use) for each, entry in zip(settings.by_name().values(), entries, strict=True)]


def _model(settings: EngineSettings, entry: CatalogModel, use: MemoryUse) -> Finding:
    """The files of one model, and the memory that it needs."""
    try:
        path = engine_args.model_path(settings)
    except EngineError as error:
        return problem("model", _reason(error))
    name = entry.name
    folder = path if os.path.isdir(path) else snapshot(settings.hf_cache, settings.model_name)
    if folder is None:
        return _to_download(entry, settings.hf_cache)
    missing = missing_files(folder)
    if missing and folder != path:
        text = f"{name} is incomplete; missing: {_listed(missing)}. The first call continues the download."
        return warning("model", text)
    if missing:
        advice = "Clone the server again" if settings.is_bundled else "Copy or download the model again"
        return problem("model", f"The folder of {name} lacks {_listed(missing)}. {advice}.")
    where = "is bundled with the server" if settings.is_bundled else f"is in {folder}"
    size = "" if entry.disk_bytes is None else f", {gigabytes(entry.disk_bytes)}"
    return _with_memory(entry, f"{name} {where}{size}", use)


def lora(services: Services) -> list[Finding]:
    """The folders of the LoRA adapters of all models, if any."""
    settings = services.settings.engine
    folders = [each.lora_modules for each in settings.by_name().values() if each.lora_modules]
    if not folders or settings.base_url is not None:
        return []
    try:
        ranks = [pair for each in folders for pair in ranks_of(each).items()]
    except EngineError as error:
        return [problem("adapters", _reason(error))]
    return [ok("adapters", ", ".join(f"{name} (rank {rank})" for name, rank in ranks) + ".")]


def model_server(services: Services) -> list[Finding]:
    """The server of `VLLM_BASE_URL`: whether it responds, accepts the key and has the model."""
    url = services.settings.engine.base_url
    if url is None:
        return [off("model server", "VLLM_BASE_URL is not set: the model runs in this server.")]
    try:
        services.engine.load()
    except EngineError as error:
        return [problem("model server", str(error))]
    status = services.engine.status()
    names = list(status.served_models)
    kind = f"vLLM {status.vllm_version}" if status.vllm_version else "an OpenAI-compatible server"
    listed = f" It has {_listed(names)}." if names else ""
    return [ok("model server", f"{url} is {kind}; {status.model_name} is used.{listed}")]


def answer(services: Services, on_phase: Callable[[str], None]) -> list[Finding]:
    """Loads the models one after another, or uses their server; measures a generation from text and one from an image.

    Arguments: `on_phase` gets the phases of the loads.
    """
    return [_answer(name, services, on_phase) for name in services.models.names]


def _answer(name: str, services: Services, on_phase: Callable[[str], None]) -> Finding:
    engine, settings = services.models.engine(name), services.models.settings_of(name)
    try:
        with services.models.in_use(name, on_phase) as model:
            results = [f"loaded in {model.load_s:.1f} s"] if settings.base_url is None else []
            if engine.status().transcribes:
                return ok("answer", f"{name}: {', '.join(results)}; it transcribes speech.")
            results.append(f"text prompt in {_timed(engine, TextPart('Hello'))}")
            if engine.status().supports_images is not False and settings.max_images_per_prompt:
                image = services.images.read(IMAGE)
                image_time = _timed(engine, TextPart("What is this?"), ImagePart(image.image, image.digest))
                results.append(f"image prompt in {image_time}")
            else:
                results.append("no image input")
    except (EngineError, MediaError) as error:
        several = len(services.models.names) > 1
        return problem("answer", f"{name}: {error}" if several else str(error))
    status = engine.status()
    facts = [fact for fact in (status.device, status.dtype) if fact]
    where = f" ({', '.join(facts)})" if facts else ""
    return ok("answer", f"{status.model_name}{where}: {', '.join(results)}.")


def no_answer(services: Services) -> list[Finding]:
    """The row in place of `answer` if the model is not to be loaded."""
    return [off("answer", f"Not checked. `{program()} --check=load` loads and runs the model and measures it.")]


def _timed(engine: Engine, *content: TextPart | ImagePart) -> str:
    sampling = Sampling(temperature=0.0, max_tokens=ANSWER_TOKENS)
    started = time.monotonic()
    (completion,) = engine.generate([Conversation((Message("user", content),), sampling)], Control())
    return f"{time.monotonic() - started:.2f} s ({completion.completion_tokens} tokens)"


def _to_download(entry: CatalogModel, cache: str) -> Finding:
    """A model that must be downloaded."""
    place = nearest_folder(os.path.expanduser(cache))
    n_bytes = next((known.billions * 2e9 for known in SUGGESTED if known.name == entry.name), None)
    size = "" if n_bytes is None else f", about {gigabytes(n_bytes)}"
    note = f" ({entry.note})" if entry.note else ""
    text = f"{entry.name}{note} is not on this machine: the first call downloads it from Hugging Face{size}"
    if not os.access(place, os.W_OK):
        return problem("model", f"{text}; but {place} is not writable. Set HF_HUB_CACHE to a writable folder.")
    free_bytes = shutil.disk_usage(place).free
    if n_bytes is not None and n_bytes > free_bytes:
        return problem(
            "model", f"{text}; but {place} has {gigabytes(free_bytes)} left. Free some space, or set HF_HUB_CACHE."
        )
    return warning("model", f"{text}. To download it now, run `{program()} --check=load`.")


def _with_memory(entry: CatalogModel, text: str, use: MemoryUse) -> Finding:
    """A model on this machine: the memory that it needs, and the free memory."""
    if entry.needs_bytes is None:
        return ok("model", f"{text}. The memory that it needs is unknown.")
    free_bytes = total(device.free_bytes for device in use.devices) if use.devices else use.free_bytes
    text += f". It needs about {gigabytes(entry.needs_bytes)} of memory"
    text += f"; {gigabytes(free_bytes)} are free" if free_bytes is not None else ""
    if entry.fits is False:
        text += (
            ": loading may fail. Use a smaller or quantized model, close other programs, or use more GPUs "
            "(VLLM_TENSOR_PARALLEL_SIZE)."
        )
        return warning("model", text)
    return ok("model", f"{text}.")


def _reason(error: EngineError) -> str:
    """The error's text without "Failed to initialize vLLM": nothing was loaded."""
    reason = str(error).removeprefix(f"{engine_args.FAILED}: ")
    return reason[:1].upper() + reason[1:]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more
