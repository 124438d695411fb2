"""Videos that tests draw: what the bundled model knows, and when it changes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tests.e2e.images import drawn
from tests.unit.media.numbered_video import encoded

CHANGE_S = 3.2
END_S = 6.0


def clip(codec: str = "libx264", format: str = "mp4", options: Mapping[str, str] | None = None) -> bytes:
    """A red circle on white for `CHANGE_S` seconds, then a blue square until `END_S`, at 25 frames a second."""
    before, after = np.asarray(drawn("white", "circle", "red")), np.asarray(drawn("white", "square", "blue"))
    times_ms = range(0, round(END_S * 1_000), 40)
    frames = {time_ms: before if time_ms < CHANGE_S * 1_000 else after for time_ms in times_ms}
    return encoded(frames, 25, format, codec, options)
