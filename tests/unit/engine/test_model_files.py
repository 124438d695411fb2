"""What a model's folder may lack, and where a downloaded one is."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from engine.model_files import missing_files, snapshot
from settings import DEMO_MODEL

WHOLE = {"config.json": "{}", "model.safetensors": "x", "tokenizer.json": "{}"}
INDEX = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-2.safetensors"}})
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5"


def folder_of(tmp_path: Path, files: dict[str, str | None]) -> str:
    """A folder with these files."""
    for name, content in files.items():
        if content is not None:
            (tmp_path / name).write_text(content)
    return str(tmp_path)


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({}, []),
        ({"config.json": None}, ["config.json"]),
        ({"config.json": None, "params.json": "{}"}, []),
        ({"model.safetensors": None}, ["its weights (*.safetensors)"]),
        ({"model.safetensors": None, "pytorch_model.bin": "x"}, []),
        ({"tokenizer.json": None}, ["tokenizer.json"]),
        ({"tokenizer.json": None, "tekken.json": "{}"}, []),
        ({"model.safetensors.index.json": INDEX, "model-1.safetensors": "x"}, ["model-2.safetensors"]),
        ({"model.safetensors.index.json": INDEX, "model-1.safetensors": "x", "model-2.safetensors": "x"}, []),
        ({"model.safetensors.index.json": "[}"}, []),
        ({"model.safetensors.index.json": "[" * 100_000}, []),
    ],
)
def test_missing_files(changes: dict[str, str | None], missing: list[str], tmp_path: Path) -> None:
    assert missing_files(folder_of(tmp_path, {**WHOLE, **changes})) == missing


def test_pointers_of_git_lfs_are_no_weights(tmp_path: Path) -> None:
    (told,) = missing_files(folder_of(tmp_path, {**WHOLE, "model.safetensors": POINTER}))
    assert "git lfs pull" in told


def test_links_to_nothing_do_not_count(tmp_path: Path) -> None:
    folder_of(tmp_path, {**WHOLE, "model.safetensors": None})
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "blob")
    assert missing_files(str(tmp_path)) == ["its weights (*.safetensors)"]


def test_no_folder_lacks_everything(tmp_path: Path) -> None:
    assert len(missing_files(str(tmp_path / "none"))) == 3


def test_bundled_model_is_whole() -> None:
    assert missing_files(DEMO_MODEL) == []


def test_snapshot_is_the_revision_of_the_main_branch_else_the_newest(tmp_path: Path) -> None:
    assert snapshot(str(tmp_path), "a/b") is None
    model = tmp_path / "models--a--b"
    for age, revision in enumerate(("new", "old")):
        (model / "snapshots" / revision).mkdir(parents=True)
        os.utime(model / "snapshots" / revision, (1000 - age, 1000 - age))
    assert snapshot(str(tmp_path), "a/b") == str(model / "snapshots" / "new")
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("old\n")
    assert snapshot(str(tmp_path), "a/b") == str(model / "snapshots" / "old")
    (model / "refs" / "main").write_text("gone")
    assert snapshot(str(tmp_path), "a/b") == str(model / "snapshots" / "new")
