"""What all tests share: nothing of the caller's environment reaches the code under test."""

from __future__ import annotations

import os

import pytest

OURS = ("VLLM_", "OMNI_", "HF_", "HUGGING_FACE_HUB_TOKEN", "XDG_CACHE_HOME", "GPU_IDLE")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hides settings that the person who runs the tests has exported."""
    for name in [name for name in os.environ if name.startswith(OURS)]:
        monkeypatch.delenv(name)
