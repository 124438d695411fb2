"""The folders of `.cache/models`: made when they are missing or out of date, by one process at a time.

A folder is filled under another name and renamed when it is complete, so that half a folder never counts. Its stamp
says from what it was made, and how large each of its files was.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.real_models import packages
from tests.real_models.catalogue import SOURCES, Source

MODELS = Path(__file__).resolve().parents[2] / ".cache" / "models"
STAMP = "made.json"


def made(name: str, root: Path = MODELS) -> Path:
    """The folder of that name, made now if need be; waits while another process makes it.

    Raises: as `packages.unpacked` and the function that fills the folder; nothing is left then.
    """
    source, target = SOURCES[name], root / name
    if is_current(source, target):
        return target
    with _locked(name, root):
        if is_current(source, target):
            return target
        with tempfile.TemporaryDirectory(dir=root, prefix=f".{name}-") as folder:
            scratch = Path(folder)
            draft = scratch / "draft"
            draft.mkdir()
            source.save(packages.unpacked(source.requirements, scratch), draft, scratch)
            (draft / STAMP).write_text(json.dumps({**_origin(source), "files": _sizes(draft)}))
            if target.exists():
                target.rename(scratch / "old")
            draft.rename(target)
    return target


def is_current(source: Source, folder: Path) -> bool:
    """Whether the folder was made from this source, and all of its files are still there in full length."""
    try:
        stamp = json.loads((folder / STAMP).read_text())
    except (OSError, ValueError):
        return False
    return bool(stamp == {**_origin(source), "files": _sizes(folder)})


def _origin(source: Source) -> dict[str, object]:
    return {"requirements": list(source.requirements), "licence": source.licence, "build": source.build}


def _sizes(folder: Path) -> dict[str, int]:
    """The bytes of each file by its name within the folder, the stamp excepted."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / STAMP)
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


@contextmanager
def _locked(name: str, root: Path) -> Iterator[None]:
    root.mkdir(parents=True, exist_ok=True)
    with open(root / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # What an interrupted run left behind; nobody else writes below this name while the lock is held.
        for left in root.glob(f".{name}-*"):
            shutil.rmtree(left)
        yield
