"""`uv` leaves the environment alone that scripts/setup made."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UV = Path(sys.prefix) / "bin" / "uv"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with this project's table and an environment that holds one module."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / ".venv"], check=True, timeout=60)
    (packages,) = (tmp_path / ".venv" / "lib").glob("python3*/site-packages")
    metadata = packages / "installed-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: installed\nVersion: 1.0\n")
    (metadata / "RECORD").write_text(
        "installed.py,,\ninstalled-1.0.dist-info/METADATA,,\ninstalled-1.0.dist-info/RECORD,,\n"
    )
    (packages / "installed.py").write_text("print('still here')")
    return tmp_path


def uv(clone: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs uv in the folder, without a network and with nothing of this process's environment."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(clone), "UV_OFFLINE": "1", "UV_PYTHON": sys.executable}
    return subprocess.run([UV, *arguments], cwd=clone, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.skipif(not UV.exists(), reason="uv is not beside this Python")
def test_uv_sync_takes_nothing_out(clone: Path) -> None:
    done = uv(clone, "sync")
    assert done.returncode != 0
    assert "unmanaged" in done.stderr
    python = clone / ".venv" / "bin" / "python"
    kept = subprocess.run([python, "-c", "import installed"], capture_output=True, text=True, timeout=60)
    assert kept.stdout == "still here\n", kept.stderr
