"""Lets vLLM take frames that were decoded before, in place of a video file that it would decode itself."""

from __future__ import annotations

from typing import Any

from engine.prompts.media_parts import unpacked_frames

NAME = "decoded_frames"
MEDIA_IO_KWARGS: dict[str, dict[str, Any]] = {
    "audio": {"audio_backend": "pyav"},
    "video": {"video_backend": NAME, "num_frames": -1},
}
"""For `vllm.LLM`. Other audio backends are tried first, each with a line in the log."""


def register() -> None:
    """Registers the reader; imports vLLM, which takes seconds."""
    from vllm.multimodal.video import VIDEO_LOADER_REGISTRY, VideoLoader

    class DecodedFrames(VideoLoader):  # type: ignore[misc]
        """Reads what `packed_frames` has made."""

        @classmethod
        def load_bytes(cls, data: bytes, num_frames: int = -1, **options: Any) -> tuple[Any, dict[str, Any]]:
            """The frames as an array, and their metadata."""
            return unpacked_frames(data)

    VIDEO_LOADER_REGISTRY.register(NAME)(DecodedFrames)
