"""What may be read, from where, and how much of it."""

from typing import Annotated

import msgspec

from settings.kinds import FOLDERS, NAMES, Setting, number, whole


class MediaSettings(msgspec.Struct, frozen=True):
    """Which pictures, audio and videos are read, from where, and how large."""

    allowed_dirs: Annotated[
        tuple[str, ...] | None,
        Setting(
            "VLLM_ALLOWED_MEDIA_DIRS",
            FOLDERS,
            "Media files are read only below these folders.",
            "every folder, or over HTTP none",
        ),
    ] = None
    allowed_hosts: Annotated[
        tuple[str, ...],
        Setting("VLLM_ALLOWED_MEDIA_HOSTS", NAMES, "Hosts that may have a private address in URLs of media.", "none"),
    ] = ()
    max_image_bytes: Annotated[
        int, Setting("VLLM_MAX_IMAGE_BYTES", whole(1_000, 1 << 30), "Largest picture file or download.")
    ] = 20_000_000
    max_image_pixels: Annotated[
        int, Setting("VLLM_MAX_IMAGE_PIXELS", whole(1_000, 178_956_970), "Largest picture in pixels.")
    ] = 50_000_000
    longest_side: Annotated[
        int | None,
        Setting(
            "VLLM_IMAGE_LONGEST_SIDE",
            whole(64, 65_535),
            "Pixels of the longest side that the model uses; a larger JPEG is decoded at 1/2, 1/4 or 1/8 of its size, "
            "never below this.",
            "every pixel is decoded",
        ),
    ] = None
    fetch_timeout_s: Annotated[
        float,
        Setting(
            "VLLM_IMAGE_FETCH_TIMEOUT",
            number(0, 600, exclusive_minimum=True),
            "Seconds for one download of a picture in all.",
        ),
    ] = 10.0
    max_audio_bytes: Annotated[
        int, Setting("VLLM_MAX_AUDIO_BYTES", whole(1_000, 1 << 30), "Largest audio file or download.")
    ] = 50_000_000
    max_audio_s: Annotated[
        float,
        Setting("OMNI_MAX_AUDIO_S", number(0, 3_600, exclusive_minimum=True), "Longest audio in seconds."),
    ] = 120.0
    max_video_bytes: Annotated[
        int, Setting("VLLM_MAX_VIDEO_BYTES", whole(1_000, 1 << 30), "Largest video file or download.")
    ] = 200_000_000
    video_fetch_timeout_s: Annotated[
        float,
        Setting(
            "VLLM_VIDEO_FETCH_TIMEOUT",
            number(0, 3_600, exclusive_minimum=True),
            "Seconds for one download of audio or video in all.",
        ),
    ] = 60.0
