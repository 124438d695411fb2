"""Audio and video without the packages that decode them: the error names what to install."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from media.decoder import Decoder
from media.errors import MediaUnreadable
from sandbox.pool import Sandbox
from tests.unit.media.sample_media import audio_file, video_file

pytestmark = pytest.mark.slow

MAX_PIXELS = 1 << 20
READS: dict[str, tuple[str, Callable[[Decoder, bytes], object]]] = {
    "audio": ("audio", lambda decoder, data: decoder.audio(data, 60.0)),
    "check_audio": ("audio", lambda decoder, data: decoder.check_audio(data, 60.0)),
    "clip": ("video", lambda decoder, data: decoder.clip(data, MAX_PIXELS)),
    "has_video": ("video", Decoder.has_video),
    "poster": ("video", Decoder.poster),
    "check_video": ("video", Decoder.check_video),
}


@pytest.mark.parametrize("missing", ["av", "numpy"])
def test_error_names_the_extra(missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"audio": audio_file(), "video": video_file()}
    (tmp_path / f"{missing}.py").write_text(f"raise ModuleNotFoundError({missing!r})")
    monkeypatch.syspath_prepend(tmp_path)  # the child gets the path of this process
    sandbox = Sandbox()
    try:
        decoder = Decoder(sandbox)
        for noun, read in READS.values():
            with pytest.raises(MediaUnreadable, match=f"^The {noun} needs the extra media: run `scripts/setup`"):
                read(decoder, files[noun])
    finally:
        sandbox.close()
