from __future__ import annotations

import io
import sys

import pytest

from operating_system.console import use_utf8


@pytest.mark.parametrize(("platform", "printed"), [("win32", "≤ \\udc80".encode()), ("linux", b"")])
def test_windows_prints_every_character(platform: str, printed: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    old = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(sys, "stdout", old)
    monkeypatch.setattr(sys, "stderr", None)
    use_utf8()
    if not printed:
        with pytest.raises(UnicodeEncodeError):
            old.write("≤")
        return
    old.write("≤ \udc80")
    old.flush()
    assert old.buffer.getvalue() == printed
