"""Which media files and URLs may be read, and their size limits."""

from typing import Annotated

import msgspec

from settings.kinds import FOLDERS, NAMES, Setting, positive, whole


class MediaSettings(msgspec.Struct, frozen=True):
    """Which images, audio and videos are read, and how large they may be."""

    allowed_dirs: Annotated[
        tuple[str, ...] | None,
        Setting(
            "VLLM_ALLOWED_MEDIA_DIRS",
            FOLDERS,
            "Folders that media files are read from, with their subfolders.",
            "every folder, or over HTTP none",
        ),
    ] = None
    allowed_hosts: Annotated[
        tuple[str, ...],
        Setting("VLLM_ALLOWED_MEDIA_HOSTS", NAMES, "Hosts with a private address that media may be fetched from."),
    ] = ()
    max_image_bytes: Annotated[
        int,
        Setting(
            "VLLM_MAX_IMAGE_BYTES",
            whole(1_000, 1 << 30),
            "Largest image file or download in bytes. vLLM's own variable `VLLM_MAX_IMAGE_PIXELS` limits the pixels ("
            "here 50000000).",
        ),
    ] = 20_000_000
    max_image_pixels: Annotated[
        int, Setting("VLLM_MAX_IMAGE_PIXELS", whole(1_000, 178_956_970), "See `VLLM_MAX_IMAGE_BYTES`.")
    ] = 50_000_000
    longest_side: Annotated[
        int | None,
        Setting(
            "VLLM_IMAGE_LONGEST_SIDE",
            whole(64, 65_535),
            "Longest image side in pixels that the model uses; a larger JPEG is decoded at 1/2, 1/4 or 1/8 of its "
            "size, never below this.",
            "every pixel is decoded",
        ),
    ] = None
    max_media_bytes: Annotated[
        int, Setting("VLLM_MAX_MEDIA_BYTES", whole(1_000, 1 << 30), "Largest audio or video file or download in bytes.")
    ] = 200_000_000
    max_audio_s: Annotated[float, Setting("OMNI_MAX_AUDIO_S", positive(3_600), "Longest audio in seconds.")] = 120.0
    fetch_timeout_s: Annotated[
        float | None,
        Setting(
            "VLLM_MEDIA_FETCH_TIMEOUT",
            positive(3_600),
            "Longest time of one download of an image, audio or video, in seconds.",
            "10 for images, 60 for audio and video",
        ),
    ] = None
