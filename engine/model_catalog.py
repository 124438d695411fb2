"""Which models there are to choose from: on this machine, and worth a download; and whether this machine can hold them.

Nothing is downloaded, asked over the network or read from files here: sizes are measured, names are folders' names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import settings as configuration
from engine.arguments import is_bundled, shown_name
from engine.memory import MemoryUse
from settings import EngineSettings

# What a loaded model needs: its weights, a fifth of them for activations and fragmentation (the rule of EleutherAI's
# "Transformer Math 101": inference takes about 1.2 times the model), and a GiB for the CUDA context and a KV cache that
# is just large enough to work with.
OVERHEAD_FACTOR = 1.2
OVERHEAD_BYTES = 1 << 30
BYTES_PER_PARAMETER = {"float32": 4}
"""By data type; all others have 2, as has bfloat16, in which the suggested models are published."""

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model to suggest; `billions` are its parameters, those that see and those that talk together.

    They are Hugging Face's "model size" of each repository, which counts its weights, compared in November 2026 with
    what is public of it: most agree to the digit or to rounding; for PaliGemma 2 and the 2.2-billion SmolVLM there was
    nothing to compare with.
    """

    name: str
    billions: float
    note: str = ""


_OWN_CODE = "needs VLLM_TRUST_REMOTE_CODE=1"
_GATED = "gated: accept its terms at huggingface.co and set HUGGING_FACE_HUB_TOKEN"

SUGGESTED = (
    KnownModel("HuggingFaceTB/SmolVLM-256M-Instruct", 0.256, "runs on a CPU"),
    KnownModel("HuggingFaceTB/SmolVLM-500M-Instruct", 0.507, "runs on a CPU"),
    KnownModel("HuggingFaceTB/SmolVLM-Instruct", 2.25, "small and quick; on a CPU slow"),
    KnownModel("OpenGVLab/InternVL3-1B", 0.938, _OWN_CODE),
    KnownModel("OpenGVLab/InternVL3-1B-hf", 0.938),
    KnownModel("OpenGVLab/InternVL3-2B", 2.09, _OWN_CODE),
    KnownModel("OpenGVLab/InternVL3-2B-hf", 2.09),
    KnownModel("OpenGVLab/InternVL3-8B", 7.94, _OWN_CODE),
    KnownModel("OpenGVLab/InternVL3-8B-hf", 7.94),
    KnownModel("Qwen/Qwen2.5-VL-3B-Instruct", 3.75, "good all-rounder"),
    KnownModel("Qwen/Qwen2.5-VL-7B-Instruct", 8.29),
    KnownModel("Qwen/Qwen3-VL-2B-Instruct", 2.13),
    KnownModel("Qwen/Qwen3-VL-4B-Instruct", 4.44),
    KnownModel("Qwen/Qwen3-VL-8B-Instruct", 8.77),
    KnownModel("llava-hf/llava-1.5-7b-hf", 7.06, "context of 4096 tokens"),
    KnownModel("google/gemma-3-4b-it", 4.3, _GATED),
    KnownModel("google/gemma-3-12b-it", 12.2, _GATED),
    KnownModel("google/paligemma2-3b-mix-448", 3.03, _GATED),
    KnownModel("microsoft/Phi-3.5-vision-instruct", 4.15, _OWN_CODE),
    KnownModel("microsoft/Phi-4-multimodal-instruct", 5.57, _OWN_CODE),
)


@dataclass(frozen=True, slots=True)
class CatalogModel:
    """A model that can be named in `VLLM_MODEL_NAME`.

    `disk_bytes` is measured, `None` where it is not on this machine; `needs_bytes` is computed, see `needed_bytes`;
    `fits` says whether that is free now, counting what this server would give back. `None`: not known.
    """

    name: str
    disk_bytes: int | None
    needs_bytes: int | None
    fits: bool | None
    note: str


@dataclass(frozen=True, slots=True)
class Catalog:
    """All models, each in the first group that it belongs to."""

    configured: tuple[CatalogModel, ...]
    bundled: tuple[CatalogModel, ...]
    cached: tuple[CatalogModel, ...]
    suggested: tuple[CatalogModel, ...]


@dataclass(frozen=True, slots=True)
class _Folder:
    """A model on this machine: what it takes on disk, and its weights alone."""

    disk_bytes: int
    weights_bytes: int


