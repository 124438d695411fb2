"""The model: where its files are, whether it fits, its adapters, the server that has it instead; and its answer."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from checkup.findings import Finding, gigabytes, off, ok, problem, warning
from checkup.folders import nearest_folder
from engine import adapters, arguments
from engine.errors import EngineError
from engine.interface import Control, Conversation, ImagePart, Message, Sampling, TextPart
from engine.memory import total
from engine.model_catalog import SUGGESTED, catalog
from engine.model_files import missing_files, snapshot
from media.errors import MediaError

if TYPE_CHECKING:
    from engine.memory import MemoryUse
    from engine.model_catalog import CatalogModel
    from handlers.services import Services

ANSWER_TOKENS = 16
MOST_NAMES = 5
PICTURE = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAEAAAABAAQMAAACQp+OdAAAABlBMVEUAAP//AADF+ovTAAAAcklEQVR42s3QsQ3CMBSE4c/P"
    "SKRkBDYhbO4RGCEjuIwQiilMCgsKyvzV6e6e9HQcj3P9iNuGjCWlIkjMvdJaJZiYiP00uHAiuBJjNJNGp5MpSOU7+kdkzNx/"
    "dwptdBY2gsprjFZWgicPgtZ/29cY9jkAb7FqFwcNkzldAAAAAElFTkSuQmCC"
)
"""A red circle on a blue background, of 64 × 64 pixels."""


def model(services: Services) -> list[Finding]:
    """The model that the engine of this process would load."""
    settings = services.settings.engine
    if settings.base_url is not None:
        return []
    try:
        path = arguments.model_path(settings)
    except EngineError as error:
        return [problem("model", _reason(error))]
    use = services.memory_use()
    (entry,) = catalog(settings, use).configured
    name = entry.name
    folder = path if os.path.isdir(path) else snapshot(settings.hf_cache, settings.model_name)
    if folder is None:
        return [_to_download(entry, settings.hf_cache)]
    missing = missing_files(folder)
    if missing and folder != path:
        text = f"{name} was downloaded in part; missing: {_listed(missing)}. The first call goes on with the download."
        return [warning("model", text)]
    if missing:
        mend = "Clone the server anew" if arguments.is_bundled(settings) else "Copy or download the model again"
        return [problem("model", f"The folder of {name} lacks {_listed(missing)}. {mend}.")]
    where = "comes with the server" if arguments.is_bundled(settings) else f"is in {folder}"
    size = "" if entry.disk_bytes is None else f", {gigabytes(entry.disk_bytes)}"
    return [_with_memory(entry, f"{name} {where}{size}", use)]


def lora(services: Services) -> list[Finding]:
    """The adapters' folders, where there are any."""
    folders = services.settings.engine.lora_modules
    if not folders or services.settings.engine.base_url is not None:
        return []
    try:
        ranks = adapters.ranks_of(folders)
    except EngineError as error:
        return [problem("adapters", _reason(error))]
    return [ok("adapters", ", ".join(f"{name} (rank {rank})" for name, rank in ranks.items()) + ".")]


def model_server(services: Services) -> list[Finding]:
    """The server at `VLLM_BASE_URL`: whether it answers, takes the key and has the model."""
    url = services.settings.engine.base_url
    if url is None:
        return [off("model server", "VLLM_BASE_URL is not set: the model runs here.")]
    try:
        services.engine.load()
    except EngineError as error:
        return [problem("model server", str(error))]
    status = services.engine.status()
    names = list(status.served_models)
    kind = f"vLLM {status.vllm_version}" if status.vllm_version else "a server of the OpenAI API"
    listed = f" It has {_listed(names)}." if names else ""
    return [ok("model server", f"{url} is {kind}; {status.model_name} is used.{listed}")]


def answer(services: Services, tell: Callable[[str], None]) -> list[Finding]:
    """Loads the model, or asks the server that has it, and measures an answer to words and one to a picture.

    Arguments: `tell` gets the phases of the load.
    """
    engine = services.engine
    try:
        load_s = engine.load(tell)
        words = _timed(services, TextPart("Hello"))
        shown = [f"loaded in {load_s:.1f} s"] if services.settings.engine.base_url is None else []
        shown.append(f"answered words in {words}")
        if engine.status().supports_images is not False and services.settings.engine.max_images_per_prompt:
            picture = services.images.read(PICTURE)
            seen = _timed(services, TextPart("What is this?"), ImagePart(picture.image, picture.digest))
            shown.append(f"a picture in {seen}")
        else:
            shown.append("it does not read pictures")
    except (EngineError, MediaError) as error:
        return [problem("answer", str(error))]
    status = engine.status()
    facts = [fact for fact in (status.device, status.dtype) if fact]
    where = f" ({', '.join(facts)})" if facts else ""
    return [ok("answer", f"{status.model_name}{where}: {', '.join(shown)}.")]


def no_answer(services: Services) -> list[Finding]:
    """Stands for `answer` where nobody asked for it."""
    return [
        off("answer", "Not tried. `vllm_server.py --check=load` loads the model, has it answer, and tells how fast.")
    ]


def _timed(services: Services, *content: TextPart | ImagePart) -> str:
    sampling = Sampling(temperature=0.0, max_tokens=ANSWER_TOKENS)
    started = time.monotonic()
    (completion,) = services.engine.generate([Conversation((Message("user", content),), sampling)], Control())
    return f"{time.monotonic() - started:.2f} s ({completion.completion_tokens} tokens)"


def _to_download(entry: CatalogModel, cache: str) -> Finding:
    """A model that is not on this machine."""
    place = nearest_folder(os.path.expanduser(cache))
    n_bytes = next((known.billions * 2e9 for known in SUGGESTED if known.name == entry.name), None)
    size = "" if n_bytes is None else f", about {gigabytes(n_bytes)}"
    note = f" ({entry.note})" if entry.note else ""
    text = f"{entry.name}{note} is not on this machine: the first call downloads it from Hugging Face{size}"
    if not os.access(place, os.W_OK):
        return problem("model", f"{text}; but {place} may not be written. Set HF_HUB_CACHE to a folder that may.")
    free_bytes = shutil.disk_usage(place).free
    if n_bytes is not None and n_bytes > free_bytes:
        return problem(
            "model", f"{text}; but {place} has {gigabytes(free_bytes)} left. Make room, or set HF_HUB_CACHE."
        )
    return warning("model", f"{text}. To have that done now, run `vllm_server.py --check=load`.")


def _with_memory(entry: CatalogModel, text: str, use: MemoryUse) -> Finding:
    """A model that is on this machine, with the memory that it needs and that is free."""
    if entry.needs_bytes is None:
        return ok("model", f"{text}. What memory it needs is not known.")
    free_bytes = total(device.free_bytes for device in use.devices) if use.devices else use.free_bytes
    text += f". It needs about {gigabytes(entry.needs_bytes)} of memory"
    text += f", {gigabytes(free_bytes)} are free" if free_bytes is not None else ""
    if entry.fits is False:
        text += (
            ": loading may fail. Take a smaller or a quantized model, end other programs, or spread it over more GPUs "
            "(VLLM_TENSOR_PARALLEL_SIZE)."
        )
        return warning("model", text)
    return ok("model", f"{text}.")


def _reason(error: EngineError) -> str:
    """What is wrong, without the words for a load that nobody tried."""
    reason = str(error).removeprefix(f"{arguments.FAILED}: ")
    return reason[:1].upper() + reason[1:]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more
