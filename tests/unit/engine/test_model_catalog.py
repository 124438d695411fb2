"""Which models are listed, how large they are, and what is said of the memory they need."""

from pathlib import Path
from typing import Any

import pytest

from engine.hardware.gpu import Device
from engine.hardware.memory import MemoryUse
from engine.model_catalog import SUGGESTED, Catalog, CatalogModel, catalog, needed_bytes
from settings import EngineSettings

GIB = 1 << 30


def on_cpu(free_gib: float = 16, held_gib: float = 0) -> MemoryUse:
    return MemoryUse(int(held_gib * GIB), int(free_gib * GIB), ())


def on_gpus(*free_gib: float | None, held_gib: float = 0) -> MemoryUse:
    devices = tuple(
        Device(index, "card", None, None, None if free is None else int(free * GIB), int(held_gib * GIB), None, None)
        for index, free in enumerate(free_gib)
    )
    return MemoryUse(None, GIB, devices)


def listed(tmp_path: Path, use: MemoryUse | None = None, **given: Any) -> Catalog:
    return catalog(EngineSettings(**{"hf_cache": str(tmp_path), **given}), use or on_cpu())


def suggested(found: Catalog, name: str) -> CatalogModel:
    (model,) = [model for model in found.suggested if model.name == name]
    return model


def download(cache: Path, repo: str, *, revision: str = "abc", **files: int) -> Path:
    """A model as huggingface_hub stores it: `files` maps names (`__` for the point) to sizes."""
    folder = cache / f"models--{repo.replace('/', '--')}"
    snapshot = folder / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (folder / "blobs").mkdir(exist_ok=True)
    for name, size in files.items():
        blob = folder / "blobs" / f"{revision}-{name}"
        blob.write_bytes(b"\0" * size)
        (snapshot / name.replace("__", ".")).symlink_to(f"../../blobs/{blob.name}")
    return folder


def test_downloaded_models_have_their_measured_size(tmp_path: Path) -> None:
    download(tmp_path, "org/model", config__json=10, model__safetensors=1000)
    (model,) = listed(tmp_path).cached
    assert (model.name, model.disk_bytes, model.needs_bytes) == ("org/model", 1010, needed_bytes(1000))


def test_several_revisions_count_on_disk_and_the_largest_in_memory(tmp_path: Path) -> None:
    download(tmp_path, "org/model", revision="a", config__json=1, model__safetensors=100)
    download(tmp_path, "org/model", revision="b", config__json=1, model__safetensors=300)
    (model,) = listed(tmp_path).cached
    assert (model.disk_bytes, model.needs_bytes) == (402, needed_bytes(300))


def test_weights_in_two_formats_are_loaded_once(tmp_path: Path) -> None:
    download(tmp_path, "org/model", config__json=1, model__safetensors=100, pytorch_model__bin=100)
    assert listed(tmp_path).cached[0].needs_bytes == needed_bytes(100)


def test_what_is_no_model_is_left_out(tmp_path: Path) -> None:
    download(tmp_path, "org/pipeline", model_index__json=1)
    download(tmp_path, "org/tokenizer-only", config__json=1)
    (tmp_path / "models--org--empty").mkdir()
    (tmp_path / "datasets--org--data" / "snapshots" / "a").mkdir(parents=True)
    (tmp_path / "version.txt").write_text("1")
    broken = download(tmp_path, "org/broken", config__json=1, model__safetensors=5)
    for blob in (broken / "blobs").iterdir():
        blob.unlink()
    cached = {model.name: model for model in listed(tmp_path).cached}
    assert set(cached) == {"org/broken"}
    assert (cached["org/broken"].disk_bytes, cached["org/broken"].needs_bytes) == (0, None)


def test_folder_that_is_not_there_has_no_models(tmp_path: Path) -> None:
    assert listed(tmp_path / "none").cached == ()


def test_every_model_stands_in_one_group(tmp_path: Path) -> None:
    name = SUGGESTED[0].name
    download(tmp_path, name, config__json=1, model__safetensors=10)
    found = listed(tmp_path)
    assert [model.name for model in found.cached] == [name]
    assert found.cached[0].note == SUGGESTED[0].note
    assert name not in {model.name for model in found.suggested}
    found = listed(tmp_path, model_name=name)
    assert [model.name for model in found.configured] == [name]
    assert found.configured[0].disk_bytes == 11
    assert found.cached == ()
    assert [model.name for model in found.bundled] == ["demo-vlm"]


def test_configured_folder_is_measured(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 100)
    (model,) = listed(tmp_path, model_name=str(tmp_path)).configured
    assert (model.name, model.disk_bytes, model.needs_bytes) == (str(tmp_path), 100, needed_bytes(100))


def test_unknown_configured_model_has_nulls(tmp_path: Path) -> None:
    (model,) = listed(tmp_path, model_name="org/unknown").configured
    assert (model.disk_bytes, model.needs_bytes, model.fits) == (None, None, None)


def test_need_is_weights_and_a_fifth_and_a_gib(tmp_path: Path) -> None:
    assert needed_bytes(10 * GIB) == 13 * GIB
    name = "Qwen/Qwen2.5-VL-7B-Instruct"
    assert suggested(listed(tmp_path), name).needs_bytes == pytest.approx(needed_bytes(8.29e9 * 2))
    assert suggested(listed(tmp_path, dtype="float32"), name).needs_bytes == pytest.approx(needed_bytes(8.29e9 * 4))


@pytest.mark.parametrize(
    ("use", "given", "fits"),
    [
        (on_cpu(20), {}, True),
        (on_cpu(19), {}, False),
        (on_cpu(10, held_gib=10), {}, True),
        (on_gpus(20), {}, True),
        (on_gpus(10, 10), {}, False),
        (on_gpus(10, 10), {"tensor_parallel_size": 2}, True),
        (on_gpus(5, 20, 10), {"tensor_parallel_size": 2}, True),
        (on_gpus(5, 20), {"extra_engine_args": {"pipeline_parallel_size": 2}}, False),
        (on_gpus(2, held_gib=18), {}, True),
        (on_gpus(80), {"tensor_parallel_size": 2}, None),
        (on_gpus(None), {}, None),
    ],
)
def test_model_fits_where_its_memory_is_free_or_the_servers_own(
    tmp_path: Path, use: MemoryUse, given: dict[str, Any], fits: bool | None
) -> None:
    model = suggested(listed(tmp_path, use, **given), "Qwen/Qwen2.5-VL-7B-Instruct")  # 19.5 GiB
    assert model.fits is fits


def test_suggestions_are_named_once_and_plausible() -> None:
    assert len({model.name for model in SUGGESTED}) == len(SUGGESTED)
    assert all("/" in model.name and 0.1 < model.billions < 20 for model in SUGGESTED)
