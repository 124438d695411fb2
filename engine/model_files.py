"""Finds files that a model's folder lacks after an incomplete download or a clone without Git LFS."""

from __future__ import annotations

import json
import os

CONFIGS = ("config.json", "params.json")
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
"""They list the weight files, where a model has several."""
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")
TOKENIZERS = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "tekken.json",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
)
LFS_POINTER = b"version https://git-lfs"
MAX_POINTER_BYTES = 1024
MAX_INDEX_BYTES = 50_000_000


def snapshot(cache: str, name: str) -> str | None:
    """The folder of a model in huggingface_hub's cache, complete or not; that of the revision used last."""
    snapshots = os.path.join(os.path.expanduser(cache), "models--" + name.replace("/", "--"), "snapshots")
    try:
        with open(os.path.join(snapshots, "..", "refs", "main"), encoding="ascii") as file:
            newest = os.path.join(snapshots, file.read().strip())
        if os.path.isdir(newest):
            return newest
    except (OSError, ValueError):
        pass
    folders = [os.path.join(snapshots, revision) for revision in _names(snapshots)]
    return max(filter(os.path.isdir, folders), key=os.path.getmtime, default=None)


def missing_files(folder: str) -> list[str]:
    """Descriptions of the files that vLLM needs and the folder lacks; broken links count as lacking."""
    names = {name for name in _names(folder) if os.path.isfile(os.path.join(folder, name))}
    missing = [] if names.intersection(CONFIGS) else [CONFIGS[0]]
    shards = next((_shards(os.path.join(folder, index)) for index in INDEXES if index in names), set())
    if shards:
        missing += sorted(shards - names)
    elif not any(name.endswith(WEIGHTS) for name in names):
        missing.append("its weights (*.safetensors)")
    if not names.intersection(TOKENIZERS):
        missing.append(TOKENIZERS[0])
    missing += [
        f"{name} (only a pointer of Git LFS is there: run `git lfs pull` in that folder)"
        for name in sorted(names)
        if name.endswith(WEIGHTS) and _is_pointer(os.path.join(folder, name))
    ]
    return missing


def _shards(index: str) -> set[str]:
    try:
        with open(index, "rb") as file:
            files = json.loads(file.read(MAX_INDEX_BYTES))["weight_map"].values()
        return {name for name in files if isinstance(name, str)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return set()


def _is_pointer(path: str) -> bool:
    try:
        if os.path.getsize(path) > MAX_POINTER_BYTES:
            return False
        with open(path, "rb") as file:
            return file.read(len(LFS_POINTER)) == LFS_POINTER
    except OSError:
        return False


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
