"""Fetches pinned packages of the Python package index and unpacks them, without installing or running them."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

TIMEOUT_S = 600
UNREACHABLE = re.compile(
    "NewConnectionError|ConnectTimeout|Read timed out|ProxyError|name resolution|Connection refused|Network is unreach"
)
"""What pip says when it reached no index, as against an index that has no such version."""


class IndexUnreachable(Exception):
    """No package index answered."""


def unpacked(requirements: Sequence[str], into: Path) -> list[Path]:
    """Fetches wheels and unpacks them all into one folder; returns its files, sorted.

    Arguments:
        requirements: lines of pip's requirements files, each with at least one `--hash`.
        into: an existing folder; the files come into `into/files`.

    Raises: `IndexUnreachable`, `RuntimeError` with pip's words, for example when a hash is another one.
    """
    (into / "requirements.txt").write_text("\n".join(requirements))
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--retries", "2", "--disable-pip-version-check"),
            *("--no-deps", "--only-binary=:all:", "--require-hashes"),
            *("--dest", str(into / "wheels"), "--requirement", str(into / "requirements.txt")),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=TIMEOUT_S,
    )
    if run.returncode:
        raise (IndexUnreachable if UNREACHABLE.search(run.stderr) else RuntimeError)(f"pip download: {run.stderr}")
    for wheel in sorted((into / "wheels").glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(into / "files")
        wheel.unlink()
    return sorted(path for path in (into / "files").rglob("*") if path.is_file())


def only(files: Sequence[Path], ending: str) -> Path:
    """The one file whose name ends like this."""
    (found,) = (path for path in files if path.name.endswith(ending))
    return found
