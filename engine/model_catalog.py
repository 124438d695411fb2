"""The models to choose from, on this machine and worth a download, and whether they fit into its memory.

Nothing is downloaded, and no file is read: sizes are file sizes, names are folder names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import settings as configuration
from engine.hardware.memory import MemoryUse
from settings import EngineSettings

# A loaded model needs its weights, a fifth of them for activations and fragmentation (EleutherAI's "Transformer Math
# 101": inference takes about 1.2 times the model), and a GiB for the CUDA context and a minimal KV cache.
OVERHEAD_FACTOR = 1.2
OVERHEAD_BYTES = 1 << 30
BYTES_PER_PARAMETER = {"float32": 4}
"""By data type; 2 for all others, as for bfloat16, in which the suggested models are published."""

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A suggested model; `billions` are its parameters, the vision encoder's included.

    They are Hugging Face's "model size" of each repository, which counts its weights. In November 2026 they agreed with
    the models' publications, except for PaliGemma 2 and the 2.2-billion SmolVLM, which have none.
    """

    name: str
    billions: float
    note: str = ""


_OWN_CODE = "needs trust_remote_code in VLLM_EXTRA_ENGINE_ARGS"
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
_KNOWN = {model.name: model for model in SUGGESTED}


@dataclass(frozen=True, slots=True)
class CatalogModel:
    """A model that can be named in `VLLM_MODEL_NAME`.

    `disk_bytes` is measured, `None` where the model is not on this machine. `needs_bytes` is computed, see
    `needed_bytes`. `fits` says whether that much is free, counting what this server would free; `None` if not known.
    """

    name: str
    disk_bytes: int | None
    needs_bytes: int | None
    fits: bool | None
    note: str


@dataclass(frozen=True, slots=True)
class Catalog:
    """All models, each in the first group to which it belongs; the configured ones in the order of `by_name`."""

    configured: tuple[CatalogModel, ...]
    bundled: tuple[CatalogModel, ...]
    cached: tuple[CatalogModel, ...]
    suggested: tuple[CatalogModel, ...]


@dataclass(frozen=True, slots=True)
class _Folder:
    """A model on this machine: its size on disk, and that of its weights."""

    disk_bytes: int
    weights_bytes: int


def catalog(settings: EngineSettings, use: MemoryUse) -> Catalog:
    """The models to choose from, and whether each fits into the memory that `use` reports."""
    room = _available_bytes(settings, use)
    cached = dict(_cached(os.path.expanduser(settings.hf_cache)))

    def entry(
        shown: str, name: str, folder: _Folder | None, of: EngineSettings = settings, room: int | None = room
    ) -> CatalogModel:
        suggested, weights = _KNOWN.get(name), _weights(name, folder, of.dtype)
        needs = None if weights is None else needed_bytes(weights)
        return CatalogModel(
            name=shown,
            disk_bytes=None if folder is None else folder.disk_bytes,
            needs_bytes=needs,
            fits=None if needs is None or room is None else needs <= room,
            note="; ".join(
                filter(None, (of.model_name if of.served_name else "", suggested.note if suggested else ""))
            ),
        )

    configured = tuple(settings.by_name().values())
    names = {each.model_name for each in configured}
    bundled = [] if any(each.is_bundled for each in configured) else [configuration.DEMO_MODEL]
    return Catalog(
        configured=tuple(
            entry(
                each.shown_name,
                each.model_name,
                cached.get(each.model_name) or _local(each.model_name),
                each,
                _available_bytes(each, use),
            )
            for each in configured
        ),
        bundled=tuple(entry(os.path.basename(path), path, _local(path)) for path in bundled),
        cached=tuple(entry(repo, repo, folder) for repo, folder in sorted(cached.items()) if repo not in names),
        suggested=tuple(
            entry(model.name, model.name, None) for model in SUGGESTED if model.name not in {*cached, *names}
        ),
    )


def weights_bytes(settings: EngineSettings) -> int | None:
    """The size of a model's weights, measured on this machine or computed for a suggested model; `None` if unknown."""
    name = settings.model_name
    folder = _local(name) or dict(_cached(os.path.expanduser(settings.hf_cache))).get(name)
    found = _weights(name, folder, settings.dtype)
    return None if found is None else int(found)


def needed_bytes(weights_bytes: float) -> int:
    """The memory that a model needs, estimated as `weights × 1.2 + 1 GiB`; bfloat16 has two bytes a parameter.

    A loaded model uses more: on a GPU its KV cache grows up to `VLLM_GPU_MEMORY_UTILIZATION`.
    """
    return int(weights_bytes * OVERHEAD_FACTOR) + OVERHEAD_BYTES


def _weights(name: str, folder: _Folder | None, dtype: str) -> float | None:
    """The bytes of a model's weights: those in its folder, else those of a suggested model by its parameters."""
    if folder is not None and folder.weights_bytes:
        return folder.weights_bytes
    suggested = _KNOWN.get(name)
    return None if suggested is None else suggested.billions * 1e9 * BYTES_PER_PARAMETER.get(dtype, 2)


def _available_bytes(settings: EngineSettings, use: MemoryUse) -> int | None:
    """The memory for a model if this server freed its own: that of the GPUs, or without a GPU the host's."""
    if not use.devices:
        return None if use.free_bytes is None else use.free_bytes + (use.process_bytes or 0)
    rooms = sorted(
        device.free_bytes + (device.server_bytes or 0) for device in use.devices if device.free_bytes is not None
    )
    shared_by = settings.tensor_parallel_size * settings.pipeline_parallel_size
    return shared_by * rooms[-shared_by] if len(rooms) >= shared_by else None


def _cached(folder: str) -> Iterator[tuple[str, _Folder]]:
    """The complete models in huggingface_hub's cache: `models--OWNER--NAME` has blobs, and a snapshot per revision."""
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
    """Whether it has a configuration and weights, as vLLM needs; pipelines of diffusers have no configuration there."""
    names = _names(folder)
    return "config.json" in names and any(name.endswith(_WEIGHTS) for name in names)


def _weights_bytes(folder: str) -> int:
    """The size of a model's weights in one format: some models come in several, of which vLLM reads one."""
    sizes = _sizes(folder)
    for suffix in _WEIGHTS:
        if found := sum(size for name, size in sizes.items() if name.endswith(suffix)):
            return found
    return 0


def _sizes(folder: str) -> dict[str, int]:
    """The sizes of a folder's files, links followed; broken links and files that vanish are left out."""
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
