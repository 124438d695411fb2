"""What the command line prints, on a console or into a file."""

from __future__ import annotations

import sys
from io import TextIOWrapper


def use_utf8() -> None:
    """Makes `print` write UTF-8 on Windows, where it would fail for characters that the old code page lacks."""
    if sys.platform == "win32":
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, TextIOWrapper):
                stream.reconfigure(encoding="utf-8", errors="backslashreplace")