def catalog(settings: EngineSettings, use: MemoryUse) -> Catalog:
    """The models to choose from, with what they need against what `use` says is there."""
    room = _available_bytes(settings, use)
    cached = dict(_cached(os.path.expanduser(settings.hf_cache)))
    known = {model.name: model for model in SUGGESTED}

    def entry(shown: str, name: str, folder: _Folder | None) -> CatalogModel:
        suggested = known.get(name)
        if folder is not None and folder.weights_bytes:
            needs = needed_bytes(folder.weights_bytes)
        elif suggested is not None:
            needs = needed_bytes(suggested.billions * 1e9 * BYTES_PER_PARAMETER.get(settings.dtype, 2))
        else:
            needs = None
        return CatalogModel(
            name=shown,
            disk_bytes=None if folder is None else folder.disk_bytes,
            needs_bytes=needs,
            fits=None if needs is None or room is None else needs <= room,
            note=suggested.note if suggested is not None else "",
        )

    name = settings.model_name
    bundled = [] if is_bundled(settings) else [configuration.DEMO_MODEL]
    return Catalog(
        configured=(entry(shown_name(settings), name, cached.get(name) or _local(name)),),
        bundled=tuple(entry(os.path.basename(path), path, _local(path)) for path in bundled),
        cached=tuple(entry(repo, repo, folder) for repo, folder in sorted(cached.items()) if repo != name),
        suggested=tuple(
            entry(model.name, model.name, None) for model in SUGGESTED if model.name not in {*cached, name}
        ),
    )


def needed_bytes(weights_bytes: float) -> int:
    """The memory that a model with such weights needs: `weights × 1.2 + 1 GiB`, with two bytes a parameter in bfloat16.

    An estimate for choosing a model. What a loaded one takes in truth is mostly its KV cache, which on a GPU fills
    `VLLM_GPU_MEMORY_UTILIZATION`.
    """
    return int(weights_bytes * OVERHEAD_FACTOR) + OVERHEAD_BYTES


def _available_bytes(settings: EngineSettings, use: MemoryUse) -> int | None:
    """What a model could have if this server gave its own back: on its GPUs, or without a GPU in the memory."""
    if not use.devices:
        return use.free_bytes + (use.process_bytes or 0)
    rooms = sorted(
        device.free_bytes + (device.server_bytes or 0) for device in use.devices if device.free_bytes is not None
    )
    shared_by = settings.tensor_parallel_size * settings.pipeline_parallel_size
    return shared_by * rooms[-shared_by] if len(rooms) >= shared_by else None


def _cached(folder: str) -> Iterator[tuple[str, _Folder]]:
    """The complete models in huggingface_hub's folder: `models--OWNER--NAME` with blobs and a snapshot a revision."""
    for name in _names(folder):
        kind, _, repo = name.partition("--")
        path = os.path.join(folder, name)
        snapshots = [os.path.join(path, "snapshots", revision) for revision in _names(os.path.join(path, "snapshots"))]
        usable = [snapshot for snapshot in snapshots if _is_model(snapshot)]
        if kind == "models" and repo and usable:
            weights = max(map(_weights_bytes, usable))
            blobs = os.path.join(path, "blobs")
            yield repo.replace("--", "/"), _Folder(sum(_sizes(blobs).values()), weights)


def _local(name: str) -> _Folder | None:
    path = os.path.expanduser(name)
    return _Folder(sum(_sizes(path).values()), _weights_bytes(path)) if os.path.isdir(path) else None


def _is_model(folder: str) -> bool:
    """Whether vLLM could read it: a configuration and weights; pipelines of diffusers have no configuration there."""
    names = _names(folder)
    return "config.json" in names and any(name.endswith(_WEIGHTS) for name in names)


def _weights_bytes(folder: str) -> int:
    """The size of a model's weights, in the first of their formats: some come in several, of which one is read."""
    sizes = _sizes(folder)
    for suffix in _WEIGHTS:
        if found := sum(size for name, size in sizes.items() if name.endswith(suffix)):
            return found
    return 0


def _sizes(folder: str) -> dict[str, int]:
    """The files of a folder with their sizes, links followed; what is gone meanwhile, or broken, is left out."""
    sizes: dict[str, int] = {}
    for name in _names(folder):
        path = os.path.join(folder, name)
        try:
            if os.path.isfile(path):
                sizes[name] = os.path.getsize(path)
        except OSError:
            continue
    return sizes


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
